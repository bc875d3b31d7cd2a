//! The part of a lab that a fault breaks: a lab with a data plane that lacks it cannot have the fault.

use super::Fault;
use crate::data_plane::{Attachment, Cni, DataPlane, Part, PodGateway, Transport, Underlay};
use crate::topology::{LabSpec, UnknownName};

/// What a lab must have for a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Requirement {
    /// Nothing: every lab has what the fault breaks.
    Anything,
    /// Pods on a bridge.
    Bridge,
    /// Pods whose addresses others resolve on a shared link.
    SharedLink,
    /// A tunnel between two nodes.
    Tunnel,
    /// A tunnel between two nodes that also reach each other without a router.
    TunnelBypass,
    /// A route of a node to another node's pods.
    NodeRoute,
    /// The same, where no other route of the node leads there as well.
    OnlyNodeRoute,
    /// A route of a node to another node's pods that leads into no tunnel.
    PlainRoute,
    /// A route of a node to each of its pods.
    PodRoute,
    /// Packets between nodes that have addresses of pods.
    PlainPackets,
    /// Pods that reach their gateway also where their node has no default route: a node answers ARP for another host's address
    /// only where it has a route to it (`arp_process`, net/ipv4/arp.c).
    OwnGateway,
    /// A second interface of each node, by which pods' packets leave.
    SecondInterface,
    /// Rules in FORWARD that accept pods' packets.
    AcceptingRules,
}

impl Requirement {
    /// Returns why a lab does not have it; `None` if it does.
    pub(super) fn unmet(self, spec: &LabSpec) -> Option<&'static str> {
        let data_plane = spec.data_plane();
        let has = |part| data_plane.parts().contains(&part);
        let (is_met, reason) = match self {
            Self::Anything => return None,
            Self::Bridge => (has(Part::Bridge), "its pods are not on a bridge"),
            Self::SharedLink => match data_plane.attachment() {
                Attachment::Bridge | Attachment::Macvlan => return None,
                Attachment::RoutedVeth(_) => (false, "a route leads to each of its pods"),
            },
            Self::OnlyNodeRoute => match data_plane.underlay() {
                Underlay::Switch | Underlay::Router => return Self::NodeRoute.unmet(spec),
                Underlay::Fabric => (
                    false,
                    "the default route of a node leads to the same router",
                ),
            },
            Self::Tunnel => (spec.has_tunnels(), "no packet of a pod takes a tunnel"),
            Self::TunnelBypass => (
                spec.nodes().any(|node| {
                    spec.peers_by(Transport::Vxlan, node)
                        .any(|peer| data_plane.subnet(peer) == data_plane.subnet(node))
                }),
                "no node sends through a tunnel what it could send without one",
            ),
            Self::NodeRoute => (
                spec.nodes().any(|node| {
                    spec.peers_by(Transport::Vxlan, node)
                        .chain(spec.peers_by(Transport::NodeRoute, node))
                        .next()
                        .is_some()
                }),
                "no node has a route to the pods of another node",
            ),
            Self::PlainRoute => (
                spec.nodes()
                    .any(|node| spec.peers_by(Transport::NodeRoute, node).next().is_some()),
                "no node has a route to the pods of another node outside of a tunnel",
            ),
            Self::PodRoute => match data_plane.attachment() {
                Attachment::Bridge => (false, "its pods share the route of their bridge"),
                Attachment::RoutedVeth(_) | Attachment::Macvlan => return None,
            },
            Self::PlainPackets => (
                spec.has_plain_paths(),
                "all packets between its nodes are those of a tunnel",
            ),
            Self::OwnGateway => match data_plane.attachment() {
                Attachment::RoutedVeth(PodGateway::ProxyArp) => (
                    false,
                    "a node without a default route does not answer ARP for the gateway of its pods, which are cut off",
                ),
                Attachment::Bridge
                | Attachment::RoutedVeth(PodGateway::NodeAddress | PodGateway::StaticNeighbour)
                | Attachment::Macvlan => return None,
            },
            Self::SecondInterface => (has(Part::SecondInterface), "its nodes have one interface"),
            Self::AcceptingRules => match data_plane.cni() {
                Cni::Flannel | Cni::Calico => return None,
                Cni::Vpc | Cni::Bare => (false, "no rule of its nodes accepts packets of pods"),
            },
        };
        (!is_met).then_some(reason)
    }
}

/// A fault that a lab cannot have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "cannot inject {fault} in a lab of {nodes} nodes with the data plane {data_plane}: {reason}; it can be injected with {others}"
)]
pub struct NotApplicable {
    fault: Fault,
    data_plane: DataPlane,
    nodes: usize,
    reason: &'static str,
    others: String,
}

impl NotApplicable {
    /// Returns the error of a fault that this lab lacks something for.
    pub(super) fn new(fault: Fault, spec: &LabSpec, reason: &'static str) -> Self {
        let others: Vec<_> = fault.data_planes().map(DataPlane::slug).collect();
        Self {
            fault,
            data_plane: spec.data_plane(),
            nodes: spec.nodes().count(),
            reason,
            others: others.join(", "),
        }
    }
}

/// A fault that is not injected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RefusedFault {
    /// The lab lacks the node.
    #[error(transparent)]
    UnknownNode(#[from] UnknownName),
    /// The lab lacks what the fault breaks.
    #[error(transparent)]
    NotApplicable(#[from] NotApplicable),
}
