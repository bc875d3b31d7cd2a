//! What is told now and then: how long a new agent took to reach anybody, once; and of each node a healthy probe, once an hour.

use std::collections::BTreeMap;
use std::time::Duration;

use prober_core::evidence::{Evidence, PathEvidence};
use prober_core::probe::outcome::Outcome;
use prober_core::report::{Health, ProbeReport};
use prober_core::time::Timestamp;
use prober_core::topology::{NodeName, PathId, Route};

use super::sample::Sample;
use super::trace::{Told, Trace};
use crate::canary::controller::observer::Round;
use crate::telemetry::round_samples::seed;

/// From one healthy trace of a node to the next.
const HOUR: Duration = Duration::from_hours(1);

/// What was told already.
#[derive(Debug, Default)]
pub(super) struct Occasions {
    /// By node and check: the pod of the client that has reached somebody.
    connected: BTreeMap<(NodeName, String), String>,
    /// When a healthy probe of a node was told last, by whichever check.
    healthy: BTreeMap<NodeName, Timestamp>,
}

impl Occasions {
    /// What a round is the occasion to tell.
    pub(super) fn of(&mut self, round: &Round<'_>, now: Timestamp) -> Vec<Sample> {
        let mut samples = self.first_connectivity(round);
        samples.extend(self.healthy(round, now));
        samples
    }

    /// A check tells nothing of a node any more; if it does again, from the start.
    pub(super) fn forget(&mut self, check: &str, node: &NodeName) {
        self.connected.remove(&(node.clone(), check.to_owned()));
        if !self.connected.keys().any(|(known, _)| known == node) {
            self.healthy.remove(node);
        }
    }

    fn first_connectivity(&mut self, round: &Round<'_>) -> Vec<Sample> {
        let mut first: BTreeMap<_, Timestamp> = BTreeMap::new();
        for evidence in round.matrix.paths.values().filter(|path| is_clients(path)) {
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

    fn healthy(&mut self, round: &Round<'_>, now: Timestamp) -> Vec<Sample> {
        let mut samples = Vec::new();
        for (id, evidence) in &round.matrix.paths {
            let node = &evidence.path.client.node;
            let is_due = (self.healthy.get(node)).is_none_or(|last| now.since(*last) >= HOUR);
            let probe = evidence
                .probes
                .iter()
                .find(|probe| probe.client.is_first_syn_success());
            let due = probe.filter(|_| is_due && is_telling(evidence));
            if let Some(trace) = due.and_then(|probe| trace(round, *id, probe, now)) {
                self.healthy.insert(node.clone(), now);
                samples.push(Sample::Failure(Box::new(trace)));
            }
        }
        samples
    }
}

/// Whether it is the client of a node that asks: not its host, and not its server.
const fn is_clients(evidence: &PathEvidence) -> bool {
    match evidence.path.route {
        Route::PodIp
        | Route::ClusterIp
        | Route::ClusterIpAny
        | Route::ProberLocal
        | Route::NodePort => true,
        Route::Hairpin | Route::HostNetwork => false,
    }
}

/// Whether a trace of it has two ends and a translation to show.
const fn is_telling(evidence: &PathEvidence) -> bool {
    match evidence.path.route {
        Route::ClusterIp => true,
        Route::PodIp
        | Route::ClusterIpAny
        | Route::ProberLocal
        | Route::NodePort
        | Route::Hairpin
        | Route::HostNetwork => false,
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

/// The trace of a probe with which all is well, on a path with which all is well.
fn trace(round: &Round<'_>, id: PathId, probe: &Evidence, now: Timestamp) -> Option<Trace> {
    let path = round.report.path(id)?;
    let probe = ProbeReport {
        client: probe.client.clone(),
        server_agent: probe.server_agent.clone(),
        server: probe.server.clone(),
        marks: Vec::new(),
    };
    let told = Told {
        path,
        probe: &probe,
        diagnosis: None,
    };
    let seed = seed(&(round.check, &path.client.pod, now.as_nanos()));
    (path.health == Health::Healthy).then(|| Trace::of(told, seed))
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
    use crate::canary::health::{Judgement, Rule};
    use crate::canary::schedule::Coverage;

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_nanos(millis * 1_000_000)
    }

    /// A client that was ready after 1 s and whose probe, begun after 3 s, had an answer 2 ms later, or none.
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
        };
        let agent = AgentEvidence {
            hello: Some(hello),
            heard: true,
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
                route: Route::ClusterIp,
                family: Family::Ipv4,
            },
            target,
            backends: Vec::new(),
            asked: 1,
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

    fn told(occasions: &mut Occasions, matrix: &Matrix, now: Timestamp) -> (Vec<Duration>, usize) {
        let meta = Meta {
            version: String::new(),
            command: Vec::new(),
            started: at(0),
            duration: Duration::ZERO,
            completion: Completion::Complete,
            notes: Vec::new(),
        };
        let samples = occasions.of(
            &Round {
                check: "default",
                matrix,
                report: &Report::new(matrix, &[], meta),
                judgement: &Judgement::new(Rule::new(2, 3)),
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
                Sample::Failure(_) => traces += 1,
                other @ (Sample::Handshake { .. }
                | Sample::Path { .. }
                | Sample::Node { .. }
                | Sample::Gone { .. }
                | Sample::Coverage { .. }
                | Sample::Agents { .. }) => panic!("{other:?}"),
            }
        }
        (first, traces)
    }

    #[test]
    fn an_agent_is_connected_once_and_its_successor_once_more() {
        let mut occasions = Occasions::default();
        let silent = matrix("a", Outcome::Timeout);
        assert_eq!(told(&mut occasions, &silent, at(4_000)), (vec![], 0));
        let connected = matrix("a", ESTABLISHED);
        let took = vec![Duration::from_millis(2_002)];
        assert_eq!(told(&mut occasions, &connected, at(5_000)).0, took);
        assert!(told(&mut occasions, &connected, at(6_000)).0.is_empty());
        let successor = matrix("b", ESTABLISHED);
        assert_eq!(told(&mut occasions, &successor, at(7_000)).0, took);
    }

    #[test]
    fn a_node_has_one_healthy_trace_in_an_hour_and_a_new_one_when_it_comes_back() {
        let mut occasions = Occasions::default();
        let connected = matrix("a", ESTABLISHED);
        assert_eq!(told(&mut occasions, &connected, at(5_000)).1, 1);
        assert_eq!(told(&mut occasions, &connected, at(3_604_000)).1, 0);
        assert_eq!(told(&mut occasions, &connected, at(3_605_000)).1, 1);
        occasions.forget("default", &NodeName::new("node-1"));
        assert_eq!(
            told(&mut occasions, &connected, at(3_606_000)),
            (vec![Duration::from_millis(2_002)], 1)
        );
    }
}
