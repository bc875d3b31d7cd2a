//! Every fault makes connections fail, unless it is harmless, and healing restores them.

use prober_lab::fault::Fault;
use prober_lab::{DataPlane, LabCluster, LabSpec};

use crate::Case;
use crate::connectivity::{assert_same, balanced, cluster, healthy, matrix, remove};

pub(crate) const CASES: &[Case] = &[
    (
        "every_fault_but_harmless_ones_fails_connections_and_is_healed",
        every_fault_but_harmless_ones_fails_connections_and_is_healed,
    ),
    (
        "the_same_on_every_other_data_plane",
        the_same_on_every_other_data_plane,
    ),
];

fn every_fault_but_harmless_ones_fails_connections_and_is_healed() {
    inject_every_fault(DataPlane::BridgeVxlan);
}

fn the_same_on_every_other_data_plane() {
    // For work on one data plane.
    let only = std::env::var("PROBER_LAB_DATA_PLANE").ok();
    for data_plane in DataPlane::ALL.iter().skip(1) {
        if only.as_deref().is_none_or(|only| data_plane.slug() == only) {
            println!(" {data_plane}");
            inject_every_fault(*data_plane);
        }
    }
}

fn inject_every_fault(data_plane: DataPlane) {
    let spec = LabSpec::smallest(data_plane);
    let mut cluster = cluster(&spec);
    // For work on one fault: runs only those with this text in their name, and prints every result.
    let only = std::env::var("PROBER_LAB_FAULT").ok();
    for fault in Fault::ALL.iter().filter(|fault| {
        fault.check_applies(&spec).is_ok()
            && only
                .as_deref()
                .is_none_or(|only| fault.slug().contains(only))
    }) {
        inject_and_heal(&mut cluster, &spec, *fault);
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
    let fails = failing > 0 || balanced(spec, 24).iter().any(Result::is_err);
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
