//! The status is bounded, and its conditions keep their times while their status is the same.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;

use prober_core::diagnosis::Confidence;
use prober_core::diagnosis::catalogue::Cause;
use prober_core::packet::family::Family;
use prober_core::plan::pairing::rotation::Budget;
use prober_core::report::CauseName;
use prober_core::topology::{AccessPath, NodeName};
use serde_json::json;

use super::super::schedule::{SelectedNode, SkipReason};
use super::*;
use crate::canary::health::ConfirmationRule;
use crate::canary::round_result::{Finding, NodePath, PathState, RoundResult};

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_nanos(seconds * 1_000_000_000)
}

fn schedule(skipped: usize) -> Schedule {
    let budget = Budget {
        peers: 3,
        pairs: NonZeroUsize::new(400).unwrap(),
        nodes: NonZeroUsize::new(64).unwrap(),
    };
    let mut schedule = Schedule::new(budget, Duration::from_secs(10), 1);
    let selected_nodes: Vec<SelectedNode> = (0..skipped + 2)
        .map(|i| SelectedNode {
            name: NodeName::new(format!("node-{i:04}")),
            zone: String::new(),
            skipped: (i >= 2).then_some(SkipReason::Cordoned),
        })
        .collect();
    schedule.set_nodes(&selected_nodes, at(0));
    schedule.assign_nodes();
    let pairs = schedule.begin_round(at(0));
    schedule.record_results(&pairs, &pairs);
    schedule
}

/// The founding fault on each of these nodes.
fn result(nodes: usize, seen: PathState) -> RoundResult {
    let paths = (0..nodes).map(|i| {
        let name = NodeName::new(format!("node-{i:04}"));
        NodePath {
            client: name.clone(),
            server: Some(name),
            access_path: AccessPath::ClusterIp,
            family: Family::Ipv4,
        }
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
        liveness: BTreeMap::new(),
    }
}

fn failing(nodes: usize) -> HealthTracker {
    let mut health = HealthTracker::new(ConfirmationRule::new(2, 3));
    health.update(&result(nodes, PathState::Failing), at(100));
    health.update(&result(nodes, PathState::Failing), at(101));
    health
}

fn build(
    health: &HealthTracker,
    schedule: &Schedule,
    before: &[Condition],
    now: u64,
) -> ConnectivityCheckStatus {
    let context = StatusContext {
        generation: Some(4),
        phase: &CheckPhase::Probing,
        before,
        now: at(now),
    };
    status(health, schedule, context)
}

#[test]
fn the_status_of_the_founding_fault() {
    let status = build(&failing(1), &schedule(1), &[], 102);
    let failing = "node-0000: bridge-netfilter-off (proven)";
    let expected = json!({
        "conditions": [
            {
                "type": "Ready",
                "status": "True",
                "reason": "Probing",
                "message": "rounds are probed as specified",
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
        "coverage": {"pairs": 4, "total": 4, "share": "4/4", "cycle": "10s"},
        "failing": [{
            "node": "node-0000",
            "cause": "bridge-netfilter-off",
            "confidence": "proven",
            "paths": 1,
            "place": "within node-0000",
            "since": "1970-01-01T00:01:40Z"
        }],
        "outages": [{
            "start": "1970-01-01T00:01:40Z",
            "cause": "bridge-netfilter-off",
            "node": "node-0000"
        }],
        "skippedNodes": [{"node": "node-0002", "reason": "it is cordoned"}]
    });
    assert_eq!(serde_json::to_value(status).unwrap(), expected);
}

#[test]
fn the_status_of_a_large_failing_cluster_is_small() {
    let mut health = failing(5000);
    health.update(&result(2000, PathState::Healthy), at(200));
    health.update(&result(2000, PathState::Healthy), at(201));
    let status = build(&health, &schedule(3000), &[], 202);
    assert_eq!(status.failing.len(), MAX_FAILING);
    assert_eq!(status.outages.len(), MAX_OUTAGES);
    assert_eq!(status.skipped_nodes.len(), MAX_SKIPPED);
    assert!(
        status.headline.ends_with(", and 2999 more"),
        "{}",
        status.headline
    );
    let bytes = serde_json::to_vec(&status).unwrap().len();
    assert!(bytes < 16_384, "{bytes} bytes");
}

#[test]
fn a_condition_keeps_its_transition_time_while_its_status_is_the_same() {
    let schedule = schedule(0);
    let health = HealthTracker::new(ConfirmationRule::new(2, 3));
    let first = build(&health, &schedule, &[], 10);
    let second = build(&health, &schedule, &first.conditions, 20);
    assert_eq!(first, second);
    let third = build(&failing(1), &schedule, &second.conditions, 102);
    assert_eq!(third.conditions[0], second.conditions[0]);
    assert_eq!(third.conditions[1].status, "False");
    assert_eq!(third.conditions[1].last_transition_time, time(at(102)));
}

#[test]
fn the_health_of_a_paused_check_is_unknown() {
    let context = StatusContext {
        generation: None,
        phase: &CheckPhase::Paused,
        before: &[],
        now: at(5),
    };
    let status = status(
        &HealthTracker::new(ConfirmationRule::new(2, 3)),
        &schedule(0),
        context,
    );
    let words: Vec<_> = status
        .conditions
        .iter()
        .map(|condition| {
            (
                condition.type_.as_str(),
                condition.status.as_str(),
                condition.reason.as_str(),
            )
        })
        .collect();
    assert_eq!(
        words,
        [
            ("Ready", "False", "Paused"),
            ("Healthy", "Unknown", "NotProbed")
        ]
    );
}

#[test]
fn a_cycle_of_centuries_is_written_as_the_longest_duration() {
    let budget = Budget {
        peers: 1,
        pairs: NonZeroUsize::new(2).unwrap(),
        nodes: NonZeroUsize::new(64).unwrap(),
    };
    let mut schedule = Schedule::new(budget, Duration::from_hours(1), 1);
    let selected_nodes: Vec<SelectedNode> = (0..5_000)
        .map(|i| SelectedNode {
            name: NodeName::new(format!("node-{i:04}")),
            zone: String::new(),
            skipped: None,
        })
        .collect();
    schedule.set_nodes(&selected_nodes, at(0));
    let context = StatusContext {
        generation: None,
        phase: &CheckPhase::Probing,
        before: &[],
        now: at(0),
    };
    let built = status(
        &HealthTracker::new(ConfirmationRule::new(2, 3)),
        &schedule,
        context,
    );
    let cycle = built.coverage.unwrap().cycle;
    assert_eq!(cycle.to_string(), "999999h");
    assert_eq!(cycle.to_string().parse(), Ok(cycle));
}
