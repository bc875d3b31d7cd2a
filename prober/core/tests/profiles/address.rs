//! The names and addresses of nodes and pods.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ipnet::IpNet;
use prober_core::packet::family::Family;
use prober_core::packet::mac::Mac;
use prober_core::topology::{AgentId, NodeName};

use super::profile::{Attachment, GatewayMac, Profile, Transport, Transports, subnet};

/// The port of every responder.
pub(crate) const RESPONDER: u16 = 8080;
/// The other port of every responder.
pub(crate) const OTHER_RESPONDER: u16 = 8081;

/// The part of an agent in a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Role {
    Client,
    Server,
    /// In the node's own network.
    Host,
}

/// An agent, by its node's number and its role.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Agent {
    pub(crate) node: u8,
    pub(crate) role: Role,
}

pub(crate) const fn client(node: u8) -> Agent {
    Agent {
        node,
        role: Role::Client,
    }
}

pub(crate) const fn server(node: u8) -> Agent {
    Agent {
        node,
        role: Role::Server,
    }
}

pub(crate) const fn host(node: u8) -> Agent {
    Agent {
        node,
        role: Role::Host,
    }
}

pub(crate) fn node_name(node: u8) -> NodeName {
    NodeName::new(format!("node-{node}"))
}

impl Agent {
    /// Its name in the matrix.
    pub(crate) fn id(self) -> AgentId {
        let role = match self.role {
            Role::Client => "client",
            Role::Server => "server",
            Role::Host => "host",
        };
        AgentId::new(
            format!("node-{}", self.node),
            format!("node-{}-{role}", self.node),
        )
    }

    pub(crate) fn ip(self, profile: &Profile, family: Family) -> IpAddr {
        match self.role {
            Role::Client => in_range(self.node, 10, family),
            Role::Server => in_range(self.node, 20, family),
            Role::Host => node_ip(profile, self.node, family),
        }
    }

    pub(crate) const fn mac(self) -> Mac {
        match self.role {
            Role::Client => Mac([0x0a, 0x58, 0, 0, self.node, 10]),
            Role::Server => Mac([0x0a, 0x58, 0, 0, self.node, 20]),
            Role::Host => uplink_mac(self.node),
        }
    }
}

/// An address of the range of a node's pods.
pub(crate) fn in_range(node: u8, last: u8, family: Family) -> IpAddr {
    match family {
        Family::Ipv4 => Ipv4Addr::new(10, 244, node, last).into(),
        Family::Ipv6 => Ipv6Addr::new(0xfd00, 0x244, node.into(), 0, 0, 0, 0, last.into()).into(),
    }
}

/// The range of a node's pods.
pub(crate) fn range(node: u8, family: Family) -> String {
    let length = match family {
        Family::Ipv4 => 24,
        Family::Ipv6 => 64,
    };
    format!("{}/{length}", in_range(node, 0, family))
}

/// An address of a node's range that no pod has.
pub(crate) fn unused_ip(node: u8, family: Family) -> IpAddr {
    in_range(node, 99, family)
}

/// The number of the segment of a node's uplink: the node's own in a routed fabric.
const fn segment_number(profile: &Profile, node: u8) -> u8 {
    match profile.transports {
        Transports::CrossSubnet { .. } => subnet(node),
        Transports::Same(Transport::Fabric) => node,
        Transports::Same(Transport::Vxlan { .. } | Transport::Direct) => 0,
    }
}

/// An address of the segment of a node's uplink.
fn on_segment(profile: &Profile, node: u8, last: u8, family: Family) -> IpAddr {
    let number = segment_number(profile, node);
    match family {
        Family::Ipv4 => Ipv4Addr::new(172, 20, number, last).into(),
        Family::Ipv6 => Ipv6Addr::new(0xfd00, 0x172, number.into(), 0, 0, 0, 0, last.into()).into(),
    }
}

/// The address of a node's uplink.
pub(crate) fn node_ip(profile: &Profile, node: u8, family: Family) -> IpAddr {
    on_segment(profile, node, 10 + node, family)
}

/// The segment of a node's uplink.
pub(crate) fn segment(profile: &Profile, node: u8, family: Family) -> String {
    let length = match family {
        Family::Ipv4 => 24,
        Family::Ipv6 => 64,
    };
    let own = node_ip(profile, node, family);
    IpNet::new(own, length).unwrap().trunc().to_string()
}

/// The address of the router of a node's segment: the default gateway, and the top-of-rack router of a fabric.
pub(crate) fn router_ip(profile: &Profile, node: u8, family: Family) -> IpAddr {
    on_segment(profile, node, 1, family)
}

/// The address of a node that its pods see as the source of its own packets.
pub(crate) fn gateway_ip(profile: &Profile, node: u8, family: Family) -> IpAddr {
    match profile.attachment {
        Attachment::Bridge { .. } | Attachment::OwnLayer2 => in_range(node, 1, family),
        Attachment::RoutedVeth { gateway, .. } => match gateway {
            GatewayMac::AllEe => node_ip(profile, node, family),
            GatewayMac::Veth => in_range(node, 1, family),
        },
    }
}

/// The address of a node's end of the tunnel.
pub(crate) fn tunnel_ip(node: u8, family: Family) -> IpAddr {
    in_range(node, 0, family)
}

/// The address that all Services of a run have, with ports of their own.
pub(crate) fn service_ip(family: Family) -> IpAddr {
    match family {
        Family::Ipv4 => Ipv4Addr::new(10, 96, 30, 133).into(),
        Family::Ipv6 => Ipv6Addr::new(0xfd00, 0x96, 0, 0, 0, 0, 0, 0x133).into(),
    }
}

/// A port of the test Service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ServicePort {
    /// Pinned to the server of this node.
    Slot(u8),
    /// Balanced over all servers.
    Any,
    /// Keeps to the client's node.
    Local,
}

impl ServicePort {
    pub(crate) fn address(self, family: Family) -> SocketAddr {
        let port = match self {
            Self::Slot(node) => 8100 + u16::from(node),
            Self::Any => 80,
            Self::Local => 9000,
        };
        SocketAddr::new(service_ip(family), port)
    }

    /// The port of the Service at this address, if it is the Service's.
    pub(crate) fn at(address: SocketAddr) -> Option<Self> {
        if address.ip() != service_ip(Family::of(address.ip())) {
            return None;
        }
        match address.port() {
            80 => Some(Self::Any),
            9000 => Some(Self::Local),
            port => Some(Self::Slot(u8::try_from(port - 8100).unwrap())),
        }
    }
}

pub(crate) const fn uplink_mac(node: u8) -> Mac {
    Mac([0x52, 0x54, 0, 0, 0, node])
}

/// The address of a node's bridge, or of its own device on the pods' segment.
pub(crate) const fn bridge_mac(node: u8) -> Mac {
    Mac([0x0a, 0x58, 0, 0, node, 1])
}

pub(crate) const fn tunnel_mac(node: u8) -> Mac {
    Mac([0x0e, 0, 0, 0, 0, node])
}

/// The address of the node's end of a pod's veth.
pub(crate) const fn veth_mac(pod: Agent) -> Mac {
    let last = match pod.role {
        Role::Client => 10,
        Role::Server => 20,
        Role::Host => 0,
    };
    Mac([0x02, 0x02, 0, 0, pod.node, last])
}

/// The Ethernet address of a pod's gateway.
pub(crate) const fn gateway_mac(profile: &Profile, pod: Agent) -> Mac {
    match profile.attachment {
        Attachment::Bridge { .. } | Attachment::OwnLayer2 => bridge_mac(pod.node),
        Attachment::RoutedVeth { gateway, .. } => match gateway {
            GatewayMac::AllEe => Mac([0xee; 6]),
            GatewayMac::Veth => veth_mac(pod),
        },
    }
}
