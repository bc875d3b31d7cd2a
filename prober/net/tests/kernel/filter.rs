//! The kernel's filter and the predicate accept the same packets.
use std::collections::BTreeSet;
use std::time::Duration;

use prober_net::packet_socket::filter::CaptureFilter;
use prober_net::packet_socket::{CaptureOptions, FrameKind, Interfaces, PacketSocket, Ready, now};
use prober_net::raw_engine::send::RawSender;

use crate::capture::options;
use crate::namespace::{Pair, address};
use crate::packets::{SYN, ip, tcp};

/// Every packet carries its number in its last two bytes.
fn numbered(mut packet: Vec<u8>, number: u16) -> Vec<u8> {
    packet.extend([0xbe, 0xef]);
    packet.extend(number.to_be_bytes());
    if packet[0] >> 4 == 4 {
        let total = (packet.len() as u16).to_be_bytes();
        packet[2..4].copy_from_slice(&total);
    } else {
        let payload = ((packet.len() - 40) as u16).to_be_bytes();
        packet[4..6].copy_from_slice(&payload);
    }
    packet
}

/// An IPv4 packet with four bytes of options (no-operation) in its header.
fn with_options(packet: &[u8]) -> Vec<u8> {
    let mut longer = packet[..20].to_vec();
    longer.extend([1, 1, 1, 0]);
    longer.extend(&packet[20..]);
    longer[0] = 0x46;
    longer
}

fn fragment(mut packet: Vec<u8>, offset: u16) -> Vec<u8> {
    packet[6..8].copy_from_slice(&(offset | 0x2000).to_be_bytes());
    packet
}

/// Packets, and whether a filter of ports 1000 to 1999 and 3000 accepts them.
fn cases() -> Vec<(Vec<u8>, bool)> {
    let (v4, peer4) = (address(Pair::CLIENT), address(Pair::SERVER));
    let (v6, peer6) = (address(Pair::CLIENT6), address(Pair::SERVER6));
    let mut cases = Vec::new();
    for (from, to) in [(v4, peer4), (v6, peer6)] {
        let segment = |source: u16, destination: u16| {
            tcp((from, source).into(), (to, destination).into(), SYN, 1)
        };
        for (source, destination, wanted) in [
            (1000, 80, true),
            (1999, 80, true),
            (80, 1500, true),
            (80, 3000, true),
            (3000, 80, true),
            (999, 2000, false),
            (2999, 3001, false),
            (80, 443, false),
        ] {
            cases.push((segment(source, destination), wanted));
        }
        // UDP from a wanted port.
        cases.push((ip(from, to, 17, &[0x03, 0xe8, 0, 80, 0, 12, 0, 0]), false));
    }
    let segment = tcp((v4, 80).into(), (peer4, 1000).into(), SYN, 1);
    cases.push((with_options(&segment), true));
    cases.push((
        with_options(&tcp((v4, 80).into(), (peer4, 81).into(), SYN, 1)),
        false,
    ));
    cases.push((fragment(segment.clone(), 0), true));
    cases.push((fragment(segment, 100), false));
    cases.push((ip(v4, peer4, 1, &[8, 0, 0, 0, 0, 1, 0, 1]), true));
    // Neighbour solicitation (RFC 4861, 4.3).
    cases.push((ip(v6, peer6, 58, &[135, 0, 0, 0, 0, 0, 0, 0]), true));
    cases
        .iter_mut()
        .zip(0..)
        .for_each(|(case, number)| case.0 = numbered(case.0.clone(), number));
    cases
}

#[test]
fn the_kernel_and_the_predicate_accept_the_given_ports_and_icmp_and_nothing_else() {
    let Some(pair) = Pair::new() else { return };
    let filter = CaptureFilter::in_ports(vec![1000..=1999, 3000..=3000]).unwrap();
    let given = filter.clone();
    let mut capture = pair.client.run(move || {
        PacketSocket::open(CaptureOptions {
            filter: given,
            ..options(Interfaces::All, 1)
        })
        .unwrap()
    });
    let mut sender = pair.client.run(|| RawSender::open().unwrap());
    let cases = cases();
    let packets: Vec<&[u8]> = cases.iter().map(|(packet, _)| packet.as_slice()).collect();
    assert_eq!(sender.send(&packets), []);
    let expected: BTreeSet<u16> = cases
        .iter()
        .zip(0..)
        .filter(|(case, _)| case.1)
        .map(|(_, at)| at)
        .collect();

    let (mut seen, mut arp) = (BTreeSet::new(), 0);
    let deadline = now() + Duration::from_secs(5);
    while !expected.is_subset(&seen) || arp == 0 {
        capture.drain(|frame| {
            let packet = frame.packet();
            if frame.ethertype == 0x0806 {
                arp += 1;
            }
            if let (FrameKind::Outgoing, [.., 0xbe, 0xef, high, low]) = (frame.kind, packet) {
                seen.insert(u16::from_be_bytes([*high, *low]));
            }
        });
        if capture.wait(deadline, None).unwrap() == Ready::Deadline {
            break;
        }
    }
    assert_eq!(seen, expected);
    assert!(arp > 0, "ARP is captured");

    for (number, (packet, wanted)) in cases.iter().enumerate() {
        let ethertype = if packet[0] >> 4 == 4 { 0x0800 } else { 0x86dd };
        assert_eq!(
            filter.accepts(ethertype, packet),
            *wanted,
            "packet {number}"
        );
    }
}
