//! Faults of connection tracking that touch single packets.

use std::net::SocketAddr;

use prober_core::diagnosis::diagnose;
use prober_core::packet::family::Family;
use prober_core::packet::observation::Direction;
use prober_core::packet::{Body, Seq};
use prober_core::probe::outcome::{Echo, Exchange};
use prober_core::topology::Path;

use super::builder::{Cluster, Lost, Story, client, gateway, node, server};
use super::loss::with_many_good;
use super::named;

const INSERT_FAILED: &str = "ConntrackInsertFailed";

/// Services of clients on node-1.
fn services_of_node_1(path: &Path) -> bool {
    path.client.node == node(1) && path.access_path.is_translated() && path.server.is_some()
}

/// Segments of Services' connections of node-1 that are not translated back.
fn with_invalid_segments() -> Cluster {
    Cluster::new(2).with_story(services_of_node_1, Story::SegmentFromWrongSource)
}

#[test]
fn an_untranslated_segment_of_an_open_connection_proves_invalid_reset() {
    let cluster = with_invalid_segments().grows(1, "ConntrackInvalid", 9);
    assert_eq!(named(&cluster.matrix), ["invalid-reset node-1 proven"]);
    let evidence = &diagnose(&cluster.matrix)[0].evidence;
    for part in [
        "then a segment of this connection with 1398 bytes arrived from 100.96.",
        "the client's kernel answered RST to 100.96.",
        "the server's end received the RST in the middle of the connection",
        "ConntrackInvalid +9 on node-1 during the run",
    ] {
        assert!(
            evidence.iter().any(|sentence| sentence.contains(part)),
            "{part}: {evidence:#?}"
        );
    }
}

#[test]
fn invalid_reset_is_only_consistent_where_invalid_packets_were_not_counted() {
    let cluster = with_invalid_segments().without_facts();
    assert_eq!(named(&cluster.matrix), ["invalid-reset node-1 consistent"]);
}

#[test]
fn a_node_that_counted_no_invalid_packet_has_no_invalid_reset() {
    let named = named(&with_invalid_segments().matrix);
    assert!(
        named.iter().all(|one| one.starts_with("unknown")),
        "{named:?}"
    );
}

#[test]
fn a_stalled_echo_with_an_untranslated_segment_is_no_mtu_black_hole() {
    let mut matrix = with_invalid_segments()
        .grows(1, "ConntrackInvalid", 9)
        .matrix;
    for evidence in matrix.paths.values_mut() {
        let is_reset = services_of_node_1(&evidence.path);
        for probe in evidence.probes.iter_mut().filter(|_| is_reset) {
            let banner = Cluster::new(2)
                .matrix
                .paths
                .values()
                .find(|other| other.path == evidence.path)
                .and_then(|other| other.probes[0].client.exchange.banner().cloned());
            probe.client.exchange = Exchange::BannerReceived {
                banner: banner.unwrap(),
                echo: Echo::Stalled {
                    sent: 8192,
                    received: 0,
                },
            };
        }
    }
    assert_eq!(named(&matrix), ["invalid-reset node-1 proven"]);
}

#[test]
fn a_late_segment_of_an_earlier_connection_from_the_port_shows_nothing() {
    let mut matrix = with_invalid_segments()
        .grows(1, "ConntrackInvalid", 9)
        .matrix;
    let probes = matrix.paths.values_mut().flat_map(|path| &mut path.probes);
    for probe in probes {
        let target = probe.client.dst;
        for seen in &mut probe.client.observations {
            let is_wrong =
                seen.direction == Direction::Received && seen.packet.tcp_src() != Some(target);
            if let (Body::Tcp(_, tcp), true) = (&mut seen.packet.body, is_wrong) {
                tcp.ack = Seq(tcp.ack.0.wrapping_add(70_000));
            }
        }
    }
    let named = named(&matrix);
    assert!(
        named.iter().all(|one| one.starts_with("unknown")),
        "{named:?}"
    );
}

/// A Service of node-1's client and server whose SYNs are lost as in the story; servers see the other Services' connections of
/// that client from its node.
fn masqueraded(story: Story) -> Cluster {
    let is_to_own = |path: &Path| path.client == client(1) && path.server == Some(server(1));
    let mut cluster = Cluster::new(2)
        .with_story(|path| services_of_node_1(path) && is_to_own(path), story)
        .with_balanced_story(|path| path.client == client(1), &server(1), story);
    for evidence in cluster.matrix.paths.values_mut() {
        let is_masqueraded =
            evidence.path.client == client(1) && evidence.path.access_path.is_translated();
        let traces = evidence
            .probes
            .iter_mut()
            .flat_map(|probe| &mut probe.server);
        for server_trace in traces.filter(|_| is_masqueraded) {
            server_trace.peer = SocketAddr::new(gateway(1, Family::Ipv4), 40_000);
        }
    }
    cluster
}

#[test]
fn syns_that_connection_tracking_could_not_insert_are_a_collision_of_source_ports() {
    let cluster = masqueraded(Story::Nothing).grows(1, INSERT_FAILED, 200);
    assert_eq!(
        named(&cluster.matrix),
        ["snat-port-collision node-1 consistent"]
    );
    let evidence = &diagnose(&cluster.matrix)[0].evidence;
    for part in [
        "ConntrackInsertFailed +200 on node-1 during the run",
        "from 100.96.1.1: node-1 translates their source",
    ] {
        assert!(
            evidence.iter().any(|sentence| sentence.contains(part)),
            "{part}: {evidence:#?}"
        );
    }
}

#[test]
fn services_that_are_late_by_a_second_may_collide_and_none_is_proven() {
    let late = Story::Late {
        syns: 2,
        lost: Lost::Syn,
        started_ms: 0,
    };
    let cluster = with_many_good(masqueraded(late), 20);
    let counted = cluster.clone().grows(1, INSERT_FAILED, 50);
    assert_eq!(
        named(&counted.matrix),
        ["snat-port-collision node-1 consistent"]
    );
    for matrix in [
        cluster.matrix.clone(),
        cluster.clone().grows(1, INSERT_FAILED, 1).matrix,
        cluster.without_facts().matrix,
    ] {
        let named = named(&matrix);
        assert!(
            !named.is_empty() && !named[0].starts_with("snat-port-collision"),
            "{named:?}"
        );
    }
}

#[test]
fn loss_on_paths_without_a_translated_source_is_no_collision() {
    let late = Story::Late {
        syns: 2,
        lost: Lost::Syn,
        started_ms: 0,
    };
    let at_1 = |path: &Path| path.client.node == node(1);
    let cluster =
        with_many_good(Cluster::new(2).with_story(at_1, late), 20).grows(1, INSERT_FAILED, 500);
    assert!(
        named(&cluster.matrix)
            .iter()
            .all(|one| one.starts_with("packet-loss")),
        "{:?}",
        named(&cluster.matrix)
    );
}
