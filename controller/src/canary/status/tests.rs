//! What is told is bounded, and its times hold while its words do.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;

use prober_core::diagnosis::Confidence;
use prober_core::diagnosis::catalogue::Cause;
use prober_core::packet::family::Family;
use prober_core::plan::pairing::rotation::Budget;
use prober_core::report::CauseName;
use prober_core::topology::{NodeName, Route};
use serde_json::json;

use super::super::schedule::{Candidate, Skip};
use super::*;
use crate::canary::health::Rule;
use crate::canary::round_result::{Finding, Look, NodePath, Seen};

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
    let candidates: Vec<Candidate> = (0..skipped + 2)
        .map(|i| Candidate {
            node: NodeName::new(format!("node-{i:04}")),
            zone: String::new(),
            skipped: (i >= 2).then_some(Skip::Cordoned),
        })
        .collect();
    schedule.see(&candidates, at(0));
    schedule.sit();
    let pairs = schedule.begin(at(0));
    schedule.cover(&pairs, &pairs);
    schedule
}

/// The founding fault on each of so many nodes.
fn look(nodes: usize, seen: Seen) -> Look {
    let paths = (0..nodes).map(|i| {
        let name = NodeName::new(format!("node-{i:04}"));
        NodePath {
            client: name.clone(),
            server: Some(name),
            route: Route::ClusterIp,
            family: Family::Ipv4,
        }
    });
    let paths: BTreeMap<NodePath, Seen> = paths.map(|path| (path, seen)).collect();
    let findings = paths
        .keys()
        .filter(|_| seen == Seen::Failing)
        .map(|path| Finding {
            cause: CauseName(Some(Cause::BridgeNetfilterOff)),
            confidence: Confidence::Proven,
            node: Some(path.client.clone()),
            paths: [path.clone()].into(),
        })
        .collect();
    Look {
        paths,
        findings,
        voices: BTreeMap::new(),
    }
}

fn failing(nodes: usize) -> Judgement {
    let mut judgement = Judgement::new(Rule::new(2, 3));
    judgement.see(&look(nodes, Seen::Failing), at(100));
    judgement.see(&look(nodes, Seen::Failing), at(101));
    judgement
}

fn told(
    judgement: &Judgement,
    schedule: &Schedule,
    before: &[Condition],
    now: u64,
) -> ConnectivityCheckStatus {
    let circumstances = Circumstances {
        generation: Some(4),
        readiness: &Readiness::Probing,
        before,
        now: at(now),
    };
    status(judgement, schedule, circumstances)
}

#[test]
fn the_founding_fault_is_told_as_people_read_it() {
    let status = told(&failing(1), &schedule(1), &[], 102);
    let failing = "node-0000: bridge-netfilter-off (proven)";
    let expected = json!({
        "conditions": [
            {
                "type": "Ready",
                "status": "True",
                "reason": "Probing",
                "message": "rounds are probed as asked",
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
fn the_worst_day_of_a_large_cluster_fits_into_a_small_object() {
    let mut judgement = failing(5000);
    judgement.see(&look(2000, Seen::Healthy), at(200));
    judgement.see(&look(2000, Seen::Healthy), at(201));
    let status = told(&judgement, &schedule(3000), &[], 202);
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
fn a_condition_keeps_its_time_while_it_keeps_its_word() {
    let schedule = schedule(0);
    let judgement = Judgement::new(Rule::new(2, 3));
    let first = told(&judgement, &schedule, &[], 10);
    let second = told(&judgement, &schedule, &first.conditions, 20);
    assert_eq!(first, second);
    let third = told(&failing(1), &schedule, &second.conditions, 102);
    assert_eq!(third.conditions[0], second.conditions[0]);
    assert_eq!(third.conditions[1].status, "False");
    assert_eq!(third.conditions[1].last_transition_time, time(at(102)));
}

#[test]
fn a_check_that_does_not_probe_says_nothing_of_health() {
    let circumstances = Circumstances {
        generation: None,
        readiness: &Readiness::Paused,
        before: &[],
        now: at(5),
    };
    let status = status(
        &Judgement::new(Rule::new(2, 3)),
        &schedule(0),
        circumstances,
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
fn a_cycle_of_centuries_is_told_as_the_longest_that_can_be_written() {
    let budget = Budget {
        peers: 1,
        pairs: NonZeroUsize::new(2).unwrap(),
        nodes: NonZeroUsize::new(64).unwrap(),
    };
    let mut schedule = Schedule::new(budget, Duration::from_hours(1), 1);
    let candidates: Vec<Candidate> = (0..5_000)
        .map(|i| Candidate {
            node: NodeName::new(format!("node-{i:04}")),
            zone: String::new(),
            skipped: None,
        })
        .collect();
    schedule.see(&candidates, at(0));
    let circumstances = Circumstances {
        generation: None,
        readiness: &Readiness::Probing,
        before: &[],
        now: at(0),
    };
    let told = status(&Judgement::new(Rule::new(2, 3)), &schedule, circumstances);
    let cycle = told.coverage.unwrap().cycle;
    assert_eq!(cycle.to_string(), "999999h");
    assert_eq!(cycle.to_string().parse(), Ok(cycle));
}
