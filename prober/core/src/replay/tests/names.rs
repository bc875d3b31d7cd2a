//! Queries of DNS in captures, made byte by byte.

use super::*;

/// An IPv4 packet without options.
fn ipv4(protocol: u8, from: [u8; 4], to: [u8; 4], content: &[u8]) -> Vec<u8> {
    let len = u16::try_from(20 + content.len()).unwrap();
    let mut packet = vec![0x45, 0];
    packet.extend(len.to_be_bytes());
    packet.extend([0, 1, 0, 0, 64, protocol, 0, 0]);
    packet.extend(from.iter().chain(&to));
    packet.extend(content);
    packet
}

/// A DNS message for `www.example.org` over UDP (RFC 1035 4.1), a query or its answer.
fn dns(from: ([u8; 4], u16), to: ([u8; 4], u16), is_answer: bool) -> Vec<u8> {
    let mut message = vec![
        0,
        7,
        if is_answer { 0x81 } else { 1 },
        0,
        0,
        1,
        0,
        0,
        0,
        0,
        0,
        0,
    ];
    message.extend(b"\x03www\x07example\x03org\x00\x00\x01\x00\x01");
    let mut udp = Vec::new();
    for word in [from.1, to.1, u16::try_from(8 + message.len()).unwrap(), 0] {
        udp.extend(word.to_be_bytes());
    }
    udp.extend(message);
    ipv4(17, from.0, to.0, &udp)
}

/// A pcap file of raw IP with these packets, each with its second.
fn pcap(packets: &[(u32, Vec<u8>)]) -> Vec<u8> {
    let mut file = Vec::new();
    for word in [0xa1b2_c3d4, 0x0002_0004, 0, 0, 65_535, 101] {
        file.extend(u32::to_be_bytes(word));
    }
    for (at, packet) in packets {
        let len = u32::try_from(packet.len()).unwrap();
        for word in [*at, 0, len, len] {
            file.extend(word.to_be_bytes());
        }
        file.extend(packet);
    }
    file
}

const CLIENT: ([u8; 4], u16) = ([10, 0, 1, 5], 5_000);
const SERVER: ([u8; 4], u16) = ([10, 96, 0, 10], 53);

fn query() -> Vec<u8> {
    dns(CLIENT, SERVER, false)
}

/// ICMP port unreachable of this host about the query.
fn refusal(by: [u8; 4]) -> Vec<u8> {
    let mut error = vec![3, 3, 0, 0, 0, 0, 0, 0];
    error.extend(query());
    ipv4(1, by, CLIENT.0, &error)
}

#[test]
fn queries_without_an_answer_are_a_finding_and_answered_ones_are_none() {
    let silent = replay_files(&[&pcap(&[(0, query()), (5, query()), (10, query())])]).unwrap();
    assert_eq!(silent.diagnoses[0].cause, None);
    assert!(
        silent.diagnoses[0].evidence[0].contains(
            "3 DNS queries of 10.0.1.5 to 10.96.0.10:53, the first for www.example.org, have no answer"
        ),
        "{:?}",
        silent.diagnoses[0].evidence
    );
    let answered = [(0, query()), (5, query()), (6, dns(SERVER, CLIENT, true))];
    assert!(
        replay_files(&[&pcap(&answered)])
            .unwrap()
            .diagnoses
            .is_empty()
    );
}

#[test]
fn queries_that_a_node_refuses_have_no_endpoint_and_that_the_server_refuses_no_listener() {
    for (by, cause) in [([10, 0, 1, 1], "no-endpoints"), (SERVER.0, "not-listening")] {
        let packets = [
            (0, query()),
            (1, refusal(by)),
            (5, query()),
            (6, refusal(by)),
        ];
        let replay = replay_files(&[&pcap(&packets)]).unwrap();
        let found = replay.diagnoses[0]
            .cause
            .map(diagnosis::catalogue::Cause::slug);
        assert_eq!(found, Some(cause));
        assert!(
            replay.diagnoses[0].evidence[0].contains("are refused by ICMP port unreachable of"),
            "{:?}",
            replay.diagnoses[0].evidence
        );
    }
}
