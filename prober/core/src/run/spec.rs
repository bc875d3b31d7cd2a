//! The specification of a run, its agents, and their plans.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::num::NonZeroU8;
use std::time::Duration;

use super::cycle::Round;
use super::{Endpoints, Placement};
use crate::evidence::start_up::MAX_START_UP;
use crate::packet::family::Family;
use crate::plan::pairing::{NodePair, pairs};
use crate::plan::{
    AllowedTargets, NodeFactsReading, OTHER_RESPONDER_PORT, Plan, ProbePlan, RESPONDER_PORT,
};
use crate::probe::tier::Tier;
use crate::topology::{AccessPath, AgentId, AgentRole, NodeName};

/// Probes of a server pod's other port carry the path's number plus this.
pub(super) const OTHER_PORT: u32 = 1_000_000;

/// Maximum number of slots of the test Service: each is a port of it, and a rule on every node of the cluster. Paths to
/// servers beyond them are reported as not probed.
pub const MAX_SLOTS: usize = 64;

/// Kernel probes per path: connections as an application makes them.
const KERNEL_PROBES: u32 = 4;

/// Number of bytes that a kernel probe has echoed, enough to fill several packets of any MTU.
const ECHO_BYTES: u32 = 8_192;

/// Whether a run reports the paths of a family that is missing at one of their ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MissingFamilies {
    /// It leaves them out: the families are those that the cluster may have.
    Skip,
    /// It reports them as not probed: the families are requested.
    Report,
}

/// The pods that an agent may probe which starts before the addresses of all pods are known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PodRanges {
    /// All pods of the run: their addresses are within ranges that are known beforehand.
    Known,
    /// Pods within these prefixes, which may not contain all: an agent that probes others starts after them.
    Presumed(AllowedTargets),
}

/// The names of a run's pods.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PodNames {
    /// The run places its pods, and names each by its node and role, after this prefix. The prefix may be empty where there are
    /// no other pods.
    Prefixed(String),
    /// The pods run already. An agent that is not among them is named by its role alone, which is no pod's name: its platform
    /// reports that it does not run.
    Given(BTreeMap<NodeName, NodePods>),
}

/// The names of the agents' pods on one node, as far as they run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodePods {
    /// The client.
    pub client: Option<String>,
    /// The server.
    pub server: Option<String>,
    /// The host agent. A run of tier T2 lists a node without one as unread.
    pub host: Option<String>,
}

/// The paths that a run measures, and its numbers of probes.
#[derive(Clone, Debug)]
pub struct RunSpec {
    /// The run's name, which labels everything that it places.
    pub run: String,
    /// The names of its pods.
    pub pod_names: PodNames,
    /// The nonce that banners must carry.
    pub nonce: u64,
    /// Every node that may be probed.
    pub nodes: Vec<NodeName>,
    /// The nodes under test.
    pub selected: Vec<NodeName>,
    /// The number of other nodes that each of them is paired with.
    pub peers: usize,
    /// Pairs of nodes that are probed besides.
    pub further_pairs: BTreeSet<NodePair>,
    /// The number of servers on each node. Those beyond the first are endpoints like it, and have slots as far as there are
    /// any: a path that needs a slot and has none is reported as not probed.
    pub servers_per_node: NonZeroU8,
    /// Maximum number of servers with a slot of the test Service.
    pub slots: usize,
    /// The access paths to probe.
    pub access_paths: BTreeSet<AccessPath>,
    /// The ranges of the pods' addresses.
    pub pod_ranges: PodRanges,
    /// The families to probe.
    pub families: Vec<Family>,
    /// The paths of a family that their pods, nodes or Services have no address of.
    pub missing_families: MissingFamilies,
    /// The highest tier of evidence to collect.
    pub tier: Tier,
    /// Kernel probes per path.
    pub kernel_probes: u32,
    /// Raw probes per path.
    pub raw_probes: u32,
    /// Number of bytes that a kernel probe has echoed.
    pub echo_bytes: u32,
    /// The deadline of a probe.
    pub deadline: Duration,
    /// The deadline of placing and publishing, counted from the start.
    pub startup_timeout: Duration,
    /// The time limit of the run, counted from its start and without the removal; a repeated run has none.
    pub time_limit: Option<Duration>,
    /// How long after the readiness of its pods a path without any answer is probed again: it may still open.
    pub opening_patience: Duration,
}

impl RunSpec {
    /// A run on all of `nodes`, each paired with three others: every access path over IPv4, all evidence, and pods named after
    /// the run.
    pub fn new(run: String, nonce: u64, nodes: Vec<NodeName>) -> Self {
        Self {
            pod_names: PodNames::Prefixed(format!("{run}-")),
            run,
            nonce,
            selected: nodes.clone(),
            nodes,
            peers: 3,
            further_pairs: BTreeSet::new(),
            servers_per_node: NonZeroU8::MIN,
            slots: MAX_SLOTS,
            access_paths: AccessPath::ALL.into(),
            pod_ranges: PodRanges::Known,
            families: vec![Family::Ipv4],
            missing_families: MissingFamilies::Skip,
            tier: Tier::T2,
            kernel_probes: KERNEL_PROBES,
            raw_probes: 100,
            echo_bytes: ECHO_BYTES,
            deadline: Duration::from_secs(3),
            startup_timeout: Duration::from_mins(1),
            time_limit: None,
            opening_patience: MAX_START_UP,
        }
    }

    /// The pairs that the nodes under test make, with themselves and with their peers, and the further ones.
    pub fn pairs(&self) -> BTreeSet<NodePair> {
        let mut pairs = pairs(&self.nodes, &self.selected, self.peers, 0);
        pairs.extend(self.further_pairs.iter().cloned());
        pairs
    }

    /// The nodes on which agents are placed: those under test first, then their peers.
    pub fn placed_nodes(&self) -> Vec<NodeName> {
        self.client_nodes(&self.pairs())
    }

    /// The nodes of clients that probe: those under test first, then their peers.
    pub(super) fn client_nodes(&self, pairs: &BTreeSet<NodePair>) -> Vec<NodeName> {
        let all: BTreeSet<_> = pairs.iter().map(|(client, _)| client.clone()).collect();
        let (mut nodes, peers): (Vec<_>, Vec<_>) = all
            .into_iter()
            .partition(|node| self.selected.contains(node));
        nodes.extend(peers);
        nodes
    }

    /// Whether each node gets a host agent: to read the node's facts, or to probe from the node's own network.
    fn has_hosts(&self) -> bool {
        self.tier >= Tier::T2 || self.access_paths.contains(&AccessPath::HostNetwork)
    }

    /// Every agent of the run with its first plan. The hosts of nodes under test read the facts of these at once; those of
    /// peers only after a path to or from them fails.
    pub(super) fn placements(&self) -> Vec<Placement> {
        let mut placements = Vec::new();
        for node in self.placed_nodes() {
            let facts = if self.is_read_first(&node) {
                NodeFactsReading::Once
            } else {
                NodeFactsReading::Skip
            };
            let host = (self.host_of(&node), AgentRole::Host, facts);
            let client = (
                self.client_of(&node),
                AgentRole::Client,
                NodeFactsReading::Skip,
            );
            let servers = self
                .servers_of(&node)
                .map(|server| (server, AgentRole::Server, NodeFactsReading::Skip));
            let agents = std::iter::once(host)
                .filter(|_| self.has_hosts())
                .chain([client])
                .chain(servers);
            placements.extend(agents.map(|(agent, role, facts)| Placement {
                plan: self.plan(&agent, Round::Listen as u32, facts, Vec::new()),
                agent,
                role,
            }));
        }
        placements
    }

    /// The endpoints of the test Services, without servers that could not be started. Every node's first server comes before
    /// any node's second, since slots are few.
    pub(super) fn endpoints(&self, addresses: &BTreeMap<AgentId, Vec<IpAddr>>) -> Endpoints {
        let nodes = self.placed_nodes();
        let servers: Vec<_> = (1..=self.servers_per_node.get())
            .flat_map(|number| nodes.iter().map(move |node| (node, number)))
            .map(|(node, number)| self.server_of(node, number))
            .filter(|server| addresses.contains_key(server))
            .collect();
        let slots: Vec<_> = servers.iter().take(self.slots).cloned().collect();
        Endpoints {
            any: slots.clone(),
            slots,
            local: servers,
        }
    }

    /// A plan of this run.
    pub(super) fn plan(
        &self,
        agent: &AgentId,
        generation: u32,
        facts: NodeFactsReading,
        probes: Vec<ProbePlan>,
    ) -> Plan {
        // Responders do not use the node's own ports.
        let ports = if self.is_host(agent) {
            Vec::new()
        } else {
            vec![RESPONDER_PORT, OTHER_RESPONDER_PORT]
        };
        Plan {
            facts,
            probes,
            ..Plan::answering(&self.run, generation, agent, self.nonce, ports)
        }
    }

    /// The client agent of a node.
    pub(super) fn client_of(&self, node: &NodeName) -> AgentId {
        self.agent(node, "client", |pods| pods.client.as_ref())
    }

    /// The host agent of a node.
    pub(super) fn host_of(&self, node: &NodeName) -> AgentId {
        self.agent(node, "host", |pods| pods.host.as_ref())
    }

    /// The server agents of a node.
    pub(super) fn servers_of(&self, node: &NodeName) -> impl Iterator<Item = AgentId> {
        (1..=self.servers_per_node.get()).map(|number| self.server_of(node, number))
    }

    /// A server agent of a node, counted from 1.
    pub(super) fn server_of(&self, node: &NodeName, number: u8) -> AgentId {
        match number {
            0 | 1 => self.agent(node, "server", |pods| pods.server.as_ref()),
            _ => self.agent(node, &format!("server-{number}"), |_| None),
        }
    }

    pub(super) fn is_host(&self, agent: &AgentId) -> bool {
        *agent == self.host_of(&agent.node)
    }

    pub(super) fn is_server(&self, agent: &AgentId) -> bool {
        self.servers_of(&agent.node).any(|server| server == *agent)
    }

    /// Whether the facts of a node are read before its other agents start.
    fn is_read_first(&self, node: &NodeName) -> bool {
        self.tier >= Tier::T2 && self.selected.contains(node)
    }

    /// Whether an agent that starts before all pods run may probe a pod with this address.
    pub(super) fn may_probe_early(&self, pod: IpAddr) -> bool {
        match &self.pod_ranges {
            PodRanges::Known => true,
            PodRanges::Presumed(ranges) => ranges.contains(pod),
        }
    }

    /// Whether an agent has no work before it probes: it serves no path, and reads no facts at first.
    pub(super) fn only_probes(&self, agent: &AgentId) -> bool {
        let reads = self.is_host(agent) && self.is_read_first(&agent.node);
        !self.is_server(agent) && !reads
    }

    /// The agent of a role; `given` returns the name of its pod where the pods run already.
    fn agent(
        &self,
        node: &NodeName,
        role: &str,
        given: impl Fn(&NodePods) -> Option<&String>,
    ) -> AgentId {
        let pod = match &self.pod_names {
            PodNames::Prefixed(prefix) => format!("{prefix}{node}-{role}"),
            PodNames::Given(pods) => {
                let name = pods.get(node).and_then(given);
                name.map_or_else(|| role.to_owned(), Clone::clone)
            }
        };
        AgentId {
            node: node.clone(),
            pod,
        }
    }
}
