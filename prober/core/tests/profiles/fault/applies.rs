//! The profiles that can have a fault.

use prober_core::packet::family::Family;

use super::{Fault, Kind, Place};
use crate::profile::{Profile, Translation, Transport, Transports};

impl Fault {
    /// Whether a profile can have it, or why not.
    #[expect(clippy::too_many_lines, reason = "one arm for each kind")]
    pub(crate) fn applies(self, profile: &Profile) -> Result<(), &'static str> {
        let only = |is_so: bool, why| if is_so { Ok(()) } else { Err(why) };
        let netfilter = "pods' packets do not pass netfilter";
        let is_tunnelled =
            |from, to| matches!(profile.transport(from, to), Transport::Vxlan { .. });
        match self.kind {
            Kind::BridgeNetfilterOff => only(profile.is_bridged(), "pods are on no bridge"),
            Kind::RepliesUntracked | Kind::ConntrackFull | Kind::SegmentsOutsideWindow => {
                only(profile.uses_netfilter() && !profile.is_layer_2(), netfilter)
            }
            Kind::PolicyReject => {
                only(
                    profile.enforces_policies,
                    "nothing enforces policies between pods",
                )?;
                only(
                    profile.uses_netfilter(),
                    "BPF programs drop and do not reject",
                )
            }
            Kind::ForwardDrop
            | Kind::IpForwardOff
            | Kind::DropNewToOtherNodes
            | Kind::RejectReset => {
                only(profile.uses_netfilter(), netfilter)?;
                only(
                    !profile.is_layer_2(),
                    "pods reach each other without their node",
                )
            }
            Kind::PolicyIngress
            | Kind::PolicyEgress
            | Kind::PolicyEgressToOtherNodes
            | Kind::PolicyPort
            | Kind::PolicyNamespace => only(
                profile.enforces_policies,
                "nothing enforces policies between pods",
            ),
            Kind::RpFilter => {
                only(profile.uses_netfilter(), netfilter)?;
                only(!profile.is_layer_2(), "nodes do not route between pods")?;
                only(profile.families[0] == Family::Ipv4, "IPv6 has no rp_filter")
            }
            Kind::HairpinOff => only(
                profile.is_bridged() && profile.translation == Translation::Iptables,
                "no pod's own packets return by a bridge port",
            ),
            Kind::MissingMasquerade | Kind::SourcePortsUsedUp => {
                only(profile.uses_netfilter(), netfilter)
            }
            Kind::DuplicateIp => only(!profile.is_routed(), "addresses are routed, not resolved"),
            Kind::OverlayBlocked | Kind::StaleOverlayMac | Kind::StaleOverlayFdb => {
                let Place::Pair(from, to) = self.place else {
                    return Err("an overlay is between two nodes");
                };
                only(is_tunnelled(from, to), "no overlay between these nodes")?;
                let has_entries = profile.translation != Translation::Socket;
                only(
                    has_entries || self.kind == Kind::OverlayBlocked,
                    "the tunnel has no entries of its own",
                )
            }
            Kind::RouteAbsent | Kind::RouteBlackhole | Kind::RouteUnreachable => {
                only(!profile.is_layer_2(), "nodes do not route between pods")?;
                only(!profile.policy_routing, "the cloud routes between nodes")?;
                only(
                    profile.translation != Translation::Socket,
                    "BPF programs route",
                )
            }
            Kind::MtuOnNode => only(
                matches!(
                    profile.transports,
                    Transports::Same(Transport::Vxlan { .. })
                ) && profile.uses_netfilter(),
                "no smaller MTU on the way",
            ),
            Kind::WireDropsFromPods | Kind::WireDropsToPods | Kind::SecurityGroup => only(
                matches!(
                    profile.transports,
                    Transports::Same(Transport::Direct | Transport::Fabric)
                ),
                "pods' addresses are inside a tunnel",
            ),
            Kind::SpineDrop => only(
                matches!(profile.transports, Transports::Same(Transport::Fabric)),
                "no router between nodes",
            ),
            Kind::PodRouteGone => only(
                profile.is_routed() && profile.translation != Translation::Socket,
                "pods have no route of their own",
            ),
            Kind::PodLinkDown | Kind::PodLinkDownUnanswered => only(
                profile.is_bridged(),
                "a link that is down loses the pod's route",
            ),
            Kind::PodTableBlackhole => only(profile.policy_routing, "no table for pods"),
            Kind::NoDefaultRoute => only(
                profile.translation == Translation::Iptables,
                "a Service is translated before a route is needed",
            ),
            Kind::ServiceRulesMissing
            | Kind::NoLocalEndpoint
            | Kind::NoEndpoints
            | Kind::NotListening
            | Kind::StaleEndpoint
            | Kind::StaleRulesUnused
            | Kind::StaleRulesOther
            | Kind::StaleRulesEmpty
            | Kind::MtuOnWire
            | Kind::LossOnWire
            | Kind::AcceptQueueFull
            | Kind::EndpointFrozen
            | Kind::UnderlayDrop => Ok(()),
            Kind::LossOnNode | Kind::TransientOutage | Kind::DropNewFromOtherNodes => only(
                !profile.is_layer_2(),
                "pods reach each other without their node",
            ),
        }
    }
}
