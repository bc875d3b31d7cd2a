//! Clusters whose nodes differ in what they report: each single fault at each place on them.

use std::collections::BTreeMap;

use prober_core::diagnosis::diagnose;
use prober_core::evidence::Matrix;
use prober_core::node_facts::KubeProxyMode;

use super::address::node_name;
use super::change::each_reading;
use super::fault::Fault;
use super::known_wrong;
use super::profile::{Profile, Translation, named};
use super::run::run;
use super::verdict::{Verdict, described, verdict};

/// How the nodes differ, and the change of the evidence that it makes.
type Difference = (&'static str, fn(&mut Matrix));

/// Every difference.
const MIXED: [Difference; 4] = [
    ("node-1 nftables", |matrix| with_nftables(matrix, 1)),
    ("node-2 nftables", |matrix| with_nftables(matrix, 2)),
    ("node-1 without facts", |matrix| without_facts(matrix, 1)),
    ("node-2 without facts", |matrix| without_facts(matrix, 2)),
];

/// A bridge with an overlay, routed veths, a routed fabric, and connect()-time translation.
const PROFILES: [&str; 4] = ["flannel-vxlan", "ptp", "calico-bgp", "cilium"];

/// The node's kube-proxy writes nftables, whose rules lead packets as those of iptables do.
fn with_nftables(matrix: &mut Matrix, node: u8) {
    each_reading(matrix, &node_name(node), |facts| {
        facts.kube_proxy = Some(KubeProxyMode::Nftables);
    });
}

/// The node has no agent of its own that reads facts.
fn without_facts(matrix: &mut Matrix, node: u8) {
    matrix.nodes.remove(&node_name(node));
}

fn wrong_of(profile: &'static Profile) -> BTreeMap<String, String> {
    let mut wrong = BTreeMap::new();
    for fault in Fault::all(profile, 2) {
        let matrix = run(&fault.on(profile, 2));
        for (difference, change) in &MIXED {
            let is_of_proxy = difference.ends_with("nftables");
            if is_of_proxy && profile.translation != Translation::Iptables {
                continue;
            }
            let mut mixed = matrix.clone();
            change(&mut mixed);
            let found = diagnose(&mixed);
            if verdict(profile, &[fault], &mixed, &found) == Verdict::Wrong {
                let (kind, place) = (fault.kind.name(), fault.place);
                let id = format!("{difference}; {}: {kind} at {place}", profile.name);
                wrong.insert(id, described(&found).join(", "));
            }
        }
    }
    wrong
}

#[test]
fn nodes_that_differ_have_no_wrong_verdict() {
    let wrong = PROFILES.iter().flat_map(|name| wrong_of(named(name)));
    known_wrong::check(&[("mixed", wrong.collect())]);
}
