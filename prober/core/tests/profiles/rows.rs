//! Verdicts that were wrong once, each as a test of its own.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use prober_core::diagnosis::{Confidence, Diagnosis, diagnose};
use prober_core::evidence::{Matrix, PathEvidence};
use prober_core::node_facts::SysctlState;
use prober_core::probe::outcome::{EngineKind, Outcome};
use prober_core::topology::Scope;

use super::address::{client, node_name, server};
use super::change::{add_foreign_veth, each_reading};
use super::cluster::Cluster;
use super::fault::{Fault, Kind, Place};
use super::known_wrong;
use super::profile::named;
use super::run::run;
use super::verdict::{Verdict, described, untrue_sentence, verdict};

/// A row: the profile, what is really broken, and the evidence.
struct Row {
    /// What it was called when it was found.
    id: &'static str,
    profile: &'static str,
    faults: Vec<Fault>,
    matrix: Matrix,
    /// What else is wrong of a diagnosis of this row.
    is_wrong: fn(&Diagnosis) -> bool,
}

const fn at(kind: Kind, place: Place) -> Fault {
    Fault { kind, place }
}

fn row(id: &'static str, profile: &'static str, kind: Kind, place: Place) -> Row {
    let fault = at(kind, place);
    Row {
        id,
        profile,
        faults: vec![fault],
        matrix: run(&fault.on(named(profile), 2)),
        is_wrong: |_| false,
    }
}

fn names(diagnosis: &Diagnosis, slug: &str) -> bool {
    diagnosis.cause.is_some_and(|cause| cause.slug() == slug)
}

fn is_proven(diagnosis: &Diagnosis) -> bool {
    diagnosis.cause.is_some() && diagnosis.confidence == Confidence::Proven
}

/// A node drops new connections of all its pods to other nodes; established ones, and its hairpin, pass.
fn s() -> Row {
    row(
        "S",
        "flannel-vxlan",
        Kind::DropNewToOtherNodes,
        Place::Node(1),
    )
}

/// No overlay; the network drops new connections from one node to another.
fn p() -> Row {
    row("P", "vpc-cni", Kind::SecurityGroup, Place::Pair(1, 2))
}

/// Cilium answers no time-exceeded; the second node drops new connections of other nodes.
fn m() -> Row {
    row("M", "cilium", Kind::DropNewFromOtherNodes, Place::Node(2))
}

/// A spine drops; the top-of-rack router answers TTL 2.
fn a() -> Row {
    row("A", "calico-bgp", Kind::SpineDrop, Place::Pair(1, 2))
}

/// A vxlan link that no route between these nodes uses; the underlay drops.
fn b2() -> Row {
    row(
        "B2",
        "vxlan-cross-subnet",
        Kind::UnderlayDrop,
        Place::Pair(1, 2),
    )
}

/// No overlay at all; the underlay drops.
fn p2() -> Row {
    row(
        "P2",
        "flannel-host-gw",
        Kind::UnderlayDrop,
        Place::Pair(1, 2),
    )
}

/// Calico eBPF; a node's rules lead to a stale backend, and no ICMP error has the Service's address.
fn o() -> Row {
    row("O", "calico-ebpf", Kind::StaleRulesUnused, Place::Node(1))
}

/// Socket-level load balancing; the server does not listen.
fn i1() -> Row {
    row("I1", "cilium", Kind::NotListening, Place::Pod(server(2)))
}

/// Socket-level load balancing; a Service port without backend.
fn i3() -> Row {
    row("I3", "cilium", Kind::NoEndpoints, Place::Service(2))
}

/// Socket-level load balancing; one connection of many is lost.
fn i2() -> Row {
    let mut row = row("I2", "cilium", Kind::LossOnWire, Place::Pair(1, 2));
    row.is_wrong = |diagnosis| {
        let mut evidence = diagnosis.evidence.iter();
        evidence.any(|sentence| sentence.contains("4 of 4 "))
    };
    row
}

/// IPVS; one node has no backend for a port: the ICMP error of the ClusterIP is the balancer's.
fn h() -> Row {
    row("H", "ipvs", Kind::StaleRulesEmpty, Place::Node(1))
}

/// macvlan; replies bypass the node on the same node and across nodes, and `br_netfilter` is absent.
fn e() -> Row {
    row("E", "macvlan", Kind::MissingMasquerade, Place::Node(1))
}

/// Routed veths, and one port on docker0, whose hairpin flag is off; a pod does not reach itself.
fn f() -> Row {
    row("F", "ptp", Kind::RepliesUntracked, Place::Node(1))
}

/// Routed veths; a closed port, and the server's end was not captured.
fn g() -> Row {
    let mut row = row("G", "calico-bgp", Kind::NotListening, Place::Pod(server(1)));
    for path in row.matrix.paths.values_mut() {
        for probe in &mut path.probes {
            probe.server = None;
            probe.server_agent = None;
        }
    }
    row
}

/// A policy drops, and one unrelated packet is counted by the reverse-path filter, which is off everywhere.
fn c() -> Row {
    let mut row = row(
        "C",
        "flannel-vxlan",
        Kind::PolicyIngress,
        Place::Pod(server(2)),
    );
    for node in row.matrix.nodes.values_mut() {
        let counters = node.after.as_mut().unwrap().counters.as_mut().unwrap();
        *counters.0.get_mut("TcpExtIPReversePathFilter").unwrap() += 1;
    }
    row
}

/// A policy denies all ingress of a pod, and the veth of some other pod is down.
fn d2() -> Row {
    let mut row = row(
        "D2",
        "flannel-vxlan",
        Kind::PolicyIngress,
        Place::Pod(server(2)),
    );
    add_foreign_veth(&mut row.matrix);
    row
}

/// `ip_forward` reads 0, one pair is silent, and twelve paths of that node are healthy.
fn r() -> Row {
    let mut row = row(
        "R",
        "flannel-vxlan",
        Kind::PolicyEgressToOtherNodes,
        Place::Pod(client(1)),
    );
    each_reading(&mut row.matrix, &node_name(1), |facts| {
        facts.ip_forward = Some(SysctlState::Value(0));
    });
    row.is_wrong = |diagnosis| names(diagnosis, "ip-forward-off") && is_proven(diagnosis);
    row
}

/// Nodes without a default route: a host's connect() to any ClusterIP is refused by its own kernel.
fn n() -> Row {
    let faults = vec![
        at(Kind::NoDefaultRoute, Place::Node(1)),
        at(Kind::NoDefaultRoute, Place::Node(2)),
    ];
    let mut cluster = Cluster::new(named("flannel-vxlan"), 2);
    for fault in &faults {
        fault.apply(&mut cluster);
    }
    Row {
        id: "N",
        profile: "flannel-vxlan",
        faults,
        matrix: run(&cluster),
        // No ICMP error was received.
        is_wrong: |diagnosis| {
            let mut evidence = diagnosis.evidence.iter();
            evidence.any(|sentence| sentence.contains("met ICMP"))
        },
    }
}

#[test]
fn verdicts_that_were_wrong_once() {
    let rows = [s, p, m, a, b2, p2, o, i1, i3, i2, h, e, f, g, c, d2, r, n];
    let (mut wrong, mut sentences) = (BTreeMap::new(), BTreeMap::new());
    let mut said = String::new();
    for row in rows {
        let row = row();
        let profile = named(row.profile);
        let found = diagnose(&row.matrix);
        let mut verdict = verdict(profile, &row.faults, &row.matrix, &found);
        if found.iter().any(row.is_wrong) {
            verdict = Verdict::Wrong;
        }
        let text = described(&found).join(", ");
        writeln!(
            said,
            "{} {}: {} ({text})",
            row.id,
            row.profile,
            verdict.as_str()
        )
        .unwrap();
        if verdict == Verdict::Wrong {
            wrong.insert(row.id.to_owned(), text);
        }
        if let Some(sentence) = untrue_sentence(profile, &found) {
            sentences.insert(row.id.to_owned(), sentence);
        }
    }
    insta::assert_snapshot!("rows", said);
    known_wrong::check(&[("rows", wrong), ("rows_sentences", sentences)]);
}

/// The rows are about what they say: crafted packets, and connections that no packet belongs to.
#[test]
fn the_rows_have_their_evidence() {
    let crafted = i1().matrix;
    let path = crafted
        .paths
        .values()
        .find(|path| path.socket_level)
        .unwrap();
    assert!(path.tallies.contains_key(&EngineKind::Raw));
    // Paths of the node with `ip_forward` 0 on which it forwards.
    let forwarded = r().matrix;
    let is_forwarded = |path: &&PathEvidence| {
        path.is_clean()
            && path.path.scope() == Scope::CrossNode
            && path.path.involves(&node_name(1))
    };
    assert!(forwarded.paths.values().any(|path| is_forwarded(&path)));
    assert!(forwarded.paths.values().any(|path| !path.is_clean()));
    let refused = n().matrix;
    let mut outcomes = refused.paths.values().flat_map(|path| &path.probes);
    assert!(outcomes.any(|probe| matches!(probe.client.outcome, Outcome::RefusedLocally { .. })));
}
