//! Where silent packets die: on a node, or between two, by both ends, by the TTL ladders of both
//! directions, and by what went through the tunnel.
//!
//! Time exceeded is raised before the FORWARD chain (`ip_forward`, net/ipv4/ip_forward.c), so an
//! answer of the second router proves the tunnel both ways, and a filter behind it.

use super::case::{Case, Crossing};
use super::symptom::{ServerEnd, Symptom, Unit};
use crate::node_facts::LinkCounters;
use crate::packet::family::Family;
use crate::topology::{AccessPath, NodeName};

/// Which packets are lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Way {
    /// SYNs, on their way to the server.
    There,
    /// Answers, on their way to the client.
    Back,
}

/// The stretch where a unit's packets die.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Spot {
    /// On a node, between its pods and its tunnel.
    Node(NodeName),
    /// Between two nodes, in this direction.
    Tunnel(NodeName, NodeName),
    /// Between the nodes or on one of them: nothing tells.
    Unclear,
    /// Not on the way: at the server itself, or the way is not known.
    Elsewhere,
}

/// Where a silent unit's packets die, which packets, and the observation that says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Death {
    pub(crate) spot: Spot,
    pub(crate) way: Way,
    pub(crate) because: String,
}

impl Death {
    fn new(spot: Spot, way: Way, because: impl Into<String>) -> Self {
        Self {
            spot,
            way,
            because: because.into(),
        }
    }
}

/// Where a silent unit's packets die.
pub(crate) fn death(case: &Case<'_>, unit: &Unit) -> Death {
    let way = match unit.server_end {
        ServerEnd::Nothing | ServerEnd::Unheard => Way::There,
        ServerEnd::SynAck => Way::Back,
        ServerEnd::SynOnly
        | ServerEnd::SynAckReset
        | ServerEnd::ResetSent
        | ServerEnd::Completed => {
            return Death::new(Spot::Elsewhere, Way::Back, "the server's end was answered");
        }
    };
    let Some(server) = &unit.server else {
        return Death::new(Spot::Elsewhere, way, "the endpoint is not known");
    };
    let (from, to) = (&unit.client.node, &server.node);
    if from == to {
        let because = match way {
            Way::There => format!("both pods are on {from}, and the server's end saw no SYN"),
            Way::Back => {
                format!("both pods are on {from}; the server's end sent SYN+ACK, and it never came")
            }
        };
        return Death::new(Spot::Node(from.clone()), way, because);
    }
    let search = Search {
        case,
        unit,
        from,
        to,
        way,
    };
    search
        .by_ladder()
        .or_else(|| search.same_node_too())
        .or_else(|| search.by_return_ladder())
        .or_else(|| search.by_traffic())
        .or_else(|| search.as_others())
        .unwrap_or_else(|| search.by_what_crossed())
}

/// The search for the place where packets between two nodes die.
#[derive(Clone, Copy)]
struct Search<'a> {
    case: &'a Case<'a>,
    unit: &'a Unit,
    /// The client's node.
    from: &'a NodeName,
    /// The server's.
    to: &'a NodeName,
    way: Way,
}

impl Search<'_> {
    /// The nodes that what dies goes from and to.
    fn ends(&self) -> (&NodeName, &NodeName) {
        match self.way {
            Way::There => (self.from, self.to),
            Way::Back => (self.to, self.from),
        }
    }

    /// Whether a ladder from one node met the other, or a filter behind it.
    fn ladders_meet(&self, from: &NodeName, to: &NodeName) -> bool {
        let mut ladders = self.case.ladders(from, to, self.unit.family);
        ladders.any(|ladder| self.case.met_second_hop(from, ladder))
    }

    /// Whether a ladder was climbed from one node to the other.
    fn is_climbed(&self, from: &NodeName, to: &NodeName) -> bool {
        let mut ladders = self.case.ladders(from, to, self.unit.family);
        ladders.next().is_some()
    }

    /// The ladder of the client: if it met the server's node, the tunnel is open both ways.
    fn by_ladder(&self) -> Option<Death> {
        let (to, way) = (self.to, self.way);
        if !self.ladders_meet(self.from, to) {
            return None;
        }
        let because = match way {
            Way::There => format!(
                "a SYN with TTL 2 met time exceeded from {to}: the tunnel is open both ways, and {to} drops what it forwards"
            ),
            Way::Back => format!(
                "a SYN with TTL 2 met time exceeded from {to}: the tunnel is open both ways, and {to} drops the answers of its pod"
            ),
        };
        Some(Death::new(Spot::Node(to.clone()), way, because))
    }

    /// A node whose own pods do not reach each other either, in the same way, needs no second fault.
    fn same_node_too(&self) -> Option<Death> {
        let (unit, way) = (self.unit, self.way);
        let alike = |node: &NodeName| {
            self.case
                .failing(|other| {
                    let same_pod = other.client == unit.client || other.server == unit.server;
                    other.family == unit.family
                        && other.symptom == Symptom::Silent
                        && other.access_path == AccessPath::PodIp
                        && other.is_same_node()
                        && other.client.node == *node
                        && same_pod
                        && match way {
                            Way::There => {
                                matches!(other.server_end, ServerEnd::Nothing | ServerEnd::Unheard)
                            }
                            Way::Back => {
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
            .find(|node| alike(node))
            .map(|node| {
                Death::new(
                    Spot::Node(node.clone()),
                    way,
                    format!("packets between two pods of {node} die alike"),
                )
            })
    }

    /// The ladder from the other side: if it met the client's node, the tunnel is open both ways.
    fn by_return_ladder(&self) -> Option<Death> {
        let (from, to, way) = (self.from, self.to, self.way);
        let climbed = self.is_climbed(from, to);
        let returned = self.ladders_meet(to, from);
        let crossed = |one, other| self.case.crossed(one, other, self.unit.family);
        let open = crossed(from, to) == Crossing::Seen && crossed(to, from) == Crossing::Seen;
        if returned && climbed {
            let because = match way {
                Way::There => format!(
                    "a SYN with TTL 2 from {to} met time exceeded from {from}, so the tunnel is open both ways, and one from {from} met nothing beyond {from}: {from} drops what it forwards"
                ),
                Way::Back => format!(
                    "a SYN with TTL 2 from {to} met time exceeded from {from}, so the tunnel is open both ways: {from} drops what comes back to its pods"
                ),
            };
            return Some(Death::new(Spot::Node(from.clone()), way, because));
        }
        // Both directions are in use by other pods: what dies here dies on a node.
        if open && climbed && way == Way::There {
            return Some(Death::new(
                Spot::Node(from.clone()),
                way,
                format!(
                    "other packets pass the tunnel both ways, and a SYN with TTL 2 from {from} met nothing beyond it"
                ),
            ));
        }
        None
    }

    /// What the tunnel's ends counted while only failing paths were probed.
    fn by_traffic(&self) -> Option<Death> {
        let (case, unit, way) = (self.case, self.unit, self.way);
        let (sender, receiver) = self.ends();
        let sent = tunnel_traffic(case, sender, unit.family)?;
        let received = tunnel_traffic(case, receiver, unit.family)?;
        let (name, sent) = sent;
        let received = received.1;
        if let Some(said) = refused(&sent) {
            return Some(Death::new(
                Spot::Tunnel(sender.clone(), receiver.clone()),
                way,
                format!("{sender} counted {said} at {name}"),
            ));
        }
        // Another node's packets may be among those that were sent; what the node itself sends there tells more.
        let passes_itself = case.all_healthy().any(|evidence| {
            let path = &evidence.path;
            path.access_path == AccessPath::HostNetwork
                && path.family == unit.family
                && path.client.node == *sender
                && (path.server.as_ref()).is_some_and(|server| server.node == *receiver)
        });
        if passes_itself && received.rx_packets == 0 {
            return Some(Death::new(
                Spot::Node(sender.clone()),
                way,
                format!(
                    "what {sender} itself sends gets through {name} to pods of {receiver}, and nothing of its pods came there: {sender} drops what it forwards"
                ),
            ));
        }
        if sent.tx_packets > 0 && received.rx_packets == 0 {
            return Some(Death::new(
                Spot::Tunnel(sender.clone(), receiver.clone()),
                way,
                format!(
                    "{name} sent {} packets on {sender} and received none on {receiver}",
                    sent.tx_packets
                ),
            ));
        }
        if sent.tx_packets == 0 {
            return Some(Death::new(
                Spot::Node(sender.clone()),
                way,
                format!("{name} sent nothing on {sender}: packets die before the tunnel"),
            ));
        }
        None
    }

    /// Where an end climbed no ladder, what ladders say of the other end and a third node: a node that drops what comes from one
    /// needs no second fault to drop what comes from two.
    fn as_others(&self) -> Option<Death> {
        let (unit, from, to) = (self.unit, self.from, self.to);
        if self.is_climbed(from, to) && self.is_climbed(to, from) {
            return None;
        }
        let alike = |other: &Unit| {
            let shares_one_end = (other.client == unit.client) != (other.server == unit.server);
            other.family == unit.family
                && other.symptom == Symptom::Silent
                && other.server_end == unit.server_end
                && other.is_cross_node()
                && shares_one_end
        };
        let dies_at = |other: &Unit| {
            let (there, back) = (&other.client.node, &other.server.as_ref()?.node);
            let search = Search {
                unit: other,
                from: there,
                to: back,
                ..*self
            };
            let death = (search.by_ladder()).or_else(|| search.by_return_ladder())?;
            match death.spot {
                Spot::Node(node) => Some(node),
                Spot::Tunnel(..) | Spot::Unclear | Spot::Elsewhere => None,
            }
        };
        let node = self
            .case
            .failing(alike)
            .filter_map(|(_, other)| dies_at(other))
            .find(|node| node == from || node == to)?;
        let because = format!("the same packets of a third node die on {node}");
        Some(Death::new(Spot::Node(node), self.way, because))
    }

    /// Whether anything at all gets from one node to the other, where nothing tells more.
    fn by_what_crossed(&self) -> Death {
        let (unit, way) = (self.unit, self.way);
        let (sender, receiver) = self.ends();
        match self.case.crossed(sender, receiver, unit.family) {
            Crossing::Seen => Death::new(
                Spot::Unclear,
                way,
                format!("other packets get from {sender} to {receiver}"),
            ),
            Crossing::Never | Crossing::Unasked if unit.server_end == ServerEnd::Unheard => {
                Death::new(
                    Spot::Unclear,
                    way,
                    "there is no capture from the server side",
                )
            }
            Crossing::Never | Crossing::Unasked => Death::new(
                Spot::Tunnel(sender.clone(), receiver.clone()),
                way,
                format!("no packet is known to have got from {sender} to {receiver}"),
            ),
        }
    }
}

/// The tunnel of a family on a node, and what went through it while failing paths were probed.
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

/// What a tunnel could not send: over IPv4 it counts as dropped, over IPv6 as an error
/// (`iptunnel_xmit_stats`, include/net/ip_tunnels.h).
pub(crate) fn refused(sent: &LinkCounters) -> Option<String> {
    match (sent.tx_dropped, sent.tx_errors) {
        (0, 0) => None,
        (0, errors) => Some(format!("tx_errors +{errors}")),
        (dropped, 0) => Some(format!("tx_dropped +{dropped}")),
        (dropped, errors) => Some(format!("tx_dropped +{dropped} and tx_errors +{errors}")),
    }
}
