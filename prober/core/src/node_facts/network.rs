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
    /// What it is: `veth`, `bridge`, `vxlan`; `None` for hardware.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// The largest IP packet, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// Whether it was set up (`IFF_UP`).
    pub up: bool,
    /// Whether it can carry packets: up, and its carrier is there (`IFF_LOWER_UP`).
    pub carrier: bool,
    /// Its Ethernet address, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<Mac>,
    /// The bridge (or bond) that it is a port of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub master: Option<String>,
    /// What went through it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counters: Option<LinkCounters>,
    /// On a bridge port: whether frames may leave by the port they came in by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hairpin: Option<bool>,
    /// On a bridge: its own switches for netfilter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bridge: Option<BridgeOptions>,
    /// On a vxlan link: its tunnel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vxlan: Option<Vxlan>,
}

/// Packets through an interface since it was made (`struct rtnl_link_stats64`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkCounters {
    /// Packets received.
    pub rx_packets: u64,
    /// Packets sent.
    pub tx_packets: u64,
    /// Packets dropped on the way in.
    pub rx_dropped: u64,
    /// Packets dropped on the way out.
    pub tx_dropped: u64,
    /// Bad packets received.
    pub rx_errors: u64,
    /// Packets that could not be sent.
    pub tx_errors: u64,
}

/// A bridge's own switches. The kernel takes bridged packets to netfilter where the namespace's sysctl *or* the
/// bridge's own switch is on (`br_nf_pre_routing`, net/bridge/br_netfilter_hooks.c).
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
    /// The address that tunnelled packets are sent from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local: Option<IpAddr>,
    /// The interface below.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub underlay: Option<String>,
    /// Whether it learns forwarding entries from what it receives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub learning: Option<bool>,
}

/// An address on an interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Address {
    /// The address with the length of its network.
    pub prefix: IpNet,
    /// The interface.
    pub dev: String,
}

/// What becomes of a packet that a route matches (`RTN_*`, include/uapi/linux/rtnetlink.h).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RouteKind {
    /// It is sent on.
    Unicast,
    /// It is dropped without a word and without a counter.
    Blackhole,
    /// Its sender is told that the host is unreachable (ICMP 3/1).
    Unreachable,
    /// Its sender is told that this is prohibited (ICMP 3/13).
    Prohibit,
    /// This table does not know: the next rule is tried.
    Throw,
    /// Another type, by its number.
    Other(u8),
}

/// A route. One with several next hops is listed once for each.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// Where to; length 0 is the default route.
    pub destination: IpNet,
    /// What becomes of the packet.
    pub kind: RouteKind,
    /// The next router.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<IpAddr>,
    /// The interface.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dev: Option<String>,
    /// The routing table; 254 is `main`.
    pub table: u32,
    /// Among equal prefixes the lowest wins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metric: Option<u32>,
}

impl Route {
    /// The number of table `main` (`RT_TABLE_MAIN`).
    pub const MAIN: u32 = 254;
}

/// How far the kernel is with a neighbour (`NUD_*`, include/uapi/linux/neighbour.h).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NeighbourState {
    /// Asked, not answered yet.
    Incomplete,
    /// Confirmed a short while ago.
    Reachable,
    /// Known, not confirmed lately.
    Stale,
    /// Known, about to be confirmed.
    Delay,
    /// Being asked again.
    Probe,
    /// Asked and never answered.
    Failed,
    /// Needs no asking (loopback, multicast).
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
    /// Its Ethernet address, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<Mac>,
    /// The interface that it is behind.
    pub dev: String,
    /// How far the kernel is with it.
    pub state: NeighbourState,
}

/// Where a forwarding entry comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FdbOrigin {
    /// The bridge's or the port's own address, or one that was set for ever.
    Permanent,
    /// Set by hand or by a program, and not aged.
    Static,
    /// Learned from traffic.
    Learned,
}

/// An entry of a bridge's or a vxlan link's forwarding database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FdbEntry {
    /// The frames that it is about: those to this address.
    pub mac: Mac,
    /// The interface that they leave by.
    pub dev: String,
    /// On a vxlan link: the tunnel end that they are sent to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destination: Option<IpAddr>,
    /// Where the entry comes from.
    pub origin: FdbOrigin,
}
