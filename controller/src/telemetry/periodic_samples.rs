//! Samples that are taken rarely: the time until a new agent's first connectivity, once; and a healthy trace of each
//! node, once an hour.

use std::collections::BTreeMap;
use std::time::Duration;

use prober_core::evidence::{Evidence, PathEvidence};
use prober_core::probe::outcome::Outcome;
use prober_core::report::{Health, ProbeReport};
use prober_core::time::Timestamp;
use prober_core::topology::{AccessPath, NodeName, PathId};

use super::sample::Sample;
use super::trace::{Trace, TraceSource};
use crate::canary::controller::observer::CheckRound;
use crate::telemetry::round_samples::seed;

/// The pause between two healthy traces of a node.
const HEALTHY_TRACE_INTERVAL: Duration = Duration::from_hours(1);

/// What was sampled already.
#[derive(Debug, Default)]
pub(super) struct PeriodicSamples {
    /// By node and check: the client pod whose first connectivity was sampled.
    connected: BTreeMap<(NodeName, String), String>,
    /// By node: when a healthy trace was sampled last, for any check.
    healthy: BTreeMap<NodeName, Timestamp>,
}

impl PeriodicSamples {
    /// The periodic samples that a round provides.
    pub(super) fn of(&mut self, round: &CheckRound<'_>, now: Timestamp) -> Vec<Sample> {
        let mut samples = self.first_connectivity(round);
        samples.extend(self.healthy(round, now));
        samples
    }

    /// Forgets a node that a check no longer probes.
    pub(super) fn forget(&mut self, check: &str, node: &NodeName) {
        self.connected.remove(&(node.clone(), check.to_owned()));
        if !self.connected.keys().any(|(known, _)| known == node) {
            self.healthy.remove(node);
        }
    }

    fn first_connectivity(&mut self, round: &CheckRound<'_>) -> Vec<Sample> {
        let mut first: BTreeMap<_, Timestamp> = BTreeMap::new();
        let paths = round.matrix.planned_paths().map(|(_, path)| path);
        for evidence in paths.filter(|path| is_from_client_agent(path)) {
            let connected = evidence.probes.iter().filter_map(connected_at);
            if let Some(at) = connected.min() {
                let known = first.entry(&evidence.path.client).or_insert(at);
                *known = at.min(*known);
            }
        }
        let mut samples = Vec::new();
        for (agent, at) in first {
            let key = (agent.node.clone(), round.check.to_owned());
            if self.connected.get(&key) == Some(&agent.pod) {
                continue;
            }
            self.connected.insert(key, agent.pod.clone());
            let known = round.matrix.agents.get(agent);
            if let Some(hello) = known.and_then(|known| known.hello.as_ref()) {
                samples.push(Sample::FirstConnectivity {
                    node: agent.node.clone(),
                    duration: at.since(hello.at),
                });
            }
        }
        samples
    }

    fn healthy(&mut self, round: &CheckRound<'_>, now: Timestamp) -> Vec<Sample> {
        let mut samples = Vec::new();
        for (id, evidence) in &round.matrix.paths {
            let node = &evidence.path.client.node;
            let is_due = (self.healthy.get(node))
                .is_none_or(|last| now.since(*last) >= HEALTHY_TRACE_INTERVAL);
            let probe = evidence
                .probes
                .iter()
                .find(|probe| probe.client.is_first_syn_success());
            let due = probe.filter(|_| is_due && has_translation(evidence));
            if let Some(trace) = due.and_then(|probe| trace(round, *id, probe, now)) {
                self.healthy.insert(node.clone(), now);
                samples.push(Sample::Trace(Box::new(trace)));
            }
        }
        samples
    }
}

/// Whether the node's client agent probes it, and neither its host agent nor its server.
const fn is_from_client_agent(evidence: &PathEvidence) -> bool {
    match evidence.path.access_path {
        AccessPath::PodIp
        | AccessPath::ClusterIp
        | AccessPath::ClusterIpAny
        | AccessPath::ClusterIpLocal
        | AccessPath::NodePort => true,
        AccessPath::Hairpin | AccessPath::HostNetwork => false,
    }
}

/// Whether a trace of it shows two ends and an address translation.
const fn has_translation(evidence: &PathEvidence) -> bool {
    match evidence.path.access_path {
        AccessPath::ClusterIp => true,
        AccessPath::PodIp
        | AccessPath::ClusterIpAny
        | AccessPath::ClusterIpLocal
        | AccessPath::NodePort
        | AccessPath::Hairpin
        | AccessPath::HostNetwork => false,
    }
}

fn connected_at(probe: &Evidence) -> Option<Timestamp> {
    match probe.client.outcome {
        Outcome::Established { connect_ns, .. } => {
            Some(probe.client.started + Duration::from_nanos(connect_ns))
        }
        Outcome::Reset { .. }
        | Outcome::Unreachable { .. }
        | Outcome::RefusedLocally { .. }
        | Outcome::Mismatched { .. }
        | Outcome::Timeout => None,
    }
}

/// The trace of a successful probe, if its path is healthy.
fn trace(round: &CheckRound<'_>, id: PathId, probe: &Evidence, now: Timestamp) -> Option<Trace> {
    let path = round.report.path(id)?;
    let probe = ProbeReport {
        client: probe.client.clone(),
        server_agent: probe.server_agent.clone(),
        server: probe.server.clone(),
        annotations: Vec::new(),
    };
    let source = TraceSource {
        path,
        probe: &probe,
        diagnosis: None,
    };
    let seed = seed(&(round.check, &path.client.pod, now.as_nanos()));
    (path.health == Health::Healthy).then(|| Trace::of(source, seed))
}

#[cfg(test)]
mod tests {
    use prober_core::evidence::{AgentEvidence, Matrix, PathTally};
    use prober_core::packet::family::Family;
    use prober_core::probe::event::{EVENT_SCHEMA, Hello};
    use prober_core::probe::outcome::{EngineKind, Exchange, ProbeResult};
    use prober_core::probe::tier::Tier;
    use prober_core::report::{Completion, Meta, Report};
    use prober_core::topology::{AgentId, Path};

    use super::*;
    use crate::canary::health::{ConfirmationRule, HealthTracker};
    use crate::canary::schedule::Coverage;

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_nanos(millis * 1_000_000)
    }

    /// A client that was ready after 1 s and sent a probe after 3 s, which was answered 2 ms later, or not at all.
    fn matrix(run: &str, outcome: Outcome) -> Matrix {
        let client = AgentId::new("node-1", format!("{run}-client"));
        let mut matrix = Matrix::default();
        let hello = Hello {
            schema: EVENT_SCHEMA.to_owned(),
            agent: client.clone(),
            version: String::new(),
            tier: Tier::T1,
            addresses: Vec::new(),
            limits: Vec::new(),
            at: at(1_000),
            run: None,
        };
        let agent = AgentEvidence {
            hello: Some(hello),
            has_reported: true,
            ..AgentEvidence::default()
        };
        matrix.agents.insert(client.clone(), agent);
        let target = "10.0.0.9:9000".parse().unwrap();
        let probe = ProbeResult {
            path: PathId(0),
            engine: EngineKind::Kernel,
            src: "10.1.0.2:40000".parse().unwrap(),
            dst: target,
            started: at(3_000),
            isn: None,
            server_isn: None,
            outcome,
            syns: 1,
            exchange: Exchange::NotTried,
            observations: Vec::new(),
        };
        let mut tally = PathTally::default();
        tally.outcomes.count(probe.outcome.kind());
        tally.first_syn_success = u64::from(probe.is_first_syn_success());
        let evidence = PathEvidence {
            path: Path {
                client,
                server: Some(AgentId::new("node-2", format!("{run}-server"))),
                access_path: AccessPath::ClusterIp,
                family: Family::Ipv4,
            },
            target,
            backends: Vec::new(),
            requested: 1,
            tallies: [(EngineKind::Kernel, tally)].into(),
            probes: vec![Evidence {
                client: probe,
                server_agent: None,
                server: None,
            }],
            ttl_probe: None,
            other_port: None,
            socket_level: false,
        };
        matrix.paths.insert(PathId(0), evidence);
        matrix
    }

    const ESTABLISHED: Outcome = Outcome::Established {
        rtt_ns: 1_000_000,
        connect_ns: 2_000_000,
    };

    fn take(
        periodic: &mut PeriodicSamples,
        matrix: &Matrix,
        now: Timestamp,
    ) -> (Vec<Duration>, usize) {
        let meta = Meta {
            version: String::new(),
            command: Vec::new(),
            started: at(0),
            duration: Duration::ZERO,
            completion: Completion::Complete,
            notes: Vec::new(),
        };
        let samples = periodic.of(
            &CheckRound {
                check: "default",
                matrix,
                report: &Report::new(matrix, &[], meta),
                health: &HealthTracker::new(ConfirmationRule::new(2, 3)),
                transitions: &[],
                coverage: Coverage {
                    pairs: 1,
                    total: 4,
                    cycle: Duration::ZERO,
                },
            },
            now,
        );
        let mut first = Vec::new();
        let mut traces = 0;
        for sample in samples {
            match sample {
                Sample::FirstConnectivity { duration, .. } => first.push(duration),
                Sample::Trace(_) => traces += 1,
                other @ (Sample::Handshake { .. }
                | Sample::Path { .. }
                | Sample::Node { .. }
                | Sample::NodeRemoved { .. }
                | Sample::Coverage { .. }
                | Sample::Agents { .. }) => panic!("{other:?}"),
            }
        }
        (first, traces)
    }

    #[test]
    fn first_connectivity_is_sampled_once_per_agent() {
        let mut periodic = PeriodicSamples::default();
        let silent = matrix("a", Outcome::Timeout);
        assert_eq!(take(&mut periodic, &silent, at(4_000)), (vec![], 0));
        let connected = matrix("a", ESTABLISHED);
        let took = vec![Duration::from_millis(2_002)];
        assert_eq!(take(&mut periodic, &connected, at(5_000)).0, took);
        assert!(take(&mut periodic, &connected, at(6_000)).0.is_empty());
        let successor = matrix("b", ESTABLISHED);
        assert_eq!(take(&mut periodic, &successor, at(7_000)).0, took);
    }

    #[test]
    fn a_node_has_one_healthy_trace_an_hour_and_one_when_it_returns() {
        let mut periodic = PeriodicSamples::default();
        let connected = matrix("a", ESTABLISHED);
        assert_eq!(take(&mut periodic, &connected, at(5_000)).1, 1);
        assert_eq!(take(&mut periodic, &connected, at(3_604_000)).1, 0);
        assert_eq!(take(&mut periodic, &connected, at(3_605_000)).1, 1);
        periodic.forget("default", &NodeName::new("node-1"));
        assert_eq!(
            take(&mut periodic, &connected, at(3_606_000)),
            (vec![Duration::from_millis(2_002)], 1)
        );
    }
}
