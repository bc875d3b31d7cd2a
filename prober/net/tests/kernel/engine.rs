//! The raw engine speaks TCP with a real server.
use std::io::Read;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use prober_core::packet::family::Family;
use prober_core::packet::observation::{Direction, Observation};
use prober_core::packet::{Checksum, Seq, TcpFlags, TcpOptions, TcpSegment};
use prober_core::probe::engine::{Engine, Wake};
use prober_net::packet_socket::Interfaces;
use prober_net::packet_socket::filter::CaptureFilter;
use prober_net::raw_engine::RawEngine;
use prober_net::route_lookup::look_up_route;
use prober_net::rst_suppression::SuppressedPort;

use crate::capture::options;
use crate::namespace::{Namespace, Pair, address};

fn segment(
    src: SocketAddr,
    dst: SocketAddr,
    flags: TcpFlags,
    seq: u32,
    ack: u32,
    payload: &[u8],
) -> TcpSegment {
    TcpSegment {
        src,
        dst,
        hop_limit: 64,
        ident: 1,
        seq: Seq(seq),
        ack: Seq(ack),
        flags,
        window: 65535,
        options: TcpOptions::default(),
        payload: payload.to_vec(),
    }
}

/// Receives until `count` TCP packets were captured, and returns them.
fn receive(engine: &mut RawEngine, count: usize) -> Vec<Observation> {
    let until = engine.now() + Duration::from_secs(5);
    let mut seen = Vec::new();
    while seen.len() < count {
        let wake = engine.recv(until, &mut |observation, _| {
            if observation.packet.tcp().is_some() {
                seen.push(*observation);
            }
        });
        assert_ne!(
            wake.unwrap(),
            Wake::Deadline,
            "{count} packets come within five seconds: {seen:?}"
        );
    }
    seen
}

fn engine(namespace: &Namespace, port: u16) -> RawEngine {
    namespace.run(move || RawEngine::open(options(Interfaces::All, port)).unwrap())
}

#[test]
fn a_whole_raw_connection_delivers_its_data_to_a_real_server() {
    let Some(pair) = Pair::new() else { return };
    for (family, client, server) in [
        (Family::Ipv4, Pair::CLIENT, Pair::SERVER),
        (Family::Ipv6, Pair::CLIENT6, Pair::SERVER6),
    ] {
        let to = SocketAddr::new(address(server), 8080);
        let listener = pair.server.run(move || TcpListener::bind(to).unwrap());
        let suppressed = pair
            .client
            .run(move || SuppressedPort::reserve(family, 0).unwrap().unwrap());
        let source = pair
            .client
            .run(move || look_up_route(to.ip()).unwrap())
            .source;
        assert_eq!(source, address(client));
        let from = SocketAddr::new(source, suppressed.port());
        let mut engine = engine(&pair.client, suppressed.port());

        engine
            .send(&[segment(from, to, TcpFlags::SYN, 100, 0, b"")])
            .unwrap();
        let [syn, answer] = receive(&mut engine, 2).try_into().unwrap();
        assert_eq!(
            (syn.direction, answer.direction),
            (Direction::Sent, Direction::Received)
        );
        assert!(answer.packet.tcp().unwrap().1.flags.is_syn_ack());
        assert_eq!(syn.packet.tcp().unwrap().1.checksum, Checksum::Valid);
        assert_eq!(answer.packet.tcp_src(), Some(to));
        assert_eq!(answer.packet.tcp().unwrap().1.ack, Seq(101));
        assert_eq!(
            answer.packet.link.unwrap().src.to_string(),
            Pair::SERVER_MAC
        );
        assert!(syn.at <= answer.at);

        let peer = answer.packet.tcp().unwrap().1.seq.add(1);
        let data = TcpFlags::ACK.with(TcpFlags::PSH);
        engine
            .send(&[
                segment(from, to, TcpFlags::ACK, 101, peer.0, b""),
                segment(from, to, data, 101, peer.0, b"over a raw socket"),
                segment(
                    from,
                    to,
                    TcpFlags::ACK.with(TcpFlags::FIN),
                    118,
                    peer.0,
                    b"",
                ),
            ])
            .unwrap();
        let (mut stream, accepted) = listener.accept().unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        assert_eq!((accepted, text.as_str()), (from, "over a raw socket"));
        engine
            .send(&[segment(from, to, TcpFlags::RST, 119, 0, b"")])
            .unwrap();
        assert_eq!(engine.send_counts().sent, 5);
        assert_eq!(engine.capture_counts().unwrap().drops, 0);
    }
}

#[test]
fn on_loopback_each_packet_has_the_direction_of_the_end_that_captures_it() {
    let Some(alone) = Namespace::new() else {
        return;
    };
    let at = |port| SocketAddr::new(address("127.0.0.1"), port);
    let _listener = alone.run(move || TcpListener::bind(at(8080)).unwrap());
    let mut client = engine(&alone, 44001);
    let mut server = engine(&alone, 8080);
    client
        .send(&[segment(at(44001), at(8080), TcpFlags::SYN, 1, 0, b"")])
        .unwrap();
    for (end, expected) in [
        (&mut client, [Direction::Sent, Direction::Received]),
        (&mut server, [Direction::Received, Direction::Sent]),
    ] {
        let seen = receive(end, 2);
        assert!(
            seen[0].packet.tcp().unwrap().1.flags.is_syn()
                && seen[1].packet.tcp().unwrap().1.flags.is_syn_ack()
        );
        assert_eq!([seen[0].direction, seen[1].direction], expected);
    }
}

#[test]
fn receiving_ends_by_its_deadline_and_by_its_waker() {
    let Some(alone) = Namespace::new() else {
        return;
    };
    let mut engine = engine(&alone, 44002);
    let until = engine.now() + Duration::from_millis(10);
    assert_eq!(engine.recv(until, &mut |_, _| ()).unwrap(), Wake::Deadline);
    engine.waker().wake();
    let far = engine.now() + Duration::from_mins(1);
    assert_eq!(engine.recv(far, &mut |_, _| ()).unwrap(), Wake::Interrupted);
}

#[test]
fn the_ports_that_are_captured_can_be_changed() {
    let Some(alone) = Namespace::new() else {
        return;
    };
    let at = |port| SocketAddr::new(address("127.0.0.1"), port);
    let mut engine = engine(&alone, 44003);
    engine
        .set_filter(CaptureFilter::in_ports(vec![44004..=44004]).unwrap())
        .unwrap();
    engine
        .send(&[
            segment(at(44003), at(8080), TcpFlags::SYN, 1, 0, b""),
            segment(at(44004), at(8080), TcpFlags::SYN, 2, 0, b""),
        ])
        .unwrap();
    assert_eq!(receive(&mut engine, 1)[0].packet.tcp_src(), Some(at(44004)));
}

#[test]
fn the_route_to_a_destination_has_its_source_address_and_interface() {
    let Some(pair) = Pair::new() else { return };
    pair.client.ip("route add blackhole 10.99.3.0/24");
    let route = |to: &'static str| pair.client.run(move || look_up_route(address(to)));
    let eth0 = pair.client.index("eth0");
    for (to, source) in [(Pair::SERVER, Pair::CLIENT), (Pair::SERVER6, Pair::CLIENT6)] {
        let found = route(to).unwrap();
        assert_eq!((found.source, found.interface), (address(source), eth0));
    }
    let own = route(Pair::CLIENT).unwrap();
    assert_eq!(
        (own.source, own.interface),
        (address(Pair::CLIENT), pair.client.index("lo"))
    );
    for nowhere in ["192.0.2.1", "10.99.3.1"] {
        let error = route(nowhere).unwrap_err().to_string();
        assert!(
            error.contains(&format!("ip route get {nowhere}")),
            "{error}"
        );
    }
}
