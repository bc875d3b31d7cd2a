//! The spots at which the packets of a silent group may be dropped: every one on their way, less those that they are known to
//! have passed, and those that they never reached.
//!
//! They have passed a spot where a router behind it answered, by an address that is known to be that router's; where
//! connection tracking behind it has their entry; and where a tunnel carries other packets, since its own packets are alike.
//! They never reached a spot behind a complete reading of connection tracking without their entry, or behind a link that
//! counted no packet at all. A counter that grew shows nothing: other traffic has grown it.

/// What connection tracking shows.
mod conntrack;
/// The locations of several groups together.
mod of_groups;
/// What routers answered.
mod routers;

use super::case::Case;
use super::endpoint::{is_answered_directly, is_reached_directly};
use super::symptom::{FailureGroup, ServerEnd, Symptom};
use crate::data_plane::{Attachment, Transport};
use crate::packet::family::Family;
use crate::topology::{AccessPath, AgentId, NodeName};

pub(crate) use of_groups::{common, confined, first_few, place_of, sentences};

/// Which packets are lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum FlowDirection {
    /// SYNs, on their way to the server.
    ToServer,
    /// Answers, on their way back to the client.
    ToClient,
}

/// A part of a node's work on a packet, in the order of the work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    /// It comes from a pod: the pod's link, traffic control, the `raw` table, connection tracking.
    FromPod,
    /// The same for what comes from another node, out of its tunnel.
    FromUplink,
    /// The reverse-path filter, rules, routes, the forwarding switch.
    Routing,
    /// The chains from FORWARD to POSTROUTING, until the connection is confirmed (`nf_confirm`).
    Forwarding,
    /// Neighbours, the bridge, the pod's link.
    ToPod,
    /// Neighbours, the tunnel's encapsulation, the uplink.
    ToUplink,
}

/// A spot on the way of packets.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Spot {
    /// On a node, at a stage.
    Node(NodeName, Stage),
    /// Between two nodes, in this direction.
    Wire(NodeName, NodeName),
}

impl Spot {
    /// The node, if it is on one.
    const fn node(&self) -> Option<&NodeName> {
        match self {
            Self::Node(node, _) => Some(node),
            Self::Wire(..) => None,
        }
    }
}

/// Where the packets of a silent group may be dropped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Location {
    pub(crate) direction: FlowDirection,
    /// Whether the server's end observed; without it, packets of the other direction may be lost.
    pub(crate) is_observed: bool,
    /// The node that the packets come from.
    pub(crate) sender: NodeName,
    /// The node that they are for.
    pub(crate) receiver: NodeName,
    /// The spots that remain, in the order of the way.
    pub(crate) spots: Vec<Spot>,
    /// The observations that bound them, one sentence each.
    pub(crate) because: Vec<String>,
}

impl Location {
    /// Locates the drops of a silent group. `None` where its packets are not dropped on the way, or their endpoint is not
    /// known. Without observations of the server's end, both directions are possible, and the SYN's is assumed.
    pub(crate) fn of(case: &Case<'_>, group: &FailureGroup) -> Option<Self> {
        if group.symptom != Symptom::Silent {
            return None;
        }
        let server = group.server.as_ref()?;
        let client = &group.client;
        let bypasses = case.plane.bypasses_nodes(client, server, group.family);
        // What reaches the pod's own address and not the Service's may go elsewhere, if it takes the same way.
        let is_for_server = !group.access_path.is_translated()
            || group.access_path == AccessPath::Hairpin
            || bypasses
            || !is_reached_directly(case, group);
        // Where SYNs to the pod's own address arrive or are refused, silent ones to the Service that do not arrive go elsewhere.
        let is_elsewhere = group.access_path.is_translated()
            && group.server_end == ServerEnd::Nothing
            && !bypasses
            && is_answered_directly(case, group);
        if !is_for_server || is_elsewhere || conntrack::is_led_elsewhere(case, group, server) {
            return None;
        }
        let mut location = match group.server_end {
            ServerEnd::Nothing | ServerEnd::Unknown => {
                Self::new(FlowDirection::ToServer, client, server)
            }
            ServerEnd::SynAck => Self::new(FlowDirection::ToClient, server, client),
            ServerEnd::SynOnly
            | ServerEnd::SynAckReset
            | ServerEnd::ResetSent
            | ServerEnd::Completed => return None,
        };
        location.is_observed = group.server_end != ServerEnd::Unknown;
        if bypasses {
            // What is for a Service passes the client's node, which translates it.
            let is_translated = group.access_path.is_translated();
            let passed = Some(&client.node).filter(|_| is_translated);
            location.skip_nodes(passed);
        }
        if location.is_observed {
            location.because.push(match location.direction {
                FlowDirection::ToServer => format!("SYNs of {client} do not arrive in {server}"),
                FlowDirection::ToClient => {
                    format!("SYN+ACKs of {server} do not arrive in {client}")
                }
            });
        }
        if location.direction == FlowDirection::ToServer {
            location.read_ttl_probes(case, group);
        }
        location.read_conntrack(case, group);
        location.read_tunnel(case, group.family);
        Some(location)
    }

    /// Every spot on the way between two pods.
    fn new(direction: FlowDirection, from: &AgentId, to: &AgentId) -> Self {
        use Stage::{Forwarding, FromPod, FromUplink, Routing, ToPod, ToUplink};
        let (sender, receiver) = (from.node.clone(), to.node.clone());
        let on = |node: &NodeName, stages: [Stage; 4]| {
            stages.map(|stage| Spot::Node(node.clone(), stage))
        };
        let spots = if sender == receiver {
            on(&sender, [FromPod, Routing, Forwarding, ToPod]).to_vec()
        } else {
            let mut spots = on(&sender, [FromPod, Routing, Forwarding, ToUplink]).to_vec();
            spots.push(Spot::Wire(sender.clone(), receiver.clone()));
            spots.extend(on(&receiver, [FromUplink, Routing, Forwarding, ToPod]));
            spots
        };
        Self {
            direction,
            is_observed: false,
            sender,
            receiver,
            spots,
            because: Vec::new(),
        }
    }

    /// The packets pass no node but this one: of the others only the pods' own links.
    fn skip_nodes(&mut self, passed: Option<&NodeName>) {
        self.spots.retain(|spot| match spot {
            Spot::Node(node, stage) => {
                Some(node) == passed || matches!(stage, Stage::FromPod | Stage::ToPod)
            }
            Spot::Wire(..) => true,
        });
    }

    /// Whether sender and receiver are on one node.
    pub(crate) fn is_same_node(&self) -> bool {
        self.sender == self.receiver
    }

    /// Whether packets may be dropped at a spot of these.
    pub(crate) fn meets(&self, wanted: impl Fn(&Spot) -> bool) -> bool {
        self.spots.iter().any(wanted)
    }

    /// Whether packets may be dropped on this node at one of these stages.
    pub(crate) fn is_on(&self, node: &NodeName, stages: &[Stage]) -> bool {
        self.meets(|spot| match spot {
            Spot::Node(at, stage) => at == node && stages.contains(stage),
            Spot::Wire(..) => false,
        })
    }

    /// The packets got at least this far: behind this spot.
    fn passed(&mut self, spot: &Spot, because: impl FnOnce() -> String) {
        if let Some(at) = self.spots.iter().position(|one| one == spot) {
            self.spots.drain(..=at);
            self.because.push(because());
        }
    }

    /// The packets got no further than this spot.
    fn ended(&mut self, spot: &Spot, because: impl FnOnce() -> String) {
        if let Some(at) = self.spots.iter().position(|one| one == spot)
            && at + 1 < self.spots.len()
        {
            self.spots.truncate(at + 1);
            self.because.push(because());
        }
    }

    fn nodes(&self) -> [&NodeName; 2] {
        [&self.sender, &self.receiver]
    }

    /// A tunnel that carries other packets, and one that carried none while failing paths were probed.
    fn read_tunnel(&mut self, case: &Case<'_>, family: Family) {
        let (sender, receiver) = (self.sender.clone(), self.receiver.clone());
        if self.is_same_node() {
            return;
        }
        let link = |from: &NodeName, to: &NodeName| match case.plane.transport(from, to, family) {
            Transport::Tunnel { link, .. } => Some(link.clone()),
            Transport::Direct { .. }
            | Transport::ByPod { .. }
            | Transport::Refused
            | Transport::NoRoute
            | Transport::Unknown => None,
        };
        let (out, back) = (link(&sender, &receiver), link(&receiver, &sender));
        let wire = Spot::Wire(sender.clone(), receiver.clone());
        let counted = |node: &NodeName, link: &Option<String>| {
            let link = link.as_ref()?;
            Some((link.clone(), case.traffic(node, link)?))
        };
        if let Some((name, traffic)) = counted(&sender, &out)
            && traffic.tx_packets == 0
        {
            self.ended(&Spot::Node(sender.clone(), Stage::ToUplink), || {
                format!("{name} of {sender} sent no packet at all")
            });
        }
        // What leaves without a tunnel arrives without one.
        if let Some((name, traffic)) = counted(&receiver, &back).filter(|_| out.is_some())
            && traffic.rx_packets == 0
        {
            self.ended(&wire, || {
                format!("{name} of {receiver} received no packet at all")
            });
        }
        if out.is_some()
            && back.is_some()
            && self.spots.contains(&wire)
            && let Some(because) = case.tunnel_carries(&sender, &receiver, family)
        {
            let encapsulation = Spot::Node(sender.clone(), Stage::ToUplink);
            self.spots
                .retain(|spot| *spot != wire && *spot != encapsulation);
            self.because.push(because.to_owned());
        }
    }
}

/// Whether packets between two pods of a node pass its chains: routed ones always, bridged ones where bridge netfilter is on.
pub(crate) const fn passes_chains(
    attachment: &Attachment,
    is_bridge_filtered: Option<bool>,
) -> Option<bool> {
    match attachment {
        Attachment::Routed { .. } => Some(true),
        Attachment::Bridge { .. } => is_bridge_filtered,
        Attachment::OwnDevice { .. } => Some(false),
        Attachment::Unknown => None,
    }
}
