//! Every fault makes connections fail, unless it is harmless, and healing restores them.

use prober_lab::fault::{Fault, FaultContext, USUAL_DURATION};
use prober_lab::kube_proxy::ProxyMode;
use prober_lab::{DataPlane, LabCluster, LabSpec};

use crate::Case;
use crate::connectivity::{assert_same, balanced, cluster, from_nodes, healthy, matrix, remove};

pub(crate) const CASES: &[Case] = &[
    (
        "every_fault_but_harmless_ones_fails_connections_and_is_healed",
        every_fault_but_harmless_ones_fails_connections_and_is_healed,
    ),
    (
        "the_same_on_every_other_data_plane",
        the_same_on_every_other_data_plane,
    ),
    (
        "the_same_of_faults_of_services_with_nftables",
        the_same_of_faults_of_services_with_nftables,
    ),
];

fn every_fault_but_harmless_ones_fails_connections_and_is_healed() {
    inject_all(&LabSpec::default(), |_| true);
}

fn the_same_on_every_other_data_plane() {
    // For work on one data plane.
    let only = std::env::var("PROBER_LAB_DATA_PLANE").ok();
    for data_plane in DataPlane::ALL.iter().skip(1) {
        if only.as_deref().is_none_or(|only| data_plane.slug() == only) {
            println!(" {data_plane}");
            // A full conntrack table is that of a node, and takes ten seconds to fill.
            inject_all(&LabSpec::smallest(*data_plane), |fault| {
                fault != Fault::ConntrackFull
            });
        }
    }
}

fn the_same_of_faults_of_services_with_nftables() {
    let iptables = LabSpec::default();
    let nftables = iptables.clone().with_proxy_mode(ProxyMode::Nftables);
    let steps = |fault: Fault, spec| {
        let node = fault.default_node(spec);
        let slot = node.number() - 1;
        fault.steps(FaultContext {
            spec,
            node,
            slot,
            lasts: USUAL_DURATION,
        })
    };
    inject_all(&nftables, |fault| {
        let is_endpoint = fault.slug().contains("endpoint");
        is_endpoint || steps(fault, &nftables) != steps(fault, &iptables)
    });
}

/// Injects every selected fault that this lab can have.
fn inject_all(spec: &LabSpec, is_selected: impl Fn(Fault) -> bool) {
    let mut cluster = cluster(spec);
    // For work on one fault: runs only those with this text in their name, and prints every result.
    let only = std::env::var("PROBER_LAB_FAULT").ok();
    for fault in Fault::ALL.iter().filter(|fault| {
        fault.check_applies(spec).is_ok()
            // Its connections hold their source ports only while a server keeps them open.
            && **fault != Fault::SnatPortCollision
            && is_selected(**fault)
            && only
                .as_deref()
                .is_none_or(|only| fault.slug().contains(only))
    }) {
        inject_and_heal(&mut cluster, spec, *fault);
    }
    remove(cluster);
}

fn inject_and_heal(cluster: &mut LabCluster, spec: &LabSpec, fault: Fault) {
    let start = std::time::Instant::now();
    cluster.inject(fault, fault.default_node(spec)).unwrap();
    let injected = start.elapsed();
    let expected = healthy(spec);
    let actual = matrix(spec);
    let failing = expected
        .iter()
        .filter(|(path, answer)| actual.get(*path).map(server) != Some(server(answer)))
        .count();
    let fails = failing > 0
        || balanced(spec, 24).iter().any(Result::is_err)
        || from_nodes(spec).iter().any(Result::is_err)
        // An outage in mid-run begins after many connections.
        || !fault.is_harmless() && balanced(spec, 240).iter().any(Result::is_err);
    if std::env::var_os("PROBER_LAB_FAULT").is_some() {
        println!("{actual:#?}");
    }
    println!(
        "  {fault}: {failing} of {} paths fail; injected in {injected:.0?}",
        expected.len()
    );
    assert_eq!(
        fails,
        !fault.is_harmless(),
        "{fault} makes connections fail exactly if it is not harmless: {actual:#?}"
    );
    cluster.heal().unwrap();
    assert_same(&matrix(spec), &expected);
}

/// Returns the server that answered; the client address that it reports may differ without harm.
fn server(answer: &Result<String, std::io::ErrorKind>) -> Result<&str, std::io::ErrorKind> {
    match answer {
        Ok(text) => Ok(text.split(' ').next().unwrap_or_default()),
        Err(kind) => Err(*kind),
    }
}
