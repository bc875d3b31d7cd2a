//! What agents and nodes tell, gathered into the matrix of a run.

use std::collections::{BTreeMap, BTreeSet};

use super::spec::OTHER_PORT;
use super::witnessed::Witnessed;
use crate::evidence::{AgentEvidence, Evidence, Matrix, NodeEvidence};
use crate::plan::{Method, ProbePlan};
use crate::probe::event::{Event, Hello, ServerTrace, Tally};
use crate::probe::outcome::ProbeResult;
use crate::probe::tier::Tier;
use crate::topology::{AgentId, PathId, Route};

/// The matrix while it grows.
#[derive(Clone, Debug, Default)]
pub(super) struct Collection {
    pub(super) matrix: Matrix,
    witnessed: Witnessed,
    /// Crafted probes that agents were asked for before it was known what they can.
    presumed: BTreeMap<AgentId, Vec<(PathId, u64)>>,
}

impl Collection {
    /// Counts what an agent is about to be asked for. One without raw sockets sends no crafted packets.
    pub(super) fn ask(&mut self, agent: &AgentId, probes: &[ProbePlan]) {
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
                (Method::Connect { .. }, _) => path.asked += count,
                (Method::Syn | Method::Exchange { .. }, None) => {
                    path.asked += count;
                    let presumed = self.presumed.entry(agent.clone()).or_default();
                    presumed.push((probe.path, count));
                }
                (Method::Syn | Method::Exchange { .. }, Some(tier)) if tier >= Tier::T1 => {
                    path.asked += count;
                }
                (Method::Syn | Method::Exchange { .. } | Method::TtlProbe { .. }, _) => {}
            }
        }
    }

    /// An agent says what it can.
    fn take_hello(&mut self, agent: &AgentId, hello: Hello) {
        let presumed = self.presumed.remove(agent).unwrap_or_default();
        if hello.tier < Tier::T1 {
            for (path, count) in presumed {
                if let Some(path) = self.matrix.paths.get_mut(&path) {
                    path.asked = path.asked.saturating_sub(count);
                }
            }
        }
        self.matrix.agents.entry(agent.clone()).or_default().hello = Some(hello);
    }

    /// One for the next cycle on the same agents: it knows who they are and how
    /// their nodes translate, and nothing of what was measured.
    pub(super) fn afresh(&self) -> Self {
        let agents = self.matrix.agents.iter().map(|(agent, known)| {
            let known = AgentEvidence {
                hello: known.hello.clone(),
                heard: known.heard,
                failed: known.failed.clone(),
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

    /// Takes one line of an agent; what only steers the run is not its business.
    pub(super) fn take(&mut self, agent: &AgentId, event: Event) {
        match event {
            Event::Hello(hello) => self.take_hello(agent, hello),
            Event::Probe(probe) => self.take_probe(*probe),
            Event::Tally(tally) => self.take_tally(&tally),
            Event::ServerTrace { handshakes } => {
                for witness in handshakes {
                    self.witnessed.take(agent, witness);
                }
            }
            Event::TtlProbe(ladder) => {
                if let Some(path) = self.matrix.paths.get_mut(&ladder.path) {
                    path.ttl_probe = Some(ladder);
                }
            }
            Event::Counters { before, after, .. } => {
                // An agent that only answers has short rounds: what counts is what grew since its first.
                let known = self.matrix.agents.entry(agent.clone()).or_default();
                known.counters = match known.counters.take() {
                    Some((first, _)) => Some((first, after)),
                    None => Some((before, after)),
                };
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
            Event::PlanAccepted { .. } | Event::Done { .. } | Event::Alert | Event::Facts(_) => {}
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
        sum.outcomes.add(&tally.outcomes);
        sum.first_syn_success += tally.first_syn_success;
        sum.rtt.add(&tally.rtt);
    }

    /// The matrix with both ends of each probe joined by the client's ISN.
    pub(super) fn join(self) -> Matrix {
        let Self {
            mut matrix,
            witnessed,
            presumed: _,
        } = self;
        set_aside_what_ended_early(&mut matrix);
        let Matrix { paths, agents, .. } = &mut matrix;
        let listened = |agent: &&AgentId| {
            agents.get(*agent).is_some_and(|known| {
                known.heard
                    && !known.is_deaf()
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
                // A client that gets its own SYN back is no server of it; a hairpin's is.
                let may_serve = |agent: &AgentId| {
                    path.path.route == Route::Hairpin || *agent != path.path.client
                };
                let seen = witnessed.of(&evidence.client, isn, &expected, may_serve);
                if let Some((agent, witness)) = seen {
                    evidence.server_agent = Some(agent.clone());
                    evidence.server = Some(witness.clone());
                } else if !expected.is_empty() && expected.iter().all(listened) {
                    evidence.server = Some(ServerTrace::of_nothing(
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
        matrix.set_aside_starved();
        matrix
    }
}

/// Takes failing paths away whose client, or one of whose servers, ended too early: that says
/// nothing of the network.
fn set_aside_what_ended_early(matrix: &mut Matrix) {
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
