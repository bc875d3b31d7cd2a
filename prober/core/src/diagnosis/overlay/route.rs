//! Routes to the other node's pods: missing, unreachable, or blackhole.

use std::collections::BTreeSet;

use crate::diagnosis::case::Case;
use crate::diagnosis::catalogue::Cause;
use crate::diagnosis::hypothesis::{Hypothesis, Proof};
use crate::diagnosis::overlay::{depending_groups, depends_on, tunnel_down};
use crate::diagnosis::symptom::FailureGroup;
use crate::node_facts::{Lookup, RouteKind};
use crate::packet::family::Family;
use crate::topology::NodeName;

pub(crate) fn route_missing(
    case: &Case<'_>,
    from: &NodeName,
    to: &NodeName,
    family: Family,
) -> Option<Hypothesis> {
    let (mut groups, place) = depending_groups(case, from, to, family)?;
    if let Some(sentence) = bad_route(case, from, to, family) {
        let errors = icmp_errors(case, &groups);
        // The routes were removed with their device, which does not receive either.
        let down = tunnel_down(case, from, family);
        if down.is_some() {
            groups.extend(case.places(|group| depends_on(group, to, from, family)));
        }
        return Some(
            Hypothesis::proves(Cause::RouteMissing, place, groups, Proof::Facts)
                .because(sentence)
                .because_all(down.map(|link| {
                    format!(
                        "{} of {from} is down: no packet enters or leaves its tunnel",
                        link.name
                    )
                }))
                .because_all(errors),
        );
    }
    let refused = case
        .places(|group| depends_on(group, from, to, family) && refuses_route(case, group, from));
    if !refused.is_empty() {
        return Some(
            Hypothesis::proves(Cause::RouteMissing, place, groups, Proof::Packets)
                .because_all(icmp_errors(case, &refused))
                .because(format!("{from} itself refuses before any packet leaves it"))
                .not(Cause::OverlayBlocked, "the tunnel was never reached"),
        );
    }
    let facts = case.facts(from)?;
    facts.routes.is_some().then(|| {
        Hypothesis::excludes(
            Cause::RouteMissing,
            place,
            groups,
            format!("{from} has its route to the pods of {to}"),
        )
    })
}

/// The fault of the route, as a sentence; `None` where it is correct or was not read.
fn bad_route(case: &Case<'_>, from: &NodeName, to: &NodeName, family: Family) -> Option<String> {
    let facts = case.facts(from)?;
    let address = case.address_on(to, family)?;
    let routes = facts.routes_to(address)?;
    let Some(route) = routes.first() else {
        return Some(format!("{from} has no route to {address}, a pod of {to}"));
    };
    let name = |what: &str| format!("the route of {from} to {address}, a pod of {to}, {what}");
    match route.kind {
        RouteKind::Blackhole => return Some(name("is a blackhole")),
        RouteKind::Unreachable => return Some(name("is of type unreachable")),
        RouteKind::Prohibit => return Some(name("is of type prohibit")),
        RouteKind::Throw => return Some(name("is of type throw")),
        RouteKind::Unicast | RouteKind::Local | RouteKind::Other(_) => {}
    }
    if route.destination.prefix_len() == 0 && tunnels_exist(case) {
        let via = route
            .gateway
            .map_or_else(String::new, |gateway| format!(" via {gateway}"));
        return Some(format!(
            "{from} has no route of its own to {address}, a pod of {to}: only the default route{via} matches, past the tunnel"
        ));
    }
    let dev = route.dev.as_deref()?;
    match facts.link(dev) {
        Lookup::Found(link) if !link.up => Some(name(&format!("leads to {dev}, which is down"))),
        Lookup::Absent => Some(name(&format!("leads to {dev}, which does not exist"))),
        Lookup::Found(_) | Lookup::Unread => None,
    }
}

/// Whether some node reaches other nodes' pods by a tunnel: then a default route does not lead there.
fn tunnels_exist(case: &Case<'_>) -> bool {
    case.nodes()
        .into_iter()
        .filter_map(|node| case.facts(node))
        .any(|facts| {
            let is_tunnel = |name: &str| {
                facts
                    .link(name)
                    .found()
                    .is_some_and(|link| link.vxlan.is_some())
            };
            facts
                .routes
                .iter()
                .flatten()
                .any(|route| route.dev.as_deref().is_some_and(is_tunnel))
        })
}

/// Whether the node itself rejected packets at once for lack of a route: to the client (quoting a SYN that
/// no router has forwarded), or to the server for its answer.
fn refuses_route(case: &Case<'_>, group: &FailureGroup, node: &NodeName) -> bool {
    if group.client.node == *node {
        group.symptom.is_unroutable()
            && case.client_packets(group).any(|seen| {
                seen.packet
                    .icmp()
                    .and_then(|(_, icmp)| icmp.quoted)
                    .is_some_and(|quoted| quoted.hop_limit == 64)
            })
    } else {
        case.server_packets(group).any(|seen| {
            seen.packet.icmp().is_some_and(|(_, icmp)| {
                matches!(icmp.kind, crate::packet::IcmpKind::Unreachable { .. })
            })
        })
    }
}

pub(crate) fn icmp_errors(case: &Case<'_>, groups: &BTreeSet<usize>) -> Vec<String> {
    let mut sentences: Vec<String> = case
        .at(groups)
        .flat_map(|group| case.client_packets(group).chain(case.server_packets(group)))
        .filter_map(|seen| {
            let (ip, icmp) = seen.packet.icmp()?;
            let inner = icmp.quoted?.hop_limit;
            Some(format!(
                "ICMP {}/{} from {} (TTL {}, quoting TTL {inner})",
                icmp.type_code.0, icmp.type_code.1, ip.src, ip.hop_limit
            ))
        })
        .collect();
    sentences.sort();
    sentences.dedup();
    sentences.truncate(2);
    sentences
}
