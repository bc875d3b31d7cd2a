//! The status is bounded, says only what is measured, and its conditions keep their times while their status is the same.

use std::collections::BTreeMap;

use prober_core::diagnosis::Confidence;
use prober_core::diagnosis::catalogue::Cause;
use prober_core::packet::family::Family;
use prober_core::report::CauseName;
use prober_core::topology::AccessPath;
use serde_json::json;

use super::super::test_cluster::{Cluster, node_name};
use super::*;
use crate::canary::round_result::{Finding, NodePath, PathState, RoundResult};

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_nanos(seconds * 1_000_000_000)
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "a literal is the usual argument"
)]
fn check_of(spec: serde_json::Value) -> CheckState {
    let check = serde_json::from_value(json!({
        "apiVersion": "prober.dev/v1beta1", "kind": "ConnectivityCheck",
        "metadata": {"name": "default", "generation": 4}, "spec": spec
    }));
    CheckState::new(&check.unwrap())
}

fn observe(check: &mut CheckState, cluster: &Cluster) {
    let now = cluster.moment();
    check.observe("default", &cluster.inventory, &mut BTreeMap::new(), now);
}

/// A check of this cluster with the founding fault on its first nodes.
fn failing(cluster: &Cluster, nodes: usize) -> CheckState {
    let mut check = check_of(json!({}));
    observe(&mut check, cluster);
    for second in [100, 101] {
        check.end_examination(result(nodes, PathState::Failing), moment(second));
    }
    check
}

fn moment(second: u64) -> crate::canary::check_state::Moment {
    crate::canary::check_state::Moment {
        wall: at(second),
        steady: at(second),
    }
}

/// The founding fault on each of these nodes.
fn result(nodes: usize, seen: PathState) -> RoundResult {
    let paths = (0..nodes).map(|number| NodePath {
        client: node_name(number),
        server: Some(node_name(number)),
        access_path: AccessPath::ClusterIp,
        family: Family::Ipv4,
    });
    let paths: BTreeMap<NodePath, PathState> = paths.map(|path| (path, seen)).collect();
    let findings = paths
        .keys()
        .filter(|_| seen == PathState::Failing)
        .map(|path| Finding {
            cause: CauseName(Some(Cause::BridgeNetfilterOff)),
            confidence: Confidence::Proven,
            node: Some(path.client.clone()),
            paths: [path.clone()].into(),
        })
        .collect();
    RoundResult {
        paths,
        findings,
        ..RoundResult::default()
    }
}

fn build(
    check: &CheckState,
    before: Option<&ConnectivityCheckStatus>,
    now: u64,
) -> ConnectivityCheckStatus {
    let context = StatusContext {
        before,
        slots: 3,
        peers: 3,
        now: at(now),
    };
    status(check, context)
}

fn conditions(status: &ConnectivityCheckStatus) -> Vec<(&str, &str, &str)> {
    let conditions = status.conditions.iter().map(|condition| {
        let Condition {
            type_,
            status,
            reason,
            ..
        } = condition;
        (type_.as_str(), status.as_str(), reason.as_str())
    });
    conditions.collect()
}

#[test]
fn the_status_of_the_founding_fault() {
    let mut cluster = Cluster::of(3);
    cluster.set_node_ready(2, false);
    let status = build(&failing(&cluster, 1), None, 102);
    let failing = "node-00000: bridge-netfilter-off (proven)";
    let expected = json!({
        "conditions": [
            {
                "type": "Ready",
                "status": "True",
                "reason": "Probing",
                "message": "2 of 3 nodes work, 1 are not measured",
                "observedGeneration": 4,
                "lastTransitionTime": "1970-01-01T00:01:42Z"
            },
            {
                "type": "Healthy",
                "status": "False",
                "reason": "PathsFailing",
                "message": failing,
                "observedGeneration": 4,
                "lastTransitionTime": "1970-01-01T00:01:42Z"
            }
        ],
        "observedGeneration": 4,
        "headline": failing,
        "lastProbed": "1970-01-01T00:01:42Z",
        "nodes": {"working": 2, "alerting": 0, "starting": 0, "notMeasured": 1},
        "coverage": {"nodes": 2, "total": 3, "share": "2/3", "pairs": 6, "cycle": "10s"},
        "failing": [{
            "node": "node-00000",
            "cause": "bridge-netfilter-off",
            "confidence": "proven",
            "paths": 1,
            "place": "within node-00000",
            "since": "1970-01-01T00:01:40Z",
            "nodes": ["node-00000"]
        }],
        "outages": [{
            "start": "1970-01-01T00:01:40Z",
            "cause": "bridge-netfilter-off",
            "node": "node-00000"
        }],
        "skippedNodes": [{"node": "node-00002", "reason": "it is not Ready: Kubelet stopped posting node status"}]
    });
    assert_eq!(serde_json::to_value(status).unwrap(), expected);
}

#[test]
fn the_status_of_a_large_failing_cluster_is_small() {
    let mut cluster = Cluster::of(5_000);
    for number in 2_000..5_000 {
        cluster.set_node_ready(number, false);
    }
    let mut check = failing(&cluster, 2_000);
    for second in [200, 201] {
        check.end_examination(result(1_000, PathState::Healthy), moment(second));
    }
    let status = build(&check, None, 202);
    assert_eq!(status.failing.len(), MAX_FAILING);
    assert_eq!(status.outages.len(), MAX_OUTAGES);
    assert_eq!(status.skipped_nodes.len(), MAX_SKIPPED);
    assert!(
        status.headline.ends_with(", and 999 more"),
        "{}",
        status.headline
    );
    let bytes = serde_json::to_vec(&status).unwrap().len();
    assert!(bytes < 16_384, "{bytes} bytes");
}

#[test]
fn a_condition_keeps_its_transition_time_while_its_status_is_the_same() {
    let cluster = Cluster::of(2);
    let mut check = check_of(json!({}));
    observe(&mut check, &cluster);
    let first = build(&check, None, 10);
    let second = build(&check, Some(&first), 20);
    assert_eq!(first.conditions, second.conditions);
    let third = build(&failing(&cluster, 1), Some(&second), 102);
    assert_eq!(third.conditions[0], second.conditions[0]);
    assert_eq!(third.conditions[1].status, "False");
    assert_eq!(third.conditions[1].last_transition_time, time(at(102)));
}

/// Row P3.
#[test]
fn the_health_of_a_check_that_measures_nothing_is_unknown() {
    let mut cluster = Cluster::of(2);
    let states = |check: &CheckState| {
        let status = build(check, None, 5);
        let conditions = conditions(&status).into_iter();
        conditions
            .map(|(kind, word, reason)| format!("{kind} {word} {reason}"))
            .collect::<Vec<_>>()
    };
    let mut paused = check_of(json!({"paused": true}));
    observe(&mut paused, &cluster);
    assert_eq!(
        states(&paused),
        ["Ready False Paused", "Healthy Unknown NotProbed"]
    );
    let mut none = check_of(json!({"nodeSelector": {"pool": "b"}}));
    observe(&mut none, &cluster);
    assert_eq!(
        states(&none),
        ["Ready False NoNodes", "Healthy Unknown NotProbed"]
    );
    for number in [0, 1] {
        cluster.set_node_ready(number, false);
    }
    let mut check = check_of(json!({}));
    observe(&mut check, &cluster);
    assert_eq!(
        states(&check),
        ["Ready False NotProbed", "Healthy Unknown NotProbed"]
    );
    assert_eq!(build(&check, None, 5).last_probed, None);
}

#[test]
fn counts_wait_and_what_is_new_does_not() {
    let mut cluster = Cluster::of(3);
    let mut check = check_of(json!({}));
    observe(&mut check, &cluster);
    let first = build(&check, None, 10);
    let written = |seconds| Some((&first, Duration::from_secs(seconds)));
    assert!(is_worth_writing(None, &first));
    let later = build(&check, Some(&first), 20);
    assert!(
        !is_worth_writing(written(10), &later),
        "only the time has passed"
    );
    assert!(is_worth_writing(written(300), &later));
    cluster.restart_pods(2);
    observe(&mut check, &cluster);
    let starting = build(&check, Some(&first), 20);
    assert!(!is_worth_writing(written(10), &starting));
    assert!(is_worth_writing(written(30), &starting));
    let broken = build(&failing(&cluster, 1), Some(&first), 20);
    assert!(is_worth_writing(written(0), &broken));
}

#[test]
fn a_check_that_does_not_parse_says_so() {
    let status = invalid("unknown variant `IPv5`", Some(3), at(1));
    assert_eq!(
        conditions(&status),
        [
            ("Ready", "False", "Invalid"),
            ("Healthy", "Unknown", "NotProbed")
        ]
    );
    assert!(
        status.conditions[0]
            .message
            .contains("unknown variant `IPv5`")
    );
}
