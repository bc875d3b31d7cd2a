//! The hosts that may have sent a RST: by what the server's end observed, by the number of routers that the RST passed, and by
//! its Ethernet address where client and server are on one bridge. A RST carries the server's address, whatever sent it.

use std::collections::BTreeSet;

use crate::data_plane::Attachment;
use crate::diagnosis::case::Case;
use crate::diagnosis::origin::routers_passed;
use crate::diagnosis::symptom::{FailureGroup, ServerEnd};
use crate::packet::family::Family;
use crate::packet::mac::Mac;
use crate::packet::observation::{Direction, Observation};
use crate::packet::{Ip, TcpFlags};
use crate::topology::{AgentId, NodeName};

/// The hosts that the evidence leaves as senders.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ResetSenders {
    /// The server itself.
    pub(crate) server: bool,
    /// A rule on one of these nodes.
    pub(crate) nodes: BTreeSet<NodeName>,
    /// Another host with the server's address.
    pub(crate) other_host: bool,
}

impl ResetSenders {
    /// The server alone.
    fn server() -> Self {
        Self {
            server: true,
            ..Self::default()
        }
    }

    /// Nothing but the server.
    pub(crate) fn is_only_server(&self) -> bool {
        self.server && self.nodes.is_empty() && !self.other_host
    }

    /// Nothing but a rule on this node.
    pub(crate) fn is_only_node(&self, node: &NodeName) -> bool {
        !self.server && !self.other_host && self.nodes.len() == 1 && self.nodes.contains(node)
    }

    /// Nothing but another host.
    pub(crate) fn is_only_other_host(&self) -> bool {
        !self.server && self.nodes.is_empty() && self.other_host
    }
}

/// The possible senders of the RSTs of a group.
pub(crate) fn reset_senders(case: &Case<'_>, group: &FailureGroup) -> ResetSenders {
    if group.server_end == ServerEnd::ResetSent {
        return ResetSenders::server();
    }
    // What the server's end observed contains no RST of its own.
    let is_unobserved = group.server_end == ServerEnd::Unknown;
    let Some((seen, ip)) = reset_packet(case, group) else {
        return ResetSenders {
            server: is_unobserved,
            other_host: is_unobserved,
            ..ResetSenders::default()
        };
    };
    let sender = seen.packet.link.map(|link| link.src);
    let Some(server) = &group.server else {
        return of_balanced(case, group, ip, sender);
    };
    // Where connect() is translated, a pod that probes its own Service never leaves its loopback device.
    if *server == group.client && sender == Some(Mac::LOOPBACK) {
        return ResetSenders::server();
    }
    if is_from_own_bridge(case, group) {
        return ResetSenders {
            other_host: true,
            ..ResetSenders::default()
        };
    }
    let passed = routers_passed(ip);
    let expected = routers_between(case, server, &group.client, group.family);
    // A RST that no router forwarded and that does not come from the node's end of the client's link is a neighbour's.
    let is_from_neighbour = passed == 0 && is_past_routers(case, group, sender);
    let is_from_pod = is_from_neighbour || expected.is_none_or(|expected| passed == expected);
    let is_own = || sender.is_some() && sender == case.plane.habits().mac(server, group.family);
    let mut senders = ResetSenders {
        server: is_unobserved && is_from_pod,
        nodes: BTreeSet::new(),
        other_host: is_from_pod && !(is_from_neighbour && is_own()),
    };
    let is_first_router = passed == 0 && !is_from_neighbour;
    if is_first_router {
        senders.nodes.insert(group.client.node.clone());
    }
    if group.is_cross_node() {
        let is_last_router = match expected {
            Some(expected) => passed > 0 && passed + 1 == expected,
            None => passed > 0,
        };
        if is_last_router {
            senders.nodes.insert(server.node.clone());
        }
        return senders;
    }
    if is_first_router && expected.is_none_or(|expected| expected == 0) {
        on_one_bridge(case, group, sender, &mut senders);
    }
    senders
}

/// Whether the RST of a group comes from another port of the client's own bridge, although a router is between the client and
/// the server: from the server, and from a rule on the way to it, it would come from the node's end of the bridge.
pub(crate) fn is_from_own_bridge(case: &Case<'_>, group: &FailureGroup) -> bool {
    let Some((seen, ip)) = reset_packet(case, group) else {
        return false;
    };
    let is_bridged = match case.plane.attachment(&group.client, group.family) {
        Attachment::Bridge { .. } => true,
        Attachment::Routed { .. } | Attachment::OwnDevice { .. } | Attachment::Unknown => false,
    };
    let server = group.server.as_ref().filter(|_| group.is_cross_node());
    let is_routed = server.is_some_and(|server| {
        routers_between(case, server, &group.client, group.family).is_some_and(|count| count > 0)
    });
    let routers = gateways(case, &group.client, group.family);
    let sender = seen.packet.link.map(|link| link.src);
    let is_no_router = sender.is_some_and(|sender| !routers.contains(&sender));
    is_bridged && is_routed && routers_passed(ip) == 0 && !routers.is_empty() && is_no_router
}

/// Whether a client with a link of its own to its node received a RST from another Ethernet address than that of any router of
/// it: by a device on the network between the nodes.
fn is_past_routers(case: &Case<'_>, group: &FailureGroup, sender: Option<Mac>) -> bool {
    let attachment = case.plane.attachment(&group.client, group.family);
    let routers = gateways(case, &group.client, group.family);
    let is_known = matches!(attachment, Attachment::Routed { .. }) && !routers.is_empty();
    is_known && sender.is_some_and(|sender| !routers.contains(&sender))
}

/// On one bridge a RST that was not routed has the Ethernet address of its sender. A rule gives its RST that of the server, or
/// of the bridge where the packet was routed.
fn on_one_bridge(
    case: &Case<'_>,
    group: &FailureGroup,
    sender: Option<Mac>,
    senders: &mut ResetSenders,
) {
    let Some(sender) = sender else {
        return;
    };
    if gateways(case, &group.client, group.family).contains(&sender) {
        senders.server = false;
        senders.other_host = false;
        return;
    }
    let server = group.server.as_ref();
    let own = server.and_then(|server| case.plane.habits().mac(server, group.family));
    match own {
        Some(own) if own == sender => senders.other_host = false,
        Some(_) => {
            senders.server = false;
            senders.nodes.clear();
        }
        None => {}
    }
}

/// The same for a balanced port whose server is not known.
fn of_balanced(
    case: &Case<'_>,
    group: &FailureGroup,
    ip: &Ip,
    sender: Option<Mac>,
) -> ResetSenders {
    let passed = routers_passed(ip);
    let is_from_gateway =
        sender.is_some_and(|sender| gateways(case, &group.client, group.family).contains(&sender));
    let node = if passed == 0 && is_from_gateway {
        Some(group.client.node.clone())
    } else {
        only_other_server(case, group)
            .filter(|server| {
                let expected = routers_between(case, server, &group.client, group.family);
                passed > 0 && expected == Some(passed + 1)
            })
            .map(|server| server.node)
    };
    let is_unlocated = node.is_none();
    ResetSenders {
        server: is_unlocated && group.server_end == ServerEnd::Unknown,
        nodes: node.into_iter().collect(),
        other_host: is_unlocated,
    }
}

/// A server of the only node besides the client's that has endpoints of a balanced port.
fn only_other_server(case: &Case<'_>, group: &FailureGroup) -> Option<AgentId> {
    let path = case.path(group.path)?;
    let mut servers = (path.backends.iter())
        .filter_map(|backend| backend.agent.as_ref())
        .filter(|agent| agent.node != group.client.node);
    let first = servers.next()?;
    servers
        .all(|other| other.node == first.node)
        .then(|| first.clone())
}

/// The number of routers that packets pass from one pod to another: as healthy paths show it, or as the data plane says.
pub(crate) fn routers_between(
    case: &Case<'_>,
    from: &AgentId,
    to: &AgentId,
    family: Family,
) -> Option<u8> {
    // The packets of a pod to itself are routed or not, as its Service is translated.
    if from == to {
        return None;
    }
    let plane = &case.plane;
    let calibrated = plane.habits().routers(&to.node, &from.node, family);
    calibrated.or_else(|| {
        let attachments = [plane.attachment(from, family), plane.attachment(to, family)];
        if from.node == to.node {
            return match attachments {
                [
                    Attachment::Bridge { bridge, .. },
                    Attachment::Bridge { bridge: other, .. },
                ] => (bridge == other).then_some(0),
                [Attachment::Routed { .. }, Attachment::Routed { .. }] => Some(1),
                [Attachment::OwnDevice { .. }, Attachment::OwnDevice { .. }] => Some(0),
                _ => None,
            };
        }
        // Both nodes route what comes from their pods, and what comes out of the tunnel.
        let is_routed = |attachment: &Attachment| match attachment {
            Attachment::Bridge { .. } | Attachment::Routed { .. } => true,
            Attachment::OwnDevice { .. } | Attachment::Unknown => false,
        };
        let is_tunnel = plane.transport(&from.node, &to.node, family).is_tunnel();
        (is_tunnel && attachments.into_iter().all(is_routed)).then_some(2)
    })
}

/// The Ethernet addresses of the first router of a pod: as it was used, and of the node's link that leads to the pod.
pub(crate) fn gateways(case: &Case<'_>, pod: &AgentId, family: Family) -> BTreeSet<Mac> {
    let used = case.plane.habits().gateway(pod, family);
    let link = match case.plane.attachment(pod, family) {
        Attachment::Bridge { bridge, .. } => Some(bridge),
        Attachment::Routed { link } => Some(link),
        Attachment::OwnDevice { .. } | Attachment::Unknown => None,
    };
    let facts = case.facts(&pod.node);
    let own = link.and_then(|link| facts?.link(link).found()?.mac);
    used.into_iter().chain(own).collect()
}

/// The first RST that the client received.
pub(crate) fn reset_packet<'a>(
    case: &Case<'a>,
    group: &FailureGroup,
) -> Option<(&'a Observation, &'a Ip)> {
    case.client_packets(group)
        .find_map(|seen| received_reset(seen))
}

/// A received RST, with its IP header.
pub(crate) fn received_reset(seen: &Observation) -> Option<(&Observation, &Ip)> {
    let (ip, tcp) = seen.packet.tcp()?;
    let is_reset = seen.direction == Direction::Received && tcp.flags.has(TcpFlags::RST);
    is_reset.then_some((seen, ip))
}

/// A RST in words: its TTL and its Ethernet address.
pub(crate) fn described(seen: &Observation, ip: &Ip) -> String {
    let link = seen.packet.link;
    let link = link.map_or_else(String::new, |link| format!(", source MAC {}", link.src));
    format!("TTL {}{link}", ip.hop_limit)
}
