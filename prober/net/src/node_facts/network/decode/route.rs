//! Routes and policy rules.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use netlink_packet_core::Nla;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteMessage, RouteMetric, RouteNextHopFlags,
    RouteScope as Scope, RouteType, RouteVia,
};
use netlink_packet_route::rule::{RuleAction as Action, RuleAttribute, RuleFlags, RuleMessage};
use prober_core::node_facts::{Fwmark, Route, RouteKind, RouteScope, Rule, RuleAction};
use prober_core::packet::family::Family;

use crate::node_facts::network::LinkNames;

/// An attribute that only aligns the next one (include/uapi/linux/fib_rules.h).
const FRA_PAD: u16 = 18;

/// One route for each next hop; none for the kernel's own addresses.
pub(in crate::node_facts::network) fn routes(
    message: &RouteMessage,
    names: &LinkNames,
) -> Vec<Route> {
    let header = &message.header;
    let any = match header.address_family {
        AddressFamily::Inet => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        AddressFamily::Inet6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        _ => return Vec::new(),
    };
    let (mut destination, mut source) = (any, any);
    let mut hops = Vec::new();
    let Ok(everything) = IpNet::new(any, 0) else {
        return Vec::new();
    };
    let mut route = Route {
        kind: route_kind(header.kind),
        scope: Some(scope(header.scope)),
        gateway: gateway(&message.attributes),
        is_dead: header.flags.contains(RouteFlags::Dead),
        table: u32::from(header.table),
        protocol: Some(header.protocol.into()),
        ..Route::main(everything)
    };
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(address) => {
                destination = route_address(address).unwrap_or(any);
            }
            RouteAttribute::Source(address) => source = route_address(address).unwrap_or(any),
            RouteAttribute::Table(number) => route.table = *number,
            RouteAttribute::Priority(number) => route.metric = Some(*number),
            RouteAttribute::PrefSource(address) => {
                route.preferred_source = route_address(address);
            }
            RouteAttribute::Oif(index) => route.dev = Some(names.get(*index)),
            RouteAttribute::Metrics(metrics) => {
                route.mtu = metrics.iter().find_map(|metric| match metric {
                    RouteMetric::Mtu(mtu) => Some(*mtu),
                    _ => None,
                });
            }
            RouteAttribute::MultiPath(next_hops) => hops = next_hops.iter().collect(),
            _ => {}
        }
    }
    let prefix = IpNet::new(destination, header.destination_prefix_length);
    let (Ok(prefix), false) = (prefix, route.table == Route::LOCAL) else {
        return Vec::new();
    };
    route.destination = prefix;
    route.source = IpNet::new(source, header.source_prefix_length)
        .ok()
        .filter(|source| source.prefix_len() > 0);
    if hops.is_empty() {
        return vec![route];
    }
    let hops = hops.into_iter().map(|hop| Route {
        gateway: gateway(&hop.attributes),
        dev: Some(names.get(hop.interface_index)),
        // The kernel transmits the weight less one (`rtnh_hops`, include/uapi/linux/rtnetlink.h).
        weight: Some(u16::from(hop.hops) + 1),
        is_dead: hop.flags.contains(RouteNextHopFlags::Dead),
        ..route.clone()
    });
    hops.collect()
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
        RouteType::Local => RouteKind::Local,
        other => RouteKind::Other(other.into()),
    }
}

fn scope(scope: Scope) -> RouteScope {
    match scope {
        Scope::Universe => RouteScope::Universe,
        Scope::Link => RouteScope::Link,
        Scope::Host => RouteScope::Host,
        other => RouteScope::Other(other.into()),
    }
}

/// A policy rule.
pub(in crate::node_facts::network) fn rule(message: &RuleMessage, family: Family) -> Rule {
    let header = &message.header;
    let mut rule = Rule {
        is_inverted: header.flags.contains(RuleFlags::Invert),
        has_other_conditions: header.tos != 0,
        ..Rule::lookup(family, 0, u32::from(header.table))
    };
    let (mut table, mut goto, mut is_vrf) = (u32::from(header.table), None, false);
    let (mut value, mut mask) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            RuleAttribute::Priority(priority) => rule.priority = *priority,
            RuleAttribute::Source(address) => {
                rule.from = IpNet::new(*address, header.src_len).ok();
            }
            RuleAttribute::Destination(address) => {
                rule.to = IpNet::new(*address, header.dst_len).ok();
            }
            RuleAttribute::Iifname(name) => rule.input = Some(name.clone()),
            RuleAttribute::Oifname(name) => rule.output = Some(name.clone()),
            RuleAttribute::FwMark(mark) => value = Some(*mark),
            RuleAttribute::FwMask(bits) => mask = Some(*bits),
            RuleAttribute::Table(number) => table = *number,
            RuleAttribute::Goto(priority) => goto = Some(*priority),
            RuleAttribute::L3MDev(on) => is_vrf = *on,
            // -1 stands for none.
            RuleAttribute::SuppressPrefixLen(length) => {
                rule.suppress_prefix_length = Some(*length).filter(|length| *length != u32::MAX);
            }
            RuleAttribute::SuppressIfGroup(group) => {
                rule.has_other_conditions |= *group != u32::MAX;
            }
            // Neither selects packets: the origin of the rule, and the realm of its routes.
            RuleAttribute::Protocol(_) | RuleAttribute::Realm(_) => {}
            RuleAttribute::Other(other) => {
                rule.has_other_conditions |= other.kind() != FRA_PAD;
            }
            _ => rule.has_other_conditions = true,
        }
    }
    if value.is_some() || mask.is_some() {
        rule.mark = Some(Fwmark {
            value: value.unwrap_or_default(),
            mask: mask.unwrap_or(u32::MAX),
        });
    }
    rule.action = match (header.action, goto) {
        (Action::ToTable, _) if is_vrf => RuleAction::Vrf,
        (Action::ToTable, _) => RuleAction::Table(table),
        (Action::Goto, Some(priority)) => RuleAction::Goto(priority),
        (Action::Nop, _) => RuleAction::Nop,
        (Action::Blackhole, _) => RuleAction::Blackhole,
        (Action::Unreachable, _) => RuleAction::Unreachable,
        (Action::Prohibit, _) => RuleAction::Prohibit,
        (other, _) => RuleAction::Other(other.into()),
    };
    rule
}
