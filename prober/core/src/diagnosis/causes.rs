//! The causes as models, one file each. A new cause adds its file here, its entry to the catalogue, and its page.

use between::Between;
use one_pod::PodFlow;

use super::case::Case;
use super::hypothesis::Hypothesis;
use super::model::{self, Model};

/// Connections that the backend does not accept.
mod accept_queue_full;
/// Packets that arrive with a wrong checksum.
mod bad_checksum;
/// Packets that are dropped between nodes.
mod between;
/// A bridge that bypasses netfilter.
mod bridge_netfilter_off;
/// The connection table is full.
mod conntrack_full;
/// Packets that cross from one node to another.
mod crossing;
/// Two hosts with one address.
mod duplicate_ip;
/// A tunnel that the other node does not have.
mod encapsulation_mismatch;
/// A process that does not run.
mod endpoint_frozen;
/// An agent of the node that was late for new pods.
mod endpoint_not_programmed;
/// The node's chains drop what it forwards.
mod forward_drop;
/// A port that does not send packets back.
mod hairpin_off;
/// A segment that connection tracking calls invalid.
mod invalid_reset;
/// The node does not route between its interfaces.
mod ip_forward_off;
/// Groups of which only some probes failed.
mod lossy;
/// Packets that return to their sender with its own address.
mod missing_masquerade;
/// Full-sized packets vanish.
mod mtu_black_hole;
/// Policies in the API that may block every agent.
mod namespace_policies;
/// The network drops pods' packets between nodes.
mod network_blocked;
/// A filter for one pod.
mod network_policy;
/// A new pod that no agent has programmed yet.
mod never_opened;
/// A Service port without endpoints.
mod no_endpoints;
/// A node without an endpoint for a Service that stays on it.
mod no_local_endpoint;
/// A closed port.
mod not_listening;
/// What one pod exchanges with other nodes.
mod one_pod;
/// The tunnel's own packets are blocked.
mod overlay_blocked;
/// A share of all packets is lost.
mod packet_loss;
/// The network drops the packets of one pod.
mod pod_blocked;
/// The node's link that leads to a pod.
mod pod_port;
/// No route to one of a node's own pods.
mod pod_route_missing;
/// The program that enforces policies on a node.
mod policy_engine;
/// A rule that answers by RST.
mod reject_reset;
/// Answers that connection tracking does not match.
mod reply_bypasses_nat;
/// The hosts that may have sent a RST.
mod reset_sender;
/// No usable route to the pods of another node.
mod route_missing;
/// No usable route for the packets of one pod.
mod route_of_pod;
/// The program that writes routes between nodes.
mod routing_daemon;
/// The reverse-path filter drops.
mod rp_filter;
/// Other pods of a node, for comparison.
mod scattered_losses;
mod second_pod;
/// The program that translates Services on a node.
mod service_proxy;
/// No route to a Service's address on a node.
mod service_route_missing;
/// No translation on the client's node.
mod service_rules_missing;
/// Two connections with one translated source port.
mod snat_port_collision;
/// A Service that leads to no pod.
mod stale_endpoint;
/// Wrong tunnel entries for a peer.
mod stale_overlay_neighbour;
/// Rules that lead to an old endpoint.
mod stale_rules;
/// Which paths pass the chains of a node.
mod traffic;
/// A silence that ended.
mod transient_outage;
/// Answers without the reverse translation.
mod untranslated;
/// A route that leads to a wrong router.
mod wrong_next_hop;

/// Every model, in the order of the catalogue.
pub(crate) const MODELS: &[&dyn Model] = &[
    &bridge_netfilter_off::BridgeNetfilterOff,
    &reply_bypasses_nat::ReplyBypassesNat,
    &invalid_reset::InvalidReset,
    &snat_port_collision::SnatPortCollision,
    &forward_drop::ForwardDrop::All,
    &forward_drop::ForwardDrop::ToOtherNodes,
    &forward_drop::ForwardDrop::FromOtherNodes,
    &forward_drop::ForwardDrop::NewToOtherNodes,
    &forward_drop::ForwardDrop::NewFromOtherNodes,
    &forward_drop::ForwardDrop::Answers,
    &forward_drop::ForwardDrop::AnswersToPods,
    &forward_drop::ForwardDrop::AnswersToOnePod,
    &network_policy::NetworkPolicy::Ingress,
    &network_policy::NetworkPolicy::Egress,
    &namespace_policies::NamespacePolicies,
    &overlay_blocked::OverlayBlocked(Between::Pair),
    &overlay_blocked::OverlayBlocked(Between::Into),
    &overlay_blocked::OverlayBlocked(Between::OutOf),
    &network_blocked::NetworkBlocked(Between::Pair),
    &network_blocked::NetworkBlocked(Between::NewPair),
    &network_blocked::NetworkBlocked(Between::Into),
    &network_blocked::NetworkBlocked(Between::OutOf),
    &pod_blocked::PodBlocked(PodFlow::From),
    &pod_blocked::PodBlocked(PodFlow::To),
    &pod_blocked::PodBlocked(PodFlow::NewTo),
    &bad_checksum::BadChecksum(Between::Pair),
    &bad_checksum::BadChecksum(Between::OutOf),
    &pod_route_missing::PodRouteMissing,
    &stale_rules::StaleRules::OtherPod,
    &stale_rules::StaleRules::NoPod,
    &service_rules_missing::ServiceRulesMissing::Packets,
    &service_rules_missing::ServiceRulesMissing::Connect,
    &service_route_missing::ServiceRouteMissing,
    &no_endpoints::NoEndpoints,
    &reject_reset::RejectReset,
    &not_listening::NotListening::Backend,
    &not_listening::NotListening::Target,
    &stale_endpoint::StaleEndpoint::Address,
    &stale_endpoint::StaleEndpoint::CutOff,
    &no_local_endpoint::NoLocalEndpoint,
    &stale_overlay_neighbour::StaleOverlayNeighbour,
    &encapsulation_mismatch::EncapsulationMismatch,
    &route_missing::RouteMissing,
    &route_of_pod::RouteOfPod,
    &wrong_next_hop::WrongNextHop,
    &ip_forward_off::IpForwardOff,
    &mtu_black_hole::MtuBlackHole::OnNode,
    &mtu_black_hole::MtuBlackHole::OnTheWay,
    &packet_loss::PacketLoss,
    &rp_filter::RpFilter,
    &hairpin_off::HairpinOff,
    &missing_masquerade::MissingMasquerade,
    &accept_queue_full::AcceptQueueFull,
    &endpoint_frozen::EndpointFrozen,
    &duplicate_ip::DuplicateIp::Server,
    &duplicate_ip::DuplicateIp::Client,
    &conntrack_full::ConntrackFull,
    &transient_outage::TransientOutage,
    &endpoint_not_programmed::EndpointNotProgrammed,
    &never_opened::NeverOpened,
];

/// The hypotheses of every model.
pub(crate) fn hypotheses(case: &Case<'_>) -> Vec<Hypothesis> {
    MODELS
        .iter()
        .flat_map(|model| model::hypotheses(case, *model))
        .collect()
}
