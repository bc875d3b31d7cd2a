//! Thousands of nodes that join, leave, reboot and fail: only what is broken is an outage, with its true beginning.

use std::time::Duration;

use prober_core::diagnosis::Confidence;
use prober_core::diagnosis::catalogue::Cause;
use prober_core::packet::family::Family;
use prober_core::report::CauseName;
use prober_core::topology::AccessPath;
use serde_json::json;

use super::super::test_cluster::{Cluster, node_name};
use super::*;
use crate::canary::health::EndReason;
use crate::canary::round_result::{Finding, InconclusiveReason, Liveness, NodePath, PathState};

fn check(spec: serde_json::Value) -> ConnectivityCheck {
    named("default", spec)
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "a literal is the usual argument"
)]
fn named(name: &str, spec: serde_json::Value) -> ConnectivityCheck {
    serde_json::from_value(json!({
        "apiVersion": "prober.dev/v1beta1", "kind": "ConnectivityCheck",
        "metadata": {"name": name, "uid": "1", "generation": 1},
        "spec": spec
    }))
    .unwrap()
}

/// A check on a cluster, and what it has reported.
struct Canary {
    cluster: Cluster,
    state: CheckState,
    reported: Vec<(Timestamp, Transition)>,
    examinations: usize,
}

impl Canary {
    fn of(nodes: usize) -> Self {
        let mut canary = Self {
            cluster: Cluster::of(nodes),
            state: CheckState::new(&check(json!({}))),
            reported: Vec::new(),
            examinations: 0,
        };
        canary.observe();
        canary
    }

    fn observe(&mut self) {
        let (mut claimed, now) = (BTreeMap::new(), self.cluster.moment());
        let transitions =
            (self.state).observe("default", &self.cluster.inventory, &mut claimed, now);
        self.report(transitions);
    }

    fn report(&mut self, transitions: Vec<Transition>) {
        let now = self.cluster.now;
        let transitions = transitions.into_iter();
        self.reported
            .extend(transitions.map(|transition| (now, transition)));
    }

    /// Lets time pass second by second, or in larger steps where much of it passes; an examination takes one.
    fn run(&mut self, seconds: u64) {
        let step = 1 + seconds / 20;
        for _ in 0..seconds.div_ceil(step) {
            self.cluster.pass(Duration::from_secs(step));
            self.observe();
            if !self.cluster.is_connected {
                continue;
            }
            let nodes = self.state.begin_examination(self.cluster.moment());
            if nodes.is_empty() {
                continue;
            }
            self.examinations += 1;
            let result = self.examined(nodes);
            let transitions = self.state.end_examination(result, self.cluster.moment());
            self.report(transitions);
        }
    }

    /// What an examination finds, with three peers of each node: only its own paths fail where the data path is broken; a
    /// node without power is silent.
    fn examined(&self, nodes: BTreeSet<NodeName>) -> RoundResult {
        let mut result = RoundResult::default();
        let all = self.cluster.len();
        for node in &nodes {
            let number: usize = node.as_str().trim_start_matches("node-").parse().unwrap();
            let peers = (1..4).map(|next| node_name((number + next) % all));
            for server in std::iter::once(node.clone()).chain(peers) {
                for (client, server) in [(node, &server), (&server, node)] {
                    let path = NodePath {
                        client: client.clone(),
                        server: Some(server.clone()),
                        access_path: AccessPath::ClusterIp,
                        family: Family::Ipv4,
                    };
                    let state = self.path(client, server);
                    result.paths.insert(path, state);
                }
                let liveness = if self.cluster.runs(&server) {
                    Liveness::Reporting
                } else {
                    Liveness::Silent
                };
                result.liveness.insert(server, liveness);
            }
            let broken = !self.cluster.works(node) && self.cluster.runs(node);
            result.findings.extend(broken.then(|| founding(node)));
        }
        result.examined = nodes;
        result
    }

    fn path(&self, client: &NodeName, server: &NodeName) -> PathState {
        if !self.cluster.runs(client) {
            PathState::Inconclusive(InconclusiveReason::NotProbed)
        } else if !self.cluster.runs(server) {
            PathState::Inconclusive(InconclusiveReason::Silent)
        } else if client == server && !self.cluster.works(client) {
            PathState::Dead
        } else {
            PathState::Healthy
        }
    }

    fn words(&self) -> Vec<String> {
        let words = self
            .reported
            .iter()
            .map(|(_, transition)| match transition {
                Transition::Opened(outage) => format!("opened {outage}"),
                Transition::Changed { outage, .. } => format!("changed {outage}"),
                Transition::Closed(outage) => match outage.end {
                    Some((_, EndReason::Recovered)) => format!("recovered {outage}"),
                    Some((_, EndReason::NoLongerProbed)) => format!("no longer probed {outage}"),
                    None => format!("closed {outage}"),
                },
            });
        words.collect()
    }
}

/// The founding fault on a node.
fn founding(node: &NodeName) -> Finding {
    let path = NodePath {
        client: node.clone(),
        server: Some(node.clone()),
        access_path: AccessPath::ClusterIp,
        family: Family::Ipv4,
    };
    Finding {
        cause: CauseName(Some(Cause::BridgeNetfilterOff)),
        confidence: Confidence::Proven,
        node: Some(node.clone()),
        paths: [path].into(),
    }
}

#[test]
fn a_healthy_cluster_needs_no_examination() {
    let mut canary = Canary::of(200);
    canary.run(300);
    assert_eq!(canary.examinations, 0);
    assert_eq!(canary.words(), [""; 0]);
    assert_eq!(canary.state.counts().working, 200);
    assert_eq!(canary.state.next_at(), None);
}

#[test]
fn a_broken_node_is_an_outage_from_its_alert_to_its_recovery() {
    let mut canary = Canary::of(50);
    canary.run(10);
    let began = canary.cluster.now;
    canary.cluster.set_works(7, false);
    assert_eq!(canary.state.is_healthy(&node_name(7)), Some(true));
    canary.run(3);
    assert_eq!(
        canary.words(),
        ["opened node-00007: bridge-netfilter-off (proven)"]
    );
    assert_eq!(canary.state.health().open()[0].start, began);
    assert_eq!(canary.state.is_healthy(&node_name(7)), Some(false));
    assert_eq!(canary.state.is_healthy(&node_name(8)), Some(true));
    canary.run(120);
    assert_eq!(canary.words().len(), 1);
    assert!(
        canary.examinations < 20,
        "{} in two minutes",
        canary.examinations
    );
    canary.cluster.set_works(7, true);
    canary.run(15);
    assert_eq!(
        canary.words()[1..],
        ["recovered node-00007: bridge-netfilter-off (proven)"]
    );
    let examinations = canary.examinations;
    canary.run(60);
    assert_eq!(canary.examinations, examinations, "it needs no more");
}

/// Reboots nodes a group at a time. They lose their power; 40 s later their Nodes are not Ready; they return after another
/// 20 s. Meanwhile some others alert for a while, because they have probed one of them.
fn reboot_all(
    canary: &mut Canary,
    nodes: usize,
    group: usize,
    mut on_boot: impl FnMut(&mut Cluster, usize),
) {
    for first in (0..nodes).step_by(group) {
        let rebooting: Vec<usize> = (first..nodes.min(first + group)).collect();
        for &node in &rebooting {
            canary.cluster.lose_power(node);
            // A peer that probes it alerts for some seconds.
            let peer = (node + group) % nodes;
            canary.cluster.set_works(peer, false);
            canary.cluster.restore_data_path(peer);
        }
        canary.observe();
        canary.run(40);
        for &node in &rebooting {
            canary.cluster.set_node_ready(node, false);
        }
        canary.run(20);
        for &node in &rebooting {
            on_boot(&mut canary.cluster, node);
            canary.cluster.restart_pods(node);
            canary.cluster.set_node_ready(node, true);
        }
        canary.run(20);
    }
}

#[test]
fn a_rolling_reboot_of_two_thousand_nodes_is_no_transition() {
    let mut canary = Canary::of(2_000);
    reboot_all(&mut canary, 2_000, 1_000, |_, _| {});
    canary.run(60);
    assert_eq!(canary.words(), [""; 0]);
    assert_eq!(canary.state.counts().working, 2_000);
    assert!(canary.state.transient_alerts() > 0, "some have alerted");
}

#[test]
fn of_a_rolling_reboot_only_the_node_with_a_broken_data_path_is_reported_soon() {
    let mut canary = Canary::of(200);
    let mut booted = Timestamp::default();
    reboot_all(&mut canary, 200, 50, |cluster, node| {
        if node == 77 {
            cluster.set_works(77, false);
            booted = cluster.now;
        }
    });
    assert_eq!(
        canary.words(),
        ["opened node-00077: bridge-netfilter-off (proven)"]
    );
    let (at, _) = &canary.reported[0];
    let took = at.since(booted);
    assert!(
        took <= Duration::from_secs(15),
        "{took:?} after it is Ready"
    );
}

#[test]
fn a_thousand_nodes_that_join_and_leave_within_a_minute_are_no_transition() {
    let mut canary = Canary::of(1_000);
    for second in 0..60 {
        for number in 0..17 {
            let joined = canary.cluster.add_node();
            assert!(joined >= 1_000);
            canary.cluster.remove_node(second * 17 + number);
        }
        canary.run(1);
    }
    canary.run(30);
    assert_eq!(canary.words(), [""; 0]);
    let counts = canary.state.counts();
    assert_eq!((counts.working, counts.total()), (1_000, 1_000));
    assert_eq!(canary.examinations, 0);
}

#[test]
fn a_fault_that_begins_while_the_api_server_is_away_is_reported_with_its_true_beginning() {
    let mut canary = Canary::of(100);
    canary.run(10);
    canary.cluster.is_connected = false;
    canary.run(120);
    let began = canary.cluster.now;
    canary.cluster.set_works(3, false);
    canary.run(180);
    assert_eq!(
        canary.words(),
        [""; 0],
        "nothing is known, and nothing claimed"
    );
    canary.cluster.relist();
    canary.run(3);
    assert_eq!(
        canary.words(),
        ["opened node-00003: bridge-netfilter-off (proven)"]
    );
    assert_eq!(canary.state.health().open()[0].start, began);
}

#[test]
fn an_api_server_that_is_away_is_no_transition() {
    let mut canary = Canary::of(500);
    canary.cluster.is_connected = false;
    canary.run(300);
    canary.cluster.relist();
    canary.run(60);
    assert_eq!(canary.words(), [""; 0]);
    assert_eq!(canary.examinations, 0);
}

#[test]
fn a_node_that_stays_silent_while_it_is_ready_is_an_outage_after_a_while() {
    let mut canary = Canary::of(10);
    canary.cluster.set_works(4, false);
    canary.cluster.lose_power(4);
    canary.run(170);
    assert_eq!(canary.words(), [""; 0]);
    canary.run(30);
    assert_eq!(canary.words(), ["opened node-00004: agent-silent (proven)"]);
}

#[test]
fn an_outage_stays_while_the_pods_of_its_node_start_again_and_ends_when_the_node_is_gone() {
    let mut canary = Canary::of(10);
    canary.cluster.set_works(4, false);
    canary.run(5);
    let client =
        (canary.cluster.inventory).agent(&node_name(4), super::super::inventory::Component::Client);
    let name = client.unwrap().name.clone();
    canary.cluster.replace_pod(&name);
    canary.run(30);
    assert_eq!(canary.words().len(), 1, "{:?}", canary.words());
    canary.cluster.set_node_ready(4, false);
    canary.run(50);
    assert_eq!(canary.words().len(), 1, "it may return");
    canary.run(20);
    assert_eq!(
        canary.words()[1..],
        ["no longer probed node-00004: bridge-netfilter-off (proven)"]
    );
}

#[test]
fn an_alert_that_examinations_do_not_confirm_is_counted_and_not_reported() {
    let mut canary = Canary::of(10);
    canary.cluster.set_works(4, false);
    canary.cluster.restore_data_path(4);
    canary.observe();
    assert_eq!(
        canary.state.is_healthy(&node_name(4)),
        None,
        "it is not known"
    );
    let nodes = canary.state.begin_examination(canary.cluster.moment());
    assert_eq!(nodes, [node_name(4)].into());
    let result = canary.examined(nodes);
    let transitions = canary
        .state
        .end_examination(result, canary.cluster.moment());
    canary.report(transitions);
    canary.run(10);
    assert_eq!(canary.words(), [""; 0]);
    assert_eq!(canary.state.transient_alerts(), 1);
}

/// A check whose status an earlier controller has written.
#[expect(
    clippy::needless_pass_by_value,
    reason = "a literal is the usual argument"
)]
fn with_outages(failing: serde_json::Value) -> ConnectivityCheck {
    let mut check = check(json!({}));
    check.status = Some(serde_json::from_value(json!({"failing": failing})).unwrap());
    check
}

fn failing(node: &str) -> serde_json::Value {
    json!({
        "node": node, "cause": "bridge-netfilter-off", "confidence": "proven", "paths": 3, "place": "",
        "since": "2026-11-24T10:00:00Z"
    })
}

/// Row P1.
#[test]
fn an_outage_of_a_node_that_left_before_a_restart_ends_and_keeps_no_other_from_ending() {
    let mut canary = Canary::of(10);
    canary.state = CheckState::new(&with_outages(json!([
        failing("gone"),
        failing("node-00003")
    ])));
    canary.observe();
    assert_eq!(
        canary.words(),
        ["no longer probed gone: bridge-netfilter-off (proven)"]
    );
    canary.run(60);
    assert_eq!(
        canary.words()[1..],
        ["recovered node-00003: bridge-netfilter-off (proven)"]
    );
}

#[test]
fn an_outage_that_lasts_over_a_restart_is_neither_reported_again_nor_begins_again() {
    let mut canary = Canary::of(10);
    canary.cluster.set_works(3, false);
    canary.state = CheckState::new(&with_outages(json!([failing("node-00003")])));
    canary.run(60);
    assert_eq!(canary.words(), [""; 0]);
    let [outage] = canary.state.health().open() else {
        panic!("{:?}", canary.state.health().open());
    };
    assert_eq!(outage.start.to_rfc3339(), "2026-11-24T10:00:00.000Z");
}

#[test]
fn a_restored_outage_without_a_node_ends_by_its_nodes_or_after_a_while() {
    let mut canary = Canary::of(10);
    let of_two = json!({
        "cause": "unknown", "confidence": "consistent", "paths": 3, "place": "", "since": "2026-11-24T10:00:00Z",
        "nodes": ["node-00001", "node-00002"]
    });
    let of_none = json!({
        "cause": "overlay-blocked", "confidence": "consistent", "paths": 3, "place": "", "since": "2026-11-24T10:00:00Z"
    });
    canary.state = CheckState::new(&with_outages(json!([of_two, of_none])));
    canary.run(100);
    assert_eq!(canary.words(), ["recovered unknown (consistent)"]);
    canary.run(220);
    assert_eq!(
        canary.words()[1..],
        ["no longer probed overlay-blocked (consistent)"]
    );
}

/// Row P3.
#[test]
fn a_node_without_a_conclusive_result_is_not_called_healthy() {
    let mut canary = Canary::of(3);
    let node = node_name(1);
    canary.cluster.set_works(1, false);
    canary.run(1);
    let nodes: BTreeSet<NodeName> = [node.clone()].into();
    let mut result = canary.examined(nodes);
    for state in result.paths.values_mut() {
        *state = PathState::Inconclusive(InconclusiveReason::Starved);
    }
    result.findings.clear();
    let mut canary = Canary::of(3);
    canary.cluster.set_works(1, false);
    canary.observe();
    canary.state.begin_examination(canary.cluster.moment());
    let transitions = canary
        .state
        .end_examination(result, canary.cluster.moment());
    assert_eq!(transitions, []);
    assert_eq!(canary.state.is_healthy(&node), None);
    canary.cluster.set_node_ready(1, false);
    canary.observe();
    assert_eq!(canary.state.is_healthy(&node), None, "absent, not healthy");
}

#[test]
fn a_node_that_two_checks_select_belongs_to_the_first_by_name() {
    let cluster = Cluster::of(4);
    let mut first = CheckState::new(&named("a", json!({})));
    let mut second = CheckState::new(&named("b", json!({"nodeSelector": {"pool": "a"}})));
    let mut claimed = BTreeMap::new();
    let now = cluster.moment();
    first.observe("a", &cluster.inventory, &mut claimed, now);
    second.observe("b", &cluster.inventory, &mut claimed, now);
    assert_eq!(first.counts().working, 4);
    assert_eq!(second.counts().not_measured, 4);
    let NodeState::NotMeasured(why) = &second.nodes()[&node_name(0)] else {
        panic!("{:?}", second.nodes());
    };
    assert_eq!(
        why.to_string(),
        "the ConnectivityCheck a selects it as well, and reports it"
    );
}

#[test]
fn a_paused_check_examines_nothing_and_keeps_what_was_found() {
    let mut canary = Canary::of(4);
    canary.cluster.set_works(1, false);
    canary.run(5);
    assert!(canary.state.set_spec(&check(json!({"paused": true}))));
    let examinations = canary.examinations;
    canary.run(120);
    assert_eq!(canary.examinations, examinations);
    assert_eq!(canary.state.health().open().len(), 1);
    assert_eq!(canary.words().len(), 1);
}

#[test]
fn an_examination_includes_the_nodes_at_the_other_ends_of_failing_paths() {
    let mut canary = Canary::of(10);
    canary.cluster.set_works(1, false);
    canary.run(1);
    let nodes: BTreeSet<NodeName> = [node_name(1)].into();
    let mut result = RoundResult {
        examined: nodes.clone(),
        ..RoundResult::default()
    };
    let path = NodePath {
        client: node_name(1),
        server: Some(node_name(9)),
        access_path: AccessPath::PodIp,
        family: Family::Ipv4,
    };
    result.paths.insert(path, PathState::Failing);
    canary
        .state
        .end_examination(result, canary.cluster.moment());
    assert_eq!(canary.state.wanted_peers(&nodes), [node_name(9)].into());
}

#[test]
fn twenty_minutes_on_starved_agents_are_no_transition() {
    let mut canary = Canary::of(3);
    let mut random = prober_core::random::Random::new(7);
    for _ in 0..120 {
        // A starved agent may miss its deadline, and closes its gate for a moment.
        let node = usize::try_from(random.below(3)).unwrap();
        canary.cluster.set_works(node, false);
        canary.observe();
        let nodes = canary.state.begin_examination(canary.cluster.moment());
        let mut result = canary.examined(nodes);
        for state in result.paths.values_mut() {
            *state = PathState::Inconclusive(InconclusiveReason::Starved);
        }
        result.findings.clear();
        canary.cluster.restore_data_path(node);
        let transitions = canary
            .state
            .end_examination(result, canary.cluster.moment());
        canary.report(transitions);
        canary.run(10);
    }
    assert_eq!(canary.words(), [""; 0]);
}
