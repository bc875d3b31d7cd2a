//! Faults of connection tracking that touch single packets.

use prober_core::diagnosis::diagnose;
use prober_core::packet::observation::Direction;
use prober_core::packet::{Body, Seq};
use prober_core::probe::outcome::{Echo, Exchange};
use prober_core::topology::Path;

use super::builder::{Cluster, Story, node};
use super::named;

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
