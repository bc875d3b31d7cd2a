//! Links, addresses, rules, routes, neighbours, forwarding entries and filters, from rtnetlink dumps.
mod decode;

use std::collections::{BTreeMap, BTreeSet};

use netlink_packet_route::address::AddressMessage;
use netlink_packet_route::link::LinkMessage;
use netlink_packet_route::neighbour::NeighbourMessage;
use netlink_packet_route::route::RouteMessage;
use netlink_packet_route::rule::RuleMessage;
use netlink_packet_route::tc::TcMessage;
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use prober_core::node_facts::{
    Address, FdbEntry, Link, Neighbour, Qdisc, Route, Rule, TcDirection, TcFilter,
};
use prober_core::packet::family::Family;

pub(crate) use decode::route::route_address;

use crate::netlink::{NetlinkError, dump};

/// Names of interfaces by index.
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
pub(super) fn links() -> Result<Vec<Link>, NetlinkError> {
    let mut messages = Vec::new();
    for object in dump(&RouteNetlinkMessage::GetLink(LinkMessage::default()))? {
        if let RouteNetlinkMessage::NewLink(message) = object {
            messages.push(message);
        }
    }
    let names = LinkNames(
        messages
            .iter()
            .map(|message| (message.header.index, decode::link::name(message)))
            .collect(),
    );
    Ok(messages
        .iter()
        .map(|message| decode::link::link(message, &names))
        .collect())
}

/// All addresses.
pub(super) fn addresses(names: &LinkNames) -> Result<Vec<Address>, NetlinkError> {
    let mut all = Vec::new();
    for object in dump(&RouteNetlinkMessage::GetAddress(AddressMessage::default()))? {
        if let RouteNetlinkMessage::NewAddress(message) = object {
            all.extend(decode::address(&message, names));
        }
    }
    Ok(all)
}

/// The policy rules of both families.
pub(super) fn rules() -> Result<Vec<Rule>, NetlinkError> {
    let mut all = Vec::new();
    for (family, of) in [
        (AddressFamily::Inet, Family::Ipv4),
        (AddressFamily::Inet6, Family::Ipv6),
    ] {
        let mut request = RuleMessage::default();
        request.header.family = family;
        match dump(&RouteNetlinkMessage::GetRule(request)) {
            Ok(objects) => {
                for object in objects {
                    if let RouteNetlinkMessage::NewRule(message) = object {
                        all.push(decode::route::rule(&message, of));
                    }
                }
            }
            // A kernel without policy routing for this family (`fib_nl_dumprule`, net/core/fib_rules.c) does what the
            // default rules say.
            Err(error) if error.refusal() == Some(libc::EAFNOSUPPORT) => {
                all.extend_from_slice(Rule::defaults(of));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(all)
}

/// The routes of all tables but `local`.
pub(super) fn routes(names: &LinkNames) -> Result<Vec<Route>, NetlinkError> {
    let mut all = Vec::new();
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        let mut request = RouteMessage::default();
        request.header.address_family = family;
        for object in dump(&RouteNetlinkMessage::GetRoute(request))? {
            if let RouteNetlinkMessage::NewRoute(message) = object {
                all.extend(decode::route::routes(&message, names));
            }
        }
    }
    Ok(all)
}

/// ARP and NDP entries.
pub(super) fn neighbours(names: &LinkNames) -> Result<Vec<Neighbour>, NetlinkError> {
    let mut all = Vec::new();
    for object in dump(&RouteNetlinkMessage::GetNeighbour(
        NeighbourMessage::default(),
    ))? {
        if let RouteNetlinkMessage::NewNeighbour(message) = object {
            all.extend(decode::neighbour(&message, names));
        }
    }
    Ok(all)
}

/// Forwarding entries of bridges and vxlan links.
pub(super) fn fdb(names: &LinkNames) -> Result<Vec<FdbEntry>, NetlinkError> {
    let mut all = Vec::new();
    let mut request = NeighbourMessage::default();
    request.header.family = AddressFamily::Bridge;
    for object in dump(&RouteNetlinkMessage::GetNeighbour(request))? {
        if let RouteNetlinkMessage::NewNeighbour(message) = object {
            all.extend(decode::fdb_entry(&message, names));
        }
    }
    Ok(all)
}

/// Queueing disciplines, and the filters of those that have some for a direction (`ingress`, `clsact`).
pub(super) fn traffic_control(
    names: &LinkNames,
) -> Result<(Vec<Qdisc>, Vec<TcFilter>), NetlinkError> {
    let mut qdiscs = Vec::new();
    let mut filtered = BTreeSet::new();
    for object in dump(&RouteNetlinkMessage::GetQueueDiscipline(
        TcMessage::default(),
    ))? {
        if let RouteNetlinkMessage::NewQueueDiscipline(message) = object {
            if decode::traffic_control::has_directions(&message) {
                filtered.insert(message.header.index);
            }
            qdiscs.extend(decode::traffic_control::qdisc(&message, names));
        }
    }
    let mut filters = Vec::new();
    for index in filtered {
        for direction in [TcDirection::Ingress, TcDirection::Egress] {
            let mut request = TcMessage::with_index(index);
            request.header.parent = decode::traffic_control::parent(direction);
            match dump(&RouteNetlinkMessage::GetTrafficFilter(request)) {
                Ok(objects) => {
                    for object in objects {
                        if let RouteNetlinkMessage::NewTrafficFilter(message) = object {
                            let filter =
                                decode::traffic_control::filter(&message, direction, names);
                            filters.extend(filter);
                        }
                    }
                }
                // The interface is gone again.
                Err(error) if error.refusal() == Some(libc::ENODEV) => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok((qdiscs, filters))
}
