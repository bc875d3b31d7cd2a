//! Counting, reporting and evicting handshakes at the server's end.

use super::*;
use crate::packet::{Checksum, Ip, Packet, TcpOptions};

fn local() -> SocketAddr {
    SocketAddr::from(([100, 96, 1, 20], 8080))
}

fn peer(n: u32) -> SocketAddr {
    let [_, a, b, c] = n.to_be_bytes();
    SocketAddr::from(([10, a, b, c], 40_000))
}

fn at(ms: u64) -> Timestamp {
    Timestamp::from_nanos(1_000_000_000_000) + Duration::from_millis(ms)
}

fn seen(
    ms: u64,
    direction: Direction,
    peer: SocketAddr,
    flags: TcpFlags,
    seq: u32,
    ack: u32,
) -> Observation {
    let (src, dst) = match direction {
        Direction::Sent => (local(), peer),
        Direction::Received | Direction::Overheard => (peer, local()),
    };
    let ip = Ip {
        src: src.ip(),
        dst: dst.ip(),
        hop_limit: 64,
        ident: 1,
    };
    let tcp = Tcp {
        src_port: src.port(),
        dst_port: dst.port(),
        seq: Seq(seq),
        ack: Seq(ack),
        flags,
        window: 1,
        options: TcpOptions::default(),
        payload_len: 0,
        checksum: Checksum::Unknown,
    };
    Observation {
        at: at(ms),
        direction,
        packet: Packet {
            link: None,
            body: Body::Tcp(ip, tcp),
        },
    }
}

fn ordinary(traces: &mut ServerTraces, ms: u64, peer: SocketAddr, isn: u32) {
    for (direction, flags, seq, ack) in [
        (Direction::Received, TcpFlags::SYN, isn, 0),
        (Direction::Sent, TcpFlags::SYN_ACK, 900, isn + 1),
        (Direction::Received, TcpFlags::ACK, isn + 1, 901),
    ] {
        traces.observe(&seen(ms, direction, peer, flags, seq, ack));
    }
}

#[test]
fn an_ordinary_handshake_is_reported_once_and_later_counts_add_up() {
    let mut traces = ServerTraces::new([8080]);
    ordinary(&mut traces, 0, peer(1), 5);
    let reported = traces.flush(at(1));
    assert_eq!(reported.len(), 1);
    assert_eq!(
        (reported[0].isn, reported[0].peer, reported[0].local),
        (Seq(5), peer(1), local())
    );
    assert_eq!(
        (reported[0].syns, reported[0].syn_acks, reported[0].acks),
        (1, 1, 1)
    );
    assert_eq!(reported[0].observations.len(), 3);
    assert_eq!(traces.flush(at(2)), []);
    traces.observe(&seen(3, Direction::Received, peer(1), TcpFlags::RST, 6, 0));
    let reported = traces.flush(at(4));
    assert_eq!((reported[0].syns, reported[0].resets_received), (0, 1));
    assert_eq!(reported[0].observations.len(), 1);
}

#[test]
fn the_first_ordinary_and_all_unusual_handshakes_have_packets() {
    let mut traces = ServerTraces::new([8080]);
    for n in 0..500 {
        ordinary(&mut traces, 0, peer(n), n);
    }
    for n in 1000..1100 {
        traces.observe(&seen(1, Direction::Received, peer(n), TcpFlags::SYN, n, 0));
    }
    let reported = traces.flush(at(2));
    assert_eq!(reported.len(), 600);
    let with_packets = |reported: &[ServerTrace], answered: u32| {
        reported
            .iter()
            .filter(|one| one.syn_acks == answered && !one.observations.is_empty())
            .count()
    };
    assert_eq!(with_packets(&reported, 1), 64);
    assert_eq!(with_packets(&reported, 0), 100);
    // A handshake that was only counted becomes unusual: now all of its packets are reported.
    let last = reported.iter().rfind(|one| one.syn_acks == 1).unwrap();
    assert!(last.observations.is_empty());
    traces.observe(&seen(
        3,
        Direction::Received,
        last.peer,
        TcpFlags::RST,
        1,
        0,
    ));
    let again = traces.flush(at(4));
    assert_eq!((again.len(), again[0].observations.len()), (1, 4));
}

#[test]
fn a_new_number_on_the_same_addresses_is_a_new_handshake() {
    let mut traces = ServerTraces::new([8080]);
    ordinary(&mut traces, 0, peer(1), 5);
    ordinary(&mut traces, 1, peer(1), 500);
    let reported: Vec<Seq> = traces.flush(at(2)).iter().map(|one| one.isn).collect();
    assert_eq!(reported, [Seq(5), Seq(500)]);
}

#[test]
fn a_lost_syn_is_known_by_its_answer() {
    let mut traces = ServerTraces::new([8080]);
    traces.observe(&seen(0, Direction::Sent, peer(1), TcpFlags::SYN_ACK, 9, 6));
    let reported = traces.flush(at(1));
    assert_eq!(
        (reported[0].isn, reported[0].syns, reported[0].syn_acks),
        (Seq(5), 0, 1)
    );
}

#[test]
fn other_ports_and_overheard_frames_are_ignored() {
    let mut traces = ServerTraces::new([9999]);
    ordinary(&mut traces, 0, peer(1), 5);
    traces.set_ports([8080]);
    traces.observe(&seen(0, Direction::Overheard, peer(1), TcpFlags::SYN, 5, 0));
    assert_eq!(traces.flush(at(1)), []);
}

#[test]
fn a_flood_is_bounded_and_evicted_handshakes_are_counted() {
    let mut traces = ServerTraces::new([8080]);
    let flood = u32::try_from(MAX_HANDSHAKES).unwrap() + 1000;
    for n in 0..flood {
        traces.observe(&seen(0, Direction::Received, peer(n), TcpFlags::SYN, n, 0));
    }
    assert_eq!(traces.evicted(), 1000);
    let reported = traces.flush(at(1));
    assert_eq!(reported.len(), MAX_HANDSHAKES);
    let packets: usize = reported.iter().map(|one| one.observations.len()).sum();
    assert_eq!(packets, MAX_UNUSUAL);
    // All of one five-tuple, a new number each: as bounded.
    for n in 0..3 * flood {
        traces.observe(&seen(2, Direction::Received, peer(1), TcpFlags::SYN, n, 0));
    }
    assert!(traces.order.len() <= 2 * MAX_HANDSHAKES);
    assert!(traces.flush(at(3)).len() <= MAX_HANDSHAKES + 1);
    // Long after, no handshake of it is kept.
    assert_eq!(traces.flush(at(60_000)), []);
    assert_eq!(
        (traces.handshakes.len(), traces.packets, traces.order.len()),
        (0, 0, 0)
    );
}
