//! Faults: a cause at a place, the profiles that can have it, and the verdicts that are right for it.

mod applies;
mod apply;
mod definition;

use std::fmt;

use super::address::{Agent, client, server};
use super::cluster::Cluster;
use super::profile::Profile;

/// The place of a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Place {
    Node(u8),
    Pod(Agent),
    /// From one node to another.
    Pair(u8, u8),
    /// The objects of the Service.
    Service(u8),
    /// The policies of the namespace.
    Namespace,
}

/// What is changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    BridgeNetfilterOff,
    RepliesUntracked,
    ForwardDrop,
    PolicyIngress,
    PolicyEgress,
    PolicyEgressToOtherNodes,
    PolicyPort,
    PolicyReject,
    PolicyNamespace,
    NoEndpoints,
    RejectReset,
    NotListening,
    StaleEndpoint,
    StaleRulesUnused,
    StaleRulesOther,
    StaleRulesEmpty,
    ServiceRulesMissing,
    NoLocalEndpoint,
    OverlayBlocked,
    StaleOverlayMac,
    StaleOverlayFdb,
    RouteAbsent,
    RouteBlackhole,
    RouteUnreachable,
    IpForwardOff,
    MtuOnNode,
    MtuOnWire,
    LossOnNode,
    LossOnWire,
    RpFilter,
    HairpinOff,
    MissingMasquerade,
    AcceptQueueFull,
    EndpointFrozen,
    DuplicateIp,
    ConntrackFull,
    TransientOutage,
    WireDropsFromPods,
    WireDropsToPods,
    UnderlayDrop,
    SpineDrop,
    PodRouteGone,
    PodTableBlackhole,
    PodLinkDown,
    PodLinkDownUnanswered,
    SecurityGroup,
    DropNewToOtherNodes,
    DropNewFromOtherNodes,
    NoDefaultRoute,
    SegmentsOutsideWindow,
    SourcePortsUsedUp,
}

/// A kind of fault at a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Fault {
    pub(crate) kind: Kind,
    pub(crate) place: Place,
}

/// The sort of place that a kind of fault has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sort {
    Node,
    Client,
    Server,
    Pair,
    Slot,
    Namespace,
}

impl Kind {
    pub(crate) const ALL: [Self; 51] = [
        Self::BridgeNetfilterOff,
        Self::RepliesUntracked,
        Self::ForwardDrop,
        Self::PolicyIngress,
        Self::PolicyEgress,
        Self::PolicyEgressToOtherNodes,
        Self::PolicyPort,
        Self::PolicyReject,
        Self::PolicyNamespace,
        Self::NoEndpoints,
        Self::RejectReset,
        Self::NotListening,
        Self::StaleEndpoint,
        Self::StaleRulesUnused,
        Self::StaleRulesOther,
        Self::StaleRulesEmpty,
        Self::ServiceRulesMissing,
        Self::NoLocalEndpoint,
        Self::OverlayBlocked,
        Self::StaleOverlayMac,
        Self::StaleOverlayFdb,
        Self::RouteAbsent,
        Self::RouteBlackhole,
        Self::RouteUnreachable,
        Self::IpForwardOff,
        Self::MtuOnNode,
        Self::MtuOnWire,
        Self::LossOnNode,
        Self::LossOnWire,
        Self::RpFilter,
        Self::HairpinOff,
        Self::MissingMasquerade,
        Self::AcceptQueueFull,
        Self::EndpointFrozen,
        Self::DuplicateIp,
        Self::ConntrackFull,
        Self::TransientOutage,
        Self::WireDropsFromPods,
        Self::WireDropsToPods,
        Self::UnderlayDrop,
        Self::SpineDrop,
        Self::PodRouteGone,
        Self::PodTableBlackhole,
        Self::PodLinkDown,
        Self::PodLinkDownUnanswered,
        Self::SecurityGroup,
        Self::DropNewToOtherNodes,
        Self::DropNewFromOtherNodes,
        Self::NoDefaultRoute,
        Self::SegmentsOutsideWindow,
        Self::SourcePortsUsedUp,
    ];

    /// The name in tables.
    pub(crate) const fn name(self) -> &'static str {
        self.definition().0
    }

    /// The slugs of the causes that name it; empty where the catalogue has none yet.
    pub(crate) const fn causes(self) -> &'static [&'static str] {
        self.definition().2
    }

    /// Every distinct place on a cluster of two or three nodes.
    pub(crate) fn places(self, nodes: u8) -> Vec<Place> {
        let all = [1, nodes];
        let pairs = [(1, 2), (nodes, 1)];
        match self.definition().1 {
            Sort::Node => all.map(Place::Node).to_vec(),
            Sort::Client => all.map(|node| Place::Pod(client(node))).to_vec(),
            Sort::Server => all.map(|node| Place::Pod(server(node))).to_vec(),
            Sort::Slot => all.map(Place::Service).to_vec(),
            Sort::Pair => pairs.map(|(from, to)| Place::Pair(from, to)).to_vec(),
            Sort::Namespace => vec![Place::Namespace],
        }
    }
}

impl Fault {
    /// Every fault that a profile can have, at every distinct place.
    pub(crate) fn all(profile: &Profile, nodes: u8) -> Vec<Self> {
        let kinds = Kind::ALL.into_iter();
        kinds
            .flat_map(|kind| {
                kind.places(nodes)
                    .into_iter()
                    .map(move |place| Self { kind, place })
            })
            .filter(|fault| fault.applies(profile).is_ok())
            .collect()
    }

    /// A healthy cluster with this fault.
    pub(crate) fn on(self, profile: &'static Profile, nodes: u8) -> Cluster {
        let mut cluster = Cluster::new(profile, nodes);
        self.apply(&mut cluster);
        cluster
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node(node) => write!(f, "node-{node}"),
            Self::Pod(pod) => write!(f, "{}", pod.id().pod),
            Self::Pair(from, to) => write!(f, "node-{from}>node-{to}"),
            Self::Service(slot) => write!(f, "service-{slot}"),
            Self::Namespace => f.write_str("namespace"),
        }
    }
}
