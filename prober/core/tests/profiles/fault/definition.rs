//! The table of all kinds of fault.

use super::{Kind, Sort};

impl Kind {
    /// The name, the sort of place, and the causes.
    #[expect(clippy::too_many_lines, reason = "one arm for each kind")]
    pub(super) const fn definition(self) -> (&'static str, Sort, &'static [&'static str]) {
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
            Self::SegmentsOutsideWindow => (
                "segments outside the window are not dropped",
                Sort::Node,
                &["invalid-reset"],
            ),
            Self::SourcePortsUsedUp => (
                "no port for a translated source",
                Sort::Node,
                &["snat-port-collision"],
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
            Self::PolicyEgressToOtherNodes => (
                "policy drops egress of a pod to other nodes",
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
            Self::LossOnNode => (
                "a node loses every second SYN",
                Sort::Node,
                &["packet-loss"],
            ),
            Self::LossOnWire => (
                "the network loses every second SYN",
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
                &["network-blocked", "overlay-blocked"],
            ),
            Self::WireDropsToPods => (
                "the network drops packets to a node's pods",
                Sort::Node,
                &["network-blocked", "overlay-blocked"],
            ),
            Self::UnderlayDrop => (
                "the network drops everything between two nodes",
                Sort::Pair,
                &["network-blocked", "overlay-blocked"],
            ),
            Self::SpineDrop => (
                "the network drops behind the first router",
                Sort::Pair,
                &["network-blocked", "overlay-blocked"],
            ),
            Self::PodRouteGone => (
                "a pod's host route is gone",
                Sort::Server,
                &["pod-route-missing"],
            ),
            Self::PodLinkDown => (
                "the link of a pod is down",
                Sort::Server,
                &["stale-endpoint"],
            ),
            Self::PodLinkDownUnanswered => (
                "the link of a pod is down, and probes end before its address is found unresolved",
                Sort::Server,
                &["stale-endpoint"],
            ),
            Self::PodTableBlackhole => (
                "blackhole in the table of the pods' rule",
                Sort::Node,
                &["route-missing"],
            ),
            Self::SecurityGroup => (
                "a security group drops new connections between two nodes' pods",
                Sort::Pair,
                &["network-blocked"],
            ),
            Self::DropNewFromOtherNodes => (
                "a node drops new connections of other nodes' pods to its own",
                Sort::Node,
                &["forward-drop", "network-policy", "network-blocked"],
            ),
            Self::DropNewToOtherNodes => (
                "a node drops new connections of its pods to other nodes",
                Sort::Node,
                &["forward-drop"],
            ),
            Self::NoDefaultRoute => ("no default route", Sort::Node, &["service-route-missing"]),
        }
    }
}
