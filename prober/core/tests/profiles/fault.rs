//! Faults: a cause at a place, the profiles that can have it, and the verdicts that are right for it.

mod applies;
mod apply;

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
    SecurityGroup,
    DropNewToOtherNodes,
    DropNewFromOtherNodes,
    NoDefaultRoute,
}

/// A kind of fault at a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Fault {
    pub(crate) kind: Kind,
    pub(crate) place: Place,
}

/// The sort of place that a kind of fault has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sort {
    Node,
    Client,
    Server,
    Pair,
    Slot,
    Namespace,
}

impl Kind {
    pub(crate) const ALL: [Self; 46] = [
        Self::BridgeNetfilterOff,
        Self::RepliesUntracked,
        Self::ForwardDrop,
        Self::PolicyIngress,
        Self::PolicyEgress,
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
        Self::SecurityGroup,
        Self::DropNewToOtherNodes,
        Self::DropNewFromOtherNodes,
        Self::NoDefaultRoute,
    ];

    /// The name in tables.
    pub(crate) const fn name(self) -> &'static str {
        self.definition().0
    }

    /// The slugs of the causes that name it; empty where the catalogue has none yet.
    pub(crate) const fn causes(self) -> &'static [&'static str] {
        self.definition().2
    }

    /// The name, the sort of place, and the causes.
    #[expect(clippy::too_many_lines, reason = "one arm for each kind")]
    const fn definition(self) -> (&'static str, Sort, &'static [&'static str]) {
        match self {
            Self::BridgeNetfilterOff => (
                "bridge-nf-call-iptables is 0",
                Sort::Node,
                &["bridge-netfilter-off"],
            ),
            Self::RepliesUntracked => (
                "replies are not tracked (NOTRACK)",
                Sort::Node,
                &["reply-bypasses-nat"],
            ),
            Self::ForwardDrop => ("FORWARD drops everything", Sort::Node, &["forward-drop"]),
            Self::PolicyIngress => (
                "policy drops ingress of a pod",
                Sort::Server,
                &["network-policy"],
            ),
            Self::PolicyEgress => (
                "policy drops egress of a pod",
                Sort::Client,
                &["network-policy"],
            ),
            Self::PolicyPort => (
                "policy drops a port of a pod",
                Sort::Server,
                &["network-policy"],
            ),
            Self::PolicyReject => (
                "policy rejects ingress of a pod by ICMP",
                Sort::Server,
                &["network-policy"],
            ),
            Self::PolicyNamespace => (
                "policies deny all ingress of the namespace",
                Sort::Namespace,
                &["network-policy"],
            ),
            Self::NoEndpoints => (
                "a Service port has no endpoint",
                Sort::Slot,
                &["no-endpoints"],
            ),
            Self::RejectReset => ("a rule rejects by RST", Sort::Server, &["reject-reset"]),
            Self::NotListening => (
                "the server does not listen",
                Sort::Server,
                &["not-listening"],
            ),
            Self::StaleEndpoint => (
                "an EndpointSlice has an unused address",
                Sort::Slot,
                &["stale-endpoint"],
            ),
            Self::StaleRulesUnused => (
                "a node's rules lead to an unused address",
                Sort::Node,
                &["stale-rules"],
            ),
            Self::StaleRulesOther => (
                "a node's rules lead to another pod",
                Sort::Node,
                &["stale-rules"],
            ),
            Self::StaleRulesEmpty => (
                "a node's rules have no endpoint for a port",
                Sort::Node,
                &["stale-rules", "service-rules-missing"],
            ),
            Self::ServiceRulesMissing => (
                "a node has no Service rules",
                Sort::Node,
                &["service-rules-missing"],
            ),
            Self::NoLocalEndpoint => (
                "no ready endpoint on the node",
                Sort::Node,
                &["no-local-endpoint"],
            ),
            Self::OverlayBlocked => (
                "the network drops tunnel packets",
                Sort::Pair,
                &["overlay-blocked"],
            ),
            Self::StaleOverlayMac => (
                "wrong MAC of a tunnel end",
                Sort::Pair,
                &["stale-overlay-neighbour"],
            ),
            Self::StaleOverlayFdb => (
                "no FDB entry of a tunnel end",
                Sort::Pair,
                &["stale-overlay-neighbour"],
            ),
            Self::RouteAbsent => ("no route to a node's pods", Sort::Pair, &["route-missing"]),
            Self::RouteBlackhole => (
                "blackhole route to a node's pods",
                Sort::Pair,
                &["route-missing"],
            ),
            Self::RouteUnreachable => (
                "unreachable route to a node's pods",
                Sort::Pair,
                &["route-missing"],
            ),
            Self::IpForwardOff => ("ip_forward is 0", Sort::Node, &["ip-forward-off"]),
            Self::MtuOnNode => (
                "pods' MTU above the tunnel's, ICMP filtered",
                Sort::Node,
                &["mtu-black-hole"],
            ),
            Self::MtuOnWire => (
                "the network drops large packets",
                Sort::Pair,
                &["mtu-black-hole"],
            ),
            Self::LossOnNode => ("a node loses one SYN in four", Sort::Node, &["packet-loss"]),
            Self::LossOnWire => (
                "the network loses one SYN in four",
                Sort::Pair,
                &["packet-loss"],
            ),
            Self::RpFilter => (
                "strict rp_filter, asymmetric routes",
                Sort::Node,
                &["rp-filter"],
            ),
            Self::HairpinOff => (
                "hairpin mode is off at a port",
                Sort::Server,
                &["hairpin-off"],
            ),
            Self::MissingMasquerade => (
                "no masquerade",
                Sort::Node,
                &["missing-masquerade", "reply-bypasses-nat"],
            ),
            Self::AcceptQueueFull => (
                "the accept queue is full",
                Sort::Server,
                &["accept-queue-full"],
            ),
            Self::EndpointFrozen => (
                "the server's process is stopped",
                Sort::Server,
                &["endpoint-frozen"],
            ),
            Self::DuplicateIp => ("two pods have one address", Sort::Server, &["duplicate-ip"]),
            Self::ConntrackFull => (
                "the connection table is full",
                Sort::Node,
                &["conntrack-full"],
            ),
            Self::TransientOutage => (
                "a node is silent for 1.5 s",
                Sort::Node,
                &["transient-outage"],
            ),
            Self::WireDropsFromPods => (
                "the network drops packets from a node's pods",
                Sort::Node,
                &[],
            ),
            Self::WireDropsToPods => (
                "the network drops packets to a node's pods",
                Sort::Node,
                &[],
            ),
            Self::UnderlayDrop => (
                "the network drops everything between two nodes",
                Sort::Pair,
                &[],
            ),
            Self::SpineDrop => ("the network drops behind the first router", Sort::Pair, &[]),
            Self::PodRouteGone => ("a pod's host route is gone", Sort::Server, &[]),
            Self::PodTableBlackhole => {
                ("blackhole in the table of the pods' rule", Sort::Node, &[])
            }
            Self::SecurityGroup => (
                "a security group drops new connections between two nodes' pods",
                Sort::Pair,
                &[],
            ),
            Self::DropNewFromOtherNodes => (
                "a node drops new connections of other nodes' pods to its own",
                Sort::Node,
                &[],
            ),
            Self::DropNewToOtherNodes => (
                "a node drops new connections of its pods to other nodes",
                Sort::Node,
                &["forward-drop"],
            ),
            Self::NoDefaultRoute => ("no default route", Sort::Node, &[]),
        }
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
