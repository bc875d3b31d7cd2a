//! The objects of a run: nodes, agents on them, and the paths between agents.

mod natural;

use std::cmp::Ordering;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::packet::family::Family;

/// The name of a Kubernetes node (or of a lab's). Names sort naturally: `node-2` before `node-10`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NodeName(String);

impl NodeName {
    /// Takes the name as it is, unchecked.
    pub fn new(name: impl Into<String>) -> Self {
        Self(name.into())
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Ord for NodeName {
    fn cmp(&self, other: &Self) -> Ordering {
        natural::compare(&self.0, &other.0)
    }
}

impl PartialOrd for NodeName {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// One agent: a probe pod on a node. Agents sort by node, then by pod, naturally.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct AgentId {
    /// The node it runs on.
    pub node: NodeName,
    /// The name of its pod.
    pub pod: String,
}

impl AgentId {
    /// The agent in pod `pod` on node `node`.
    pub fn new(node: impl Into<String>, pod: impl Into<String>) -> Self {
        Self {
            node: NodeName::new(node),
            pod: pod.into(),
        }
    }
}

impl Ord for AgentId {
    fn cmp(&self, other: &Self) -> Ordering {
        let by_node = self.node.cmp(&other.node);
        by_node.then_with(|| natural::compare(&self.pod, &other.pod))
    }
}

impl PartialOrd for AgentId {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for AgentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.pod)
    }
}

/// The role of an agent in a run; every role runs the same binary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AgentRole {
    /// Starts probes.
    Client,
    /// Answers probes, and probes itself through the Service (hairpin).
    Server,
    /// Runs in its node's own network: probes as the node does, and reports the node's facts. It
    /// answers no probes and captures no packets (tier T0).
    Host,
}

/// The relative location of the two ends of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scope {
    /// Both on one node.
    SameNode,
    /// On two nodes.
    CrossNode,
    /// Any endpoint, as the Service balances.
    Any,
}

/// How the client addresses the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AccessPath {
    /// The server pod's own address.
    PodIp,
    /// The test Service's slot that is pinned to this server.
    ClusterIp,
    /// The test Service's port that is balanced over all servers.
    ClusterIpAny,
    /// The test Service with `internalTrafficPolicy: Local`.
    ClusterIpLocal,
    /// The server pod's own slot, from the server pod itself.
    Hairpin,
    /// The slot's node port, at the address of the server's node.
    NodePort,
    /// The server pod's slot, from the client node's own network.
    HostNetwork,
}

impl AccessPath {
    /// Every access path, in the order of reports.
    pub const ALL: [Self; 7] = [
        Self::PodIp,
        Self::ClusterIp,
        Self::ClusterIpAny,
        Self::ClusterIpLocal,
        Self::Hairpin,
        Self::NodePort,
        Self::HostNetwork,
    ];

    /// Whether a Service's translation is on the path.
    pub const fn is_translated(self) -> bool {
        match self {
            Self::PodIp => false,
            Self::ClusterIp
            | Self::ClusterIpAny
            | Self::ClusterIpLocal
            | Self::Hairpin
            | Self::NodePort
            | Self::HostNetwork => true,
        }
    }

    /// Whether packets go from pod to pod by the pods' own network alone. The other access paths involve
    /// the nodes' addresses, and other rules.
    pub const fn stays_among_pods(self) -> bool {
        match self {
            Self::PodIp
            | Self::ClusterIp
            | Self::ClusterIpAny
            | Self::ClusterIpLocal
            | Self::Hairpin => true,
            Self::NodePort | Self::HostNetwork => false,
        }
    }

    /// Whether the client addresses one server by the port of the test Service that is pinned to it.
    pub const fn needs_slot(self) -> bool {
        match self {
            Self::ClusterIp | Self::Hairpin | Self::NodePort | Self::HostNetwork => true,
            Self::PodIp | Self::ClusterIpAny | Self::ClusterIpLocal => false,
        }
    }

    /// The name used in JSON, flags and text.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::PodIp => "pod-ip",
            Self::ClusterIp => "cluster-ip",
            Self::ClusterIpAny => "cluster-ip-any",
            Self::ClusterIpLocal => "cluster-ip-local",
            Self::Hairpin => "hairpin",
            Self::NodePort => "node-port",
            Self::HostNetwork => "host-network",
        }
    }
}

impl Scope {
    /// The name used in JSON, flags and text.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SameNode => "same-node",
            Self::CrossNode => "cross-node",
            Self::Any => "any",
        }
    }
}

impl fmt::Display for AccessPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The unit that is healthy or failing: a pair of agents, an access path and a family.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Path {
    /// The agent that starts the handshake.
    pub client: AgentId,
    /// The agent that is expected to answer; `None` where the Service picks (`cluster-ip-any`).
    pub server: Option<AgentId>,
    /// How the client addresses the server.
    pub access_path: AccessPath,
    /// The IP family.
    pub family: Family,
}

impl Path {
    /// Whether one end is on a node.
    pub fn involves(&self, node: &NodeName) -> bool {
        self.client.node == *node
            || (self.server.as_ref()).is_some_and(|server| server.node == *node)
    }

    /// Same node, cross node, or any where the Service picks.
    pub fn scope(&self) -> Scope {
        match &self.server {
            None if self.access_path == AccessPath::ClusterIpLocal => Scope::SameNode,
            None => Scope::Any,
            Some(server) if server.node == self.client.node => Scope::SameNode,
            Some(_) => Scope::CrossNode,
        }
    }
}

/// A path's number within one run, in plans and event lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PathId(pub u32);
