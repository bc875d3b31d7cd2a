//! The probes in agents' plans: of every path in the initial round, and of the failing ones in the follow-up.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::follow_up::is_closed;
use super::paths::pick;
use super::spec::{OTHER_PORT, RunSpec};
use crate::evidence::PathEvidence;
use crate::plan::pairing::NodePair;
use crate::plan::{Method, OTHER_RESPONDER_PORT, ProbePlan};
use crate::probe::outcome::{EngineKind, OutcomeKind};
use crate::probe::tier::Tier;
use crate::topology::{AccessPath, AgentId, Path, PathId};

/// The pause between two later probes of a path whose pods are new, milliseconds: its rules may be late.
const AGAIN_MS: u32 = 1_100;

/// The number of later probes of a refused path, however long its pods have been ready.
const LEAST_AGAIN: u32 = 2;

/// The deadline of the probes beyond those: as long as one repeated SYN takes, with a margin.
const AGAIN_DEADLINE_MS: u32 = 1_500;

/// Maximum number of paths of one follow-up.
const MAX_FAILING_PATHS: usize = 48;

impl RunSpec {
    /// The number of probes of a path in the initial round, of both engines together, by its access path.
    pub(super) fn probes_of(&self, access_path: AccessPath) -> u64 {
        u64::from(self.kernel_probes)
            + if self.is_crafted(access_path) {
                u64::from(self.raw_probes)
            } else {
                0
            }
    }

    /// Whether crafted packets are sent on an access path: host agents have no capability to send them.
    pub(super) fn is_crafted(&self, access_path: AccessPath) -> bool {
        self.tier >= Tier::T1 && access_path != AccessPath::HostNetwork
    }

    /// The probes of the initial round: every path, by both engines.
    pub(super) fn initial_probes<'a>(
        &self,
        paths: impl Iterator<Item = (PathId, &'a PathEvidence)>,
    ) -> Vec<AgentProbes> {
        let paths: Vec<_> = paths.collect();
        // Three thousand per second from each agent leave processor time to its own kernel and its neighbours'. With all
        // processors busy, some of five thousand per second were lost.
        let mut paths_of: BTreeMap<&AgentId, u32> = BTreeMap::new();
        for (_, evidence) in &paths {
            *paths_of.entry(&evidence.path.client).or_default() += 1;
        }
        let mut probes = Vec::new();
        for (at, (path, evidence)) in (0_u32..).zip(paths) {
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

    /// The probes of an unattended round: each path at an even pace during the periods that have its pair.
    pub(super) fn periodic_probes(
        &self,
        paths: &BTreeMap<PathId, PathEvidence>,
        periods: &[BTreeSet<NodePair>],
        period: Duration,
    ) -> Vec<AgentProbes> {
        let period_ms = u32::try_from(period.as_millis()).unwrap_or(u32::MAX);
        let mut probes = Vec::new();
        for (at, (&path, evidence)) in (0_u32..).zip(paths) {
            let (connects, crafted) = self.counts(evidence);
            for (first, length) in stretches(periods, |pairs| is_probed_in(&evidence.path, pairs)) {
                let start_ms = first.saturating_mul(period_ms).saturating_add(stagger(at));
                let probes_of = [(self.connect(), connects), (Method::Syn, crafted)];
                for (method, count) in probes_of.into_iter().filter(|(_, count)| *count > 0) {
                    let all = count.saturating_mul(length);
                    let probe = self.probe(
                        path,
                        method,
                        evidence.target,
                        all,
                        start_ms,
                        period_ms / count,
                    );
                    probes.push((evidence.path.client.clone(), probe));
                }
            }
        }
        group(probes)
    }

    /// The numbers of connections and of crafted handshakes that probe a path.
    fn counts(&self, evidence: &PathEvidence) -> (u32, u32) {
        let connects = match evidence.path.server {
            Some(_) => self.kernel_probes,
            // Enough that each of its servers should answer once.
            None => self.kernel_probes * 4,
        };
        let is_crafted = self.is_crafted(evidence.path.access_path);
        (connects, if is_crafted { self.raw_probes } else { 0 })
    }

    const fn connect(&self) -> Method {
        Method::Connect {
            echo_bytes: self.echo_bytes,
        }
    }

    /// The probes of the follow-up: TTL probes of the paths that fail, the other port of their servers, and new failures between two
    /// readings of the nodes' facts. Paths of clients that are new are also probed later, for as long as `patience` says: they may
    /// still open. The comparisons are probed beside them.
    pub(super) fn follow_up_probes<'a>(
        &self,
        failing_paths: &BTreeMap<PathId, Option<OutcomeKind>>,
        paths: &BTreeMap<PathId, PathEvidence>,
        addresses: &BTreeMap<AgentId, Vec<IpAddr>>,
        patience: impl Fn(&PathEvidence) -> Option<Duration>,
        comparisons: impl Iterator<Item = (PathId, &'a PathEvidence)>,
    ) -> Vec<AgentProbes> {
        let mut probes = self.later_probes(failing_paths, paths, patience);
        // Of the other access paths, a diagnosis needs only whether they work.
        let probed = failing_paths.iter().filter_map(|(path, outcome)| {
            let evidence = paths.get(path)?;
            let stays_among_pods = evidence.path.access_path.stays_among_pods();
            stays_among_pods.then_some((*path, outcome, evidence))
        });
        for (at, (path, outcome, evidence)) in (0_u32..).zip(probed.take(MAX_FAILING_PATHS)) {
            let start_ms = at * 11 % 150;
            let mut add = |path, method, target, count, interval_ms| {
                probes.push((
                    evidence.path.client.clone(),
                    self.probe(path, method, target, count, start_ms, interval_ms),
                ));
            };
            // For an answer from a wrong source, the first hop is enough.
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
                self.is_crafted(evidence.path.access_path) && evidence.counts(EngineKind::Raw);
            if is_crafted && !is_redundant(evidence, failing_paths, paths) {
                let ttl_probe = Method::TtlProbe {
                    hop_limits,
                    tries: 3,
                };
                add(path, ttl_probe, evidence.target, 1, 0);
            }
            let server = evidence
                .path
                .server
                .as_ref()
                .and_then(|server| addresses.get(server));
            if let Some(address) = pick(server, evidence.path.family)
                && evidence.path.access_path != AccessPath::Hairpin
            {
                let other = SocketAddr::new(address, OTHER_RESPONDER_PORT);
                let method = Method::Connect { echo_bytes: 0 };
                add(PathId(path.0 + OTHER_PORT), method, other, 1, 0);
            }
        }
        probes.extend(self.comparison_probes(comparisons));
        group(probes)
    }

    /// Later probes of the paths whose clients are new: they may still open. A closed path is probed for as long as `patience`
    /// says.
    fn later_probes(
        &self,
        failing_paths: &BTreeMap<PathId, Option<OutcomeKind>>,
        paths: &BTreeMap<PathId, PathEvidence>,
        patience: impl Fn(&PathEvidence) -> Option<Duration>,
    ) -> Vec<(AgentId, ProbePlan)> {
        let mut probes = Vec::new();
        for (&path, outcome) in failing_paths {
            let Some((evidence, patience)) =
                (paths.get(&path)).and_then(|evidence| Some((evidence, patience(evidence)?)))
            else {
                continue;
            };
            let is_unanswered = match outcome {
                Some(OutcomeKind::Unreachable | OutcomeKind::RefusedLocally) => false,
                // The node itself answers for its port.
                Some(OutcomeKind::Reset) if evidence.path.access_path == AccessPath::NodePort => {
                    false
                }
                Some(OutcomeKind::Timeout) | None => true,
                Some(OutcomeKind::Reset | OutcomeKind::Mismatched | OutcomeKind::Established) => {
                    continue;
                }
            };
            let patience_ms = u32::try_from(patience.as_millis()).unwrap_or(u32::MAX);
            let last = if is_closed(evidence, paths) {
                patience_ms / AGAIN_MS
            } else {
                0
            };
            let (first, least) = if !is_unanswered {
                (1, LEAST_AGAIN)
            } else if evidence.path.access_path.stays_among_pods() {
                // The follow-up connects to it twice anyway.
                (2, 0)
            } else {
                // The repeated SYNs of one connection last as long as several refused ones.
                (1, 1)
            };
            for number in first..=last.max(least) {
                let method = Method::Connect { echo_bytes: 0 };
                let start_ms = number * AGAIN_MS;
                let mut probe = self.probe(path, method, evidence.target, 1, start_ms, 0);
                if number > LEAST_AGAIN {
                    probe.deadline_ms = probe.deadline_ms.min(AGAIN_DEADLINE_MS);
                }
                probes.push((evidence.path.client.clone(), probe));
            }
        }
        probes
    }

    pub(super) fn probe(
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

/// The start of a path's first probe, milliseconds after the start of its plan: paths do not start at once.
const fn stagger(at: u32) -> u32 {
    at.wrapping_mul(7) % 60
}

/// Whether a path is probed with these pairs: its own pair is one of them, or, for a path without a fixed server, any of its
/// client's node.
fn is_probed_in(path: &Path, pairs: &BTreeSet<NodePair>) -> bool {
    let client = &path.client.node;
    match (path.access_path, &path.server) {
        (
            AccessPath::PodIp
            | AccessPath::ClusterIp
            | AccessPath::NodePort
            | AccessPath::HostNetwork,
            Some(server),
        ) => pairs.contains(&(client.clone(), server.node.clone())),
        (
            AccessPath::PodIp
            | AccessPath::ClusterIp
            | AccessPath::NodePort
            | AccessPath::HostNetwork,
            None,
        )
        | (AccessPath::ClusterIpAny | AccessPath::ClusterIpLocal | AccessPath::Hairpin, _) => {
            pairs.iter().any(|(node, _)| node == client)
        }
    }
}

/// The runs of consecutive items that satisfy `is_so`: the index of the first of each, and their number.
fn stretches<T>(items: &[T], is_so: impl Fn(&T) -> bool) -> Vec<(u32, u32)> {
    let mut stretches: Vec<(u32, u32)> = Vec::new();
    for (number, item) in (0_u32..).zip(items) {
        match stretches.last_mut() {
            _ if !is_so(item) => {}
            Some((first, length)) if *first + *length == number => *length += 1,
            Some(_) | None => stretches.push((number, 1)),
        }
    }
    stretches
}

/// Whether another path of the follow-up has the same hops, to a known server. A node sends one ICMP error per second to an
/// address: a TTL probe without new information would use up the errors that others need.
fn is_redundant(
    evidence: &PathEvidence,
    failing_paths: &BTreeMap<PathId, Option<OutcomeKind>>,
    paths: &BTreeMap<PathId, PathEvidence>,
) -> bool {
    match evidence.path.access_path {
        AccessPath::PodIp | AccessPath::ClusterIp | AccessPath::Hairpin => false,
        AccessPath::NodePort | AccessPath::HostNetwork => true,
        AccessPath::ClusterIpAny | AccessPath::ClusterIpLocal => failing_paths
            .keys()
            .filter_map(|id| paths.get(id))
            .any(|other| {
                other.path.access_path == AccessPath::ClusterIp
                    && other.path.client == evidence.path.client
                    && other.path.family == evidence.path.family
            }),
    }
}

/// The probes of one agent.
pub(super) type AgentProbes = (AgentId, Vec<ProbePlan>);

/// Probes by agent.
fn group(probes: Vec<(AgentId, ProbePlan)>) -> Vec<AgentProbes> {
    let mut grouped: BTreeMap<AgentId, Vec<ProbePlan>> = BTreeMap::new();
    for (agent, probe) in probes {
        grouped.entry(agent).or_default().push(probe);
    }
    grouped.into_iter().collect()
}

/// Maximum duration of these probes.
pub(super) fn longest_of(round: &[AgentProbes]) -> Duration {
    let millis = round
        .iter()
        .flat_map(|(_, probes)| probes)
        .map(|probe| {
            let tries = match &probe.method {
                Method::TtlProbe { tries, .. } => u64::from(*tries) * 1_300,
                Method::Connect { .. } | Method::Syn | Method::Exchange { .. } => 0,
            };
            u64::from(probe.start_ms)
                + u64::from(probe.count) * u64::from(probe.interval_ms)
                // A connection that stalls after its handshake takes the deadline twice.
                + 2 * u64::from(probe.deadline_ms)
                + tries
        })
        .max()
        .unwrap_or(0);
    Duration::from_millis(millis)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::packet::family::Family;
    use crate::run::follow_up::failing_paths;
    use crate::topology::NodeName;

    #[test]
    fn closed_paths_of_new_clients_are_probed_later() {
        let spec = RunSpec::new("run".to_owned(), 1, vec![NodeName::new("node-1")]);
        let client = AgentId::new("node-1", "client");
        let starts = |access_path, outcome, patience: Option<u64>| -> Vec<u32> {
            let path = Path {
                client: client.clone(),
                server: Some(AgentId::new("node-1", "server")),
                access_path,
                family: Family::Ipv4,
            };
            let target = "100.96.1.20:8080".parse().unwrap();
            let paths = [(PathId(0), PathEvidence::new(path, target, Vec::new()))].into();
            let failing = [(PathId(0), outcome)].into();
            let patience = patience.map(Duration::from_millis);
            let probes = spec.later_probes(&failing, &paths, |_| patience);
            probes.iter().map(|(_, probe)| probe.start_ms).collect()
        };
        let none = [0_u32; 0];
        let unreachable = Some(OutcomeKind::Unreachable);
        assert_eq!(
            starts(AccessPath::PodIp, unreachable, Some(0)),
            [1_100, 2_200]
        );
        let longer = [1_100, 2_200, 3_300, 4_400];
        assert_eq!(starts(AccessPath::PodIp, unreachable, Some(5_000)), longer);
        assert_eq!(starts(AccessPath::PodIp, unreachable, None), none);
        let reset = Some(OutcomeKind::Reset);
        assert_eq!(starts(AccessPath::NodePort, reset, Some(0)), [1_100, 2_200]);
        assert_eq!(starts(AccessPath::ClusterIp, reset, Some(5_000)), none);
        assert_eq!(starts(AccessPath::HostNetwork, None, Some(0)), [1_100]);
        assert_eq!(starts(AccessPath::ClusterIp, None, Some(0)), none);
        assert_eq!(
            starts(AccessPath::ClusterIp, None, Some(3_500)),
            [2_200, 3_300]
        );
        let mismatched = Some(OutcomeKind::Mismatched);
        assert_eq!(starts(AccessPath::ClusterIp, mismatched, Some(5_000)), none);
    }

    #[test]
    fn a_balanced_path_is_probed_as_long_as_the_closed_ones_of_its_client() {
        let spec = RunSpec::new("run".to_owned(), 1, vec![NodeName::new("node-1")]);
        let path = |number, pod, server, access_path, established| {
            let path = Path {
                client: AgentId::new("node-1", pod),
                server,
                access_path,
                family: Family::Ipv4,
            };
            let target = "10.96.0.20:9000".parse().unwrap();
            let mut evidence = PathEvidence::new(path, target, Vec::new());
            let tally = evidence.tallies.entry(EngineKind::Kernel).or_default();
            tally.outcomes.established = established;
            tally.first_syn_success = established;
            // The others wait for their answers.
            evidence.requested = established + 4;
            (PathId(number), evidence)
        };
        let server = || Some(AgentId::new("node-1", "server"));
        let balanced = |pod| path(0, pod, None, AccessPath::ClusterIpAny, 4);
        let starts = |paths: [(PathId, PathEvidence); 2]| -> Vec<u32> {
            let paths = BTreeMap::from(paths);
            let failing = failing_paths(&paths);
            let probes =
                spec.later_probes(&failing, &paths, |_| Some(Duration::from_millis(3_500)));
            let probes = probes.iter().map(|(_, probe)| probe);
            let of_balanced = probes.filter(|probe| probe.path == PathId(0));
            of_balanced.map(|probe| probe.start_ms).collect()
        };
        let one_server =
            |pod, established| path(1, pod, server(), AccessPath::ClusterIp, established);
        let later = [2_200, 3_300];
        assert_eq!(starts([balanced("client"), one_server("client", 0)]), later);
        let none = [0_u32; 0];
        assert_eq!(starts([balanced("client"), one_server("client", 4)]), none);
        assert_eq!(starts([balanced("client"), one_server("other", 0)]), none);
    }

    proptest! {
        #[test]
        fn stretches_are_the_items_and_never_touch(items: Vec<bool>) {
            let stretches = stretches(&items, |item| *item);
            let mut again = vec![false; items.len()];
            for &(first, length) in &stretches {
                for item in first..first + length {
                    again[item as usize] = true;
                }
            }
            prop_assert_eq!(again, items);
            let mut both = stretches.iter().zip(stretches.iter().skip(1));
            prop_assert!(both.all(|(one, next)| one.0 + one.1 < next.0));
        }
    }
}
