//! From rtnetlink's messages to our own types.
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "the kernel's enums are foreign, long and growing"
)]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{
    InfoBridge, InfoBridgePort, InfoData, InfoPortData, InfoVxlan, LinkAttribute, LinkFlags,
    LinkInfo, LinkMessage,
};
use netlink_packet_route::neighbour::NeighbourState as State;
use netlink_packet_route::neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteMessage, RouteType, RouteVia,
};
use prober_core::node_facts::{
    Address, BridgeOptions, FdbEntry, FdbOrigin, Link, LinkCounters, Neighbour, NeighbourState,
    Route, RouteKind, Vxlan,
};
use prober_core::packet::mac::Mac;

use super::LinkNames;

/// The table of the kernel's own addresses (`RT_TABLE_LOCAL`).
const TABLE_LOCAL: u32 = 255;

pub(super) fn link_name(message: &LinkMessage) -> String {
    let name = message.attributes.iter().find_map(|attribute| {
        if let LinkAttribute::IfName(name) = attribute {
            Some(name.clone())
        } else {
            None
        }
    });
    name.unwrap_or_else(|| format!("if{}", message.header.index))
}

pub(super) fn link(message: &LinkMessage, names: &LinkNames) -> Link {
    let mut link = Link {
        name: link_name(message),
        index: message.header.index,
        kind: None,
        mtu: None,
        up: message.header.flags.contains(LinkFlags::Up),
        carrier: message.header.flags.contains(LinkFlags::LowerUp),
        mac: None,
        master: None,
        counters: None,
        hairpin: None,
        bridge: None,
        vxlan: None,
    };
    for attribute in &message.attributes {
        if let LinkAttribute::Mtu(mtu) = attribute {
            link.mtu = Some(*mtu);
        } else if let LinkAttribute::Address(bytes) = attribute {
            link.mac = Mac::from_slice(bytes);
        } else if let LinkAttribute::Controller(index) = attribute {
            link.master = Some(names.get(*index));
        } else if let LinkAttribute::Stats64(stats) = attribute {
            link.counters = Some(LinkCounters {
                rx_packets: stats.rx_packets,
                tx_packets: stats.tx_packets,
                rx_dropped: stats.rx_dropped,
                tx_dropped: stats.tx_dropped,
                rx_errors: stats.rx_errors,
                tx_errors: stats.tx_errors,
            });
        } else if let LinkAttribute::LinkInfo(infos) = attribute {
            for info in infos {
                link_info(&mut link, info, names);
            }
        }
    }
    link
}

fn link_info(link: &mut Link, info: &LinkInfo, names: &LinkNames) {
    if let LinkInfo::Kind(kind) = info {
        link.kind = Some(kind.to_string());
    } else if let LinkInfo::PortData(InfoPortData::BridgePort(options)) = info {
        link.hairpin = options.iter().find_map(|option| {
            if let InfoBridgePort::HairpinMode(on) = option {
                Some(*on)
            } else {
                None
            }
        });
    } else if let LinkInfo::Data(InfoData::Bridge(options)) = info {
        let mut bridge = BridgeOptions::default();
        for option in options {
            if let InfoBridge::NfCallIpTables(on) = option {
                bridge.nf_call_iptables = Some(*on);
            } else if let InfoBridge::NfCallIp6Tables(on) = option {
                bridge.nf_call_ip6tables = Some(*on);
            }
        }
        link.bridge = Some(bridge);
    } else if let LinkInfo::Data(InfoData::Vxlan(options)) = info {
        let mut vxlan = Vxlan::default();
        for option in options {
            if let InfoVxlan::Id(id) = option {
                vxlan.id = Some(*id);
            } else if let InfoVxlan::Port(port) = option {
                vxlan.port = Some(*port);
            } else if let InfoVxlan::Local(address) = option {
                vxlan.local = Some(IpAddr::V4(*address));
            } else if let InfoVxlan::Local6(address) = option {
                vxlan.local = Some(IpAddr::V6(*address));
            } else if let InfoVxlan::Link(index) = option {
                vxlan.underlay = Some(names.get(*index));
            } else if let InfoVxlan::Learning(on) = option {
                vxlan.learning = Some(*on);
            }
        }
        link.vxlan = Some(vxlan);
    }
}

/// `IFA_LOCAL` is the interface's own address; without it (IPv6) `IFA_ADDRESS` is.
pub(super) fn address(message: &AddressMessage, names: &LinkNames) -> Option<Address> {
    let (mut own, mut other) = (None, None);
    for attribute in &message.attributes {
        if let AddressAttribute::Local(address) = attribute {
            own = Some(*address);
        } else if let AddressAttribute::Address(address) = attribute {
            other = Some(*address);
        }
    }
    let prefix = IpNet::new(own.or(other)?, message.header.prefix_len).ok()?;
    Some(Address {
        prefix,
        dev: names.get(message.header.index),
    })
}

/// One route for each next hop; none for the kernel's own addresses.
pub(super) fn routes(message: &RouteMessage, names: &LinkNames) -> Vec<Route> {
    let any = match message.header.address_family {
        AddressFamily::Inet => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        AddressFamily::Inet6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        _ => return Vec::new(),
    };
    let mut destination = any;
    let mut table = u32::from(message.header.table);
    let mut metric = None;
    let mut next_hops = Vec::new();
    for attribute in &message.attributes {
        if let RouteAttribute::Destination(address) = attribute {
            destination = route_address(address).unwrap_or(any);
        } else if let RouteAttribute::Table(number) = attribute {
            table = *number;
        } else if let RouteAttribute::Priority(number) = attribute {
            metric = Some(*number);
        } else if let RouteAttribute::MultiPath(hops) = attribute {
            for hop in hops {
                next_hops.push((
                    gateway(&hop.attributes),
                    Some(names.get(hop.interface_index)),
                ));
            }
        }
    }
    if table == TABLE_LOCAL {
        return Vec::new();
    }
    let Ok(destination) = IpNet::new(destination, message.header.destination_prefix_length) else {
        return Vec::new();
    };
    if next_hops.is_empty() {
        let dev = message.attributes.iter().find_map(|attribute| {
            if let RouteAttribute::Oif(index) = attribute {
                Some(names.get(*index))
            } else {
                None
            }
        });
        next_hops.push((gateway(&message.attributes), dev));
    }
    let kind = route_kind(message.header.kind);
    let route = |(gateway, dev)| Route {
        destination,
        kind,
        gateway,
        dev,
        table,
        metric,
    };
    next_hops.into_iter().map(route).collect()
}

fn gateway(attributes: &[RouteAttribute]) -> Option<IpAddr> {
    attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Gateway(address) => route_address(address),
        RouteAttribute::Via(RouteVia::Inet(address)) => Some(IpAddr::V4(*address)),
        RouteAttribute::Via(RouteVia::Inet6(address)) => Some(IpAddr::V6(*address)),
        _ => None,
    })
}

/// An IP address out of a route's attribute.
pub(crate) fn route_address(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(address) => Some(IpAddr::V4(*address)),
        RouteAddress::Inet6(address) => Some(IpAddr::V6(*address)),
        _ => None,
    }
}

fn route_kind(kind: RouteType) -> RouteKind {
    match kind {
        RouteType::Unicast => RouteKind::Unicast,
        RouteType::BlackHole => RouteKind::Blackhole,
        RouteType::Unreachable => RouteKind::Unreachable,
        RouteType::Prohibit => RouteKind::Prohibit,
        RouteType::Throw => RouteKind::Throw,
        other => RouteKind::Other(other.into()),
    }
}

/// An entry of the neighbour table; none for multicast and loopback, which need no neighbour.
pub(super) fn neighbour(message: &NeighbourMessage, names: &LinkNames) -> Option<Neighbour> {
    let state = match message.header.state {
        State::Incomplete => NeighbourState::Incomplete,
        State::Reachable => NeighbourState::Reachable,
        State::Stale => NeighbourState::Stale,
        State::Delay => NeighbourState::Delay,
        State::Probe => NeighbourState::Probe,
        State::Failed => NeighbourState::Failed,
        State::Permanent => NeighbourState::Permanent,
        State::None => NeighbourState::None,
        _ => return None,
    };
    let parts = NeighbourParts::of(message);
    Some(Neighbour {
        ip: parts.ip?,
        mac: parts.mac,
        dev: names.get(message.header.ifindex),
        state,
    })
}

/// A forwarding entry; none for multicast, which every interface has.
pub(super) fn fdb_entry(message: &NeighbourMessage, names: &LinkNames) -> Option<FdbEntry> {
    let origin = match message.header.state {
        State::Permanent => FdbOrigin::Permanent,
        State::Noarp => FdbOrigin::Static,
        _ => FdbOrigin::Learned,
    };
    let parts = NeighbourParts::of(message);
    let mac = parts.mac.filter(|mac| mac.0[0] & 1 == 0)?;
    Some(FdbEntry {
        mac,
        dev: names.get(message.header.ifindex),
        destination: parts.ip,
        origin,
    })
}

/// The two attributes that matter.
struct NeighbourParts {
    ip: Option<IpAddr>,
    mac: Option<Mac>,
}

impl NeighbourParts {
    fn of(message: &NeighbourMessage) -> Self {
        let mut parts = Self {
            ip: None,
            mac: None,
        };
        for attribute in &message.attributes {
            if let NeighbourAttribute::Destination(address) = attribute {
                parts.ip = neighbour_address(address);
            } else if let NeighbourAttribute::LinkLayerAddress(bytes) = attribute {
                parts.mac = Mac::from_slice(bytes);
            }
        }
        parts
    }
}

/// In a forwarding entry the family is `AF_BRIDGE`, so the tunnel end comes as plain bytes.
fn neighbour_address(address: &NeighbourAddress) -> Option<IpAddr> {
    match address {
        NeighbourAddress::Inet(address) => Some(IpAddr::V4(*address)),
        NeighbourAddress::Inet6(address) => Some(IpAddr::V6(*address)),
        NeighbourAddress::Other(bytes) => match bytes.len() {
            4 => <[u8; 4]>::try_from(bytes.as_slice()).ok().map(IpAddr::from),
            16 => <[u8; 16]>::try_from(bytes.as_slice())
                .ok()
                .map(IpAddr::from),
            _ => None,
        },
        _ => None,
    }
}
