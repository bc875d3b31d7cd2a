//! What the kernel does not take is returned packet by packet.
use std::net::SocketAddr;

use prober_net::raw_engine::send::{RawSender, SendFailure, Unsent};

use crate::namespace::{Pair, address};
use crate::packets::{SYN, ip, tcp};

#[test]
fn each_packet_that_is_not_taken_is_returned_with_its_reason_and_the_others_are_sent() {
    let Some(pair) = Pair::new() else { return };
    for route in [
        "unreachable 10.99.1.0/24",
        "prohibit 10.99.2.0/24",
        "blackhole 10.99.3.0/24",
    ] {
        pair.client.ip(&format!("route add {route}"));
    }
    let mut sender = pair.client.run(|| RawSender::open().unwrap());
    let from = SocketAddr::new(address(Pair::CLIENT), 43000);
    let to = |text: &str| tcp(from, SocketAddr::new(address(text), 80), SYN, 1);
    let packets = [
        to(Pair::SERVER),
        to("10.99.1.1"),
        to("10.99.2.1"),
        to(Pair::SERVER),
        to("10.99.3.1"),
        to("192.0.2.1"),
        vec![0x45, 0, 0],
        vec![],
        ip(address(Pair::CLIENT), address(Pair::SERVER), 6, &[0; 1600]),
        ip(address(Pair::CLIENT6), address("fd99::1"), 6, &[0; 20]),
        to(Pair::SERVER),
        ip(address(Pair::CLIENT6), address(Pair::SERVER6), 6, &[0; 20]),
    ];
    let expected = [
        (1, SendFailure::HostUnreachable),
        (2, SendFailure::Forbidden),
        (4, SendFailure::Errno(nix::errno::Errno::EINVAL as i32)),
        (5, SendFailure::NetworkUnreachable),
        (6, SendFailure::NotIp),
        (7, SendFailure::NotIp),
        (8, SendFailure::TooLong),
        (9, SendFailure::NetworkUnreachable),
    ];
    assert_eq!(
        sender.send(&packets),
        expected.map(|(index, why)| Unsent { index, why })
    );
    let counts = sender.counts();
    assert_eq!((counts.sent, counts.unsent.values().sum::<u64>()), (4, 8));
    assert_eq!(counts.unsent[&SendFailure::NetworkUnreachable], 2);
}

#[test]
fn a_batch_larger_than_one_system_call_is_sent_whole() {
    let Some(pair) = Pair::new() else { return };
    let mut sender = pair.client.run(|| RawSender::open().unwrap());
    let from = SocketAddr::new(address(Pair::CLIENT), 43001);
    let packets = vec![tcp(from, SocketAddr::new(address(Pair::SERVER), 80), SYN, 1); 500];
    assert_eq!(sender.send(&packets), []);
    assert_eq!(sender.counts().sent, 500);
}

#[test]
fn a_packet_that_a_firewall_forbids_is_returned() {
    let Some(pair) = Pair::new() else { return };
    pair.client
        .command("iptables", "-w -A OUTPUT -p tcp --dport 81 -j DROP");
    let mut sender = pair.client.run(|| RawSender::open().unwrap());
    let from = SocketAddr::new(address(Pair::CLIENT), 43002);
    let packet = tcp(from, SocketAddr::new(address(Pair::SERVER), 81), SYN, 1);
    assert_eq!(
        sender.send(&[packet]),
        [Unsent {
            index: 0,
            why: SendFailure::Forbidden
        }]
    );
}
