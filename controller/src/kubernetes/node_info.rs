//! What a run has to know of a node before it places anything there.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Node, Taint};
use prober_core::topology::NodeName;

use crate::kubernetes::node_summary::{NodeReadiness, NodeSummary};

/// Taints of nodes that are not there: a pod that tolerates one waits for a kubelet that never comes.
///
/// <https://kubernetes.io/docs/concepts/scheduling-eviction/taint-and-toleration/#taint-based-evictions>
const NOT_READY_TAINTS: [&str; 5] = [
    "node.kubernetes.io/not-ready",
    "node.kubernetes.io/unreachable",
    "node.kubernetes.io/out-of-service",
    "node.cloudprovider.kubernetes.io/uninitialized",
    "node.cloudprovider.kubernetes.io/shutdown",
];

/// Those of them that outlast by some seconds that a node is Ready again, and in that time may follow each other.
const LINGERING_TAINTS: [&str; 2] = [NOT_READY_TAINTS[0], NOT_READY_TAINTS[1]];

/// What flannel writes on the nodes that it serves, of whatever backend.
const FLANNEL: &str = "flannel.alpha.coreos.com/backend-type";

/// A node as a place for agents.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NodeInfo {
    /// Its addresses of type `InternalIP`, one per family.
    pub internal_ips: Vec<IpAddr>,
    /// Where its pods' addresses come from.
    pub pod_cidrs: PodCidrs,
    /// What keeps other pods away and must not keep agents away.
    pub taints: Vec<Taint>,
}

/// Where the addresses of a node's pods come from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum PodCidrs {
    /// Out of these prefixes, for sure: the network plugin takes its addresses from the node's `podCIDRs`.
    Known(Vec<String>),
    /// Out of these or others: plugins that keep ranges of their own leave `podCIDRs` empty, or ignore them.
    #[default]
    Unknown,
}

impl NodeInfo {
    /// Reads what the API says of a node.
    pub fn from_node(node: &Node) -> Self {
        let spec = node.spec.clone().unwrap_or_default();
        let has_flannel = node
            .metadata
            .annotations
            .as_ref()
            .is_some_and(|annotations| annotations.contains_key(FLANNEL));
        let ranges = spec.pod_cidrs.unwrap_or_default();
        let mut taints = spec.taints.unwrap_or_default();
        if NodeSummary::from_node(node).readiness == NodeReadiness::Ready {
            add_lingering_taints(&mut taints);
        } else {
            taints.retain(|taint| !NOT_READY_TAINTS.contains(&taint.key.as_str()));
        }
        Self {
            internal_ips: internal_ips(node),
            pod_cidrs: if has_flannel && !ranges.is_empty() {
                PodCidrs::Known(ranges)
            } else {
                PodCidrs::Unknown
            },
            taints,
        }
    }
}

/// Adds what a node that is Ready may yet be tainted with. Where pods are ended for it they have time by themselves
/// (`DefaultTolerationSeconds`).
fn add_lingering_taints(taints: &mut Vec<Taint>) {
    let effect = "NoSchedule";
    for key in LINGERING_TAINTS {
        if !(taints.iter()).any(|taint| taint.key == key && taint.effect == effect) {
            taints.push(Taint {
                key: key.to_owned(),
                effect: effect.to_owned(),
                ..Taint::default()
            });
        }
    }
}

/// The name of a node of the API.
pub fn node_name(node: &Node) -> NodeName {
    NodeName::new(node.metadata.name.clone().unwrap_or_default())
}

/// ServiceAddresses of type `InternalIP`, the first of each family.
fn internal_ips(node: &Node) -> Vec<IpAddr> {
    let all = node
        .status
        .iter()
        .flat_map(|status| status.addresses.iter().flatten())
        .filter(|address| address.type_ == "InternalIP")
        .filter_map(|address| address.address.parse().ok());
    let mut first: Vec<IpAddr> = Vec::new();
    for address in all {
        if !first
            .iter()
            .any(|known: &IpAddr| known.is_ipv4() == IpAddr::is_ipv4(&address))
        {
            first.push(address);
        }
    }
    first
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn node(node: serde_json::Value) -> Node {
        serde_json::from_value(node).unwrap()
    }

    #[test]
    fn taints_of_dead_nodes_are_not_tolerated_and_all_others_are() {
        let site = NodeInfo::from_node(&node(json!({
            "metadata": {"name": "node-1"},
            "spec": {"taints": [
                {"key": "node.kubernetes.io/unreachable", "effect": "NoExecute"},
                {"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"},
                {"key": "dedicated", "value": "gpu", "effect": "NoExecute"}
            ]}
        })));
        let keys: Vec<_> = site.taints.iter().map(|taint| taint.key.as_str()).collect();
        assert_eq!(keys, ["node.kubernetes.io/unschedulable", "dedicated"]);
    }

    #[test]
    fn a_node_that_is_ready_again_is_not_dead_however_it_is_tainted() {
        let site = NodeInfo::from_node(&node(json!({
            "metadata": {"name": "node-1"},
            "spec": {"taints": [{"key": "node.kubernetes.io/unreachable", "effect": "NoSchedule"}]},
            "status": {"conditions": [{"type": "Ready", "status": "True"}]}
        })));
        let mut keys: Vec<_> = site.taints.iter().map(|taint| taint.key.as_str()).collect();
        keys.sort_unstable();
        assert_eq!(
            keys,
            [
                "node.kubernetes.io/not-ready",
                "node.kubernetes.io/unreachable"
            ],
            "the one that may follow is tolerated as well"
        );
    }

    #[test]
    fn pod_ranges_are_believed_where_the_plugin_keeps_to_them() {
        let with = |annotations: serde_json::Value, ranges: &[&str]| {
            NodeInfo::from_node(&node(json!({
                "metadata": {"name": "node-1", "annotations": annotations},
                "spec": {"podCIDRs": ranges}
            })))
            .pod_cidrs
        };
        let flannel = json!({"flannel.alpha.coreos.com/backend-type": "vxlan"});
        assert_eq!(
            with(flannel.clone(), &["10.244.1.0/24"]),
            PodCidrs::Known(vec!["10.244.1.0/24".to_owned()])
        );
        assert_eq!(with(flannel, &[]), PodCidrs::Unknown);
        assert_eq!(with(json!({}), &["10.244.1.0/24"]), PodCidrs::Unknown);
    }

    #[test]
    fn a_node_has_one_internal_address_of_each_family() {
        let site = NodeInfo::from_node(&node(json!({
            "metadata": {"name": "node-1"},
            "status": {"addresses": [
                {"type": "Hostname", "address": "node-1"},
                {"type": "ExternalIP", "address": "203.0.113.9"},
                {"type": "InternalIP", "address": "10.0.0.1"},
                {"type": "InternalIP", "address": "10.0.0.2"},
                {"type": "InternalIP", "address": "fd00::1"}
            ]}
        })));
        let expected: Vec<IpAddr> = ["10.0.0.1", "fd00::1"].map(|a| a.parse().unwrap()).into();
        assert_eq!(site.internal_ips, expected);
    }
}
