//! Who sent a RST: the server, a rule on a node, or a stranger.

use std::collections::BTreeSet;

use crate::diagnosis::case::Case;
use crate::diagnosis::symptom::{ServerEnd, Unit};
use crate::packet::TcpFlags;
use crate::packet::observation::{Direction, Observation};
use crate::topology::NodeName;

/// Who sent a RST.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Resetter {
    /// The server's own end sent it.
    Server,
    /// A rule on this node.
    Node(NodeName),
    /// Some other pod.
    Stranger,
    /// It could not be told.
    Unclear,
}

/// Who sent the RSTs of a unit, by the server's end, and by their TTL and source MAC: two routers
/// on the way from a pod of another node leave 62 of 64, one leaves 63, the own node 64.
pub(crate) fn resetter(case: &Case<'_>, unit: &Unit) -> Resetter {
    if unit.server_end == ServerEnd::ResetSent {
        return Resetter::Server;
    }
    let heard = unit.server_end != ServerEnd::Unheard;
    let Some(seen) = reset_packet(case, unit) else {
        return Resetter::Unclear;
    };
    let Some((ip, _)) = seen.packet.tcp() else {
        return Resetter::Unclear;
    };
    let from_gateway = seen
        .packet
        .link
        .is_some_and(|link| Some(link.src) == case.gateway_mac(&unit.client));
    if unit.is_same_node() {
        let own = unit
            .server
            .as_ref()
            .and_then(|server| case.mac(server, unit.family));
        let sender = seen.packet.link.map(|link| link.src);
        return match (sender, own) {
            _ if from_gateway => Resetter::Node(unit.client.node.clone()),
            (Some(sender), Some(own)) if heard && sender != own => Resetter::Stranger,
            _ if heard => Resetter::Node(unit.client.node.clone()),
            _ => Resetter::Unclear,
        };
    }
    match (ip.hop_limit, &unit.server) {
        (64, Some(_)) => Resetter::Node(unit.client.node.clone()),
        (64, None) if from_gateway => Resetter::Node(unit.client.node.clone()),
        (63, Some(server)) => Resetter::Node(server.node.clone()),
        (63, None) => only_other_node(case, unit).map_or(Resetter::Unclear, Resetter::Node),
        (_, Some(_)) if heard => Resetter::Stranger,
        _ => Resetter::Unclear,
    }
}

/// The one node beside the client's that has endpoints behind a balanced port.
fn only_other_node(case: &Case<'_>, unit: &Unit) -> Option<NodeName> {
    let nodes: BTreeSet<&NodeName> = case
        .path(unit.path)?
        .backends
        .iter()
        .filter_map(|backend| backend.agent.as_ref())
        .map(|agent| &agent.node)
        .filter(|node| **node != unit.client.node)
        .collect();
    let mut nodes = nodes.into_iter();
    let only = nodes.next()?;
    nodes.next().is_none().then(|| only.clone())
}

/// The first RST that the client got.
pub(crate) fn reset_packet<'a>(case: &Case<'a>, unit: &Unit) -> Option<&'a Observation> {
    case.client_packets(unit).find(|seen| {
        seen.direction == Direction::Received
            && seen
                .packet
                .tcp()
                .is_some_and(|(_, tcp)| tcp.flags.has(TcpFlags::RST))
    })
}
