//! What is told now and then: how long a new agent took to reach anybody, once; and of each node a healthy probe, once an hour.

use std::collections::BTreeMap;
use std::time::Duration;

use prober_core::evidence::{Evidence, PathEvidence};
use prober_core::observation::Outcome;
use prober_core::report::{Health, ProbeReport};
use prober_core::time::Timestamp;
use prober_core::topology::{NodeName, PathId, Route};

use super::observing::seed;
use super::sample::Sample;
use super::trace::{Told, Trace};
use crate::operator::observer::Round;

/// From one healthy trace of a node to the next.
const HOUR: Duration = Duration::from_hours(1);

/// What was told already.
#[derive(Debug, Default)]
pub(super) struct Occasions {
    /// By node and check: the pod of the client that has reached somebody.
    connected: BTreeMap<(NodeName, String), String>,
    /// When a healthy probe of a node was told last.
    healthy: BTreeMap<NodeName, Timestamp>,
}

impl Occasions {
    /// What a round is the occasion to tell.
    pub(super) fn of(&mut self, round: &Round<'_>, now: Timestamp) -> Vec<Sample> {
        let mut samples = self.first_connectivity(round);
        samples.extend(self.healthy(round, now));
        samples
    }

    /// Nothing is told of a node any more; if it is again, from the start.
    pub(super) fn forget(&mut self, node: &NodeName) {
        self.connected.retain(|(known, _), _| known != node);
        self.healthy.remove(node);
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
