//! Each fault as a change of the settings.

use prober_core::evidence::policies::{ApiPolicy, Denial, PolicyKind};

use super::{Fault, Kind, Place};
use crate::address::{Agent, RESPONDER, client, server};
use crate::cluster::{
    BrokenRoute, Cluster, Dropped, Ends, Filter, OldBackend, PodLink, StaleNeighbour, Verdict,
    WireDrop,
};

const DROP_NEW: Filter = Filter {
    from: Ends::Any,
    to: Ends::Any,
    port: None,
    only_new: true,
    verdict: Verdict::Drop,
};

impl Fault {
    /// Changes the settings of a cluster.
    pub(crate) fn apply(self, cluster: &mut Cluster) {
        match self.place {
            Place::Node(node) => self.on_node(cluster, node),
            Place::Pod(pod) => self.on_pod(cluster, pod),
            Place::Pair(from, to) => self.between(cluster, from, to),
            Place::Service(slot) => {
                let slots = if self.kind == Kind::StaleEndpoint {
                    &mut cluster.dead_slots
                } else {
                    &mut cluster.empty_slots
                };
                slots.insert(slot);
            }
            Place::Namespace => deny_namespace(cluster),
        }
    }

    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "a kind has one sort of place"
    )]
    fn on_node(self, cluster: &mut Cluster, node: u8) {
        let peer = if node == 1 { 2 } else { 1 };
        let settings = cluster.node_mut(node);
        match self.kind {
            Kind::BridgeNetfilterOff => settings.bridge_nf = false,
            Kind::RepliesUntracked => settings.untracked_replies = true,
            Kind::SegmentsOutsideWindow => settings.has_invalid_segments = true,
            Kind::SourcePortsUsedUp => settings.has_no_source_port = true,
            Kind::ForwardDrop => settings.forward_chain.push(Filter {
                only_new: false,
                ..DROP_NEW
            }),
            Kind::StaleRulesUnused => {
                settings.stale_slots.insert(peer, OldBackend::Unused);
            }
            Kind::StaleRulesOther => {
                settings
                    .stale_slots
                    .insert(peer, OldBackend::ServerOf(node));
            }
            Kind::StaleRulesEmpty => {
                settings.stale_slots.insert(peer, OldBackend::Missing);
            }
            Kind::ServiceRulesMissing => settings.has_service_rules = false,
            Kind::IpForwardOff => settings.forwards = false,
            Kind::MtuOnNode => settings.drops_large = true,
            Kind::LossOnNode => settings.is_lossy = true,
            Kind::RpFilter => settings.strict_reverse_path = true,
            Kind::MissingMasquerade => settings.masquerades = false,
            Kind::ConntrackFull => settings.is_conntrack_full = true,
            Kind::TransientOutage => settings.down_until_ms = 1500,
            Kind::PodTableBlackhole => settings.is_pod_table_blackhole = true,
            Kind::DropNewToOtherNodes => settings.forward_chain.push(Filter {
                from: Ends::PodsOf(node),
                to: Ends::NotPodsOf(node),
                ..DROP_NEW
            }),
            Kind::DropNewFromOtherNodes => settings.policies.push(Filter {
                from: Ends::NotPodsOf(node),
                to: Ends::PodsOf(node),
                ..DROP_NEW
            }),
            Kind::NoDefaultRoute => settings.has_default_route = false,
            Kind::NoLocalEndpoint => {
                cluster.without_local.insert(node);
            }
            Kind::WireDropsFromPods => cluster.wire.push(WireDrop {
                from: Some(node),
                to: None,
                what: Dropped::FromPods,
            }),
            Kind::WireDropsToPods => cluster.wire.push(WireDrop {
                from: None,
                to: Some(node),
                what: Dropped::ToPods,
            }),
            other => panic!("{other:?} is not at a node"),
        }
    }

    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "a kind has one sort of place"
    )]
    fn on_pod(self, cluster: &mut Cluster, pod: Agent) {
        let ingress = |port, verdict| Filter {
            to: Ends::Pod(pod),
            port,
            verdict,
            ..DROP_NEW
        };
        let egress = Filter {
            from: Ends::Pod(pod),
            ..DROP_NEW
        };
        let node = cluster.node_mut(pod.node);
        match self.kind {
            Kind::PolicyIngress => node.policies.push(ingress(None, Verdict::Drop)),
            Kind::PolicyEgress => node.policies.push(egress),
            Kind::PolicyEgressToOtherNodes => node.policies.push(Filter {
                to: Ends::NotPodsOf(pod.node),
                ..egress
            }),
            Kind::PolicyPort => node.policies.push(ingress(Some(RESPONDER), Verdict::Drop)),
            Kind::PolicyReject => node.policies.push(ingress(None, Verdict::RejectProhibited)),
            Kind::RejectReset => node.forward_chain.push(ingress(None, Verdict::RejectReset)),
            Kind::PodRouteGone => {
                node.lost_pod_routes.insert(pod);
            }
            Kind::PodLinkDown => cluster.pod_mut(pod).link = PodLink::Down,
            Kind::PodLinkDownUnanswered => cluster.pod_mut(pod).link = PodLink::DownUnanswered,
            Kind::NotListening => cluster.pod_mut(pod).is_listening = false,
            Kind::HairpinOff => cluster.pod_mut(pod).hairpin = false,
            Kind::AcceptQueueFull => cluster.pod_mut(pod).has_full_accept_queue = true,
            Kind::EndpointFrozen => cluster.pod_mut(pod).is_frozen = true,
            Kind::DuplicateIp => cluster.pod_mut(pod).is_duplicated = true,
            other => panic!("{other:?} is not at a pod"),
        }
    }

    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "a kind has one sort of place"
    )]
    fn between(self, cluster: &mut Cluster, from: u8, to: u8) {
        let mut drop = |what| {
            cluster.wire.push(WireDrop {
                from: Some(from),
                to: Some(to),
                what,
            });
        };
        match self.kind {
            Kind::OverlayBlocked => drop(Dropped::Tunnel),
            Kind::MtuOnWire => drop(Dropped::Large),
            Kind::LossOnWire => drop(Dropped::Share),
            Kind::SecurityGroup => drop(Dropped::NewOfPods),
            Kind::UnderlayDrop => drop(Dropped::Everything),
            Kind::SpineDrop => drop(Dropped::BehindRouter),
            Kind::StaleOverlayMac => {
                let entries = &mut cluster.node_mut(from).stale_neighbours;
                entries.insert(to, StaleNeighbour::WrongMac);
            }
            Kind::StaleOverlayFdb => {
                let entries = &mut cluster.node_mut(from).stale_neighbours;
                entries.insert(to, StaleNeighbour::NoFdbEntry);
            }
            Kind::RouteAbsent => {
                cluster
                    .node_mut(from)
                    .routes
                    .insert(to, BrokenRoute::Absent);
            }
            Kind::RouteBlackhole => {
                cluster
                    .node_mut(from)
                    .routes
                    .insert(to, BrokenRoute::Blackhole);
            }
            Kind::RouteUnreachable => {
                cluster
                    .node_mut(from)
                    .routes
                    .insert(to, BrokenRoute::Unreachable);
            }
            other => panic!("{other:?} is not between nodes"),
        }
    }
}

/// A policy that allows no ingress to any pod of the namespace.
fn deny_namespace(cluster: &mut Cluster) {
    cluster.policies.denying.push(ApiPolicy {
        kind: PolicyKind::NetworkPolicy,
        namespace: Some("prod".to_owned()),
        name: "default-deny".to_owned(),
        ingress: Denial::Everything,
        egress: Denial::Nothing,
    });
    for node in cluster.numbers() {
        for pod in [client(node), server(node)] {
            cluster.node_mut(node).policies.push(Filter {
                to: Ends::Pod(pod),
                ..DROP_NEW
            });
        }
    }
}
