//! A node's tunnel entries for its peer, compared with the peer's own addresses.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::diagnosis::case::Case;
use crate::diagnosis::catalogue::Cause;
use crate::diagnosis::hypothesis::{Hypothesis, Proof};
use crate::diagnosis::overlay::route::icmp_errors;
use crate::diagnosis::overlay::{depending_groups, depends_on};
use crate::diagnosis::symptom::Symptom;
use crate::node_facts::{Link, Lookup, NodeFacts};
use crate::packet::Unreachable;
use crate::packet::family::Family;
use crate::topology::NodeName;

pub(crate) fn stale_neighbour(
    case: &Case<'_>,
    from: &NodeName,
    to: &NodeName,
    family: Family,
) -> Option<Hypothesis> {
    let (groups, place) = depending_groups(case, from, to, family)?;
    match peer_entries(case, from, to, family) {
        Some(Err(sentence)) => Some(
            Hypothesis::proves(Cause::StaleOverlayNeighbour, place, groups, Proof::Facts)
                .because(sentence),
        ),
        Some(Ok(sentence)) => Some(Hypothesis::excludes(
            Cause::StaleOverlayNeighbour,
            place,
            groups,
            sentence,
        )),
        None => {
            let unresolved = case.places(|group| {
                depends_on(group, from, to, family)
                    && group.client.node == *from
                    && group.symptom == Symptom::Unreachable(Unreachable::Host)
                    && case.client_packets(group).any(|seen| {
                        seen.packet
                            .icmp()
                            .and_then(|(_, icmp)| icmp.quoted)
                            .is_some_and(|quoted| quoted.hop_limit == 63)
                    })
            });
            (!unresolved.is_empty()).then(|| {
                Hypothesis::fits(Cause::StaleOverlayNeighbour, place, unresolved.clone())
                    .because(format!("{from} routes the packet, and then does not resolve its next router"))
                    .because_all(icmp_errors(case, &unresolved))
                    .decided_by(format!("`ip neigh show dev flannel.1` and `bridge fdb show dev flannel.1` on {from}, against the annotation flannel.alpha.coreos.com/backend-data of {to}"))
            })
        }
    }
}

/// The error in a node's tunnel entries for its peer; `Ok` where they agree with the peer's own addresses.
pub(crate) fn peer_entries(
    case: &Case<'_>,
    from: &NodeName,
    to: &NodeName,
    family: Family,
) -> Option<Result<String, String>> {
    let facts = case.facts(from)?;
    let (link, router) = tunnel_to(facts, case.address_on(to, family)?)?;
    let dev = &link.name;
    let peer = case.facts(to).and_then(|facts| {
        let back = case.address_on(from, family)?;
        let by_route = tunnel_to(facts, back).map(|(link, _)| link);
        let by_name = facts.link(dev).found();
        by_route.or(by_name)
    });
    let mac = match facts.neighbour(router) {
        Lookup::Unread => return None,
        Lookup::Absent => {
            return Some(Err(format!(
                "{from} has no neighbour entry for {router}, the tunnel end of {to}, on {dev}"
            )));
        }
        Lookup::Found(neighbour) => match neighbour.mac {
            Some(mac) => mac,
            None => {
                return Some(Err(format!(
                    "{from} has no MAC for {router}, the tunnel end of {to}, on {dev}"
                )));
            }
        },
    };
    if let Some(own) = peer.and_then(|peer| peer.mac)
        && own != mac
    {
        return Some(Err(format!(
            "{from} sends to {mac} for {router} on {dev}, but {to}'s {dev} is {own}"
        )));
    }
    let entries = facts.fdb(mac)?;
    let ends: BTreeSet<IpAddr> = entries
        .iter()
        .filter(|entry| entry.dev == *dev)
        .filter_map(|entry| entry.destination)
        .collect();
    if ends.is_empty() {
        return Some(Err(format!(
            "{from} has no forwarding entry for {mac}, the tunnel end of {to}, on {dev}"
        )));
    }
    let local = peer.and_then(|peer| peer.vxlan.as_ref()?.local);
    if let Some(local) = local
        && !ends.contains(&local)
    {
        let ends = ends
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(", ");
        return Some(Err(format!(
            "{from} tunnels packets for {mac} to {ends}, but {to} is at {local}"
        )));
    }
    Some(Ok(format!(
        "{from} sends to {mac} for {router}, as {to} reports it"
    )))
}

/// The tunnel by which one node reaches a pod of the other, and the next router's address.
fn tunnel_to(facts: &NodeFacts, address: IpAddr) -> Option<(&Link, IpAddr)> {
    let routes = facts.routes_to(address)?;
    let route = routes.first()?;
    let link = facts.link(route.dev.as_deref()?).found()?;
    link.vxlan.as_ref()?;
    Some((link, route.gateway?))
}
