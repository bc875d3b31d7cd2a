//! The data planes that a lab can have: how pods are attached to their node, and how packets reach pods of other nodes.
//!
//! A data plane is data: its parts ([`DataPlane::parts`]), the attachment of its pods, the transport between two nodes
//! and the subnets of the nodes. The scripts ([`crate::topology::scripts`]) and the faults ([`crate::fault`]) read them.

use std::fmt;
use std::str::FromStr;

use crate::topology::{Node, SECOND_UPLINK, UPLINK};

/// The subnets of the nodes' uplinks.
mod subnet;

pub use subnet::Subnet;
use subnet::{NODES, NODES_AND_PODS, OTHER_NODES};

macro_rules! data_planes {
    ($($name:ident = $slug:literal, $summary:literal;)*) => {
        /// A data plane of the lab.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum DataPlane { $(#[doc = $summary] $name,)* }

        impl DataPlane {
            /// Every data plane; the first one is the default.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// Returns its name on the command line.
            pub const fn slug(self) -> &'static str {
                match self { $(Self::$name => $slug,)* }
            }

            /// Returns a description in one line.
            pub const fn summary(self) -> &'static str {
                match self { $(Self::$name => $summary,)* }
            }
        }
    };
}

data_planes! {
    BridgeVxlan = "bridge-vxlan",
        "pods on a bridge, VXLAN between the nodes, as flannel makes them";
    BridgeHostGw = "bridge-host-gw",
        "pods on a bridge, plain routes between the nodes, and a VXLAN link that no route uses";
    RoutedVeth = "routed-veth",
        "a route to each pod's veth as the ptp plugin makes it, plain routes between the nodes, and docker0 beside";
    CalicoLike = "calico-like",
        "a route to each pod's veth, a gateway answered by proxy ARP, routes of BIRD through top-of-rack routers and a spine, and docker0 beside";
    VpcCniLike = "vpc-cni-like",
        "pods with addresses of the nodes' subnet, and policy routes through a second interface";
    Macvlan = "macvlan",
        "pods with a macvlan device on the nodes' subnet, and a veth to the node for Services";
    CrossSubnet = "cross-subnet",
        "pods on a bridge, plain routes within each of two subnets, VXLAN between them, and a router";
}

/// How a pod is attached to its node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attachment {
    /// By a veth that is a port of the node's bridge.
    Bridge,
    /// By a veth to which a host route leads.
    RoutedVeth(PodGateway),
    /// By a macvlan device on the node's uplink, and a veth for Services alone.
    Macvlan,
}

/// The gateway of a pod on a routed veth, and the way in which the pod learns its MAC address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PodGateway {
    /// An address of the node on every pod's veth.
    NodeAddress,
    /// A link-local address: the node answers ARP for any address, and NDP for the veth's own.
    ProxyArp,
    /// A link-local address with a permanent neighbour entry in the pod.
    StaticNeighbour,
}

/// How packets of one node's pods reach the pods of another node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// Encapsulated, through a VXLAN link.
    Vxlan,
    /// By a route whose next hop is the other node's address, or the router that leads there.
    NodeRoute,
    /// Without a route of their own: pods have addresses of the nodes' subnet.
    Subnet,
}

/// The network between the nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Underlay {
    /// One subnet, and no router.
    Switch,
    /// A router between the subnets of the nodes, which knows no pods.
    Router,
    /// A subnet and a top-of-rack router for each node, and a spine between them; each router knows the pods.
    Fabric,
}

/// A part of which a data plane consists, on every node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// A bridge, to which pods are attached.
    Bridge,
    /// Veths with a host route each.
    RoutedVeths(PodGateway),
    /// Pods on the uplink, with a veth each for Services.
    Macvlan,
    /// The VXLAN links of both families, with neighbours and routes for the nodes that are reached through them.
    Vxlan,
    /// Routes to pods by the other nodes' addresses, or by the router that leads there.
    NodeRoutes,
    /// A route of type blackhole for the addresses of the node's pods that no pod has.
    OwnBlock,
    /// A second interface, the policy routes that lead pods' packets through it, and a subnet that knows every address.
    SecondInterface,
    /// Docker's bridge with a container on it, which no probe uses.
    Docker,
}

/// The program that forwards pods' packets in the firewall of a node, beside kube-proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cni {
    /// flanneld.
    Flannel,
    /// Calico's Felix.
    Calico,
    /// The AWS VPC CNI.
    Vpc,
    /// None.
    Bare,
}

impl DataPlane {
    /// Returns the attachment of its pods.
    pub const fn attachment(self) -> Attachment {
        match self {
            Self::BridgeVxlan | Self::BridgeHostGw | Self::CrossSubnet => Attachment::Bridge,
            Self::RoutedVeth => Attachment::RoutedVeth(PodGateway::NodeAddress),
            Self::CalicoLike => Attachment::RoutedVeth(PodGateway::ProxyArp),
            Self::VpcCniLike => Attachment::RoutedVeth(PodGateway::StaticNeighbour),
            Self::Macvlan => Attachment::Macvlan,
        }
    }

    /// Returns its parts on a node, in the order in which they are created.
    pub const fn parts(self) -> &'static [Part] {
        match self {
            Self::BridgeVxlan => &[Part::Bridge, Part::Vxlan],
            // No peer is reached through the VXLAN links of a lab with host-gw: they are left over.
            Self::BridgeHostGw | Self::CrossSubnet => {
                &[Part::Bridge, Part::Vxlan, Part::NodeRoutes]
            }
            Self::RoutedVeth => &[
                Part::RoutedVeths(PodGateway::NodeAddress),
                Part::NodeRoutes,
                Part::Docker,
            ],
            Self::CalicoLike => &[
                Part::RoutedVeths(PodGateway::ProxyArp),
                Part::NodeRoutes,
                Part::OwnBlock,
                Part::Docker,
            ],
            Self::VpcCniLike => &[
                Part::RoutedVeths(PodGateway::StaticNeighbour),
                Part::SecondInterface,
            ],
            Self::Macvlan => &[Part::Macvlan],
        }
    }

    /// Returns the transport from one node's pods to those of another.
    pub fn transport(self, from: Node, to: Node) -> Transport {
        match self {
            Self::CrossSubnet if self.subnet(from) == self.subnet(to) => Transport::NodeRoute,
            Self::BridgeVxlan | Self::CrossSubnet => Transport::Vxlan,
            Self::BridgeHostGw | Self::RoutedVeth | Self::CalicoLike => Transport::NodeRoute,
            Self::VpcCniLike | Self::Macvlan => Transport::Subnet,
        }
    }

    /// Returns the subnet of a node's uplink.
    pub fn subnet(self, node: Node) -> Subnet {
        match self {
            Self::CrossSubnet if node.number().is_multiple_of(3) => OTHER_NODES,
            Self::CalicoLike => Subnet::of_rack(node),
            Self::BridgeVxlan | Self::BridgeHostGw | Self::RoutedVeth | Self::CrossSubnet => NODES,
            Self::VpcCniLike | Self::Macvlan => NODES_AND_PODS,
        }
    }

    /// Returns the network between the nodes.
    pub const fn underlay(self) -> Underlay {
        match self {
            Self::BridgeVxlan
            | Self::BridgeHostGw
            | Self::RoutedVeth
            | Self::VpcCniLike
            | Self::Macvlan => Underlay::Switch,
            Self::CrossSubnet => Underlay::Router,
            Self::CalicoLike => Underlay::Fabric,
        }
    }

    /// Returns the fewest nodes of a lab that has every path of the data plane.
    pub const fn default_nodes(self) -> u8 {
        match self {
            Self::BridgeVxlan
            | Self::BridgeHostGw
            | Self::RoutedVeth
            | Self::CalicoLike
            | Self::VpcCniLike
            | Self::Macvlan => 2,
            // Two nodes of one subnet, and one of the other.
            Self::CrossSubnet => 3,
        }
    }

    /// Returns the MTU of pods, in bytes: 1500, less the 50 bytes of VXLAN's headers where a path has them.
    pub const fn pod_mtu(self) -> u16 {
        match self {
            Self::BridgeVxlan | Self::CrossSubnet => 1450,
            Self::BridgeHostGw
            | Self::RoutedVeth
            | Self::CalicoLike
            | Self::VpcCniLike
            | Self::Macvlan => 1500,
        }
    }

    /// Returns the interface of a node by which pods' packets leave outside of a tunnel.
    pub fn pod_uplink(self) -> &'static str {
        self.uplinks().last().copied().unwrap_or(UPLINK)
    }

    /// Returns the interfaces of a node on the underlay.
    pub const fn uplinks(self) -> &'static [&'static str] {
        match self {
            Self::BridgeVxlan
            | Self::BridgeHostGw
            | Self::RoutedVeth
            | Self::CalicoLike
            | Self::Macvlan
            | Self::CrossSubnet => &[UPLINK],
            Self::VpcCniLike => &[UPLINK, SECOND_UPLINK],
        }
    }

    /// Returns the first letters of the names of the pods' interfaces on a node.
    pub const fn pod_interface_prefix(self) -> &'static str {
        match self {
            Self::BridgeVxlan
            | Self::BridgeHostGw
            | Self::RoutedVeth
            | Self::Macvlan
            | Self::CrossSubnet => "veth",
            Self::CalicoLike => "cali",
            Self::VpcCniLike => "eni",
        }
    }

    /// Returns the protocol of the routes to other nodes' pods, if it is not that of `ip route`.
    pub const fn route_protocol(self) -> Option<&'static str> {
        match self {
            Self::CalicoLike => Some("bird"),
            Self::BridgeVxlan
            | Self::BridgeHostGw
            | Self::RoutedVeth
            | Self::VpcCniLike
            | Self::Macvlan
            | Self::CrossSubnet => None,
        }
    }

    /// Returns the program whose rules are in the nodes' firewalls.
    pub const fn cni(self) -> Cni {
        match self {
            Self::BridgeVxlan | Self::BridgeHostGw | Self::RoutedVeth | Self::CrossSubnet => {
                Cni::Flannel
            }
            Self::CalicoLike => Cni::Calico,
            Self::VpcCniLike => Cni::Vpc,
            Self::Macvlan => Cni::Bare,
        }
    }
}

impl fmt::Display for DataPlane {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.pad(self.slug())
    }
}

/// A text that is not the name of a data plane.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no data plane '{requested}'; give one of {known}")]
pub struct UnknownDataPlane {
    requested: String,
    known: String,
}

impl FromStr for DataPlane {
    type Err = UnknownDataPlane;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut all = Self::ALL.iter().copied();
        all.find(|plane| plane.slug().eq_ignore_ascii_case(text))
            .ok_or_else(|| UnknownDataPlane {
                requested: text.to_owned(),
                known: Self::ALL
                    .iter()
                    .map(|plane| plane.slug())
                    .collect::<Vec<_>>()
                    .join(", "),
            })
    }
}

#[cfg(test)]
mod tests {
    use prober_core::packet::family::Family;

    use super::*;
    use crate::topology::LabSpec;

    #[test]
    fn every_data_plane_is_parsed_from_its_name() {
        for data_plane in DataPlane::ALL {
            assert_eq!(data_plane.slug().parse(), Ok(*data_plane));
        }
        let error = "ovs"
            .parse::<DataPlane>()
            .map_err(|error| error.to_string());
        assert!(error.is_err_and(|text| text.contains("ovs") && text.contains("macvlan")));
    }

    #[test]
    fn nodes_of_one_subnet_need_no_tunnel_across_subnets() {
        let spec = LabSpec::smallest(DataPlane::CrossSubnet);
        let nodes: Vec<Node> = spec.nodes().collect();
        let by = |from: usize, to: usize| DataPlane::CrossSubnet.transport(nodes[from], nodes[to]);
        assert_eq!(by(0, 1), Transport::NodeRoute);
        assert_eq!(by(1, 2), Transport::Vxlan);
        assert_eq!(
            spec.node_address(nodes[2], Family::Ipv6).to_string(),
            "fd00:172:0:1::d"
        );
    }
}
