//! The page shows each node as it is measured, and each outage once.

use prober_core::diagnosis::Confidence;
use prober_core::diagnosis::catalogue::Cause;
use prober_core::packet::family::Family;
use prober_core::topology::AccessPath;
use serde_json::json;

use super::*;
use crate::canary::check_state::Moment;
use crate::canary::crd::ConnectivityCheck;
use crate::canary::round_result::{Finding, PathState, RoundResult};
use crate::canary::test_cluster::{Cluster, node_name};

/// A check of this cluster, with the founding fault on its first nodes.
fn check(cluster: &Cluster, failing: usize) -> CheckState {
    let check: ConnectivityCheck = serde_json::from_value(json!({
        "apiVersion": "prober.dev/v1beta1", "kind": "ConnectivityCheck",
        "metadata": {"name": "default", "uid": "1", "generation": 1}, "spec": {}
    }))
    .unwrap();
    let mut check = CheckState::new(&check);
    let now = cluster.moment();
    check.observe("default", &cluster.inventory, &mut BTreeMap::new(), now);
    for second in 0..3 {
        let after = std::time::Duration::from_secs(second);
        let now = Moment {
            wall: now.wall + after,
            steady: now.steady + after,
        };
        check.end_examination(founding_fault(failing), now);
    }
    check
}

/// On each of these nodes its own path through the Service fails; the path from the first node to the second works.
fn founding_fault(nodes: usize) -> RoundResult {
    let path = |client, server| NodePath {
        client: node_name(client),
        server: Some(node_name(server)),
        access_path: AccessPath::ClusterIp,
        family: Family::Ipv4,
    };
    let own = || (0..nodes).map(|node| path(node, node));
    let findings = own().map(|path| Finding {
        cause: CauseName(Some(Cause::BridgeNetfilterOff)),
        confidence: Confidence::Proven,
        node: Some(path.client.clone()),
        paths: [path].into(),
    });
    RoundResult {
        examined: (0..nodes).map(node_name).collect(),
        paths: (own().map(|path| (path, PathState::Dead)))
            .chain([(path(0, 1), PathState::Healthy)])
            .collect(),
        findings: findings.collect(),
        ..RoundResult::default()
    }
}

fn page_of(cluster: &Cluster, check: &CheckState) -> PageState {
    let sources = Sources {
        identity: "prober-controller-0_1",
        leads: true,
        inventory: &cluster.inventory,
        slots: (3, 2),
        now: cluster.now,
    };
    let mut reports = FailureReports::default();
    snapshot(sources, [("default", check)], &mut reports)
}

#[test]
fn of_5000_nodes_two_fail_and_the_others_work() {
    let cluster = Cluster::of(5_000);
    let page = page_of(&cluster, &check(&cluster, 2));
    assert_eq!(page.nodes.len(), 5_000);
    assert_eq!(page.count(NodeHealth::Failing), 2);
    assert_eq!(page.count(NodeHealth::Working), 4_998);
    let labels = page
        .outages
        .iter()
        .map(|outage| (&*outage.cause, outage.node.as_deref()));
    let expected = [
        ("bridge-netfilter-off", Some("node-00000")),
        ("bridge-netfilter-off", Some("node-00001")),
    ];
    assert_eq!(labels.collect::<Vec<_>>(), expected);
    let pair = &page.pairs[0];
    assert_eq!((&*pair.client, &*pair.server), ("node-00000", "node-00000"));
    assert_eq!(pair.failing, ["cluster-ip"]);
    let [first, second] = &page.outages[..] else {
        panic!("two outages");
    };
    assert_ne!(first.id, second.id);
    assert_eq!(
        page.node("node-00000").unwrap().outages,
        std::slice::from_ref(&first.id)
    );
    // What works is there as well, and a table shows it.
    assert!(
        first
            .fingerprint
            .table("x")
            .into_string()
            .contains("✓ works")
    );
}

#[test]
fn an_outage_keeps_its_id_while_it_lasts() {
    let cluster = Cluster::of(3);
    let mut check = check(&cluster, 1);
    let before = page_of(&cluster, &check);
    let mut later = cluster.moment();
    later.wall = later.wall + std::time::Duration::from_mins(1);
    check.end_examination(founding_fault(1), later);
    let after = page_of(&cluster, &check);
    assert_eq!(before.outages[0].id, after.outages[0].id);
    assert_eq!(before, after);
}

#[test]
fn a_check_whose_nodes_are_not_known_is_not_shown() {
    let cluster = Cluster::of(2);
    let check: ConnectivityCheck = serde_json::from_value(json!({
        "apiVersion": "prober.dev/v1beta1", "kind": "ConnectivityCheck",
        "metadata": {"name": "default"}, "spec": {}
    }))
    .unwrap();
    let page = page_of(&cluster, &CheckState::new(&check));
    assert_eq!(page.checks.len(), 0);
}
