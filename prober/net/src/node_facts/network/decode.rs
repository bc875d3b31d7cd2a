//! From rtnetlink's messages to our own types.
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "the kernel's enums are foreign, long and growing"
)]

pub(super) mod link;
pub(super) mod route;
pub(super) mod traffic_control;

use std::net::IpAddr;

use ipnet::IpNet;
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::neighbour::NeighbourState as State;
use netlink_packet_route::neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage};
use prober_core::node_facts::{Address, FdbEntry, FdbOrigin, Neighbour, NeighbourState};
use prober_core::packet::mac::Mac;

use super::LinkNames;

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
