//! A fault of one pod and the same of its whole node, which only another pod of the node distinguishes.

use prober_core::diagnosis::catalogue::Cause;
use prober_core::diagnosis::{Diagnosis, PathSegment, diagnose};
use prober_core::evidence::Comparison::{SecondClient, SecondServer};
use prober_core::topology::{Path, Scope};

use super::builder::{Cluster, SILENT, Story, client, exceeded, server};
use super::named;

/// Paths of node-1's client to node-2.
fn to_2(path: &Path) -> bool {
    path.client == client(1) && path.server == Some(server(2))
}

/// Paths of node-2's client to node-1.
fn to_1(path: &Path) -> bool {
    path.client == client(2) && path.server == Some(server(1))
}

/// No new connection of node-1's client to another node gets out of node-1: connection tracking has none, and node-1 answers
/// TTL 1.
fn without_egress() -> Cluster {
    Cluster::new(2)
        .with_story(to_2, Story::Nothing)
        .with_balanced_story(|path| path.client == client(1), &server(2), Story::Nothing)
        .ttl_probe(to_2, [exceeded(64), SILENT, SILENT, SILENT])
        .tracks(1, |_| false, "SYN_SENT")
}

/// No new connection of another node gets into node-1's server: node-1 answers TTL 2.
fn without_ingress(second: Option<Story>) -> Cluster {
    let cluster = second.map_or_else(
        || Cluster::new(2),
        |story| Cluster::new(2).compared(SecondServer, [client(2), client(1)], story),
    );
    cluster
        .with_story(to_1, Story::Nothing)
        .with_balanced_story(|path| path.client == client(2), &server(1), Story::Nothing)
        .ttl_probe(to_1, [exceeded(64), exceeded(63), SILENT, SILENT])
        .tracks(1, |_| false, "SYN_SENT")
        .tracks(
            2,
            |path| path.client == client(2) && path.scope() == Scope::CrossNode,
            "SYN_SENT",
        )
}

fn second_client(cluster: Cluster, story: Story) -> Cluster {
    cluster.compared(SecondClient, [server(1), server(2)], story)
}

/// The only diagnosis.
fn only(cluster: &Cluster) -> Diagnosis {
    let mut found = diagnose(&cluster.matrix);
    assert_eq!(found.len(), 1, "{found:#?}");
    found.remove(0)
}

fn has_sentence(diagnosis: &Diagnosis, sentence: &str) -> bool {
    diagnosis.evidence.iter().any(|line| line == sentence)
}

#[test]
fn a_second_client_that_works_excludes_its_node() {
    let alone = only(&without_egress());
    assert_eq!(named(&without_egress().matrix).len(), 1);
    assert!(!named(&without_egress().matrix)[0].ends_with("proven"));
    assert_eq!(alone.would_decide, ["network-policy has the same symptoms"]);

    let cluster = second_client(without_egress(), Story::Healthy);
    assert_eq!(named(&cluster.matrix), ["network-policy node-1 proven"]);
    let diagnosis = only(&cluster);
    assert_eq!(diagnosis.segment, PathSegment::Pod { pod: client(1) });
    let works = "pod-ip node-1-server -> node-2-server (ipv4) works";
    let gets_through = format!("another pod of node-1 gets through: {works}");
    assert!(has_sentence(&diagnosis, &gets_through), "{diagnosis:#?}");
    let mut excluded = diagnosis.excluded.iter();
    assert!(excluded.any(|one| one.cause == Cause::ForwardDrop));
}

#[test]
fn a_second_client_that_fails_alike_excludes_a_filter_of_one_pod() {
    let cluster = second_client(without_egress(), Story::Nothing);
    assert_eq!(named(&cluster.matrix), ["forward-drop node-1 proven"]);
    let diagnosis = only(&cluster);
    let fails = "another pod of node-1 does not get through either: pod-ip node-1-server -> node-2-server (ipv4) fails";
    assert!(has_sentence(&diagnosis, fails), "{diagnosis:#?}");
}

#[test]
fn what_drops_new_connections_of_the_pods_of_every_node_may_be_a_policy() {
    let cluster = without_egress()
        .with_story(to_1, Story::Nothing)
        .with_balanced_story(|path| path.client == client(2), &server(1), Story::Nothing)
        .ttl_probe(to_1, [exceeded(64), SILENT, SILENT, SILENT])
        .tracks(2, |_| false, "SYN_SENT");
    let cluster = second_client(cluster, Story::Nothing);
    let cluster = cluster.compared(SecondClient, [server(2), server(1)], Story::Nothing);
    for name in named(&cluster.matrix) {
        assert!(!name.ends_with("proven"), "{name}");
    }
}

#[test]
fn a_second_server_distinguishes_a_pod_from_its_node() {
    assert!(!named(&without_ingress(None).matrix)[0].ends_with("proven"));

    let cluster = without_ingress(Some(Story::Healthy));
    assert_eq!(named(&cluster.matrix), ["network-policy node-1 proven"]);
    let diagnosis = only(&cluster);
    assert_eq!(diagnosis.segment, PathSegment::Pod { pod: server(1) });
    let is_reached =
        "another pod of node-1 is reached: pod-ip node-2-client -> node-1-client (ipv4) works";
    assert!(has_sentence(&diagnosis, is_reached), "{diagnosis:#?}");

    let cluster = without_ingress(Some(Story::Nothing));
    assert_eq!(named(&cluster.matrix), ["forward-drop node-1 proven"]);
}

#[test]
fn answers_that_one_pod_alone_lacks_are_dropped_for_it_and_not_for_its_node() {
    let across = |path: &Path| path.client == client(1) && path.scope() == Scope::CrossNode;
    let cluster = Cluster::new(2)
        .with_story(across, Story::ReplyLost)
        .ttl_probe(to_2, [exceeded(64), SILENT, SILENT, SILENT])
        .tracks(1, across, "SYN_RECV");
    let of_node = only(&cluster);
    assert_ne!(of_node.segment, PathSegment::Pod { pod: client(1) });

    let cluster = second_client(cluster, Story::Healthy);
    assert_eq!(named(&cluster.matrix), ["forward-drop node-1 consistent"]);
    let diagnosis = only(&cluster);
    assert_eq!(diagnosis.segment, PathSegment::Pod { pod: client(1) });
}
