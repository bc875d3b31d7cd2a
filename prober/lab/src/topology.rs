//! What the lab is made of: nodes, pods and their addresses, as plain data.
//!
//! Addresses follow flannel's habit: node *i* owns 100.96.*i*.0/24 and fd00:96:*i*::/64, its bridge is
//! `.1`, its client pod `.10` and its server pod `.20`. Hardware addresses tell who is who: pods
//! `0a:58:64:60:<node>:<host>`, uplinks `52:54:00:00:00:<node>`, tunnel ends `0e:00:00:00:<00|06>:<node>`.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU8;
use std::str::FromStr;

use prober_core::packet::family::Family;
use prober_core::packet::mac::Mac;

/// The shell text that makes the topology real.
pub mod script;

/// The largest number of nodes: the underlay's last byte is 10 + the node's number.
pub const NODES_MAX: u8 = 200;

/// The largest number of servers on one node.
pub const SERVERS_MAX: u8 = 16;

/// All pods of the cluster, IPv4: what kube-proxy and flannel call the cluster CIDR.
pub const CLUSTER_CIDR_V4: &str = "100.96.0.0/11";
/// All pods of the cluster, IPv6.
pub const CLUSTER_CIDR_V6: &str = "fd00:96::/32";
/// The nodes' own addresses.
pub fn underlay_cidr(family: Family) -> &'static str {
    match family {
        Family::Ipv4 => "172.20.0.0/24",
        Family::Ipv6 => "fd00:172::/64",
    }
}

/// The node's bridge, on which its pods' interfaces are ports.
pub const BRIDGE: &str = "cni0";
/// The node's interface on the underlay.
pub const UPLINK: &str = "eth0";
/// The tunnel for IPv4 pods (RFC 7348, as flannel makes it).
pub const TUNNEL_V4: &str = "flannel.1";
/// The tunnel for IPv6 pods, over an IPv6 underlay.
pub const TUNNEL_V6: &str = "flannel-v6.1";
/// The largest packet of a pod: 1500 less the 50 bytes that vxlan takes.
pub const POD_MTU: u16 = 1450;

/// A text that names no node or pod of the lab.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot find {asked:?} in the lab: it has {known}")]
pub struct UnknownPlace {
    asked: String,
    known: String,
}

/// A number of nodes or servers that the lab cannot make.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("cannot make a lab of {asked} {what}: ask for 1 to {most}")]
pub struct CountError {
    asked: u8,
    what: &'static str,
    most: u8,
}

/// What a lab is to be made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabSpec {
    nodes: u8,
    servers: u8,
}

impl LabSpec {
    /// A lab of so many nodes, each with a client pod and so many server pods.
    pub fn new(nodes: u8, servers: u8) -> Result<Self, CountError> {
        for (asked, what, most) in [
            (nodes, "nodes", NODES_MAX),
            (servers, "servers a node", SERVERS_MAX),
        ] {
            if asked == 0 || asked > most {
                return Err(CountError { asked, what, most });
            }
        }
        Ok(Self { nodes, servers })
    }

    /// What each node has a pod for.
    pub fn roles(&self) -> impl Iterator<Item = Role> + Clone + use<> {
        [Role::Client, Role::Server]
            .into_iter()
            .chain((2..=self.servers).map(Role::Further))
    }

    /// The nodes, `node-1` first.
    pub fn nodes(&self) -> impl Iterator<Item = Node> + Clone + use<> {
        (1..=self.nodes).filter_map(NonZeroU8::new).map(Node)
    }

    /// The nodes other than this one.
    pub fn peers(&self, node: Node) -> impl Iterator<Item = Node> + Clone + use<> {
        self.nodes().filter(move |peer| *peer != node)
    }

    /// The pods, in the order of their nodes.
    pub fn pods(&self) -> impl Iterator<Item = Pod> + Clone + use<> {
        let roles = self.roles();
        self.nodes()
            .flat_map(move |node| roles.clone().map(move |role| Pod { node, role }))
    }

    /// Finds a node by its name.
    pub fn node(&self, name: &str) -> Result<Node, UnknownPlace> {
        self.nodes()
            .find(|node| node.name() == name)
            .ok_or_else(|| self.unknown(name))
    }

    /// Finds a pod by its name.
    pub fn pod(&self, name: &str) -> Result<Pod, UnknownPlace> {
        self.pods()
            .find(|pod| pod.name() == name)
            .ok_or_else(|| self.unknown(name))
    }

    fn unknown(&self, asked: &str) -> UnknownPlace {
        UnknownPlace {
            asked: asked.to_owned(),
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
        Self {
            nodes: 2,
            servers: 1,
        }
    }
}

/// A node of the lab, by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Node(NonZeroU8);

/// A text that is not `node-` and a number.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot read {0:?} as a node of the lab: write node-1, node-2 and so on")]
pub struct NodeNameError(String);

impl Node {
    /// `node-1`, where the founding fault lives by default.
    pub const FIRST: Self = Self(NonZeroU8::MIN);

    /// The node's name, which is its namespace's name too.
    pub fn name(self) -> String {
        format!("node-{}", self.0)
    }

    /// The node's number, 1 for the first.
    pub fn number(self) -> u8 {
        self.0.get()
    }

    /// The node that follows among so many, the first after the last.
    #[must_use]
    pub fn next_of(self, spec: &LabSpec) -> Self {
        spec.nodes()
            .find(|node| *node > self)
            .unwrap_or(Self::FIRST)
    }

    /// The address of the uplink.
    pub fn underlay(self, family: Family) -> IpAddr {
        let host = 10 + self.number();
        match family {
            Family::Ipv4 => Ipv4Addr::new(172, 20, 0, host).into(),
            Family::Ipv6 => Ipv6Addr::new(0xfd00, 0x172, 0, 0, 0, 0, 0, host.into()).into(),
        }
    }

    /// The prefix that the node's pods live in, without its length.
    pub fn pod_network(self, family: Family) -> IpAddr {
        self.host(family, 0, 0)
    }

    /// The prefix that the node's pods live in, as `ip route` takes it.
    pub fn pod_cidr(self, family: Family) -> String {
        let length = match family {
            Family::Ipv4 => 24,
            Family::Ipv6 => 64,
        };
        format!("{}/{length}", self.pod_network(family))
    }

    /// The bridge's address: the pods' gateway.
    pub fn gateway(self, family: Family) -> IpAddr {
        self.host(family, 1, 1)
    }

    /// An address of the node's pod network that no pod has.
    pub fn vacant(self, family: Family) -> IpAddr {
        self.host(family, 99, 0x99)
    }

    /// The hardware address of the uplink.
    pub fn uplink_mac(self) -> Mac {
        Mac([0x52, 0x54, 0, 0, 0, self.number()])
    }

    /// The hardware address of the bridge.
    pub fn bridge_mac(self) -> Mac {
        self.pod_mac(1)
    }

    /// The hardware address of the tunnel's end on this node.
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
        text.strip_prefix("node-")
            .and_then(|number| number.parse().ok())
            .filter(|number: &NonZeroU8| number.get() <= NODES_MAX)
            .map(Self)
            .ok_or_else(|| NodeNameError(text.to_owned()))
    }
}

/// What a pod is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Sends probes; no Service leads to it.
    Client,
    /// Answers probes; a backend of the test Services. Faults of a server are this one's.
    Server,
    /// Answers probes as well: the second server, or a further one.
    Further(u8),
}

impl Role {
    fn word(self) -> String {
        match self {
            Self::Client => "client".to_owned(),
            Self::Server => "server".to_owned(),
            Self::Further(number) => format!("server-{number}"),
        }
    }

    /// The name of the pod's port on the bridge, in the node.
    pub fn port(self) -> String {
        format!("veth-{}", self.word())
    }

    /// The last byte of the pod's IPv4 and hardware addresses.
    pub fn host(self) -> u8 {
        match self {
            Self::Client => 10,
            Self::Server => 20,
            Self::Further(number) => 19 + number,
        }
    }
}

/// A pod of the lab.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pod {
    /// Where it runs.
    pub node: Node,
    /// What it is there for.
    pub role: Role,
}

impl Pod {
    /// The pod's name, which is its namespace's name too: `node-1-client`.
    pub fn name(self) -> String {
        format!("{}-{}", self.node, self.role.word())
    }

    /// The pod's address.
    pub fn address(self, family: Family) -> IpAddr {
        let v6 = match self.role {
            Role::Client => 0x10,
            Role::Server => 0x20,
            Role::Further(number) => 0x1f + u16::from(number),
        };
        self.node.host(family, self.role.host(), v6)
    }

    /// The pod's hardware address.
    pub fn mac(self) -> Mac {
        self.node.pod_mac(self.role.host())
    }
}

impl fmt::Display for Pod {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}-{}", self.node, self.role.word())
    }
}

/// The server pod of a node.
pub fn server(node: Node) -> Pod {
    Pod {
        node,
        role: Role::Server,
    }
}

/// The client pod of a node.
pub fn client(node: Node) -> Pod {
    Pod {
        node,
        role: Role::Client,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_node_has_the_documented_addresses() {
        let node = Node::FIRST;
        assert_eq!(node.underlay(Family::Ipv4).to_string(), "172.20.0.11");
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
    fn a_node_is_read_back_from_its_name_and_other_names_are_refused() {
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

    #[test]
    fn a_place_that_is_not_there_is_answered_with_those_that_are() {
        let spec = LabSpec::default();
        assert!(spec.pod("node-2-server").is_ok());
        let message = spec
            .node("node-3")
            .map(Node::number)
            .map_err(|error| error.to_string());
        assert!(message.is_err_and(|text| text.contains("node-1 to node-2")));
    }

    #[test]
    fn a_lab_has_at_least_one_node() {
        assert!(LabSpec::new(0, 1).is_err());
        assert!(LabSpec::new(201, 1).is_err());
        assert!(LabSpec::new(1, 17).is_err());
        assert_eq!(LabSpec::new(3, 1).map(|spec| spec.pods().count()), Ok(6));
        assert_eq!(LabSpec::new(3, 4).map(|spec| spec.pods().count()), Ok(15));
    }
}
