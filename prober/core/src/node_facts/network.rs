//! The objects of a network namespace that rtnetlink lists: links, addresses, neighbours, forwarding entries.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::packet::mac::Mac;

/// An interface.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// Its name.
    pub name: String,
    /// Its index in this namespace.
    pub index: u32,
    /// Its other names (`IFLA_ALT_IFNAME`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub alt_names: Vec<String>,
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
    /// On a veth or netkit link: its other end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<OtherLink>,
    /// On a macvlan, ipvlan or vlan link: the interface below.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<OtherLink>,
    /// On a macvlan or ipvlan link: its mode, as `ip link` prints it (`bridge`, `private`, `l2`, `l3s`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<String>,
    /// The XDP program that it runs, by its id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub xdp_program: Option<u32>,
    /// Its packet counters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counters: Option<LinkCounters>,
    /// On a bridge port: whether frames may leave by the port on which they arrived.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hairpin: Option<bool>,
    /// On a bridge port: the state of the spanning tree.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port_state: Option<PortState>,
    /// On a bridge: its own netfilter options.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bridge: Option<BridgeOptions>,
    /// On a vxlan link: its tunnel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vxlan: Option<Vxlan>,
    /// On another tunnel (ipip, sit, ip6tnl, gre, geneve): its ends. Those of a WireGuard link are for `CAP_NET_ADMIN` only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tunnel: Option<Tunnel>,
}

/// A reference to another interface, which may be in another network namespace (`IFLA_LINK`, `IFLA_LINK_NETNSID`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct OtherLink {
    /// Its index in its own namespace.
    pub index: u32,
    /// Its namespace, by the number that this namespace has for it (`ip netns list-id`); `None` for this namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub netns: Option<i32>,
}

/// The state of a bridge port (`BR_STATE_*`, include/uapi/linux/if_bridge.h). Only a forwarding port passes frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PortState {
    /// It is down, or has no carrier.
    Disabled,
    /// The spanning tree is computed.
    Listening,
    /// It learns addresses, and passes nothing yet.
    Learning,
    /// It passes frames.
    Forwarding,
    /// The spanning tree blocks it.
    Blocking,
    /// Another state, by its number.
    Other(u8),
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

/// The ends of a tunnel that is no vxlan link.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tunnel {
    /// The source address of tunnel packets; `None` where the route decides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local: Option<IpAddr>,
    /// The destination of tunnel packets; `None` where it depends on the packet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remote: Option<IpAddr>,
    /// Geneve: the UDP port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
}

/// An address on an interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Address {
    /// The address with its prefix length.
    pub prefix: IpNet,
    /// The interface.
    pub dev: String,
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
