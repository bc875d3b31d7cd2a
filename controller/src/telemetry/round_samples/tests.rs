//! The founding incident as examinations of a canary: the samples when it begins, while it lasts, and when it ends.

use std::collections::BTreeMap;

use opentelemetry::trace::Status;
use prober_core::diagnosis::Confidence;
use prober_core::evidence::{AgentEvidence, Comparison, Matrix, PathTally};
use prober_core::packet::family::Family;
use prober_core::probe::event::OutcomeCounts;
use prober_core::probe::outcome::EngineKind;
use prober_core::report::{Health, Report};
use prober_core::time::Timestamp;
use prober_core::topology::{AccessPath, AgentId, Path, Scope};
use serde_json::json;

use super::super::trace::{Span, SpanSource};
use super::*;
use crate::canary::check_state::{CheckState, Moment};
use crate::canary::round_result::RoundResult;

/// A working path beside the failing one.
const ACROSS: PathId = PathId(2);

fn founding() -> Report {
    Report::parse(include_bytes!(
        "../../../../tests/export/founding-incident.json"
    ))
    .unwrap()
}

/// The same nodes without a fault.
fn healthy() -> Report {
    let mut report = founding();
    report.diagnoses.clear();
    for path in &mut report.paths {
        path.health = Health::Healthy;
        path.outcomes = OutcomeCounts::default();
        path.outcomes.established = 4;
        path.probes.clear();
    }
    report
}

/// The measurements of this report: its own path, and a working one to the other node.
fn matrix(report: &Report) -> Matrix {
    let mut matrix = Matrix::default();
    let known = &report.paths[0];
    let agent = |pod: &str| AgentId::new(pod[..6].to_owned(), pod.to_owned());
    let mut measured = |id, server, outcomes: OutcomeCounts, millis: u64| {
        let mut tally = PathTally {
            outcomes,
            ..PathTally::default()
        };
        for _ in 0..tally.outcomes.established {
            tally.rtt.record(Duration::from_millis(millis));
        }
        let path = Path {
            client: agent("node-1-client"),
            server: Some(agent(server)),
            access_path: AccessPath::ClusterIp,
            family: Family::Ipv4,
        };
        let evidence = PathEvidence {
            path,
            target: known.target,
            backends: Vec::new(),
            requested: tally.outcomes.total(),
            tallies: BTreeMap::from([(EngineKind::Kernel, tally)]),
            probes: Vec::new(),
            ttl_probe: None,
            other_port: None,
            socket_level: false,
        };
        matrix.paths.insert(id, evidence);
    };
    let fine = OutcomeCounts {
        established: 2,
        ..OutcomeCounts::default()
    };
    measured(known.id, "node-1-server", known.outcomes, 1);
    measured(ACROSS, "node-2-server", fine, 3);
    for agent in &report.agents {
        let evidence = AgentEvidence {
            has_reported: agent.has_reported,
            failed: agent.failed.clone(),
            ..AgentEvidence::default()
        };
        let id = AgentId::new(agent.node.as_str(), agent.pod.clone());
        matrix.agents.insert(id, evidence);
    }
    matrix
}

/// A check that receives the results of examinations.
struct Canary {
    state: CheckState,
    seconds: u64,
}

impl Canary {
    fn new() -> Self {
        let check = serde_json::from_value(json!({
            "apiVersion": "prober.dev/v1beta1", "kind": "ConnectivityCheck", "metadata": {"name": "default"}, "spec": {}
        }));
        Self {
            state: CheckState::new(&check.unwrap()),
            seconds: 0,
        }
    }

    /// The samples of a round with this report.
    fn samples(&mut self, report: &Report) -> Vec<Sample> {
        self.samples_with(report, &matrix(report))
    }

    fn samples_with(&mut self, report: &Report, matrix: &Matrix) -> Vec<Sample> {
        self.seconds += 10;
        let now = Timestamp::from_nanos(self.seconds * 1_000_000_000);
        let now = Moment {
            wall: now,
            steady: now,
        };
        let result = RoundResult::from_report(report);
        let transitions = self.state.end_examination(result, now);
        samples(&CheckRound {
            check: "default",
            matrix,
            report,
            state: &self.state,
            transitions: &transitions,
        })
    }
}

/// Handshakes by scope, outcome and cause, and how many of them have a duration.
fn handshakes(samples: &[Sample]) -> BTreeMap<String, (usize, usize)> {
    let mut counts = BTreeMap::new();
    for sample in samples {
        if let Sample::Handshake {
            node,
            peer_scope,
            access_path,
            family,
            outcome,
            cause,
            duration,
        } = sample
        {
            let cause = cause.map_or("-", |cause| cause.as_str());
            let key = format!(
                "{node} {peer_scope} {access_path} {family:?} {} {cause}",
                outcome.as_str()
            );
            let (all, timed) = counts.entry(key).or_default();
            *all += 1;
            *timed += usize::from(duration.is_some());
        }
    }
    counts
}

fn paths(samples: &[Sample]) -> Vec<(Scope, bool)> {
    let mut paths = Vec::new();
    for sample in samples {
        if let Sample::Path { scope, healthy, .. } = sample {
            paths.push((*scope, *healthy));
        }
    }
    paths
}

fn traces(samples: &[Sample]) -> Vec<&Trace> {
    let mut traces = Vec::new();
    for sample in samples {
        if let Sample::Trace(trace) = sample {
            traces.push(trace.as_ref());
        }
    }
    traces
}

#[test]
fn handshakes_are_counted_by_their_cause() {
    let samples = Canary::new().samples(&founding());
    let counts = handshakes(&samples);
    let expected = [
        // A mismatched answer has no round trip.
        (
            "node-1 same-node cluster-ip Ipv4 mismatched bridge-netfilter-off".to_owned(),
            (103, 0),
        ),
        (
            "node-1 cross-node cluster-ip Ipv4 established -".to_owned(),
            (2, 2),
        ),
    ];
    assert_eq!(counts, BTreeMap::from(expected));
}

#[test]
fn the_founding_fault_fails_its_node_and_its_kind_of_path_and_nothing_else() {
    let samples = Canary::new().samples(&founding());
    assert_eq!(
        paths(&samples),
        [(Scope::SameNode, false), (Scope::CrossNode, true)]
    );
}

#[test]
fn an_outage_is_one_trace_of_both_ends_however_many_rounds_it_lasts() {
    let mut canary = Canary::new();
    let first = canary.samples(&founding());
    let samples = traces(&first);
    assert_eq!(samples.len(), 1);
    let spans: Vec<(&str, String)> = (samples[0].spans().iter())
        .map(|Span { source, data }| {
            let whose = match source {
                SpanSource::Prober => "prober".to_owned(),
                SpanSource::Agent(agent) => agent.pod.clone(),
            };
            let expected = Status::error("bridge-netfilter-off (proven)");
            assert_eq!(data.status, expected);
            (data.name.as_ref(), whose)
        })
        .collect();
    assert_eq!(
        spans,
        [
            ("probe", "prober".to_owned()),
            ("handshake", "node-1-client".to_owned()),
            ("handshake", "node-1-server".to_owned()),
        ]
    );
    for _ in 0..3 {
        assert!(traces(&canary.samples(&founding())).is_empty());
    }
}

#[test]
fn the_same_outage_has_the_same_trace_after_a_restart() {
    let id = || traces(&Canary::new().samples(&founding()))[0].id();
    assert_eq!(id(), id());
    let mut later = Canary::new();
    later.seconds = 60;
    assert_ne!(traces(&later.samples(&founding()))[0].id(), id());
}

#[test]
fn a_cause_that_becomes_surer_is_a_trace_of_its_own() {
    let mut unsure = founding();
    unsure.diagnoses[0].confidence = Confidence::Consistent;
    let mut canary = Canary::new();
    let first = traces(&canary.samples(&unsure))[0].id();
    let proven = canary.samples(&founding());
    assert_eq!(traces(&proven).len(), 1);
    assert_ne!(traces(&proven)[0].id(), first);
}

#[test]
fn when_the_outage_ends_all_of_it_is_healthy_again() {
    let mut canary = Canary::new();
    canary.samples(&founding());
    let mut rounds = 0;
    let samples = loop {
        let samples = canary.samples(&healthy());
        rounds += 1;
        if canary.state.health().open().is_empty() {
            break samples;
        }
        // One healthy round does not end it.
        assert_eq!(paths(&samples)[0], (Scope::SameNode, false));
        assert!(rounds < 3);
    };
    assert!(paths(&samples).iter().all(|(_, healthy)| *healthy));
    assert!(traces(&samples).is_empty());
    let counts = handshakes(&samples);
    assert_eq!(
        counts["node-1 same-node cluster-ip Ipv4 established -"],
        (4, 4)
    );
}

#[test]
fn a_healthy_round_has_nothing_that_fails_and_no_cause() {
    let samples = Canary::new().samples(&healthy());
    assert!(paths(&samples).iter().all(|(_, healthy)| *healthy));
    assert!(traces(&samples).is_empty());
    assert!(handshakes(&samples).keys().all(|key| key.ends_with(" -")));
}

#[test]
fn a_probe_that_was_late_is_established_and_has_no_cause() {
    let report = founding();
    let mut matrix = matrix(&report);
    let tallies = matrix.paths.get_mut(&report.paths[0].id).unwrap();
    let tally = tallies.tallies.get_mut(&EngineKind::Kernel).unwrap();
    tally.outcomes.established = 3;
    tally.rtt.record(Duration::from_secs(1));
    let counts = handshakes(&Canary::new().samples_with(&report, &matrix));
    // One of the three has a round trip; the others are counted nevertheless.
    assert_eq!(
        counts["node-1 same-node cluster-ip Ipv4 established -"],
        (3, 1)
    );
}

#[test]
fn handshakes_of_a_second_client_are_not_counted() {
    let report = founding();
    let mut matrix = matrix(&report);
    let without = handshakes(&Canary::new().samples_with(&report, &matrix));
    let mut second = matrix.paths[&ACROSS].clone();
    second.path.client.pod = "node-1-server".to_owned();
    matrix.paths.insert(PathId(ACROSS.0 + 1), second);
    let counted = handshakes(&Canary::new().samples_with(&report, &matrix));
    assert_ne!(counted, without);
    (matrix.comparisons).insert(PathId(ACROSS.0 + 1), Comparison::SecondClient);
    let compared = handshakes(&Canary::new().samples_with(&report, &matrix));
    assert_eq!(compared, without);
}

/// Row P3.
#[test]
fn a_path_without_an_outcome_is_no_sample() {
    let report = founding();
    let mut matrix = matrix(&report);
    for evidence in matrix.paths.values_mut() {
        evidence.tallies.clear();
    }
    let samples = Canary::new().samples_with(&report, &matrix);
    assert_eq!(paths(&samples), []);
}
