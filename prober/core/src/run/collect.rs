//! What agents and nodes tell, gathered into the matrix of a run.

use std::collections::BTreeMap;

use super::spec::OTHER_PORT;
use crate::event::{Event, Tally, Witness};
use crate::evidence::{Evidence, Matrix};
use crate::observation::{ProbeResult, Tier};
use crate::topology::{AgentId, PathId, Route};

/// The matrix while it grows.
#[derive(Clone, Debug, Default)]
pub(super) struct Collection {
    pub(super) matrix: Matrix,
    /// What each server's end saw, by the client's initial sequence number.
    witnessed: BTreeMap<(u32, AgentId), Witness>,
}

impl Collection {
    /// Takes one line of an agent; what only steers the run is not its business.
    pub(super) fn take(&mut self, agent: &AgentId, event: Event) {
        match event {
            Event::Hello(hello) => {
                self.matrix.agents.entry(agent.clone()).or_default().hello = Some(hello);
            }
            Event::Probe(probe) => self.take_probe(*probe),
            Event::Tally(tally) => self.take_tally(&tally),
            Event::Witnessed { handshakes } => {
                for witness in handshakes {
                    self.take_witness(agent, witness);
                }
            }
            Event::Ladder(ladder) => {
                if let Some(path) = self.matrix.paths.get_mut(&ladder.path) {
                    path.ladder = Some(ladder);
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
            Event::Done { starved_ns, .. } => {
                let known = self.matrix.agents.entry(agent.clone()).or_default();
                known.starved_ns = known.starved_ns.max(starved_ns);
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
            Event::PlanAccepted { .. } | Event::Facts(_) => {}
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

    fn take_witness(&mut self, agent: &AgentId, witness: Witness) {
        match self.witnessed.entry((witness.isn.0, agent.clone())) {
            std::collections::btree_map::Entry::Vacant(entry) => {
                entry.insert(witness);
            }
            std::collections::btree_map::Entry::Occupied(mut entry) => {
                let sum = entry.get_mut();
                sum.syns += witness.syns;
                sum.syn_acks += witness.syn_acks;
                sum.acks += witness.acks;
                sum.resets_received += witness.resets_received;
                sum.resets_sent += witness.resets_sent;
                sum.observations.extend(witness.observations);
            }
        }
    }

    /// The matrix with both ends of each probe joined by the client's ISN.
    pub(super) fn join(self) -> Matrix {
        let Self {
            mut matrix,
            witnessed,
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
            let expected: Vec<&AgentId> = path
                .backends
                .iter()
                .filter_map(|backend| backend.agent.as_ref())
                .collect();
            for evidence in &mut path.probes {
                let Some(isn) = evidence.client.isn else {
                    continue;
                };
                let seen = witnessed
                    .range((isn.0, AgentId::new("", ""))..)
                    .take_while(|((number, _), _)| *number == isn.0)
                    // A client that gets its own SYN back is no server of it; a hairpin's is.
                    .filter(|((_, agent), _)| {
                        path.path.route == Route::Hairpin || *agent != path.path.client
                    })
                    .max_by_key(|((_, agent), _)| expected.contains(&agent));
                if let Some(((_, agent), witness)) = seen {
                    evidence.server_agent = Some(agent.clone());
                    evidence.server = Some(witness.clone());
                } else if !expected.is_empty() && expected.iter().all(listened) {
                    evidence.server = Some(Witness::of_nothing(
                        isn,
                        evidence.client.src,
                        evidence.client.dst,
                    ));
                    if let [only] = expected.as_slice() {
                        evidence.server_agent = Some((*only).clone());
                    }
                }
            }
        }
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
