//! Captures over a veth and on loopback.
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use prober_core::node_facts::NodeFacts;
use prober_net::packet_socket::filter::CaptureFilter;
use prober_net::packet_socket::{
    CaptureError, CaptureOptions, ChecksumStatus, FilteredBy, Frame, FrameKind, Interfaces,
    LinkHeader, OnRefusedFilter, PacketSocket, Ready, RingShape, Waker, now,
};
use prober_net::raw_engine::send::RawSender;

use crate::namespace::{Namespace, Pair, address};
use crate::packets::{SYN, SYN_ACK, Tcp, tcp};

pub(crate) fn options(interfaces: Interfaces, port: u16) -> CaptureOptions {
    CaptureOptions {
        interfaces,
        filter: CaptureFilter::in_ports(vec![port..=port]).unwrap(),
        ring: RingShape::SMALL,
        on_refused_filter: OnRefusedFilter::Fail,
    }
}

/// Opens a capture in a namespace, on all its interfaces.
pub(crate) fn capture(namespace: &Namespace, port: u16) -> PacketSocket {
    namespace.run(move || PacketSocket::open(options(Interfaces::All, port)).unwrap())
}

/// Hands frames to `wanted` until it returns something; five seconds at most.
pub(crate) fn await_frame<T>(
    capture: &mut PacketSocket,
    mut wanted: impl FnMut(&Frame<'_>) -> Option<T>,
) -> Option<T> {
    let deadline = now() + Duration::from_secs(5);
    let mut found = None;
    loop {
        capture.drain(|frame| {
            if found.is_none() {
                found = wanted(frame);
            }
        });
        if found.is_some() || capture.wait(deadline, None).unwrap() == Ready::Deadline {
            return found;
        }
    }
}

/// Waits for a TCP packet with these flags.
pub(crate) fn await_tcp(capture: &mut PacketSocket, flags: u8) -> Option<(Tcp, FrameKind)> {
    await_frame(capture, |frame| {
        let tcp = Tcp::read(frame.packet())?;
        (tcp.flags == flags).then_some((tcp, frame.kind))
    })
}

fn sockets(client: &str, server: &str, port: u16) -> (SocketAddr, SocketAddr) {
    (
        SocketAddr::new(address(client), port),
        SocketAddr::new(address(server), 8080),
    )
}

#[test]
fn a_handshake_over_a_veth_is_captured_at_both_ends_with_kernel_timestamps_and_directions() {
    let Some(pair) = Pair::new() else { return };
    for (client, server) in [(Pair::CLIENT, Pair::SERVER), (Pair::CLIENT6, Pair::SERVER6)] {
        let (from, to) = sockets(client, server, 40001);
        let index = pair.client.index("eth0");
        let mut at_client = pair
            .client
            .run(move || PacketSocket::open(options(Interfaces::One(index), 40001)).unwrap());
        let mut at_server = capture(&pair.server, 40001);
        let _listener = pair.server.run(move || TcpListener::bind(to).unwrap());
        let mut sender = pair.client.run(|| RawSender::open().unwrap());
        let before = now();
        assert_eq!(sender.send(&[tcp(from, to, SYN, 7)]), []);

        let mut stamps = Vec::new();
        let syn = await_frame(&mut at_client, |frame| {
            let tcp = Tcp::read(frame.packet())?;
            assert_eq!(
                (tcp.flags, tcp.sequence),
                (SYN, 7),
                "the first packet is our SYN"
            );
            assert_eq!(frame.kind, FrameKind::Outgoing);
            assert_eq!(
                (frame.link_header, frame.interface),
                (LinkHeader::Ethernet, index)
            );
            assert_eq!(frame.checksum, ChecksumStatus::Complete, "we summed it");
            assert_eq!(frame.source().unwrap().to_string(), Pair::CLIENT_MAC);
            assert_eq!(frame.destination().unwrap().to_string(), Pair::SERVER_MAC);
            stamps.push(frame.at);
            Some(())
        });
        assert_eq!(syn, Some(()));
        let arrived = await_frame(&mut at_server, |frame| {
            let tcp = Tcp::read(frame.packet())?;
            assert_eq!((tcp.flags, frame.kind), (SYN, FrameKind::ToHost));
            stamps.push(frame.at);
            Some(())
        });
        assert_eq!(arrived, Some(()));
        // Both ends are on one machine, so their timestamps can be compared.
        assert!(
            before <= stamps[0] && stamps[0] <= stamps[1] && stamps[1] <= now(),
            "{before} {stamps:?}"
        );
    }
}

#[test]
fn the_answer_is_captured_with_its_macs_and_a_partial_checksum() {
    let Some(pair) = Pair::new() else { return };
    let (from, to) = sockets(Pair::CLIENT, Pair::SERVER, 40002);
    let mut at_client = capture(&pair.client, 40002);
    let _listener = pair.server.run(move || TcpListener::bind(to).unwrap());
    let mut sender = pair.client.run(|| RawSender::open().unwrap());
    sender.send(&[tcp(from, to, SYN, 7)]);
    let answer = await_frame(&mut at_client, |frame| {
        let tcp = Tcp::read(frame.packet()).filter(|tcp| tcp.flags == SYN_ACK)?;
        Some((
            tcp.acknowledged,
            frame.kind,
            frame.checksum,
            frame.source().unwrap().to_string(),
        ))
    });
    assert_eq!(
        answer,
        Some((
            8,
            FrameKind::ToHost,
            ChecksumStatus::Partial,
            Pair::SERVER_MAC.to_owned()
        ))
    );
}

#[test]
fn a_packet_on_loopback_is_handed_over_once() {
    let Some(alone) = Namespace::new() else {
        return;
    };
    let (from, to) = sockets("127.0.0.1", "127.0.0.1", 40003);
    let mut seen = capture(&alone, 40003);
    let mut sender = alone.run(|| RawSender::open().unwrap());
    // There is no listener: the SYN of the test, and the kernel's RST, which must be the second packet.
    sender.send(&[tcp(from, to, SYN, 7)]);
    let mut packets = Vec::new();
    let reset = await_frame(&mut seen, |frame| {
        packets.push((Tcp::read(frame.packet()).unwrap().flags, frame.kind));
        (packets.len() == 2).then_some(())
    });
    assert_eq!(reset, Some(()));
    assert_eq!(
        packets,
        [(SYN, FrameKind::Loopback), (0x14, FrameKind::Loopback)]
    );
}

#[test]
fn packets_that_find_the_ring_full_are_counted() {
    let Some(pair) = Pair::new() else { return };
    let (from, to) = sockets(Pair::CLIENT, Pair::SERVER, 40004);
    let mut small = pair.client.run(|| {
        let ring = RingShape {
            block_size: 1 << 12,
            blocks: 2,
            block_timeout: Duration::from_millis(1),
        };
        PacketSocket::open(CaptureOptions {
            ring,
            ..options(Interfaces::All, 40004)
        })
        .unwrap()
    });
    let mut sender = pair.client.run(|| RawSender::open().unwrap());
    let packets = vec![tcp(from, to, SYN, 7); 1000];
    assert_eq!(sender.send(&packets), []);
    let mut read = 0;
    loop {
        read += small.drain(|_| ()) as u64;
        let counts = small.counts().unwrap();
        assert!(counts.drops > 0, "1000 packets do not fit into 8 KiB");
        // The kernel hands the last block over after its timeout; nothing else is missing then.
        if read + counts.drops == counts.packets {
            assert!(counts.packets >= 1000);
            break;
        }
        small.wait(now() + Duration::from_millis(50), None).unwrap();
    }
}

#[test]
fn a_wait_ends_by_its_deadline_or_by_its_waker() {
    let Some(alone) = Namespace::new() else {
        return;
    };
    let seen = capture(&alone, 40005);
    let waker = Waker::new().unwrap();
    let until = now() + Duration::from_millis(20);
    assert_eq!(seen.wait(until, Some(&waker)).unwrap(), Ready::Deadline);
    assert!(now() >= until);
    let far = now() + Duration::from_mins(1);
    let other = waker.clone();
    std::thread::spawn(move || other.wake());
    assert_eq!(seen.wait(far, Some(&waker)).unwrap(), Ready::Woken);
    assert!(now() < far);
    // It was used once, so it does not end the next wait.
    assert_eq!(seen.wait(now(), Some(&waker)).unwrap(), Ready::Deadline);
}

#[test]
fn where_the_kernel_refuses_the_filter_the_capture_fails_or_filters_in_userspace() {
    let Some(alone) = Namespace::new() else {
        return;
    };
    let facts: NodeFacts = alone.run(prober_net::node_facts::read_facts);
    println!("kernel {:?}", facts.kernel);
    // A program needs option memory, and this limit is too small for any.
    alone.sysctl("net/core/optmem_max", "256");
    let many = || (0..500).map(|port| port * 100..=port * 100).collect();
    let refused = alone.run(move || {
        let filter = CaptureFilter::in_ports(many()).unwrap();
        PacketSocket::open(CaptureOptions {
            filter,
            ..options(Interfaces::All, 1)
        })
        .err()
    });
    let Some(CaptureError::Filter(why)) = refused else {
        panic!("a refused filter, not {refused:?}")
    };
    println!("refused: {why}");
    let mut here = alone.run(move || {
        let filter = CaptureFilter::in_ports(many()).unwrap();
        let on_refused_filter = OnRefusedFilter::FilterInUserspace;
        PacketSocket::open(CaptureOptions {
            filter,
            on_refused_filter,
            ..options(Interfaces::All, 1)
        })
        .unwrap()
    });
    assert!(matches!(here.filtered(), FilteredBy::Userspace(_)));
    let mut sender = alone.run(|| RawSender::open().unwrap());
    let from = |port| SocketAddr::new(address("127.0.0.1"), port);
    sender.send(&[
        tcp(from(40001), from(40003), SYN, 1),
        tcp(from(40000), from(40003), SYN, 2),
    ]);
    let first = await_tcp(&mut here, SYN).unwrap();
    assert_eq!(
        (first.0.source, first.0.sequence),
        (40000, 2),
        "the packet of another port is left out"
    );
}
