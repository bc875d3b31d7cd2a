//! The reports of agents and nodes, collected into the evidence of a run.

use std::collections::{BTreeMap, BTreeSet};

use super::server_traces::ServerTraces;
use super::spec::OTHER_PORT;
use crate::evidence::{AgentEvidence, Evidence, Matrix, NodeEvidence, PathEvidence};
use crate::plan::{Method, ProbePlan};
use crate::probe::event::{Event, Hello, ServerTrace, Tally};
use crate::probe::outcome::ProbeResult;
use crate::probe::tier::Tier;
use crate::topology::{AccessPath, AgentId, PathId};

/// The growing evidence.
#[derive(Clone, Debug, Default)]
pub(super) struct Collection {
    pub(super) matrix: Matrix,
    server_traces: ServerTraces,
    /// Crafted probes in the plans of agents that had not reported their tiers.
    presumed: BTreeMap<AgentId, Vec<(PathId, u64)>>,
}

impl Collection {
    /// Counts the probes that an agent is about to send. One without raw sockets sends no crafted packets.
    pub(super) fn expect_probes(&mut self, agent: &AgentId, probes: &[ProbePlan]) {
        let hello = self
            .matrix
            .agents
            .get(agent)
            .and_then(|known| known.hello.as_ref());
        let tier = hello.map(|hello| hello.tier);
        for probe in probes {
            let Some(path) = self.matrix.paths.get_mut(&probe.path) else {
                continue;
            };
            let count = u64::from(probe.count);
            match (&probe.method, tier) {
                (Method::Connect { .. }, _) => path.requested += count,
                (Method::Syn | Method::Exchange { .. }, None) => {
                    path.requested += count;
                    let presumed = self.presumed.entry(agent.clone()).or_default();
                    presumed.push((probe.path, count));
                }
                (Method::Syn | Method::Exchange { .. }, Some(tier)) if tier >= Tier::T1 => {
                    path.requested += count;
                }
                (Method::Syn | Method::Exchange { .. } | Method::TtlProbe { .. }, _) => {}
            }
        }
    }

    /// An agent reports its tier, among others.
    fn take_hello(&mut self, agent: &AgentId, hello: Hello) {
        let presumed = self.presumed.remove(agent).unwrap_or_default();
        if hello.tier < Tier::T1 {
            for (path, count) in presumed {
                if let Some(path) = self.matrix.paths.get_mut(&path) {
                    path.requested = path.requested.saturating_sub(count);
                }
            }
        }
        self.matrix.agents.entry(agent.clone()).or_default().hello = Some(hello);
    }

    /// The collection of the next cycle on the same agents: keeps the facts about them, since when those are ready that
    /// were never connected, and how their nodes translate, and no measurements.
    pub(super) fn next_cycle(&self) -> Self {
        let agents = self.matrix.agents.iter().map(|(agent, known)| {
            let known = AgentEvidence {
                hello: known.hello.clone(),
                has_reported: known.has_reported,
                failed: known.failed.clone(),
                ready_at: known.ready_at.filter(|_| !self.is_connected(agent)),
                ..AgentEvidence::default()
            };
            (agent.clone(), known)
        });
        let nodes = self.matrix.nodes.iter().map(|(node, known)| {
            let known = NodeEvidence {
                unread: known.unread.clone(),
                ..NodeEvidence::default()
            };
            (node.clone(), known)
        });
        Self {
            matrix: Matrix {
                agents: agents.collect(),
                nodes: nodes.collect(),
                socket_level: self.matrix.socket_level.clone(),
                ..Matrix::default()
            },
            ..Self::default()
        }
    }

    /// Whether a path to or from an agent has worked.
    fn is_connected(&self, agent: &AgentId) -> bool {
        let mut paths = self.matrix.paths.values();
        paths.any(|evidence| {
            let is_end =
                evidence.path.client == *agent || evidence.path.server.as_ref() == Some(agent);
            is_end && evidence.total().outcomes.established > 0
        })
    }

    /// Adds one line of an agent; lines that only affect the course of the run add nothing.
    pub(super) fn take(&mut self, agent: &AgentId, event: Event) {
        match event {
            Event::Hello(hello) => self.take_hello(agent, hello),
            Event::Probe(probe) => self.take_probe(*probe),
            Event::Tally(tally) => self.take_tally(&tally),
            Event::ServerTrace { handshakes } => {
                for trace in handshakes {
                    self.server_traces.add(agent, trace);
                }
            }
            Event::TtlProbe(ttl_probe) => {
                if let Some(path) = self.matrix.paths.get_mut(&ttl_probe.path) {
                    path.ttl_probe = Some(ttl_probe);
                }
            }
            Event::Counters { before, after, .. } => {
                // An agent that only answers has short rounds: its counters start with its first.
                let known = self.matrix.agents.entry(agent.clone()).or_default();
                known.counters = match known.counters.take() {
                    Some((first, _)) => Some((first, after)),
                    None => Some((before, after)),
                };
            }
            Event::Reached { targets } => {
                let known = self.matrix.agents.entry(agent.clone()).or_default();
                let reached = targets.into_iter().map(|reached| (reached.target, reached));
                known.reached.extend(reached);
            }
            Event::Capture { received, dropped } => {
                let known = self.matrix.agents.entry(agent.clone()).or_default();
                known.capture_received = received;
                known.capture_dropped = dropped;
            }
            Event::Starved { late_ns } => {
                let known = self.matrix.agents.entry(agent.clone()).or_default();
                known.starved_ns = known.starved_ns.max(late_ns);
            }
            Event::Notice { text } => {
                self.matrix
                    .agents
                    .entry(agent.clone())
                    .or_default()
                    .notices
                    .push(text);
            }
            Event::PlanRefused { reason } => {
                self.matrix
                    .agents
                    .entry(agent.clone())
                    .or_default()
                    .notices
                    .push(reason);
            }
            // A run has probes of its own beside those of a standing plan.
            Event::StandingFailure(_)
            | Event::PlanAccepted { .. }
            | Event::Done { .. }
            | Event::Alert
            | Event::Facts(_) => {}
        }
    }

    fn take_probe(&mut self, probe: ProbeResult) {
        let other_port = probe.path.0 >= OTHER_PORT;
        let id = PathId(probe.path.0 % OTHER_PORT);
        let Some(path) = self.matrix.paths.get_mut(&id) else {
            return;
        };
        if other_port {
            path.other_port = Some(probe.outcome.kind());
        } else {
            path.probes.push(Evidence {
                client: probe,
                server_agent: None,
                server: None,
            });
            self.matrix.learn_socket_level(id);
        }
    }

    fn take_tally(&mut self, tally: &Tally) {
        let Some(path) = self.matrix.paths.get_mut(&tally.path) else {
            return;
        };
        let sum = path.tallies.entry(tally.engine).or_default();
        sum.add(&tally.outcomes, tally.first_syn_success, &tally.rtt);
    }

    /// The evidence, with both ends of each probe joined by the client's initial sequence number.
    pub(super) fn join(self) -> Matrix {
        let Self {
            mut matrix,
            server_traces,
            presumed: _,
        } = self;
        remove_unprobed_comparisons(&mut matrix);
        remove_failed_agents(&mut matrix);
        let Matrix { paths, agents, .. } = &mut matrix;
        let captured = |agent: &&AgentId| {
            agents.get(*agent).is_some_and(|known| {
                known.has_reported
                    && !known.is_capture_unreliable()
                    && known
                        .hello
                        .as_ref()
                        .is_some_and(|hello| hello.tier >= Tier::T1)
            })
        };
        for path in paths.values_mut() {
            let live = path
                .backends
                .iter()
                .filter_map(|backend| backend.agent.as_ref());
            let expected: BTreeSet<&AgentId> = live.chain(&path.path.server).collect();
            for evidence in &mut path.probes {
                let Some(isn) = evidence.client.isn else {
                    continue;
                };
                // A client that receives its own SYN is not its server, except on a hairpin path.
                let may_serve = |agent: &AgentId| {
                    path.path.access_path == AccessPath::Hairpin || *agent != path.path.client
                };
                let seen = server_traces.of(&evidence.client, isn, &expected, may_serve);
                if let Some((agent, trace)) = seen {
                    evidence.server_agent = Some(agent.clone());
                    evidence.server = Some(trace.clone());
                } else if !expected.is_empty() && expected.iter().all(captured) {
                    evidence.server = Some(ServerTrace::empty(
                        isn,
                        evidence.client.src,
                        evidence.client.dst,
                    ));
                    let mut expected = expected.iter();
                    if let (Some(only), None) = (expected.next(), expected.next()) {
                        evidence.server_agent = Some((*only).clone());
                    }
                }
            }
        }
        matrix.remove_starved();
        remove_needless_comparisons(&mut matrix);
        matrix
    }
}

/// Removes comparisons without an outcome: the run has ended before, or needs none.
fn remove_unprobed_comparisons(matrix: &mut Matrix) {
    let Matrix {
        paths, comparisons, ..
    } = matrix;
    comparisons.retain(|id, _| {
        let has_outcome = (paths.get(id)).is_some_and(|path| path.total().outcomes.total() > 0);
        if !has_outcome {
            paths.remove(id);
        }
        has_outcome
    });
}

/// Removes comparisons where every path that failed has opened since: they compare with nothing, and are not probed for as long.
fn remove_needless_comparisons(matrix: &mut Matrix) {
    if matrix.comparisons.is_empty() {
        return;
    }
    let openings = matrix.openings();
    let is_needless =
        |(id, path): (PathId, &PathEvidence)| path.is_clean() || openings.contains_key(&id);
    if matrix.planned_paths().all(is_needless) {
        for id in std::mem::take(&mut matrix.comparisons).into_keys() {
            matrix.paths.remove(&id);
        }
    }
}

/// Moves failing paths with an end that ended too early to those that were not probed: they are no evidence of the
/// network.
fn remove_failed_agents(matrix: &mut Matrix) {
    let Matrix {
        paths,
        agents,
        unprobed,
        ..
    } = matrix;
    paths.retain(|_, evidence| {
        let servers = evidence.backends.iter();
        let mut ends = std::iter::once(&evidence.path.client)
            .chain(servers.filter_map(|backend| backend.agent.as_ref()));
        let failed = ends.find_map(|end| Some((end, agents.get(end)?.failed.as_ref()?)));
        let Some((end, why)) = failed.filter(|_| !evidence.is_clean()) else {
            return true;
        };
        let reason = format!("agent {end} on {}: {why}", end.node);
        unprobed.insert(evidence.path.clone(), reason);
        false
    });
}
