//! The matrix with its groups of failures, and the queries that rules make.

/// The addresses of pods, nodes and routers.
mod addresses;
/// Entries of connection tracking.
mod conntrack;
/// Paths on which only crafted probes pass.
mod engines;
/// The results of TTL probes.
mod ttl_probes;
/// Whether a tunnel carries packets.
mod tunnel;

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::location::Location;
use super::symptom::{self, FailureGroup, ServerEnd, Symptom};
use crate::data_plane::DataPlane;
use crate::evidence::start_up::Opening;
use crate::evidence::{Evidence, Matrix, PathEvidence, Source};
use crate::node_facts::{LinkCounters, NodeFacts};
use crate::packet::family::Family;
use crate::packet::observation::Observation;
use crate::probe::event::{OutcomeCounts, ServerTrace};
use crate::topology::{AccessPath, AgentId, NodeName, Path, PathId};

use addresses::Addresses;
pub(crate) use conntrack::Tracked;
pub(crate) use engines::is_crafted_alone;
pub(crate) use ttl_probes::{answer_to_ttl, completes};

/// The delay of a client's own timers, nanoseconds, above which a late answer is no evidence.
pub(crate) const STARVED_NS: u64 = 200_000_000;

/// The matrix, its failure groups, and which of them no hypothesis explains yet.
pub(crate) struct Case<'a> {
    pub(crate) matrix: &'a Matrix,
    pub(crate) plane: DataPlane,
    pub(crate) groups: Vec<FailureGroup>,
    /// Indices of the groups that no accepted hypothesis explains.
    pub(crate) unexplained: BTreeSet<usize>,
    /// Indices of the groups with access paths that involve the nodes themselves (see `node_routes`): no rule applies to these,
    /// but for those whose packets never left, which are among the unexplained ones as well.
    pub(crate) node_groups: BTreeSet<usize>,
    /// Paths that opened after their pods were ready, in time or later.
    pub(crate) openings: BTreeMap<PathId, Opening>,
    /// Paths that were probed and have no group.
    healthy_paths: BTreeSet<PathId>,
    /// The addresses of pods, nodes and routers.
    addresses: Addresses,
    /// The TTL probes of each pair of pods, by the numbers of their paths.
    ttl_probes: BTreeMap<PodPair, Vec<PathId>>,
    /// Pairs of nodes between which their tunnel is known to carry packets, with the observation as a sentence.
    carried: BTreeMap<(NodeName, NodeName, Family), String>,
    /// Where the packets of each silent group may be dropped, by the index of the group.
    locations: Vec<Option<Location>>,
    /// The servers whose address another host is shown to have, once they are wanted.
    pub(crate) duplicated: OnceCell<BTreeSet<(AgentId, Family)>>,
}

/// The two ends of a TTL probe.
type PodPair = (AgentId, AgentId, Family);

impl<'a> Case<'a> {
    pub(crate) fn new(matrix: &'a Matrix) -> Self {
        let openings = matrix.openings();
        let groups = symptom::groups(matrix, &openings);
        let of_groups = |wanted: &dyn Fn(&FailureGroup) -> bool| -> BTreeSet<usize> {
            let groups = groups.iter().filter(|group| wanted(group));
            groups.map(|group| group.index).collect()
        };
        let unexplained =
            of_groups(&|group| group.access_path.stays_among_pods() || group.is_unrouted());
        let node_groups = of_groups(&|group| !group.access_path.stays_among_pods());
        let failing: BTreeSet<PathId> = groups.iter().map(|group| group.path).collect();
        let healthy_paths = matrix
            .paths
            .iter()
            .filter(|(id, path)| {
                !failing.contains(id) && (counts(path).0.total() > 0 || !path.probes.is_empty())
            })
            .map(|(&id, _)| id)
            .collect();
        let mut case = Self {
            matrix,
            plane: DataPlane::infer(matrix),
            groups,
            unexplained,
            node_groups,
            openings,
            healthy_paths,
            addresses: Addresses::index(matrix),
            ttl_probes: ttl_probes::index(matrix),
            carried: BTreeMap::new(),
            locations: Vec::new(),
            duplicated: OnceCell::new(),
        };
        case.carried = case.carried_pairs();
        let groups = case.groups.iter();
        case.locations = groups.map(|group| Location::of(&case, group)).collect();
        case
    }

    /// The paths that rules apply to.
    fn paths(&self) -> impl Iterator<Item = &'a PathEvidence> {
        let all = self.matrix.paths.values();
        all.filter(|evidence| evidence.path.access_path.stays_among_pods())
    }

    /// The unexplained groups that satisfy a condition, with their indices.
    pub(crate) fn failing(
        &self,
        wanted: impl Fn(&FailureGroup) -> bool,
    ) -> impl Iterator<Item = (usize, &FailureGroup)> {
        self.unexplained
            .iter()
            .filter_map(|&at| Some((at, self.groups.get(at)?)))
            .filter(move |(_, group)| wanted(group))
    }

    /// The indices of the unexplained groups that satisfy a condition.
    pub(crate) fn places(&self, wanted: impl Fn(&FailureGroup) -> bool) -> BTreeSet<usize> {
        self.failing(wanted).map(|(at, _)| at).collect()
    }

    /// The groups with these indices.
    pub(crate) fn at<'s>(
        &'s self,
        places: &'s BTreeSet<usize>,
    ) -> impl Iterator<Item = &'s FailureGroup> {
        places.iter().filter_map(|&at| self.groups.get(at))
    }

    /// The groups of a path, explained ones included.
    pub(crate) fn groups_of(&self, path: PathId) -> impl Iterator<Item = &FailureGroup> {
        // Groups are in the order of their paths.
        let first = self.groups.partition_point(|group| group.path < path);
        let from = self.groups.get(first..).unwrap_or_default();
        from.iter().take_while(move |group| group.path == path)
    }

    /// The unexplained groups of a path.
    pub(crate) fn failing_on(&self, path: PathId) -> impl Iterator<Item = &FailureGroup> {
        let all = self.groups_of(path);
        all.filter(|group| self.unexplained.contains(&group.index))
    }

    /// Whether a path that satisfies the condition was probed and is healthy.
    pub(crate) fn passes(&self, wanted: impl Fn(&Path) -> bool) -> bool {
        self.healthy().any(|evidence| wanted(&evidence.path))
    }

    /// Whether a path that satisfies the condition has a group, explained or not.
    pub(crate) fn fails(&self, wanted: impl Fn(&FailureGroup) -> bool) -> bool {
        let mut among_pods = self
            .groups
            .iter()
            .filter(|group| group.access_path.stays_among_pods());
        among_pods.any(wanted)
    }

    /// Paths that were probed and have no group, of the access paths that rules apply to.
    pub(crate) fn healthy(&self) -> impl Iterator<Item = &'a PathEvidence> {
        self.all_healthy()
            .filter(|evidence| evidence.path.access_path.stays_among_pods())
    }

    /// Paths that were probed and have no group, of every access path.
    pub(crate) fn all_healthy(&self) -> impl Iterator<Item = &'a PathEvidence> {
        self.healthy_paths
            .iter()
            .filter_map(|id| self.matrix.paths.get(id))
    }

    /// Where the packets of a group may be dropped; `None` where they are not dropped on the way.
    pub(crate) fn location(&self, group: &FailureGroup) -> Option<&Location> {
        self.locations.get(group.index)?.as_ref()
    }

    /// The same for all of these groups.
    pub(crate) fn locations<'s>(
        &'s self,
        places: &'s BTreeSet<usize>,
    ) -> impl Iterator<Item = &'s Location> {
        self.at(places).filter_map(|group| self.location(group))
    }

    /// A path in words: how it is addressed, and its two ends; the target of a host's probe.
    pub(crate) fn named(&self, evidence: &PathEvidence) -> String {
        let path = &evidence.path;
        if self.matrix.source == Source::Host {
            return evidence.target.to_string();
        }
        let server = (path.server.as_ref()).map_or("any", |server| server.pod.as_str());
        format!(
            "{} {} -> {server} ({})",
            path.access_path, path.client.pod, path.family
        )
    }

    /// When the path of a group opened, if its pods were new and its first probes failed.
    pub(crate) fn opening(&self, group: &FailureGroup) -> Option<&Opening> {
        self.openings.get(&group.path)
    }

    /// The evidence of a path.
    pub(crate) fn path(&self, id: PathId) -> Option<&'a PathEvidence> {
        self.matrix.paths.get(&id)
    }

    /// The probes of a group.
    pub(crate) fn probes(&self, group: &FailureGroup) -> impl Iterator<Item = &'a Evidence> {
        let all = self.path(group.path).map_or(&[][..], |path| &path.probes);
        group
            .probes
            .clone()
            .into_iter()
            .filter_map(|at| all.get(at))
    }

    /// What the server's end observed of a group.
    pub(crate) fn server_traces(
        &self,
        group: &FailureGroup,
    ) -> impl Iterator<Item = &'a ServerTrace> {
        self.probes(group).filter_map(|probe| probe.server.as_ref())
    }

    /// The packets of a group at the client's end.
    pub(crate) fn client_packets(
        &self,
        group: &FailureGroup,
    ) -> impl Iterator<Item = &'a Observation> {
        self.probes(group)
            .flat_map(|probe| &probe.client.observations)
    }

    /// The packets of a group at the server's end.
    pub(crate) fn server_packets(
        &self,
        group: &FailureGroup,
    ) -> impl Iterator<Item = &'a Observation> {
        self.server_traces(group)
            .flat_map(|server_trace| &server_trace.observations)
    }

    /// Whether the only evidence of a lossy group comes from an unreliable client: one that was late for its own timers, or
    /// lost packets of its capture.
    pub(crate) fn is_inconclusive(&self, group: &FailureGroup) -> bool {
        let is_unsure = (self.matrix.agents.get(&group.client))
            .is_some_and(|agent| agent.starved_ns > STARVED_NS || agent.capture_dropped > 0);
        is_unsure
            && !self
                .server_traces(group)
                .any(|server_trace| server_trace.syns > 0)
    }

    /// Every node with an agent, or that a path names.
    pub(crate) fn nodes(&self) -> BTreeSet<&'a NodeName> {
        let ends = self.matrix.paths.values().flat_map(|evidence| {
            std::iter::once(&evidence.path.client.node)
                .chain(evidence.path.server.as_ref().map(|server| &server.node))
        });
        let agents = self.matrix.agents.keys().map(|agent| &agent.node);
        ends.chain(agents).collect()
    }

    /// The families with failures.
    pub(crate) fn families(&self) -> BTreeSet<Family> {
        self.failing(|_| true)
            .map(|(_, group)| group.family)
            .collect()
    }

    /// Whether several servers may answer. A node's own port has several only where the node has several servers.
    pub(crate) fn is_balanced(&self, group: &FailureGroup) -> bool {
        match group.access_path {
            AccessPath::ClusterIpAny => true,
            AccessPath::ClusterIpLocal => self
                .path(group.path)
                .is_some_and(|path| path.backends.len() > 1),
            AccessPath::PodIp
            | AccessPath::ClusterIp
            | AccessPath::Hairpin
            | AccessPath::NodePort
            | AccessPath::HostNetwork => false,
        }
    }

    /// Whether a server is one of those that may answer.
    pub(crate) fn is_behind(&self, group: &FailureGroup, server: &AgentId) -> bool {
        let path = self.path(group.path);
        path.is_some_and(|path| {
            (path.backends.iter()).any(|end| end.agent.as_ref() == Some(server))
        })
    }

    /// Whether a balanced path was late because of an endpoint that is also silent on its own ports: the next SYN was
    /// balanced anew.
    pub(crate) fn is_share_of_a_silent_endpoint(&self, group: &FailureGroup) -> bool {
        self.is_balanced(group)
            && self.fails(|other| {
                other.family == group.family
                    && other.symptom == Symptom::Silent
                    && !self.is_balanced(other)
                    && (other.server.as_ref()).is_some_and(|server| self.is_behind(group, server))
            })
    }

    /// The most recent facts of a node.
    pub(crate) fn facts(&self, node: &NodeName) -> Option<&'a NodeFacts> {
        self.matrix.nodes.get(node)?.latest()
    }

    /// The growth of a node's counter while failing paths were probed again, or over the whole run where no reading was made
    /// in between.
    pub(crate) fn grown(&self, node: &NodeName, counter: &str) -> Option<u64> {
        let (from, to) = self.readings(node)?;
        to.counter(counter)?.checked_sub(from.counter(counter)?)
    }

    /// The growth of a node's counter over the whole run: what only the initial round does shows in no later reading.
    pub(crate) fn grown_in_run(&self, node: &NodeName, counter: &str) -> Option<u64> {
        let known = self.matrix.nodes.get(node)?;
        let before = known.before.as_ref()?.counter(counter)?;
        known.latest()?.counter(counter)?.checked_sub(before)
    }

    fn readings(&self, node: &NodeName) -> Option<(&'a NodeFacts, &'a NodeFacts)> {
        let known = self.matrix.nodes.get(node)?;
        let from = known.during.as_ref().or(known.before.as_ref())?;
        Some((from, known.after.as_ref()?))
    }

    /// The growth of an agent's own counter during its last round.
    pub(crate) fn agent_grown(&self, agent: &AgentId, counter: &str) -> Option<u64> {
        let (before, after) = self.matrix.agents.get(agent)?.counters.as_ref()?;
        after.get(counter)?.checked_sub(before.get(counter)?)
    }

    /// The traffic of a node's interface while failing paths were probed again.
    pub(crate) fn traffic(&self, node: &NodeName, link: &str) -> Option<LinkCounters> {
        let (from, to) = self.readings(node)?;
        let from = from.link(link).found()?.counters?;
        let to = to.link(link).found()?.counters?;
        Some(LinkCounters {
            rx_packets: to.rx_packets.checked_sub(from.rx_packets)?,
            tx_packets: to.tx_packets.checked_sub(from.tx_packets)?,
            rx_dropped: to.rx_dropped.checked_sub(from.rx_dropped)?,
            tx_dropped: to.tx_dropped.checked_sub(from.tx_dropped)?,
            rx_errors: to.rx_errors.checked_sub(from.rx_errors)?,
            tx_errors: to.tx_errors.checked_sub(from.tx_errors)?,
        })
    }

    /// An address of any agent on a node.
    pub(crate) fn address_on(&self, node: &NodeName, family: Family) -> Option<IpAddr> {
        let agents: BTreeSet<&AgentId> = self
            .paths()
            .flat_map(|evidence| {
                std::iter::once(&evidence.path.client).chain(evidence.path.server.as_ref())
            })
            .filter(|agent| agent.node == *node)
            .collect();
        agents
            .into_iter()
            .find_map(|agent| self.address(agent, family))
    }

    /// The furthest state of the handshake that the server's end observed in any of these groups.
    pub(crate) fn best_server_end(&self, places: &BTreeSet<usize>) -> ServerEnd {
        self.at(places)
            .map(|group| group.server_end)
            .max()
            .unwrap_or(ServerEnd::Unknown)
    }

    /// The number of probes in these groups.
    pub(crate) fn count(&self, places: &BTreeSet<usize>) -> usize {
        self.at(places).map(|group| group.probes.len()).sum()
    }
}

/// Outcomes of the engines that count on a path, and the number of probes that were
/// established by their first SYN: [`PathEvidence::total`] without the round trips.
pub(crate) fn counts(evidence: &PathEvidence) -> (OutcomeCounts, u64) {
    let mut outcomes = OutcomeCounts::default();
    let mut first_syn_success = 0;
    for engine in evidence.engines() {
        if let Some(tally) = evidence.tallies.get(&engine) {
            outcomes.add(&tally.outcomes);
            first_syn_success = u64::saturating_add(first_syn_success, tally.first_syn_success);
        }
    }
    (outcomes, first_syn_success)
}
