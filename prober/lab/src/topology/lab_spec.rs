//! The size of a lab, its data plane and the mode of its kube-proxy: its nodes, their pods, and the ways between them.

use std::net::IpAddr;

use prober_core::packet::family::Family;

use super::{BRIDGE, MAX_NODES, MAX_SERVERS, Node, Pod, PodRole};
use crate::data_plane::{Attachment, DataPlane, Subnet, Transport};
use crate::kube_proxy::ProxyMode;

/// A name that no node or pod of the lab has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot find {requested:?} in the lab: it has {known}")]
pub struct UnknownName {
    requested: String,
    known: String,
}

/// A number of nodes or servers that a lab cannot have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("cannot create a lab of {requested} {what}: give a number from 1 to {max}")]
pub struct CountError {
    requested: u8,
    what: &'static str,
    max: u8,
}

/// The size of a lab, its data plane, and the mode of its kube-proxy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabSpec {
    nodes: u8,
    servers: u8,
    data_plane: DataPlane,
    proxy_mode: ProxyMode,
}

impl LabSpec {
    /// Describes a lab of `nodes` nodes with flannel's data plane, each with a client pod and `servers` server pods.
    pub fn new(nodes: u8, servers: u8) -> Result<Self, CountError> {
        for (requested, what, max) in [
            (nodes, "nodes", MAX_NODES),
            (servers, "servers a node", MAX_SERVERS),
        ] {
            if requested == 0 || requested > max {
                return Err(CountError {
                    requested,
                    what,
                    max,
                });
            }
        }
        Ok(Self {
            nodes,
            servers,
            data_plane: DataPlane::BridgeVxlan,
            proxy_mode: ProxyMode::Iptables,
        })
    }

    /// Describes the smallest lab with every path of a data plane.
    pub fn smallest(data_plane: DataPlane) -> Self {
        Self {
            nodes: data_plane.default_nodes(),
            servers: 1,
            data_plane,
            proxy_mode: ProxyMode::Iptables,
        }
    }

    /// Returns the same lab with another data plane.
    #[must_use]
    pub fn with_data_plane(self, data_plane: DataPlane) -> Self {
        Self { data_plane, ..self }
    }

    /// Returns the data plane.
    pub fn data_plane(&self) -> DataPlane {
        self.data_plane
    }

    /// Returns the same lab with another mode of kube-proxy.
    #[must_use]
    pub fn with_proxy_mode(self, proxy_mode: ProxyMode) -> Self {
        Self { proxy_mode, ..self }
    }

    /// Returns the mode of kube-proxy.
    pub fn proxy_mode(&self) -> ProxyMode {
        self.proxy_mode
    }

    /// Returns the address of a node's uplink.
    pub fn node_address(&self, node: Node, family: Family) -> IpAddr {
        self.data_plane
            .subnet(node)
            .host(family, 10 + node.number())
    }

    /// Returns every subnet of the nodes' uplinks, in the order of their first nodes.
    pub fn subnets(&self) -> Vec<Subnet> {
        let mut subnets = Vec::new();
        for subnet in self.nodes().map(|node| self.data_plane.subnet(node)) {
            if !subnets.contains(&subnet) {
                subnets.push(subnet);
            }
        }
        subnets
    }

    /// Returns the next hop of a node's packets to another node: that node on the same subnet, its own router otherwise.
    pub fn next_hop(&self, from: Node, to: Node, family: Family) -> IpAddr {
        let subnet = self.data_plane.subnet(from);
        if subnet == self.data_plane.subnet(to) {
            self.node_address(to, family)
        } else {
            subnet.router(family)
        }
    }

    /// Iterates over the nodes that a node reaches by this transport.
    pub fn peers_by(
        &self,
        transport: Transport,
        node: Node,
    ) -> impl Iterator<Item = Node> + Clone + use<> {
        let data_plane = self.data_plane;
        self.peers(node)
            .filter(move |peer| data_plane.transport(node, *peer) == transport)
    }

    /// Whether packets of pods pass between some nodes with the pods' own addresses, outside of any tunnel.
    pub fn has_plain_paths(&self) -> bool {
        self.nodes().any(|node| {
            let by = |transport| self.peers_by(transport, node).next().is_some();
            by(Transport::NodeRoute) || by(Transport::Subnet)
        })
    }

    /// Whether packets of pods pass between some nodes through a tunnel.
    pub fn has_tunnels(&self) -> bool {
        self.nodes()
            .any(|node| self.peers_by(Transport::Vxlan, node).next().is_some())
    }

    /// Returns the interface by which packets of pods reach their node; iptables reads a final `+` as any further letters.
    pub fn pod_interfaces(&self) -> String {
        match self.data_plane.attachment() {
            Attachment::Bridge => BRIDGE.to_owned(),
            Attachment::RoutedVeth(_) | Attachment::Macvlan => {
                format!("{}-+", self.data_plane.pod_interface_prefix())
            }
        }
    }

    /// Returns the name of a pod's interface in its node's namespace.
    pub fn pod_interface(&self, role: PodRole) -> String {
        format!("{}-{}", self.data_plane.pod_interface_prefix(), role.name())
    }

    /// Iterates over the roles of each node's pods.
    pub fn roles(&self) -> impl Iterator<Item = PodRole> + Clone + use<> {
        [PodRole::Client, PodRole::Server]
            .into_iter()
            .chain((2..=self.servers).map(PodRole::ExtraServer))
    }

    /// Iterates over the nodes, `node-1` first.
    pub fn nodes(&self) -> impl Iterator<Item = Node> + Clone + use<> {
        (1..=self.nodes).filter_map(Node::numbered)
    }

    /// Iterates over the nodes other than this one.
    pub fn peers(&self, node: Node) -> impl Iterator<Item = Node> + Clone + use<> {
        self.nodes().filter(move |peer| *peer != node)
    }

    /// Iterates over the pods, in the order of their nodes.
    pub fn pods(&self) -> impl Iterator<Item = Pod> + Clone + use<> {
        let roles = self.roles();
        self.nodes()
            .flat_map(move |node| roles.clone().map(move |role| Pod { node, role }))
    }

    /// Finds a node by its name.
    pub fn node(&self, name: &str) -> Result<Node, UnknownName> {
        self.nodes()
            .find(|node| node.name() == name)
            .ok_or_else(|| self.unknown(name))
    }

    /// Finds a pod by its name.
    pub fn pod(&self, name: &str) -> Result<Pod, UnknownName> {
        self.pods()
            .find(|pod| pod.name() == name)
            .ok_or_else(|| self.unknown(name))
    }

    fn unknown(&self, requested: &str) -> UnknownName {
        UnknownName {
            requested: requested.to_owned(),
            known: format!(
                "node-1 to node-{last}, each with a pod node-N-client and a pod node-N-server",
                last = self.nodes
            ),
        }
    }
}

impl Default for LabSpec {
    /// Two nodes: the smallest lab with a same-node and a cross-node path.
    fn default() -> Self {
        Self::smallest(DataPlane::BridgeVxlan)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_for_an_unknown_node_names_the_known_ones() {
        let spec = LabSpec::default();
        assert!(spec.pod("node-2-server").is_ok());
        let message = spec
            .node("node-3")
            .map(Node::number)
            .map_err(|error| error.to_string());
        assert!(message.is_err_and(|text| text.contains("node-1 to node-2")));
    }

    #[test]
    fn nodes_of_a_fabric_have_a_subnet_and_a_next_hop_each() {
        let spec = LabSpec::smallest(DataPlane::CalicoLike);
        let nodes: Vec<Node> = spec.nodes().collect();
        assert_eq!(spec.subnets().len(), nodes.len());
        let next_hop = |from: usize| spec.next_hop(nodes[from], nodes[1 - from], Family::Ipv4);
        assert_eq!(next_hop(0).to_string(), "172.20.1.1");
        assert_eq!(next_hop(1).to_string(), "172.20.2.1");
        let flat = LabSpec::smallest(DataPlane::RoutedVeth);
        let next_hop = flat.next_hop(nodes[0], nodes[1], Family::Ipv4);
        assert_eq!(next_hop, flat.node_address(nodes[1], Family::Ipv4));
    }

    #[test]
    fn the_size_of_a_lab_is_checked() {
        assert!(LabSpec::new(0, 1).is_err());
        assert!(LabSpec::new(201, 1).is_err());
        assert!(LabSpec::new(1, 17).is_err());
        assert_eq!(LabSpec::new(3, 1).map(|spec| spec.pods().count()), Ok(6));
        assert_eq!(LabSpec::new(3, 4).map(|spec| spec.pods().count()), Ok(15));
    }
}
