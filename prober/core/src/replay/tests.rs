//! Replay of captures that are made from packet texts.

use proptest::prelude::*;

use super::*;
use crate::diagnosis::diagnose;
use crate::packet::capture::{CommentedPacket, InterfacePackets, write_pcapng};
use crate::packet::observation::{Direction, Observation};
use crate::packet::text::parse_packet_text;
use crate::probe::outcome::OutcomeKind;
use crate::topology::Scope;

/// The smallest inputs of each kind.
mod kinds;
/// Queries of DNS.
mod names;
/// What holds for all captures.
mod properties;
/// Other ends, families and filters.
mod variants;

fn file(views: &[&str]) -> Vec<u8> {
    let views: Vec<Vec<Observation>> = views
        .iter()
        .map(|text| parse_packet_text(text).unwrap())
        .collect();
    let views: Vec<InterfacePackets<'_>> = views
        .iter()
        .map(|observations| InterfacePackets {
            interface: "eth0".to_owned(),
            packets: observations
                .iter()
                .map(|observation| CommentedPacket {
                    observation,
                    comment: "".into(),
                })
                .collect(),
        })
        .collect();
    write_pcapng(&views).unwrap()
}

fn replayed(views: &[&str]) -> Replay {
    replay_files(&[&file(views)]).unwrap()
}

fn outcomes(replay: &Replay) -> Vec<OutcomeKind> {
    replay
        .matrix
        .paths
        .values()
        .flat_map(|path| &path.probes)
        .map(|probe| probe.client.outcome.kind())
        .collect()
}

/// An unrelated packet long after the others: the capture continued.
const LATER: &str = "
    60000 > 10.0.0.1:9 > 10.0.0.2:9 [R] seq 1
";

#[test]
fn a_timeout_counts_only_if_the_capture_continued() {
    let syn = "0 > 10.0.0.1:41000 > 10.0.0.2:80 [S] seq 5
               1000 > 10.0.0.1:41000 > 10.0.0.2:80 [S] seq 5";
    let cut = replayed(&[syn]);
    assert!(cut.diagnoses[0].evidence[0].contains("too early to say"));
    let beside_another = replayed(&[&format!(
        "{syn}
         1000.5 > 10.0.0.1:41001 > 10.0.0.2:80 [S] seq 77
         1000.9 < 10.0.0.2:80 > 10.0.0.1:41001 [S.] seq 9 ack 78"
    )]);
    assert_eq!(outcomes(&beside_another), [OutcomeKind::Established]);
    assert!(
        beside_another.notes[0].contains("when the capture ended: 1"),
        "{:?}",
        beside_another.notes
    );
    let whole = replayed(&[&format!("{syn}{LATER}")]);
    assert_eq!(outcomes(&whole), [OutcomeKind::Timeout]);
}

#[test]
fn a_silent_server_whose_node_is_not_known_is_not_placed_on_another() {
    let replay = replayed(&[&format!(
        "0 > 10.0.0.1:41000 > 10.0.0.2:80 [S] seq 5{LATER}"
    )]);
    let path = replay.matrix.paths.values().next().unwrap();
    assert_eq!(path.path.scope(), Scope::Any);
}

#[test]
fn an_icmp_error_belongs_to_the_syn_that_it_quotes() {
    let replay = replayed(&["
        0 > 10.0.0.1:41000 > 10.96.0.9:80 [S] seq 5
        0.2 < ICMP port unreachable from 10.0.0.254 to 10.0.0.1, quotes 10.0.0.1:41000 > 10.96.0.9:80 seq 5 ttl 63
    "]);
    assert_eq!(outcomes(&replay), [OutcomeKind::Unreachable]);
}

#[test]
fn a_scan_for_open_ports_is_no_fault() {
    let text: Vec<String> = (1..30)
        .map(|port| format!("{port} > 10.0.0.1:40{port:03} > 10.0.0.2:{port} [S] seq {port}00"))
        .collect();
    let text = text.join("\n");
    let replay = replayed(&[&format!("{text}{LATER}")]);
    assert!(outcomes(&replay).is_empty());
    assert_eq!(
        replay.notes,
        ["10.0.0.1 failed on all 29 ports of 10.0.0.2 that it tried: a port scan, not judged"]
    );
}

#[test]
fn a_port_that_is_used_again_is_another_connection() {
    let replay = replayed(&["
        0 > 10.0.0.1:41000 > 10.0.0.2:80 [S] seq 5
        1 < 10.0.0.2:80 > 10.0.0.1:41000 [S.] seq 9 ack 6
        2 > 10.0.0.1:41000 > 10.0.0.2:80 [R] seq 6
        100 > 10.0.0.1:41000 > 10.0.0.2:80 [S] seq 0x1000
        101 < 10.0.0.2:80 > 10.0.0.1:41000 [R.] seq 0 ack 0x1001
    "]);
    assert_eq!(
        outcomes(&replay),
        [OutcomeKind::Established, OutcomeKind::Reset]
    );
}

#[test]
fn a_captured_server_without_the_syn_differs_from_one_that_was_not_captured() {
    let good = |at: u32, port: u32, isn: u32| {
        (
            format!(
                "{at} > 10.0.0.1:{port} > 10.0.0.2:80 [S] seq {isn}\n\
                 {at}.9 < 10.0.0.2:80 > 10.0.0.1:{port} [S.] seq 9 ack {}\n",
                isn + 1
            ),
            format!(
                "{at} < 10.0.0.1:{port} > 10.0.0.2:80 [S] seq {isn} ttl 62\n\
                 {at}.1 > 10.0.0.2:80 > 10.0.0.1:{port} [S.] seq 9 ack {}\n",
                isn + 1
            ),
        )
    };
    let (first, first_there) = good(0, 41_000, 100);
    let (last, last_there) = good(50_000, 41_002, 300);
    let lost = "20000 > 10.0.0.1:41001 > 10.0.0.2:80 [S] seq 200\n";
    let replay = replayed(&[
        &format!("{first}{lost}{last}{LATER}"),
        &format!("{first_there}{last_there}"),
    ]);
    let path = replay.matrix.paths.values().next().unwrap();
    let syns: Vec<_> = path
        .probes
        .iter()
        .map(|probe| probe.server.as_ref().map(|handshake| handshake.syns))
        .collect();
    assert_eq!(syns, [Some(1), Some(0), Some(1)]);

    let late = replayed(&[&format!("{lost}{last}{LATER}"), &last_there]);
    let path = late.matrix.paths.values().next().unwrap();
    assert!(path.probes[0].server.is_none());
}

#[test]
fn a_packet_on_two_interfaces_counts_once_and_shows_its_translation() {
    // tcpdump -i any on the node: each packet as it comes in and as it goes out.
    let replay = replayed(&["
        0.000 < 10.0.0.1:41000 > 10.96.0.9:80 [S] seq 500 ttl 64 id 3 smac 02:00:00:00:00:01
        0.010 > 10.0.0.1:41000 > 10.0.1.2:8080 [S] seq 500 ttl 63 id 3 smac 02:00:00:00:00:fe
        0.500 < 10.0.1.2:8080 > 10.0.0.1:41000 [S.] seq 9 ack 501 ttl 63 smac 02:00:00:00:00:02
        0.510 > 10.96.0.9:80 > 10.0.0.1:41000 [S.] seq 9 ack 501 ttl 62 smac 02:00:00:00:00:fe
    "]);
    let path = replay.matrix.paths.values().next().unwrap();
    assert_eq!(replay.matrix.paths.len(), 1, "{:#?}", replay.matrix.paths);
    assert_eq!(outcomes(&replay), [OutcomeKind::Established]);
    assert_eq!(path.backends[0].address.to_string(), "10.0.1.2:8080");
    assert!(diagnose(&replay.matrix).is_empty());
}

/// Every kind of packet of a handshake, as a basis for mutations.
const BUSY: &str = "
    0.000 > 10.0.0.1:41000 > 10.96.0.9:80 [S] seq 500 smac 02:00:00:00:00:01 dmac 02:00:00:00:00:fe
    0.041 < 10.0.0.2:80 > 10.0.0.1:41000 [S.] seq 9 ack 501 smac 02:00:00:00:00:02 dmac 02:00:00:00:00:01
    0.052 > 10.0.0.1:41000 > 10.0.0.2:80 [R] seq 501 smac 02:00:00:00:00:01 dmac 02:00:00:00:00:02
    1.000 ~ ARP who-has 10.0.0.3 tell 10.0.0.1 at 02:00:00:00:00:01 smac 02:00:00:00:00:01 dmac ff:ff:ff:ff:ff:ff
    2.000 < ICMP host unreachable from 10.0.0.254 to 10.0.0.1, quotes 10.0.0.1:41000 > 10.96.0.9:80 seq 500 ttl 1 smac 02:00:00:00:00:fe dmac 02:00:00:00:00:01
    3.000 > 10.0.0.1:41001 > 10.96.0.9:80 [S] seq 600 smac 02:00:00:00:00:01 dmac 02:00:00:00:00:fe
    3.100 < 10.96.0.9:80 > 10.0.0.1:41001 [S.] seq 9 ack 601 smac 02:00:00:00:00:fe dmac 02:00:00:00:00:01
    9000 > 10.0.0.1:41001 > 10.96.0.9:80 [.] seq 601 ack 10 smac 02:00:00:00:00:01 dmac 02:00:00:00:00:fe
";

proptest! {
    #[test]
    fn a_capture_with_flipped_bits_is_replayed_and_diagnosed_without_a_panic(
        flips in prop::collection::vec(any::<prop::sample::Index>(), 1..12),
    ) {
        let mut bytes = file(&[BUSY, BUSY]);
        for flip in flips {
            let bit = flip.index(bytes.len() * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
        if let Ok(replay) = replay_files(&[&bytes]) {
            let recorded: usize = replay.matrix.paths.values().map(|path| path.probes.len()).sum();
            prop_assert!(recorded <= 16);
            diagnose(&replay.matrix);
        }
    }

    #[test]
    fn packets_in_any_order_and_direction_never_make_an_answer_of_another_address_a_success(
        order in prop::collection::vec((0..8_usize, 0..3_u8), 0..24),
    ) {
        let observations = parse_packet_text(BUSY).unwrap();
        let mixed: Vec<Observation> = (0..)
            .zip(order)
            .map(|(at, (which, direction))| Observation {
                at: Timestamp::from_nanos(at * 1_000_000),
                direction: match direction {
                    0 => Direction::Sent,
                    1 => Direction::Received,
                    _ => Direction::Overheard,
                },
                packet: observations[which].packet,
            })
            .collect();
        let packets = mixed
            .iter()
            .map(|observation| CommentedPacket { observation, comment: "".into() })
            .collect();
        let bytes = write_pcapng(&[InterfacePackets { interface: String::new(), packets }]).unwrap();
        let replay = replay_files(&[&bytes]).unwrap();
        for probe in replay.matrix.paths.values().flat_map(|path| &path.probes) {
            if probe.client.src.port() == 41000 {
                prop_assert_ne!(probe.client.outcome.kind(), OutcomeKind::Established);
            }
        }
        diagnose(&replay.matrix);
    }
}
