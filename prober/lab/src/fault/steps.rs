//! The steps that inject each fault: one exhaustive match, whose arms name the step in the file of its kind.

use super::{
    Fault, FaultContext, SliceChange, Step, conntrack, endpoint, filter, loss, overlay, plain,
    routing, service,
};

impl Fault {
    /// Returns the steps that inject it.
    #[expect(
        clippy::too_many_lines,
        reason = "every fault in one match, so that the compiler sees one that is missing"
    )]
    pub fn steps(self, context: FaultContext<'_>) -> Vec<Step> {
        match self {
            Self::BridgeNetfilterOff => {
                routing::sysctl(context, "net.bridge.bridge-nf-call-iptables=0")
            }
            Self::BridgeNetfilterOffV6 => {
                routing::sysctl(context, "net.bridge.bridge-nf-call-ip6tables=0")
            }
            Self::ForwardDrop => filter::forward_rule(context, |_| String::new(), "DROP"),
            Self::ForwardDropEgress => {
                filter::forward_rule(context, filter::out_of_node(context), "DROP")
            }
            Self::ForwardDropEgressNew => {
                filter::forward_rule(context, filter::new_out_of_node(context), "DROP")
            }
            Self::ForwardDropIngress => {
                filter::forward_rule(context, filter::into_node(context), "DROP")
            }
            Self::ForwardDropToClient => {
                filter::forward_rule(context, filter::to_client(context), "DROP")
            }
            Self::ForwardDropReplies => {
                filter::forward_rule(context, |_| "-m conntrack --ctdir REPLY".to_owned(), "DROP")
            }
            Self::ForwardReject => filter::forward_refused(context),
            Self::RejectReset => service::reject(context),
            Self::PolicyRejectReset => filter::forward_rule(
                context,
                filter::to_server(context),
                "REJECT --reject-with tcp-reset",
            ),
            Self::RejectOneEndpoint => filter::forward_rule(
                context,
                service::balanced_to_server(context),
                "REJECT --reject-with tcp-reset",
            ),
            Self::NetworkPolicy => {
                filter::forward_rule(context, filter::to_server(context), "DROP")
            }
            Self::NetworkPolicyPort => {
                filter::forward_rule(context, filter::to_server_port(context), "DROP")
            }
            Self::NetworkPolicyEgress => {
                filter::forward_rule(context, filter::from_client(context), "DROP")
            }
            Self::NetworkPolicyEgressAcross => {
                filter::forward_rule(context, filter::from_client_across(context), "DROP")
            }
            Self::PolicyRejectIcmp => filter::reject_server_with_icmp(context),
            Self::NoEndpoints => service::slices(SliceChange::Empty(context.node)),
            Self::StaleEndpoint | Self::StaleEndpointCross => {
                service::slices(SliceChange::Stale(context.node))
            }
            Self::NoLocalEndpoint => service::slices(SliceChange::NotReady(context.node)),
            Self::StaleEndpointRecent => endpoint::recently_deleted_pod(context),
            Self::WireDropFromPods => plain::dropped_from_pods(context),
            Self::WireDropToPods => plain::dropped_to_pods(context),
            Self::PodRouteMissing => plain::pod_route_deleted(context),
            Self::WrongTable => plain::blackhole_in_table(context),
            Self::EniDown => plain::second_interface_down(context),
            Self::PodVethDown => endpoint::pod_port_down(context),
            Self::NotListening => endpoint::not_listening(context),
            Self::AcceptQueueFull => endpoint::not_accepting(context),
            Self::EndpointFrozen => endpoint::process_stopped(context),
            Self::DuplicateIp => endpoint::duplicate_address(context),
            Self::KubeProxyDead => vec![Step::ProxyNeverRan(context.node)],
            Self::StaleRules => vec![Step::StaleRules(context.node)],
            Self::ServiceRulesMissing => service::jump_removed(context),
            Self::ServiceRulesMissingChain => service::chain_flushed(context),
            Self::SocketLevelServices => service::no_service_rules(context),
            Self::MissingMasquerade => service::masquerade_flushed(context),
            Self::MasqueradeAll => service::masquerade_all(context),
            Self::OverlayBlockedIn => overlay::blocked_in(context),
            Self::OverlayBlockedOut => overlay::blocked_out(context),
            Self::OverlayBlockedOutput => overlay::blocked_output(context),
            Self::StaleOverlayNeighbour => overlay::wrong_mac(context),
            Self::StaleOverlayNeighbourFdb => overlay::wrong_underlay_address(context),
            Self::BadChecksum => overlay::wrong_checksums(context),
            Self::RouteMissing | Self::RouteMissingReturn => routing::route_deleted(context),
            Self::OverlayDeviceDown => routing::tunnel_down(context),
            Self::WrongNextHop => routing::next_hop_swallows(context),
            Self::NextHopUnresolved => routing::next_hop_unused(context),
            Self::EncapsulationMismatch => overlay::other_encapsulation(context),
            Self::NoDefaultRoute => routing::default_route_deleted(context),
            Self::RouteMissingUnreachable => routing::route_of_type(context, "unreachable"),
            Self::RouteMissingBlackhole => routing::route_of_type(context, "blackhole"),
            Self::IpForwardOff => routing::sysctl(context, "net.ipv4.ip_forward=0"),
            Self::IpForwardOffV6 => routing::sysctl(context, "net.ipv6.conf.all.forwarding=0"),
            Self::MtuBlackHole => routing::small_underlay_mtu(context),
            Self::MtuBlackHolePod => routing::large_pod_mtu(context),
            Self::PacketLoss => loss::random_loss(context, "-p tcp", "0.2"),
            Self::PacketLossSyn => {
                loss::random_loss(context, "-p tcp --tcp-flags SYN,ACK SYN", "0.3")
            }
            Self::PacketLossReply => {
                loss::random_loss(context, "-p tcp --tcp-flags SYN,ACK SYN,ACK", "0.3")
            }
            Self::RpFilter | Self::RpFilterIn => routing::asymmetric_and_filtered(context),
            Self::AsymmetricRouteHarmless => routing::asymmetric(context),
            Self::HairpinOff => routing::hairpin_off(context),
            Self::ReplyBypassesNat => filter::untracked_replies(context),
            Self::InvalidReset => conntrack::segments_out_of_window(context),
            Self::SnatPortCollision => conntrack::source_ports_used_up(context),
            Self::ConntrackFull => loss::conntrack_full(context),
            Self::ForwardHeals => loss::outage(context),
            Self::LatePolicy => loss::late_policy(context),
            Self::LateRules => service::rules_late(context),
            Self::ForwardPolicyDropHarmless => filter::policy_drop(context),
        }
    }
}
