//! What agents probe, and how: every path first, then more of those that fail.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::paths::pick;
use super::spec::{OTHER_PORT, RunSpec};
use crate::evidence::PathEvidence;
use crate::plan::pairing::NodePair;
use crate::plan::{Method, OTHER_RESPONDER_PORT, ProbePlan};
use crate::probe::outcome::{EngineKind, OutcomeKind};
use crate::probe::tier::Tier;
use crate::topology::{AgentId, Path, PathId, Route};

/// Most failing paths that are looked at more closely in one run.
const MAX_SUSPECTS: usize = 48;

impl RunSpec {
    /// How many probes a path of this route gets at first, by each engine's count.
    pub(super) fn probes_of(&self, route: Route) -> u64 {
        u64::from(self.kernel_probes)
            + if self.is_crafted(route) {
                u64::from(self.raw_probes)
            } else {
                0
            }
    }

    /// Whether crafted packets are sent on a route: not by hosts, which have no capability.
    fn is_crafted(&self, route: Route) -> bool {
        self.tier >= Tier::T1 && route != Route::HostNetwork
    }

    /// The first look: every path, by both engines.
    pub(super) fn first_look(&self, paths: &BTreeMap<PathId, PathEvidence>) -> Vec<AgentProbes> {
        // Three thousand a second from each agent: its own kernel and its neighbours' have other work. Of five thousand a
        // second some were lost where every processor was wanted.
        let mut paths_of: BTreeMap<&AgentId, u32> = BTreeMap::new();
        for evidence in paths.values() {
            *paths_of.entry(&evidence.path.client).or_default() += 1;
        }
        let mut probes = Vec::new();
        for (at, (&path, evidence)) in (0_u32..).zip(paths) {
            let client = &evidence.path.client;
            let mut add = |method, count, interval_ms| {
                let start_ms = stagger(at);
                let probe = self.probe(path, method, evidence.target, count, start_ms, interval_ms);
                probes.push((client.clone(), probe));
            };
            let (connects, crafted) = self.counts(evidence);
            add(self.connect(), connects, 400 / connects.max(1));
            if crafted > 0 {
                let paths = paths_of.get(client).copied().unwrap_or(1);
                add(Method::Syn, crafted, paths.div_ceil(3).max(2));
            }
        }
        group(probes)
    }

    /// The same, but turn after turn: each path while its pair has its turn, at an even pace.
    pub(super) fn look_in_turns(
        &self,
        paths: &BTreeMap<PathId, PathEvidence>,
        turns: &[BTreeSet<NodePair>],
        each: Duration,
    ) -> Vec<AgentProbes> {
        let each = u32::try_from(each.as_millis()).unwrap_or(u32::MAX);
        let mut probes = Vec::new();
        for (at, (&path, evidence)) in (0_u32..).zip(paths) {
            let (connects, crafted) = self.counts(evidence);
            for (first, length) in stretches(turns, |turn| has_turn(&evidence.path, turn)) {
                let start_ms = first.saturating_mul(each).saturating_add(stagger(at));
                let asks = [(self.connect(), connects), (Method::Syn, crafted)];
                for (method, count) in asks.into_iter().filter(|(_, count)| *count > 0) {
                    let all = count.saturating_mul(length);
                    let probe =
                        self.probe(path, method, evidence.target, all, start_ms, each / count);
                    probes.push((evidence.path.client.clone(), probe));
                }
            }
        }
        group(probes)
    }

    /// How many connections a path is looked at by, and how many crafted handshakes.
    fn counts(&self, evidence: &PathEvidence) -> (u32, u32) {
        let connects = match evidence.path.server {
            Some(_) => self.kernel_probes,
            // Each of its servers should be met.
            None => self.kernel_probes * 4,
        };
        let is_crafted = self.is_crafted(evidence.path.route);
        (connects, if is_crafted { self.raw_probes } else { 0 })
    }

    const fn connect(&self) -> Method {
        Method::Connect {
            echo_bytes: self.echo_bytes,
        }
    }

    /// The closer look at failing paths: the TTL ladder, the other port, and fresh failures
    /// between two readings of the node facts.
    pub(super) fn closer_look(
        &self,
        suspects: &BTreeMap<PathId, Option<OutcomeKind>>,
        paths: &BTreeMap<PathId, PathEvidence>,
        addresses: &BTreeMap<AgentId, Vec<IpAddr>>,
    ) -> Vec<AgentProbes> {
        let mut probes = Vec::new();
        // No rule asks more of the other routes than whether they work.
        let telling = suspects.iter().filter_map(|(path, outcome)| {
            let evidence = paths.get(path)?;
            let is_telling = evidence.path.route.stays_among_pods();
            is_telling.then_some((*path, outcome, evidence))
        });
        for (at, (path, outcome, evidence)) in (0_u32..).zip(telling.take(MAX_SUSPECTS)) {
            let start_ms = at * 11 % 150;
            let mut add = |path, method, target, count, interval_ms| {
                probes.push((
                    evidence.path.client.clone(),
                    self.probe(path, method, target, count, start_ms, interval_ms),
                ));
            };
            // A packet that is answered, if from the wrong address, is told by its first hop.
            let (unanswered, hop_limits) = match outcome {
                Some(OutcomeKind::Timeout) | None => (true, vec![1, 2, 3, 64]),
                Some(OutcomeKind::Mismatched) => (false, vec![1]),
                Some(
                    OutcomeKind::Established
                    | OutcomeKind::Reset
                    | OutcomeKind::Unreachable
                    | OutcomeKind::RefusedLocally,
                ) => (false, vec![1, 2, 3, 64]),
            };
            if unanswered {
                add(
                    path,
                    Method::Connect { echo_bytes: 0 },
                    evidence.target,
                    2,
                    1_100,
                );
            }
            let is_crafted =
                self.is_crafted(evidence.path.route) && evidence.believes(EngineKind::Raw);
            if is_crafted && !is_covered(evidence, suspects, paths) {
                let ladder = Method::TtlProbe {
                    hop_limits,
                    tries: 3,
                };
                add(path, ladder, evidence.target, 1, 0);
            }
            let server = evidence
                .path
                .server
                .as_ref()
                .and_then(|server| addresses.get(server));
            if let Some(address) = pick(server, evidence.path.family)
                && evidence.path.route != Route::Hairpin
            {
                let other = SocketAddr::new(address, OTHER_RESPONDER_PORT);
                let method = Method::Connect { echo_bytes: 0 };
                add(PathId(path.0 + OTHER_PORT), method, other, 1, 0);
            }
        }
        group(probes)
    }

    fn probe(
        &self,
        path: PathId,
        method: Method,
        target: SocketAddr,
        count: u32,
        start_ms: u32,
        interval_ms: u32,
    ) -> ProbePlan {
        let deadline_ms = u32::try_from(self.deadline.as_millis()).unwrap_or(u32::MAX);
        ProbePlan {
            path,
            method,
            target,
            count,
            start_ms,
            interval_ms,
            deadline_ms,
        }
    }
}

/// How long after its plan's start a path's first probe comes, milliseconds: not all at once.
const fn stagger(at: u32) -> u32 {
    at.wrapping_mul(7) % 60
}

/// Whether a path is probed in this turn: its pair is, or its client's node where the path is its client's own.
fn has_turn(path: &Path, turn: &BTreeSet<NodePair>) -> bool {
    let client = &path.client.node;
    match (path.route, &path.server) {
        (Route::PodIp | Route::ClusterIp | Route::NodePort | Route::HostNetwork, Some(server)) => {
            turn.contains(&(client.clone(), server.node.clone()))
        }
        (Route::PodIp | Route::ClusterIp | Route::NodePort | Route::HostNetwork, None)
        | (Route::ClusterIpAny | Route::ProberLocal | Route::Hairpin, _) => {
            turn.iter().any(|(asker, _)| asker == client)
        }
    }
}

/// The turns that are so, as stretches: the first of each, and how many follow each other.
fn stretches<T>(turns: &[T], is_so: impl Fn(&T) -> bool) -> Vec<(u32, u32)> {
    let mut stretches: Vec<(u32, u32)> = Vec::new();
    for (number, turn) in (0_u32..).zip(turns) {
        match stretches.last_mut() {
            _ if !is_so(turn) => {}
            Some((first, length)) if *first + *length == number => *length += 1,
            Some(_) | None => stretches.push((number, 1)),
        }
    }
    stretches
}

/// Whether another suspect climbs the same stairs, to a server that is known. Nodes send one ICMP
/// error a second to an address: ladders that tell nothing new would silence those that do.
fn is_covered(
    evidence: &PathEvidence,
    suspects: &BTreeMap<PathId, Option<OutcomeKind>>,
    paths: &BTreeMap<PathId, PathEvidence>,
) -> bool {
    match evidence.path.route {
        Route::PodIp | Route::ClusterIp | Route::Hairpin => false,
        Route::NodePort | Route::HostNetwork => true,
        Route::ClusterIpAny | Route::ProberLocal => {
            suspects.keys().filter_map(|id| paths.get(id)).any(|other| {
                other.path.route == Route::ClusterIp
                    && other.path.client == evidence.path.client
                    && other.path.family == evidence.path.family
            })
        }
    }
}

/// The probes of one agent.
pub(super) type AgentProbes = (AgentId, Vec<ProbePlan>);

fn group(probes: Vec<(AgentId, ProbePlan)>) -> Vec<AgentProbes> {
    let mut grouped: BTreeMap<AgentId, Vec<ProbePlan>> = BTreeMap::new();
    for (agent, probe) in probes {
        grouped.entry(agent).or_default().push(probe);
    }
    grouped.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn stretches_are_the_turns_and_never_touch(turns: Vec<bool>) {
            let stretches = stretches(&turns, |turn| *turn);
            let mut again = vec![false; turns.len()];
            for &(first, length) in &stretches {
                for turn in first..first + length {
                    again[turn as usize] = true;
                }
            }
            prop_assert_eq!(again, turns);
            let mut both = stretches.iter().zip(stretches.iter().skip(1));
            prop_assert!(both.all(|(one, next)| one.0 + one.1 < next.0));
        }
    }
}
