//! The node that sent an ICMP error: by its address, or by its distance where netfilter replaced the address.

use std::net::IpAddr;

use super::case::Case;
use super::symptom::FailureGroup;
use crate::data_plane::{Transport, initial_hop_limit};
use crate::evidence::PathEvidence;
use crate::packet::observation::Direction;
use crate::packet::{Icmp, IcmpKind, Ip};
use crate::probe::event::Hello;
use crate::topology::{NodeName, Path};

/// The node that has this address, according to its facts or to an agent that runs there. An address that several nodes have,
/// as IPVS gives each the addresses of all Services, shows none of them.
pub(crate) fn owner<'a>(case: &Case<'a>, address: IpAddr) -> Option<&'a NodeName> {
    let by_facts = case.matrix.nodes.keys().filter(|node| {
        let facts = case.matrix.facts(node);
        facts.is_some_and(|facts| facts.address(address).found().is_some())
    });
    let has = |hello: &Hello| hello.addresses.contains(&address);
    let by_agents = (case.matrix.agents.iter())
        .filter(|(_, known)| known.hello.as_ref().is_some_and(has))
        .map(|(agent, _)| &agent.node);
    let mut owners = by_facts.chain(by_agents);
    let only = owners.next()?;
    owners.all(|other| other == only).then_some(only)
}

/// The number of routers that a received packet passed.
pub(crate) const fn routers_passed(ip: &Ip) -> u8 {
    initial_hop_limit(ip.hop_limit) - ip.hop_limit
}

/// The node that sent an ICMP message to the client of a path. Netfilter gives the Service's address to every error that
/// quotes a translated connection, whatever router sent it; then the distance shows the router.
pub(crate) fn router(
    case: &Case<'_>,
    evidence: &PathEvidence,
    by: IpAddr,
    hop_limit: u8,
) -> Option<NodeName> {
    let path = &evidence.path;
    // Nodes whose facts were not read may have the Service's address as well.
    let is_of_service = by == evidence.target.ip() && path.access_path.is_translated();
    if !is_of_service {
        return owner(case, by).cloned();
    }
    if !case.plane.translation(&path.client.node).is_by_netfilter() {
        return None;
    }
    match initial_hop_limit(hop_limit) - hop_limit {
        0 => Some(path.client.node.clone()),
        distance if last_router(case, path) == Some(distance) => {
            path.server.as_ref().map(|server| server.node.clone())
        }
        _ => None,
    }
}

/// The distance of the server's node as a router, from a pod of the client's node, whose own node is at 0: 1 for the other end
/// of a tunnel and for the next hop of the route; otherwise as healthy paths show it, of either direction.
fn last_router(case: &Case<'_>, path: &Path) -> Option<u8> {
    let client = &path.client.node;
    let server = &path.server.as_ref()?.node;
    if server == client {
        return None;
    }
    let is_next_hop = match case.plane.transport(client, server, path.family) {
        Transport::Tunnel { .. } => true,
        Transport::Direct { gateway, .. } => {
            gateway.and_then(|gateway| owner(case, gateway)) == Some(server)
        }
        Transport::ByPod { .. } | Transport::Refused | Transport::NoRoute | Transport::Unknown => {
            false
        }
    };
    if is_next_hop {
        return Some(1);
    }
    let habits = case.plane.habits();
    let routers = habits
        .routers(client, server, path.family)
        .or_else(|| habits.routers(server, client, path.family))?;
    routers.checked_sub(1).filter(|distance| *distance > 0)
}

/// The first ICMP unreachable that the client of a group received from another host: a kernel that does not resolve a
/// neighbour sends such an error to itself.
pub(crate) fn unreachable<'a>(case: &Case<'a>, group: &FailureGroup) -> Option<(&'a Ip, &'a Icmp)> {
    case.client_packets(group)
        .filter(|seen| seen.direction == Direction::Received)
        .filter_map(|seen| seen.packet.icmp())
        .find(|(ip, icmp)| matches!(icmp.kind, IcmpKind::Unreachable { .. }) && ip.src != ip.dst)
}

/// The node that answered the probes of a group by ICMP unreachable.
pub(crate) fn refuser(case: &Case<'_>, group: &FailureGroup) -> Option<NodeName> {
    let evidence = case.path(group.path)?;
    let (ip, _) = unreachable(case, group)?;
    router(case, evidence, ip.src, ip.hop_limit)
}
