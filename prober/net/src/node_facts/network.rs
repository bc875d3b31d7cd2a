//! Links, addresses, routes, neighbours and forwarding entries, from rtnetlink dumps.
mod decode;

use std::collections::BTreeMap;

use netlink_packet_route::address::AddressMessage;
use netlink_packet_route::link::LinkMessage;
use netlink_packet_route::neighbour::NeighbourMessage;
use netlink_packet_route::route::RouteMessage;
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use prober_core::node_facts::{Address, FdbEntry, Link, Neighbour, Route};

pub(crate) use decode::route_address;

use crate::rtnetlink::{RtnetlinkError, dump};

/// LinkNames of interfaces by index.
#[derive(Debug, Default)]
pub(super) struct LinkNames(BTreeMap<u32, String>);

impl LinkNames {
    /// The names of these links.
    pub(super) fn of(links: &[Link]) -> Self {
        Self(
            links
                .iter()
                .map(|link| (link.index, link.name.clone()))
                .collect(),
        )
    }

    /// The name; an interface that is gone again is called by its index, as `ip` does.
    fn get(&self, index: u32) -> String {
        self.0
            .get(&index)
            .cloned()
            .unwrap_or_else(|| format!("if{index}"))
    }
}

/// All links.
pub(super) fn links() -> Result<Vec<Link>, RtnetlinkError> {
    let mut messages = Vec::new();
    dump(
        RouteNetlinkMessage::GetLink(LinkMessage::default()),
        |object| {
            if let RouteNetlinkMessage::NewLink(message) = object {
                messages.push(message);
            }
        },
    )?;
    let names = LinkNames(
        messages
            .iter()
            .map(|message| (message.header.index, decode::link_name(message)))
            .collect(),
    );
    Ok(messages
        .iter()
        .map(|message| decode::link(message, &names))
        .collect())
}

/// All addresses.
pub(super) fn addresses(names: &LinkNames) -> Result<Vec<Address>, RtnetlinkError> {
    let mut all = Vec::new();
    dump(
        RouteNetlinkMessage::GetAddress(AddressMessage::default()),
        |object| {
            if let RouteNetlinkMessage::NewAddress(message) = object {
                all.extend(decode::address(&message, names));
            }
        },
    )?;
    Ok(all)
}

/// The routes of all tables but `local`.
pub(super) fn routes(names: &LinkNames) -> Result<Vec<Route>, RtnetlinkError> {
    let mut all = Vec::new();
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        let mut request = RouteMessage::default();
        request.header.address_family = family;
        dump(RouteNetlinkMessage::GetRoute(request), |object| {
            if let RouteNetlinkMessage::NewRoute(message) = object {
                all.extend(decode::routes(&message, names));
            }
        })?;
    }
    Ok(all)
}

/// ARP and NDP entries.
pub(super) fn neighbours(names: &LinkNames) -> Result<Vec<Neighbour>, RtnetlinkError> {
    let mut all = Vec::new();
    dump(
        RouteNetlinkMessage::GetNeighbour(NeighbourMessage::default()),
        |object| {
            if let RouteNetlinkMessage::NewNeighbour(message) = object {
                all.extend(decode::neighbour(&message, names));
            }
        },
    )?;
    Ok(all)
}

/// Forwarding entries of bridges and vxlan links.
pub(super) fn fdb(names: &LinkNames) -> Result<Vec<FdbEntry>, RtnetlinkError> {
    let mut all = Vec::new();
    let mut request = NeighbourMessage::default();
    request.header.family = AddressFamily::Bridge;
    dump(RouteNetlinkMessage::GetNeighbour(request), |object| {
        if let RouteNetlinkMessage::NewNeighbour(message) = object {
            all.extend(decode::fdb_entry(&message, names));
        }
    })?;
    Ok(all)
}
