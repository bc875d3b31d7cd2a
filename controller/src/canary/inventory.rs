//! The nodes of the cluster and the pods of its agents, as the API server last reported them.
//!
//! It changes by watch events, one object at a time, and keeps of each object only what the canary reads: a cluster of
//! thousands of nodes takes a few kilobytes each. While the API server is not reachable it stays as it is.

/// The pod of an agent.
mod agent_pod;
/// A node.
mod node_record;

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{Node, Pod};
use prober_core::time::Timestamp;
use prober_core::topology::NodeName;

use crate::kubernetes::node_info;

pub use agent_pod::{AgentPod, Component, PodPhase};
pub use node_record::{NodeRecord, Readiness, SERVICE_CONNECTIVITY, STARTUP_TAINT};

/// The nodes and the agents of a cluster.
#[derive(Clone, Debug, Default)]
pub struct Inventory {
    nodes: BTreeMap<NodeName, NodeRecord>,
    /// The pods of agents by node; of one component a node has two while one replaces the other.
    pods: BTreeMap<NodeName, Vec<AgentPod>>,
    /// Since when the standing plan lets agents probe, by the wall clock; `None` while it does not.
    probing_since: Option<Timestamp>,
    /// Whether the standing plan was read.
    is_plan_known: bool,
    node_list: ListProgress,
    pod_list: ListProgress,
}

/// An event of a watch, which begins with a list, and begins again after an error.
#[derive(Clone, Debug)]
pub enum WatchEvent<K> {
    /// A list begins.
    ListBegins,
    /// An object of the list.
    Listed(K),
    /// The list ends: what it did not name is not there any more.
    ListEnds,
    /// An object was created or changed.
    Applied(K),
    /// An object was deleted.
    Deleted(K),
}

/// The progress of a list with which a watch begins, or begins again.
#[derive(Clone, Debug, Default)]
struct ListProgress {
    /// The names in the list in progress.
    listed: BTreeSet<String>,
    /// Whether a list was ever complete.
    is_complete: bool,
}

impl Inventory {
    /// Applies an event of the watch of nodes. Returns whether anything has changed that the canary reads: most updates
    /// of a Node are heartbeats.
    pub fn apply_node(&mut self, event: WatchEvent<Node>) -> bool {
        match event {
            WatchEvent::ListBegins => {
                self.node_list.listed.clear();
                false
            }
            WatchEvent::Listed(node) => {
                self.node_list.listed.extend(node.metadata.name.clone());
                self.put_node(&node)
            }
            WatchEvent::Applied(node) => self.put_node(&node),
            WatchEvent::Deleted(node) => self.nodes.remove(&node_info::node_name(&node)).is_some(),
            WatchEvent::ListEnds => {
                let listed = std::mem::take(&mut self.node_list.listed);
                let before = self.nodes.len();
                self.nodes.retain(|node, _| listed.contains(node.as_str()));
                !std::mem::replace(&mut self.node_list.is_complete, true)
                    || before != self.nodes.len()
            }
        }
    }

    /// Applies an event of the watch of agents' pods. Returns whether anything has changed that the canary reads.
    pub fn apply_pod(&mut self, event: WatchEvent<Pod>) -> bool {
        match event {
            WatchEvent::ListBegins => {
                self.pod_list.listed.clear();
                false
            }
            WatchEvent::Listed(pod) => {
                self.pod_list.listed.extend(pod.metadata.name.clone());
                self.put_pod(&pod)
            }
            WatchEvent::Applied(pod) => self.put_pod(&pod),
            WatchEvent::Deleted(pod) => {
                let name = pod.metadata.name.unwrap_or_default();
                self.retain_pods(|other| other.name != name)
            }
            WatchEvent::ListEnds => {
                let listed = std::mem::take(&mut self.pod_list.listed);
                let is_first = !std::mem::replace(&mut self.pod_list.is_complete, true);
                self.retain_pods(|pod| listed.contains(&pod.name)) || is_first
            }
        }
    }

    /// Sets since when the standing plan lets agents probe. Returns whether that has changed.
    pub fn set_probing_since(&mut self, since: Option<Timestamp>) -> bool {
        let is_first = !std::mem::replace(&mut self.is_plan_known, true);
        std::mem::replace(&mut self.probing_since, since) != since || is_first
    }

    /// Since when the standing plan lets agents probe, by the wall clock; `None` while it does not.
    pub const fn probing_since(&self) -> Option<Timestamp> {
        self.probing_since
    }

    /// Whether all nodes and all pods were listed at least once: before, an absent one may only be unknown.
    pub const fn is_listed(&self) -> bool {
        self.node_list.is_complete && self.pod_list.is_complete
    }

    /// Whether everything is known that the states of nodes depend on.
    pub const fn is_complete(&self) -> bool {
        self.is_listed() && self.is_plan_known
    }

    /// Every node.
    pub fn nodes(&self) -> impl Iterator<Item = (&NodeName, &NodeRecord)> {
        self.nodes.iter()
    }

    /// One node.
    pub fn node(&self, name: &NodeName) -> Option<&NodeRecord> {
        self.nodes.get(name)
    }

    /// The pod of a component on a node: of two the newer one, unless that is being deleted.
    pub fn agent(&self, node: &NodeName, component: Component) -> Option<&AgentPod> {
        let of_component = (self.pods.get(node)?.iter()).filter(|pod| pod.component == component);
        of_component.max_by_key(|pod| (pod.deleted.is_none(), pod.created))
    }

    /// The pods of a component that are the current ones of their nodes.
    pub fn agents(&self, component: Component) -> impl Iterator<Item = &AgentPod> {
        let nodes = self.pods.keys();
        nodes.filter_map(move |node| self.agent(node, component))
    }

    fn put_node(&mut self, node: &Node) -> bool {
        let name = node_info::node_name(node);
        let record = NodeRecord::of(node);
        if self.nodes.get(&name) == Some(&record) {
            return false;
        }
        self.nodes.insert(name, record);
        true
    }

    fn put_pod(&mut self, pod: &Pod) -> bool {
        let Some(pod) = AgentPod::of(pod) else {
            return false;
        };
        let pods = self.pods.entry(pod.node.clone()).or_default();
        match pods.iter_mut().find(|known| known.name == pod.name) {
            Some(known) if *known == pod => false,
            Some(known) => {
                *known = pod;
                true
            }
            None => {
                pods.push(pod);
                true
            }
        }
    }

    fn retain_pods(&mut self, is_kept: impl Fn(&AgentPod) -> bool) -> bool {
        let mut has_changed = false;
        self.pods.retain(|_, pods| {
            let before = pods.len();
            pods.retain(&is_kept);
            has_changed |= before != pods.len();
            !pods.is_empty()
        });
        has_changed
    }
}

#[cfg(test)]
mod tests;
