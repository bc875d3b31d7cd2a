//! The node data that placing agents needs: internal addresses, pod address ranges, taints, the label of its host name and its
//! architecture.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Node, Taint};
use prober_core::topology::NodeName;

use crate::kubernetes::node_summary::{NodeReadiness, NodeSummary};

/// Taints of nodes that are down. A pod that tolerates one waits for a kubelet that never starts it.
///
/// <https://kubernetes.io/docs/concepts/scheduling-eviction/taint-and-toleration/#taint-based-evictions>
const NOT_READY_TAINTS: [&str; 5] = [
    "node.kubernetes.io/not-ready",
    "node.kubernetes.io/unreachable",
    "node.kubernetes.io/out-of-service",
    "node.cloudprovider.kubernetes.io/uninitialized",
    "node.cloudprovider.kubernetes.io/shutdown",
];

/// Those of [`NOT_READY_TAINTS`] that stay for some seconds after a node is Ready again, and may replace each other in that
/// time.
const LINGERING_TAINTS: [&str; 2] = [NOT_READY_TAINTS[0], NOT_READY_TAINTS[1]];

/// The annotation of nodes that flannel serves, with any of its backends.
const FLANNEL: &str = "flannel.alpha.coreos.com/backend-type";

/// The label with the host name of a node, which is unique in most clusters
/// (<https://kubernetes.io/docs/reference/labels-annotations-taints/#kubernetesiohostname>).
pub const HOSTNAME: &str = "kubernetes.io/hostname";

/// The data of one node that placing agents needs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NodeInfo {
    /// Its addresses of type `InternalIP`, at most one per family.
    pub internal_ips: Vec<IpAddr>,
    /// The ranges of its pods' addresses.
    pub pod_cidrs: PodCidrs,
    /// The taints that agents tolerate.
    pub taints: Vec<Taint>,
    /// Its label `kubernetes.io/hostname`, which a pod's node selector can name; `None` where it has none.
    pub hostname: Option<String>,
    /// Its architecture, such as `arm64`; empty before its kubelet has reported it.
    pub architecture: String,
}

/// The ranges of the addresses of a node's pods.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PodCidrs {
    /// These prefixes: the network plugin assigns addresses from the node's `podCIDRs`.
    Known(Vec<String>),
    /// Perhaps these, the node's `podCIDRs`: network plugins with their own address pools leave them empty, or ignore them.
    Presumed(Vec<String>),
}

impl Default for PodCidrs {
    fn default() -> Self {
        Self::Presumed(Vec::new())
    }
}

impl NodeInfo {
    /// Reads a Node object.
    pub fn from_node(node: &Node) -> Self {
        let spec = node.spec.clone().unwrap_or_default();
        let has_flannel = node
            .metadata
            .annotations
            .as_ref()
            .is_some_and(|annotations| annotations.contains_key(FLANNEL));
        let cidrs = spec.pod_cidrs.unwrap_or_default();
        let mut taints = spec.taints.unwrap_or_default();
        if NodeSummary::from_node(node).readiness == NodeReadiness::Ready {
            add_lingering_taints(&mut taints);
        } else {
            taints.retain(|taint| !NOT_READY_TAINTS.contains(&taint.key.as_str()));
        }
        Self {
            internal_ips: internal_ips(node),
            pod_cidrs: if has_flannel && !cidrs.is_empty() {
                PodCidrs::Known(cidrs)
            } else {
                PodCidrs::Presumed(cidrs)
            },
            taints,
            hostname: (node.metadata.labels.as_ref())
                .and_then(|labels| labels.get(HOSTNAME).cloned()),
            architecture: (node.status.as_ref())
                .and_then(|status| status.node_info.as_ref())
                .map(|info| info.architecture.clone())
                .unwrap_or_default(),
        }
    }
}

/// Adds the `NoSchedule` taints that a node may still receive after it is Ready. The `NoExecute` taints need none: every pod
/// tolerates them for a time (`DefaultTolerationSeconds`).
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

/// The name of a Node object.
pub fn node_name(node: &Node) -> NodeName {
    NodeName::new(node.metadata.name.clone().unwrap_or_default())
}

/// Reads the Node objects of `placed` nodes. Where two of all `nodes` have the same host name, it assigns no pod to a node, and
/// both are without.
pub fn node_infos(nodes: &[Node], placed: &BTreeSet<NodeName>) -> BTreeMap<NodeName, NodeInfo> {
    let mut infos: BTreeMap<NodeName, NodeInfo> = nodes
        .iter()
        .map(|node| (node_name(node), NodeInfo::from_node(node)))
        .collect();
    let mut counts = BTreeMap::<String, usize>::new();
    for hostname in infos.values().filter_map(|info| info.hostname.clone()) {
        *counts.entry(hostname).or_default() += 1;
    }
    infos.retain(|name, _| placed.contains(name));
    for info in infos.values_mut() {
        let is_unique = |hostname: &String| counts.get(hostname) == Some(&1);
        info.hostname = info.hostname.take().filter(is_unique);
    }
    infos
}

/// The first address of type `InternalIP` of each family.
fn internal_ips(node: &Node) -> Vec<IpAddr> {
    let addresses = node
        .status
        .iter()
        .flat_map(|status| status.addresses.iter().flatten())
        .filter(|address| address.type_ == "InternalIP")
        .filter_map(|address| address.address.parse().ok());
    let mut first: Vec<IpAddr> = Vec::new();
    for address in addresses {
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
    fn agents_tolerate_all_taints_but_those_of_nodes_that_are_down() {
        let info = NodeInfo::from_node(&node(json!({
            "metadata": {"name": "node-1"},
            "spec": {"taints": [
                {"key": "node.kubernetes.io/unreachable", "effect": "NoExecute"},
                {"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"},
                {"key": "dedicated", "value": "gpu", "effect": "NoExecute"}
            ]}
        })));
        let keys: Vec<_> = info.taints.iter().map(|taint| taint.key.as_str()).collect();
        assert_eq!(keys, ["node.kubernetes.io/unschedulable", "dedicated"]);
    }

    #[test]
    fn agents_tolerate_lingering_taints_of_a_ready_node() {
        let info = NodeInfo::from_node(&node(json!({
            "metadata": {"name": "node-1"},
            "spec": {"taints": [{"key": "node.kubernetes.io/unreachable", "effect": "NoSchedule"}]},
            "status": {"conditions": [{"type": "Ready", "status": "True"}]}
        })));
        let mut keys: Vec<_> = info.taints.iter().map(|taint| taint.key.as_str()).collect();
        keys.sort_unstable();
        assert_eq!(
            keys,
            [
                "node.kubernetes.io/not-ready",
                "node.kubernetes.io/unreachable"
            ],
            "the one that may replace it is tolerated as well"
        );
    }

    #[test]
    fn pod_cidrs_are_known_where_the_network_plugin_uses_them() {
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
        assert_eq!(with(flannel, &[]), PodCidrs::default());
        assert_eq!(
            with(json!({}), &["10.244.1.0/24"]),
            PodCidrs::Presumed(vec!["10.244.1.0/24".to_owned()])
        );
    }

    #[test]
    fn a_host_name_that_two_nodes_have_assigns_no_pod() {
        let named = |name: &str, hostname: &str| {
            node(
                json!({"metadata": {"name": name, "labels": {"kubernetes.io/hostname": hostname}}}),
            )
        };
        let nodes = [named("a", "one"), named("b", "two"), named("c", "two")];
        let placed = ["a", "b"].map(NodeName::new).into();
        let infos = node_infos(&nodes, &placed);
        let hostnames: Vec<_> = infos
            .values()
            .map(|info| info.hostname.as_deref())
            .collect();
        assert_eq!(hostnames, [Some("one"), None]);
    }

    #[test]
    fn a_node_has_one_internal_address_of_each_family() {
        let info = NodeInfo::from_node(&node(json!({
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
        assert_eq!(info.internal_ips, expected);
    }
}
