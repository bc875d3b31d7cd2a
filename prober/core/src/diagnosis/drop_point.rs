//! Where packets without an answer are dropped: on a node or between two, from the packets at both ends, the TTL probes of
//! both directions, and the counters of the tunnel.
//!
//! Time exceeded is raised before the FORWARD chain (`ip_forward`, net/ipv4/ip_forward.c), so an
//! answer of the second router proves the tunnel both ways, and a filter behind it.

use super::case::{Case, Reachability};
use super::symptom::{FailureGroup, ServerEnd, Symptom};
use crate::node_facts::LinkCounters;
use crate::packet::family::Family;
use crate::topology::{AccessPath, NodeName};

/// Which packets are lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum FlowDirection {
    /// SYNs, on their way to the server.
    ToServer,
    /// Answers, on their way back to the client.
    ToClient,
}

/// The stretch where a group's packets are dropped.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum DropLocation {
    /// On a node, between its pods and its tunnel.
    Node(NodeName),
    /// Between two nodes, in this direction.
    Tunnel(NodeName, NodeName),
    /// Between the nodes or on one of them: no evidence decides.
    Unclear,
    /// Not on the path: at the server itself, or the path is not known.
    Elsewhere,
}

/// Where a silent group's packets are dropped, which packets, and the observation that shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DropPoint {
    pub(crate) location: DropLocation,
    pub(crate) direction: FlowDirection,
    pub(crate) because: String,
}

impl DropPoint {
    fn new(location: DropLocation, direction: FlowDirection, because: impl Into<String>) -> Self {
        Self {
            location,
            direction,
            because: because.into(),
        }
    }
}

/// Locates where a silent group's packets are dropped.
pub(crate) fn drop_point(case: &Case<'_>, group: &FailureGroup) -> DropPoint {
    let direction = match group.server_end {
        ServerEnd::Nothing | ServerEnd::Unknown => FlowDirection::ToServer,
        ServerEnd::SynAck => FlowDirection::ToClient,
        ServerEnd::SynOnly
        | ServerEnd::SynAckReset
        | ServerEnd::ResetSent
        | ServerEnd::Completed => {
            return DropPoint::new(
                DropLocation::Elsewhere,
                FlowDirection::ToClient,
                "the server's end received an answer",
            );
        }
    };
    let Some(server) = &group.server else {
        return DropPoint::new(
            DropLocation::Elsewhere,
            direction,
            "the endpoint is not known",
        );
    };
    let (from, to) = (&group.client.node, &server.node);
    if from == to {
        let because = match direction {
            FlowDirection::ToServer => {
                format!("both pods are on {from}, and the server's end saw no SYN")
            }
            FlowDirection::ToClient => {
                format!(
                    "both pods are on {from}; the server's end sent SYN+ACK, and it did not arrive"
                )
            }
        };
        return DropPoint::new(DropLocation::Node(from.clone()), direction, because);
    }
    let search = Search {
        case,
        group,
        from,
        to,
        direction,
    };
    search
        .by_ttl_probe()
        .or_else(|| search.by_same_node())
        .or_else(|| search.by_return_ttl_probe())
        .or_else(|| search.by_traffic())
        .or_else(|| search.by_third_node())
        .unwrap_or_else(|| search.by_other_packets())
}

/// The search for the place where packets between two nodes are dropped.
#[derive(Clone, Copy)]
struct Search<'a> {
    case: &'a Case<'a>,
    group: &'a FailureGroup,
    /// The client's node.
    from: &'a NodeName,
    /// The server's.
    to: &'a NodeName,
    direction: FlowDirection,
}

impl Search<'_> {
    /// The sending and the receiving node of the dropped packets.
    fn ends(&self) -> (&NodeName, &NodeName) {
        match self.direction {
            FlowDirection::ToServer => (self.from, self.to),
            FlowDirection::ToClient => (self.to, self.from),
        }
    }

    /// Whether a TTL probe from one node reached the other, or a filter behind it.
    fn ttl_probes_reach(&self, from: &NodeName, to: &NodeName) -> bool {
        let mut ttl_probes = self.case.ttl_probes(from, to, self.group.family);
        ttl_probes.any(|ttl_probe| self.case.reached_second_hop(from, ttl_probe))
    }

    /// Whether a TTL probe was sent from one node to the other.
    fn is_ttl_probed(&self, from: &NodeName, to: &NodeName) -> bool {
        let mut ttl_probes = self.case.ttl_probes(from, to, self.group.family);
        ttl_probes.next().is_some()
    }

    /// The TTL probe of the client: if it reached the server's node, the tunnel is open both ways.
    fn by_ttl_probe(&self) -> Option<DropPoint> {
        let (to, direction) = (self.to, self.direction);
        if !self.ttl_probes_reach(self.from, to) {
            return None;
        }
        let because = match direction {
            FlowDirection::ToServer => format!(
                "a SYN with TTL 2 was answered by time exceeded from {to}: the tunnel is open both ways, and {to} drops what it forwards"
            ),
            FlowDirection::ToClient => format!(
                "a SYN with TTL 2 was answered by time exceeded from {to}: the tunnel is open both ways, and {to} drops the answers of its pod"
            ),
        };
        Some(DropPoint::new(
            DropLocation::Node(to.clone()),
            direction,
            because,
        ))
    }

    /// A node that also drops the traffic among its own pods, in the same way, needs no second fault.
    fn by_same_node(&self) -> Option<DropPoint> {
        let (group, direction) = (self.group, self.direction);
        let is_alike = |node: &NodeName| {
            self.case
                .failing(|other| {
                    let same_pod = other.client == group.client || other.server == group.server;
                    other.family == group.family
                        && other.symptom == Symptom::Silent
                        && other.access_path == AccessPath::PodIp
                        && other.is_same_node()
                        && other.client.node == *node
                        && same_pod
                        && match direction {
                            FlowDirection::ToServer => {
                                matches!(other.server_end, ServerEnd::Nothing | ServerEnd::Unknown)
                            }
                            FlowDirection::ToClient => {
                                matches!(
                                    other.server_end,
                                    ServerEnd::SynAck | ServerEnd::SynAckReset
                                )
                            }
                        }
                })
                .next()
                .is_some()
        };
        [self.from, self.to]
            .into_iter()
            .find(|node| is_alike(node))
            .map(|node| {
                DropPoint::new(
                    DropLocation::Node(node.clone()),
                    direction,
                    format!("packets between two pods of {node} are dropped in the same way"),
                )
            })
    }

    /// The TTL probe of the opposite direction: if it reached the client's node, the tunnel is open both ways.
    fn by_return_ttl_probe(&self) -> Option<DropPoint> {
        let (from, to, direction) = (self.from, self.to, self.direction);
        let ttl_probed = self.is_ttl_probed(from, to);
        let returned = self.ttl_probes_reach(to, from);
        let crossed = |one, other| self.case.reachability(one, other, self.group.family);
        let open = crossed(from, to) == Reachability::Reached
            && crossed(to, from) == Reachability::Reached;
        if returned && ttl_probed {
            let because = match direction {
                FlowDirection::ToServer => format!(
                    "a SYN with TTL 2 from {to} was answered by time exceeded from {from}, so the tunnel is open both ways, and one from {from} had no answer from beyond {from}: {from} drops what it forwards"
                ),
                FlowDirection::ToClient => format!(
                    "a SYN with TTL 2 from {to} was answered by time exceeded from {from}, so the tunnel is open both ways: {from} drops the answers to its pods"
                ),
            };
            return Some(DropPoint::new(
                DropLocation::Node(from.clone()),
                direction,
                because,
            ));
        }
        // Other pods use both directions: the drop is on a node.
        if open && ttl_probed && direction == FlowDirection::ToServer {
            return Some(DropPoint::new(
                DropLocation::Node(from.clone()),
                direction,
                format!(
                    "other packets pass the tunnel both ways, and a SYN with TTL 2 from {from} had no answer from beyond it"
                ),
            ));
        }
        None
    }

    /// The counters of the tunnel's ends while only failing paths were probed.
    fn by_traffic(&self) -> Option<DropPoint> {
        let (case, group, direction) = (self.case, self.group, self.direction);
        let (sender, receiver) = self.ends();
        let sent = tunnel_traffic(case, sender, group.family)?;
        let received = tunnel_traffic(case, receiver, group.family)?;
        let (name, sent) = sent;
        let received = received.1;
        if let Some(counted) = refused(&sent) {
            return Some(DropPoint::new(
                DropLocation::Tunnel(sender.clone(), receiver.clone()),
                direction,
                format!("{sender} counted {counted} at {name}"),
            ));
        }
        // The packets sent may be those for other nodes; a healthy connection of the node itself to the receiver is better
        // evidence.
        let passes_itself = case.all_healthy().any(|evidence| {
            let path = &evidence.path;
            path.access_path == AccessPath::HostNetwork
                && path.family == group.family
                && path.client.node == *sender
                && (path.server.as_ref()).is_some_and(|server| server.node == *receiver)
        });
        if passes_itself && received.rx_packets == 0 {
            return Some(DropPoint::new(
                DropLocation::Node(sender.clone()),
                direction,
                format!(
                    "packets of {sender} itself reach pods of {receiver} through {name}, and packets of its pods do not: {sender} drops what it forwards"
                ),
            ));
        }
        if sent.tx_packets > 0 && received.rx_packets == 0 {
            return Some(DropPoint::new(
                DropLocation::Tunnel(sender.clone(), receiver.clone()),
                direction,
                format!(
                    "{name} sent {} packets on {sender} and received none on {receiver}",
                    sent.tx_packets
                ),
            ));
        }
        if sent.tx_packets == 0 {
            return Some(DropPoint::new(
                DropLocation::Node(sender.clone()),
                direction,
                format!("{name} sent nothing on {sender}: packets are dropped before the tunnel"),
            ));
        }
        None
    }

    /// Where an end has no TTL probe, the TTL probes between the other end and a third node decide: a node that drops the
    /// packets of one node needs no second fault to drop those of two.
    fn by_third_node(&self) -> Option<DropPoint> {
        let (group, from, to) = (self.group, self.from, self.to);
        if self.is_ttl_probed(from, to) && self.is_ttl_probed(to, from) {
            return None;
        }
        let is_alike = |other: &FailureGroup| {
            let shares_one_end = (other.client == group.client) != (other.server == group.server);
            other.family == group.family
                && other.symptom == Symptom::Silent
                && other.server_end == group.server_end
                && other.is_cross_node()
                && shares_one_end
        };
        let drop_node = |other: &FailureGroup| {
            let (there, back) = (&other.client.node, &other.server.as_ref()?.node);
            let search = Search {
                group: other,
                from: there,
                to: back,
                ..*self
            };
            let drop_point = (search.by_ttl_probe()).or_else(|| search.by_return_ttl_probe())?;
            match drop_point.location {
                DropLocation::Node(node) => Some(node),
                DropLocation::Tunnel(..) | DropLocation::Unclear | DropLocation::Elsewhere => None,
            }
        };
        let node = self
            .case
            .failing(is_alike)
            .filter_map(|(_, other)| drop_node(other))
            .find(|node| node == from || node == to)?;
        let because = format!("the same packets of a third node are dropped on {node}");
        Some(DropPoint::new(
            DropLocation::Node(node),
            self.direction,
            because,
        ))
    }

    /// Whether any packet from one node reaches the other, where there is no better evidence.
    fn by_other_packets(&self) -> DropPoint {
        let (group, direction) = (self.group, self.direction);
        let (sender, receiver) = self.ends();
        match self.case.reachability(sender, receiver, group.family) {
            Reachability::Reached => DropPoint::new(
                DropLocation::Unclear,
                direction,
                format!("other packets from {sender} reach {receiver}"),
            ),
            Reachability::NotReached | Reachability::NotProbed
                if group.server_end == ServerEnd::Unknown =>
            {
                DropPoint::new(
                    DropLocation::Unclear,
                    direction,
                    "there is no capture from the server side",
                )
            }
            Reachability::NotReached | Reachability::NotProbed => DropPoint::new(
                DropLocation::Tunnel(sender.clone(), receiver.clone()),
                direction,
                format!("no packet from {sender} is known to have reached {receiver}"),
            ),
        }
    }
}

/// The tunnel of a family on a node, and its traffic while failing paths were probed.
pub(crate) fn tunnel_traffic(
    case: &Case<'_>,
    node: &NodeName,
    family: Family,
) -> Option<(String, LinkCounters)> {
    let facts = case.facts(node)?;
    let tunnel = facts.links.as_ref()?.iter().find(|link| {
        link.vxlan
            .as_ref()
            .is_some_and(|vxlan| vxlan.local.is_none_or(|local| Family::of(local) == family))
    })?;
    Some((tunnel.name.clone(), case.traffic(node, &tunnel.name)?))
}

/// Packets that a tunnel could not send: over IPv4 they count as dropped, over IPv6 as errors
/// (`iptunnel_xmit_stats`, include/net/ip_tunnels.h).
pub(crate) fn refused(sent: &LinkCounters) -> Option<String> {
    match (sent.tx_dropped, sent.tx_errors) {
        (0, 0) => None,
        (0, errors) => Some(format!("tx_errors +{errors}")),
        (dropped, 0) => Some(format!("tx_dropped +{dropped}")),
        (dropped, errors) => Some(format!("tx_dropped +{dropped} and tx_errors +{errors}")),
    }
}
