//! Two independent faults at once: what both leave together does not prove a third.

use prober_core::packet::Unreachable;
use prober_core::packet::family::Family;
use prober_core::probe::event::TtlStepAnswer;
use prober_core::topology::{AccessPath, Path, Scope};

use super::builder::{Cluster, SILENT, Story, exceeded, gateway, node, server};
use super::named;

/// The diagnoses of these that are proven.
fn proven(cluster: &Cluster) -> Vec<String> {
    let mut found = named(&cluster.matrix);
    found.retain(|name| name.ends_with("proven"));
    found
}

/// Paths from the pods of one node to those of another by their own addresses, or also through Services.
fn between(from: u8, to: u8) -> impl Fn(&Path) -> bool + Copy {
    move |path: &Path| {
        path.client.node == node(from)
            && (path.server.as_ref()).is_some_and(|server| server.node == node(to))
            && path.access_path != AccessPath::Hairpin
    }
}

fn to_server_1(path: &Path) -> bool {
    path.server == Some(server(1))
}

/// The answers to a TTL probe that only this node's own router answers.
fn routed_by(n: u8) -> [TtlStepAnswer; 4] {
    let by = gateway(n, Family::Ipv4);
    let hop_limit = 64;
    [
        TtlStepAnswer::TimeExceeded { by, hop_limit },
        SILENT,
        SILENT,
        SILENT,
    ]
}

#[test]
fn a_pod_that_gets_syns_by_its_own_address_has_no_policy_where_services_are_not_translated() {
    let of_service = |path: &Path| {
        path.client.node == node(1) && path.access_path.is_translated() && to_server_1(path)
    };
    let with = |own: Story| {
        Cluster::new(2)
            .with_story(to_server_1, own)
            .with_story(of_service, Story::Nothing)
            .ttl_probe(of_service, routed_by(1))
    };
    let refused = Story::Reset {
        hop_limit: 64,
        mac: None,
        sent: true,
    };
    for own in [Story::SynIgnored, refused] {
        let found = proven(&with(own));
        let mut names = found.iter();
        assert!(
            !names.any(|name| name.starts_with("network-policy")),
            "{found:?}"
        );
    }
}

#[test]
fn a_pod_that_does_not_reach_itself_and_a_silent_network_are_no_policy_of_that_pod() {
    let hairpin = |path: &Path| path.access_path == AccessPath::Hairpin && to_server_1(path);
    let alone = Cluster::new(2)
        .with_story(hairpin, Story::Nothing)
        .ttl_probe(hairpin, [exceeded(64), SILENT, SILENT, SILENT]);
    let both = alone.with_story(between(2, 1), Story::Nothing);
    assert!(proven(&both).is_empty(), "{:?}", named(&both.matrix));
}

#[test]
fn a_refusal_of_one_pod_does_not_show_that_its_node_drops_what_is_silent() {
    let prohibited = Story::Icmp {
        by: gateway(1, Family::Ipv4),
        reason: Unreachable::Prohibited,
        hop_limit: 64,
        inner: 64,
        after_ms: 0,
    };
    let refused = |path: &Path| {
        to_server_1(path) && path.client.node == node(1) && path.scope() != Scope::Any
    };
    let policy = Cluster::new(2).with_story(refused, prohibited);
    let both = policy
        .with_story(between(1, 2), Story::Nothing)
        .with_story(between(2, 1), Story::ReplyLost);
    assert!(proven(&both).is_empty(), "{:?}", named(&both.matrix));
}

#[test]
fn the_answer_of_another_pod_does_not_show_that_a_tunnel_carries_packets() {
    let own = |path: &Path| between(1, 2)(path) && path.access_path == AccessPath::PodIp;
    let silent = Cluster::new(2)
        .with_story(between(1, 2), Story::Nothing)
        .with_story(between(2, 1), Story::ReplyLost)
        .ttl_probe(own, routed_by(1))
        .traffic(2, "flannel.1", 9, 0, 0);
    assert!(proven(&silent).is_empty(), "{:?}", named(&silent.matrix));
    let of_service = |path: &Path| between(1, 2)(path) && path.access_path == AccessPath::ClusterIp;
    let both = silent.with_story(of_service, Story::Banner(1));
    let found = proven(&both);
    let mut names = found.iter();
    assert!(
        !names.any(|name| name.starts_with("forward-drop")),
        "{found:?}"
    );
}
