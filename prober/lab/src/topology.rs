//! The nodes and pods of a lab, and their addresses, as data.
//!
//! Addresses are assigned as flannel does: node *i* has 100.96.*i*.0/24 and fd00:96:*i*::/64, its bridge is
//! `.1`, its client pod `.10` and its server pod `.20`, on every data plane. A MAC address identifies its interface: pods
//! have `0a:58:64:60:<node>:<host>`, uplinks `52:54:00:00:00:<node>`, tunnel devices `0e:00:00:00:<00|06>:<node>`.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU8;
use std::str::FromStr;

use prober_core::packet::family::Family;
use prober_core::packet::mac::Mac;

/// The size of a lab, its data plane, and the mode of its kube-proxy.
mod lab_spec;
/// The shell scripts that create and configure the topology.
pub mod scripts;

pub use lab_spec::{CountError, LabSpec, UnknownName};

/// The largest number of nodes: the last byte of an underlay address is 10 + the node's number.
pub const MAX_NODES: u8 = 200;

/// The largest number of servers on one node.
pub const MAX_SERVERS: u8 = 16;

/// Returns the prefix of all pods of a family: the cluster CIDR of flannel and others.
pub fn pods_cidr(family: Family) -> &'static str {
    match family {
        Family::Ipv4 => "100.96.0.0/11",
        Family::Ipv6 => "fd00:96::/32",
    }
}

/// The node's bridge, which connects its pods.
pub const BRIDGE: &str = "cni0";
/// The node's interface on the underlay.
pub const UPLINK: &str = "eth0";
/// The node's second interface on the underlay, where pods have addresses of the nodes' subnet.
pub const SECOND_UPLINK: &str = "eth1";
/// The VXLAN device for IPv4 pods (RFC 7348, configured as flannel does).
pub const TUNNEL_V4: &str = "flannel.1";
/// The VXLAN device for IPv6 pods, over an IPv6 underlay.
pub const TUNNEL_V6: &str = "flannel-v6.1";

/// A node of the lab, by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Node(NonZeroU8);

/// A text that is not the name of a node: `node-` and a number.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot parse {0:?} as a node of the lab: give node-1, node-2 and so on")]
pub struct NodeNameError(String);

impl Node {
    /// `node-1`, on which most faults are injected by default.
    pub const FIRST: Self = Self(NonZeroU8::MIN);

    /// Returns the node of this number; there is no node 0.
    pub(super) fn numbered(number: u8) -> Option<Self> {
        NonZeroU8::new(number).map(Self)
    }

    /// Returns the node's name, which is also the name of its network namespace.
    pub fn name(self) -> String {
        format!("node-{}", self.0)
    }

    /// Returns the node's number, 1 for the first.
    pub fn number(self) -> u8 {
        self.0.get()
    }

    /// Returns the next node of the lab; after the last one, the first.
    #[must_use]
    pub fn next_in(self, spec: &LabSpec) -> Self {
        spec.nodes()
            .find(|node| *node > self)
            .unwrap_or(Self::FIRST)
    }

    /// Returns the prefix of the node's pods, without its length.
    pub fn pod_network(self, family: Family) -> IpAddr {
        self.host(family, 0, 0)
    }

    /// Returns the prefix of the node's pods in CIDR notation.
    pub fn pod_cidr(self, family: Family) -> String {
        let length = match family {
            Family::Ipv4 => 24,
            Family::Ipv6 => 64,
        };
        format!("{}/{length}", self.pod_network(family))
    }

    /// Returns the bridge's address, the pods' gateway; that of every pod's veth where the gateway is a node address.
    pub fn gateway(self, family: Family) -> IpAddr {
        self.host(family, 1, 1)
    }

    /// Returns an address of the node's pod network that no pod has.
    pub fn unused_address(self, family: Family) -> IpAddr {
        self.host(family, 99, 0x99)
    }

    /// Returns the MAC address of the uplink.
    pub fn uplink_mac(self) -> Mac {
        Mac([0x52, 0x54, 0, 0, 0, self.number()])
    }

    /// Returns the MAC address of the second uplink.
    pub fn second_uplink_mac(self) -> Mac {
        Mac([0x52, 0x54, 0, 0, 1, self.number()])
    }

    /// Returns the MAC address of the bridge.
    pub fn bridge_mac(self) -> Mac {
        self.pod_mac(1)
    }

    /// Returns the MAC address of the node's tunnel device for a family.
    pub fn tunnel_mac(self, family: Family) -> Mac {
        let kind = match family {
            Family::Ipv4 => 0,
            Family::Ipv6 => 6,
        };
        Mac([0x0e, 0, 0, 0, kind, self.number()])
    }

    fn host(self, family: Family, v4: u8, v6: u16) -> IpAddr {
        match family {
            Family::Ipv4 => Ipv4Addr::new(100, 96, self.number(), v4).into(),
            Family::Ipv6 => {
                Ipv6Addr::new(0xfd00, 0x96, self.number().into(), 0, 0, 0, 0, v6).into()
            }
        }
    }

    fn pod_mac(self, host: u8) -> Mac {
        Mac([0x0a, 0x58, 100, 96, self.number(), host])
    }
}

impl fmt::Display for Node {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "node-{}", self.0)
    }
}

impl FromStr for Node {
    type Err = NodeNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.to_ascii_lowercase()
            .strip_prefix("node-")
            .and_then(|number| number.parse().ok())
            .filter(|number: &NonZeroU8| number.get() <= MAX_NODES)
            .map(Self)
            .ok_or_else(|| NodeNameError(text.to_owned()))
    }
}

/// The role of a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum PodRole {
    /// Sends probes; not an endpoint of any Service.
    Client,
    /// Answers probes; an endpoint of the test Services. Faults of a server are injected into this one.
    Server,
    /// Answers probes, too: the server of this number on its node, from 2 on.
    ExtraServer(u8),
}

impl PodRole {
    fn name(self) -> String {
        match self {
            Self::Client => "client".to_owned(),
            Self::Server => "server".to_owned(),
            Self::ExtraServer(number) => format!("server-{number}"),
        }
    }

    /// Returns the last byte of the pod's IPv4 and MAC addresses.
    pub fn host_number(self) -> u8 {
        match self {
            Self::Client => 10,
            Self::Server => 20,
            Self::ExtraServer(number) => 19 + number,
        }
    }
}

/// A pod of the lab.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pod {
    /// Its node.
    pub node: Node,
    /// What it is there for.
    pub role: PodRole,
}

impl Pod {
    /// Returns the pod's name, which is also the name of its network namespace: `node-1-client`.
    pub fn name(self) -> String {
        format!("{}-{}", self.node, self.role.name())
    }

    /// Returns the pod's address of a family.
    pub fn address(self, family: Family) -> IpAddr {
        let v6 = match self.role {
            PodRole::Client => 0x10,
            PodRole::Server => 0x20,
            PodRole::ExtraServer(number) => 0x1f + u16::from(number),
        };
        self.node.host(family, self.role.host_number(), v6)
    }

    /// Returns the pod's MAC address.
    pub fn mac(self) -> Mac {
        self.node.pod_mac(self.role.host_number())
    }

    /// Returns the MAC address of the node's end of the pod's veth, where the pod must know it.
    pub fn node_end_mac(self) -> Mac {
        Mac([
            0x0a,
            0x58,
            0xfe,
            0,
            self.node.number(),
            self.role.host_number(),
        ])
    }

    /// Returns the MAC address of the pod's end of its veth for Services, where it has one beside its own interface.
    pub fn service_mac(self) -> Mac {
        Mac([
            0x0a,
            0x58,
            0xff,
            0,
            self.node.number(),
            self.role.host_number(),
        ])
    }
}

impl fmt::Display for Pod {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}-{}", self.node, self.role.name())
    }
}

/// Returns the first server pod of a node.
pub fn server(node: Node) -> Pod {
    Pod {
        node,
        role: PodRole::Server,
    }
}

/// Returns the client pod of a node.
pub fn client(node: Node) -> Pod {
    Pod {
        node,
        role: PodRole::Client,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_node_has_the_documented_addresses() {
        let node = Node::FIRST;
        let spec = LabSpec::default();
        assert_eq!(
            spec.node_address(node, Family::Ipv4).to_string(),
            "172.20.0.11"
        );
        assert_eq!(
            client(node).address(Family::Ipv4).to_string(),
            "100.96.1.10"
        );
        assert_eq!(
            client(node).address(Family::Ipv6).to_string(),
            "fd00:96:1::10"
        );
        assert_eq!(
            server(node).address(Family::Ipv6).to_string(),
            "fd00:96:1::20"
        );
        assert_eq!(server(node).mac().to_string(), "0a:58:64:60:01:14");
        assert_eq!(node.pod_cidr(Family::Ipv6), "fd00:96:1::/64");
    }

    #[test]
    fn a_node_is_parsed_from_its_name_and_other_names_are_rejected() {
        assert_eq!("node-2".parse::<Node>().map(Node::number), Ok(2));
        for text in [
            "",
            "node-",
            "node-0",
            "node-201",
            "node-256",
            "node1",
            "node-1-client",
        ] {
            assert!(text.parse::<Node>().is_err(), "{text}");
        }
    }
}
