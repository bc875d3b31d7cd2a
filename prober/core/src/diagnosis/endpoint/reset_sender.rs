//! The sender of a RST: the server, a rule on a node, or another host.

use std::collections::BTreeSet;

use crate::diagnosis::case::Case;
use crate::diagnosis::symptom::{FailureGroup, ServerEnd};
use crate::packet::TcpFlags;
use crate::packet::mac::Mac;
use crate::packet::observation::{Direction, Observation};
use crate::topology::NodeName;

/// The sender of a RST.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ResetSender {
    /// The server itself.
    Server,
    /// A rule on this node.
    Node(NodeName),
    /// Another pod.
    OtherHost,
    /// The evidence does not decide.
    Unclear,
}

/// The sender of the RSTs of a group, from the packets of the server's end, the TTL and the source MAC: two routers
/// on the path from a pod of another node leave 62 of 64, one leaves 63, the own node 64.
pub(crate) fn reset_sender(case: &Case<'_>, group: &FailureGroup) -> ResetSender {
    if group.server_end == ServerEnd::ResetSent {
        return ResetSender::Server;
    }
    let has_server_trace = group.server_end != ServerEnd::Unknown;
    let Some(seen) = reset_packet(case, group) else {
        return ResetSender::Unclear;
    };
    let Some((ip, _)) = seen.packet.tcp() else {
        return ResetSender::Unclear;
    };
    let sender = seen.packet.link.map(|link| link.src);
    // Where connect() is translated, a pod that probes its own Service never leaves its loopback device.
    if group.server.as_ref() == Some(&group.client) && sender == Some(Mac::LOOPBACK) {
        return ResetSender::Server;
    }
    let from_gateway = sender.is_some_and(|sender| Some(sender) == case.gateway_mac(&group.client));
    if group.is_same_node() {
        let own = group
            .server
            .as_ref()
            .and_then(|server| case.mac(server, group.family));
        return match (sender, own) {
            _ if from_gateway => ResetSender::Node(group.client.node.clone()),
            (Some(sender), Some(own)) if has_server_trace && sender != own => {
                ResetSender::OtherHost
            }
            _ if has_server_trace => ResetSender::Node(group.client.node.clone()),
            _ => ResetSender::Unclear,
        };
    }
    match (ip.hop_limit, &group.server) {
        (64, Some(_)) => ResetSender::Node(group.client.node.clone()),
        (64, None) if from_gateway => ResetSender::Node(group.client.node.clone()),
        (63, Some(server)) => ResetSender::Node(server.node.clone()),
        (63, None) => only_other_node(case, group).map_or(ResetSender::Unclear, ResetSender::Node),
        (_, Some(_)) if has_server_trace => ResetSender::OtherHost,
        _ => ResetSender::Unclear,
    }
}

/// The only node besides the client's that has endpoints of a balanced port.
fn only_other_node(case: &Case<'_>, group: &FailureGroup) -> Option<NodeName> {
    let nodes: BTreeSet<&NodeName> = case
        .path(group.path)?
        .backends
        .iter()
        .filter_map(|backend| backend.agent.as_ref())
        .map(|agent| &agent.node)
        .filter(|node| **node != group.client.node)
        .collect();
    let mut nodes = nodes.into_iter();
    let only = nodes.next()?;
    nodes.next().is_none().then(|| only.clone())
}

/// The first RST that the client received.
pub(crate) fn reset_packet<'a>(case: &Case<'a>, group: &FailureGroup) -> Option<&'a Observation> {
    case.client_packets(group).find(|seen| {
        seen.direction == Direction::Received
            && seen
                .packet
                .tcp()
                .is_some_and(|(_, tcp)| tcp.flags.has(TcpFlags::RST))
    })
}
