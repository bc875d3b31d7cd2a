//! The objects of a network namespace that rtnetlink lists: links, addresses, routes, neighbours, forwarding entries.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::packet::mac::Mac;

/// An interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// Its name.
    pub name: String,
    /// Its index in this namespace.
    pub index: u32,
    /// Its kind: `veth`, `bridge`, `vxlan`; `None` for hardware.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// The largest IP packet, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// Whether it is up (`IFF_UP`).
    pub up: bool,
    /// Whether it has a carrier (`IFF_LOWER_UP`).
    pub carrier: bool,
    /// Its Ethernet address, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<Mac>,
    /// The bridge (or bond) that it is a port of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub master: Option<String>,
    /// Its packet counters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counters: Option<LinkCounters>,
    /// On a bridge port: whether frames may leave by the port on which they arrived.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hairpin: Option<bool>,
    /// On a bridge: its own netfilter options.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bridge: Option<BridgeOptions>,
    /// On a vxlan link: its tunnel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vxlan: Option<Vxlan>,
}

/// Packets of an interface since its creation (`struct rtnl_link_stats64`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkCounters {
    /// Packets received.
    pub rx_packets: u64,
    /// Packets sent.
    pub tx_packets: u64,
    /// Received packets that were dropped.
    pub rx_dropped: u64,
    /// Packets that were dropped before they were sent.
    pub tx_dropped: u64,
    /// Bad packets received.
    pub rx_errors: u64,
    /// Packets that could not be sent.
    pub tx_errors: u64,
}

/// The netfilter options of a bridge. The kernel passes bridged packets to netfilter where the namespace's sysctl *or* the
/// option of the bridge is on (`br_nf_pre_routing`, net/bridge/br_netfilter_hooks.c).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BridgeOptions {
    /// `nf_call_iptables` of this bridge.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nf_call_iptables: Option<bool>,
    /// `nf_call_ip6tables` of this bridge.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nf_call_ip6tables: Option<bool>,
}

/// The tunnel of a vxlan link (RFC 7348).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vxlan {
    /// The network identifier.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<u32>,
    /// The UDP port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// The source address of tunnel packets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local: Option<IpAddr>,
    /// The interface below.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub underlay: Option<String>,
    /// Whether it learns forwarding entries from received packets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub learning: Option<bool>,
}

/// An address on an interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Address {
    /// The address with its prefix length.
    pub prefix: IpNet,
    /// The interface.
    pub dev: String,
}

/// The effect of a route on matching packets (`RTN_*`, include/uapi/linux/rtnetlink.h).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RouteKind {
    /// They are forwarded.
    Unicast,
    /// They are dropped without an ICMP error and without a counter.
    Blackhole,
    /// They are refused: host unreachable (ICMP 3/1).
    Unreachable,
    /// They are refused: prohibited (ICMP 3/13).
    Prohibit,
    /// The lookup continues with the next rule.
    Throw,
    /// Another type, by its number.
    Other(u8),
}

/// A route. One with several next hops is listed once for each.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// The destination; prefix length 0 is the default route.
    pub destination: IpNet,
    /// Its effect on packets.
    pub kind: RouteKind,
    /// The next router.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<IpAddr>,
    /// The interface.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dev: Option<String>,
    /// The routing table; 254 is `main`.
    pub table: u32,
    /// The route with the lowest metric of equal prefixes is used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metric: Option<u32>,
}

impl Route {
    /// The number of table `main` (`RT_TABLE_MAIN`).
    pub const MAIN: u32 = 254;
}

/// The state of a neighbour entry (`NUD_*`, include/uapi/linux/neighbour.h).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NeighbourState {
    /// Requested, not answered yet.
    Incomplete,
    /// Confirmed recently.
    Reachable,
    /// Known, not confirmed recently.
    Stale,
    /// Known, to be confirmed soon.
    Delay,
    /// Known, requested again.
    Probe,
    /// Requested, without an answer.
    Failed,
    /// Needs no resolution (loopback, multicast).
    Noarp,
    /// Set by hand or by a program such as flannel.
    Permanent,
    /// No state.
    None,
}

/// An entry of the neighbour table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Neighbour {
    /// The neighbour's address.
    pub ip: IpAddr,
    /// Its Ethernet address, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<Mac>,
    /// The interface that leads to it.
    pub dev: String,
    /// The state of the entry.
    pub state: NeighbourState,
}

/// The origin of a forwarding entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FdbOrigin {
    /// The address of the bridge or port itself, or a permanent entry.
    Permanent,
    /// Set by hand or by a program; does not age.
    Static,
    /// Learned from traffic.
    Learned,
}

/// An entry of a bridge's or a vxlan link's forwarding database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FdbEntry {
    /// The destination address of the frames.
    pub mac: Mac,
    /// The interface on which they leave.
    pub dev: String,
    /// On a vxlan link: the remote tunnel endpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destination: Option<IpAddr>,
    /// The origin of the entry.
    pub origin: FdbOrigin,
}
