//! The data plane of a run's nodes, inferred from their facts and from packets of healthy paths.
//!
//! It says how pods are attached to their node, how packets cross between two nodes, and which program translates Services.
//! What the evidence does not show is `Unknown`, never assumed.

/// How a pod is attached to its node.
mod attachment;
/// What healthy paths show: distances, gateways.
mod habits;
/// BPF programs that forward packets.
mod program;
/// The pods of each node as senders.
mod senders;
/// The data plane of one node, for a report.
mod summary;
/// How packets get from one node to another.
mod transport;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

pub use attachment::Attachment;
pub use habits::Habits;
pub(crate) use habits::initial_hop_limit;
pub use program::Program;
pub(crate) use summary::sentences;
pub use summary::{NodeDataPlane, PeerTransport};
pub use transport::{Transport, TunnelKind};

use crate::evidence::{Matrix, NodeEvidence};
use crate::node_facts::{KubeProxyMode, NodeFacts};
use crate::packet::family::Family;
use crate::topology::{AccessPath, AgentId, NodeName, Path};

use senders::{Sender, Senders};

/// The data plane of every node of a matrix.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DataPlane {
    attachments: BTreeMap<(AgentId, Family), Attachment>,
    transports: BTreeMap<(NodeName, NodeName, Family), Transport>,
    translations: BTreeMap<NodeName, Translation>,
    /// Nodes on which BPF programs forward packets of pods past netfilter, and how that shows.
    programs: BTreeMap<NodeName, Program>,
    senders: Senders,
    habits: Habits,
}

/// What translates the address of a Service on a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Translation {
    /// Chains of the iptables `nat` table.
    Iptables,
    /// Tables of nftables.
    Nftables,
    /// IP virtual servers.
    Ipvs,
    /// Netfilter, by one of these: connection tracking has translated destinations.
    Netfilter,
    /// A BPF program at connect(2): no packet of a pod has the Service's address.
    Connect,
    /// BPF programs at the pods' links, as Cilium has them.
    Bpf,
    /// The evidence does not show it.
    #[default]
    Unknown,
}

impl Translation {
    /// Whether netfilter translates, so that connection tracking has the connection and rewrites the ICMP errors that
    /// quote it (`nf_nat_icmp_reply_translation`, net/netfilter/nf_nat_proto.c).
    pub const fn is_by_netfilter(self) -> bool {
        match self {
            Self::Iptables | Self::Nftables | Self::Netfilter => true,
            Self::Ipvs | Self::Connect | Self::Bpf | Self::Unknown => false,
        }
    }
}

impl DataPlane {
    /// Infers the data plane from all evidence of a run.
    pub fn infer(matrix: &Matrix) -> Self {
        let mut plane = Self {
            habits: Habits::of(matrix),
            ..Self::default()
        };
        let pods = plane.attach(matrix);
        plane.connect(matrix, &pods);
        for node in matrix.nodes.keys() {
            // A proxy that ended leaves its rules behind.
            let mut readings = matrix
                .nodes
                .get(node)
                .into_iter()
                .flat_map(NodeEvidence::readings);
            let by_proxy = readings.find_map(|facts| facts.kube_proxy);
            let program = matrix.facts(node).and_then(program::of);
            let translation = match by_proxy {
                _ if matrix.socket_level.contains(node) => Translation::Connect,
                // kube-proxy beside it translates what the nodes themselves send, and node ports.
                _ if program == Some(Program::Cilium) => Translation::Bpf,
                Some(KubeProxyMode::Iptables) => Translation::Iptables,
                Some(KubeProxyMode::Nftables) => Translation::Nftables,
                Some(KubeProxyMode::Ipvs) => Translation::Ipvs,
                None if translates_in_conntrack(matrix, node) => Translation::Netfilter,
                None => Translation::Unknown,
            };
            plane.translations.insert(node.clone(), translation);
            plane
                .programs
                .extend(program.map(|shown| (node.clone(), shown)));
        }
        plane
    }

    /// Learns the senders of every node and the attachment of every pod; returns the pods with their addresses.
    fn attach<'m>(&mut self, matrix: &'m Matrix) -> Vec<(&'m AgentId, IpAddr)> {
        let addresses = matrix.addresses();
        let hosts = hosts(matrix);
        let paths = matrix.paths.values();
        let families: BTreeSet<Family> = paths.map(|evidence| evidence.path.family).collect();
        let mut pods = Vec::new();
        for agent in matrix.agents.keys() {
            for &family in &families {
                let Some(address) = addresses.of(agent, family) else {
                    continue;
                };
                let facts = matrix.facts(&agent.node);
                // An agent in the node's own network.
                let is_own = |facts: &NodeFacts| facts.address(address).found().is_some();
                if hosts.contains(agent) || facts.is_some_and(is_own) {
                    let host = Sender::Host { address };
                    self.senders.insert(&agent.node, family, host);
                    continue;
                }
                let attachment = facts.map_or(Attachment::Unknown, |facts| {
                    attachment::of(facts, address, self.habits.mac(agent, family))
                });
                let link = attachment.link().map(str::to_owned);
                let pod = Sender::Pod { address, link };
                self.senders.insert(&agent.node, family, pod);
                let key = (agent.clone(), family);
                self.attachments.insert(key, attachment);
                pods.push((agent, address));
            }
        }
        pods
    }

    /// Learns the transport of every ordered pair of nodes that exchange packets of pods.
    fn connect(&mut self, matrix: &Matrix, pods: &[(&AgentId, IpAddr)]) {
        let peers = peers(matrix);
        for &(agent, address) in pods {
            for &from in peers.get(&agent.node).into_iter().flatten() {
                let key = (from.clone(), agent.node.clone(), Family::of(address));
                if self.transports.contains_key(&key) {
                    continue;
                }
                let transport = matrix.facts(from).and_then(|facts| {
                    let by = |resolution| transport::by(facts, resolution);
                    self.senders.agree_on(facts, from, address, by)
                });
                self.transports.insert(key, transport.unwrap_or_default());
            }
        }
    }

    /// The pods of each node as senders.
    pub(crate) const fn senders(&self) -> &Senders {
        &self.senders
    }

    /// How an agent's pod is attached to its node.
    pub fn attachment(&self, agent: &AgentId, family: Family) -> &Attachment {
        let known = self.attachments.get(&(agent.clone(), family));
        known.unwrap_or(&Attachment::Unknown)
    }

    /// The attachments of the pods of a node, each once.
    pub fn attachments_on<'a>(
        &'a self,
        node: &'a NodeName,
        family: Family,
    ) -> impl Iterator<Item = &'a Attachment> {
        let all = self.attachments.iter();
        all.filter(move |((agent, of), _)| agent.node == *node && *of == family)
            .map(|(_, attachment)| attachment)
    }

    /// How packets to pods of `to` leave `from`.
    pub fn transport(&self, from: &NodeName, to: &NodeName, family: Family) -> &Transport {
        let known = self.transports.get(&(from.clone(), to.clone(), family));
        known.unwrap_or(&Transport::Unknown)
    }

    /// Whether the pods' own packets pass no router, as healthy paths of the same nodes show: their devices are on the network
    /// between the nodes, as with macvlan, also where a node has a route to them for what it translates.
    pub fn bypasses_nodes(&self, client: &AgentId, server: &AgentId, family: Family) -> bool {
        let routers = |from: &NodeName, to: &NodeName| self.habits.routers(from, to, family);
        // On one node a bridge connects them as well.
        let has_own_device = |agent: &AgentId| {
            let is_routed = matches!(self.attachment(agent, family), Attachment::Routed { .. });
            is_routed && routers(&agent.node, &agent.node) == Some(0)
        };
        let (a, b) = (&client.node, &server.node);
        match routers(a, b).or_else(|| routers(b, a)) {
            Some(between) if a != b => between == 0,
            Some(_) | None => has_own_device(client) && has_own_device(server),
        }
    }

    /// Whether a path's packets are known not to pass a node: its pods' own packets pass none, and those to a Service only the
    /// client's, which translates them.
    pub fn is_past(&self, node: &NodeName, path: &Path) -> bool {
        let is_translated_here = path.access_path.is_translated() && path.client.node == *node;
        let server = path.server.as_ref();
        !is_translated_here
            && server.is_some_and(|server| self.bypasses_nodes(&path.client, server, path.family))
    }

    /// The transport of every ordered pair of nodes that a path connects.
    pub fn pairs(
        &self,
        family: Family,
    ) -> impl Iterator<Item = (&NodeName, &NodeName, &Transport)> {
        let all = self.transports.iter();
        all.filter(move |((_, _, of), _)| *of == family)
            .map(|((from, to, _), transport)| (from, to, transport))
    }

    /// What translates Services on a node.
    pub fn translation(&self, node: &NodeName) -> Translation {
        self.translations.get(node).copied().unwrap_or_default()
    }

    /// How it shows that BPF programs of a node forward packets of pods past netfilter; `None` where nothing does.
    pub fn program(&self, node: &NodeName) -> Option<&Program> {
        self.programs.get(node)
    }

    /// Whether Cilium connects the pods of a node.
    pub fn is_cilium(&self, node: &NodeName) -> bool {
        self.program(node) == Some(&Program::Cilium)
    }

    /// What healthy paths show.
    pub const fn habits(&self) -> &Habits {
        &self.habits
    }
}

/// Whether a connection to a Service is tracked on a node with another address to answer it.
fn translates_in_conntrack(matrix: &Matrix, node: &NodeName) -> bool {
    let known = matrix.nodes.get(node);
    let reading = known.and_then(NodeEvidence::conntrack);
    let mut entries = reading.into_iter().flat_map(|reading| &reading.entries);
    entries.any(|entry| entry.reply.source != entry.original.destination)
}

/// The nodes with which each node exchanges packets of pods.
fn peers(matrix: &Matrix) -> BTreeMap<&NodeName, BTreeSet<&NodeName>> {
    let mut peers: BTreeMap<&NodeName, BTreeSet<&NodeName>> = BTreeMap::new();
    for evidence in matrix.paths.values() {
        let client = &evidence.path.client.node;
        for agent in evidence.servers() {
            if agent.node != *client {
                peers.entry(client).or_default().insert(&agent.node);
                peers.entry(&agent.node).or_default().insert(client);
            }
        }
    }
    peers
}

/// The agents that probe from the nodes' own networks.
fn hosts(matrix: &Matrix) -> BTreeSet<&AgentId> {
    let paths = matrix.paths.values().map(|evidence| &evidence.path);
    let of_hosts = paths.filter(|path| path.access_path == AccessPath::HostNetwork);
    of_hosts.map(|path| &path.client).collect()
}

impl fmt::Display for Translation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Iptables => "kube-proxy iptables",
            Self::Nftables => "kube-proxy nftables",
            Self::Ipvs => "kube-proxy ipvs",
            Self::Netfilter => "Services translated by netfilter",
            Self::Connect => "Services translated at connect()",
            Self::Bpf => "Services translated by BPF at the pods' links",
            Self::Unknown => "",
        })
    }
}
