//! Frames by hand, and what is read of them: links, tunnels, datagrams, fragments.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;

use super::*;
use crate::packet::mac::Mac;
use crate::packet::{Body, Checksum, ChecksumMode, IcmpKind, LinkType, Unreachable};

const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 244, 1, 5);
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 244, 2, 7);
const NODE_1: Ipv4Addr = Ipv4Addr::new(172, 20, 0, 11);
const NODE_2: Ipv4Addr = Ipv4Addr::new(172, 20, 0, 12);

const TCP: u8 = 6;
const UDP: u8 = 17;

fn ipv4(src: Ipv4Addr, dst: Ipv4Addr, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let len = u16::try_from(20 + payload.len()).unwrap().to_be_bytes();
    let mut out = vec![
        0x45, 0, len[0], len[1], 0x12, 0x34, 0x40, 0, 64, protocol, 0, 0,
    ];
    out.extend(src.octets());
    out.extend(dst.octets());
    out.extend(payload);
    out
}

fn ipv6(src: Ipv6Addr, dst: Ipv6Addr, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let len = u16::try_from(payload.len()).unwrap().to_be_bytes();
    let mut out = vec![0x60, 0, 0, 0, len[0], len[1], protocol, 64];
    out.extend(src.octets());
    out.extend(dst.octets());
    out.extend(payload);
    out
}

fn v6(last: u16) -> Ipv6Addr {
    Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, last)
}

fn udp(src: u16, dst: u16, payload: &[u8]) -> Vec<u8> {
    let len = u16::try_from(8 + payload.len()).unwrap();
    let mut out = Vec::new();
    for field in [src, dst, len, 0] {
        out.extend(field.to_be_bytes());
    }
    out.extend(payload);
    out
}

fn tcp(src: u16, dst: u16, seq: u32, options: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    out.extend(src.to_be_bytes());
    out.extend(dst.to_be_bytes());
    out.extend(seq.to_be_bytes());
    out.extend([0; 4]);
    let words = u8::try_from(5 + options.len() / 4).unwrap();
    out.extend([words << 4, 2, 0xfa, 0xf0, 0, 0, 0, 0]);
    out.extend(options);
    out
}

fn syn() -> Vec<u8> {
    ipv4(CLIENT, SERVER, TCP, &tcp(40_000, 80, 1000, &[]))
}

fn ethernet(ether_type: u16, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1];
    out.extend(ether_type.to_be_bytes());
    out.extend(payload);
    out
}

fn vxlan(vni: u32, inside: &[u8]) -> Vec<u8> {
    [&[8, 0, 0, 0][..], &(vni << 8).to_be_bytes(), inside].concat()
}

fn on_nodes(protocol: u8, payload: &[u8]) -> Vec<u8> {
    ethernet(0x0800, &ipv4(NODE_1, NODE_2, protocol, payload))
}

fn parse(link: LinkType, bytes: &[u8]) -> Layers {
    parse_layers(link, bytes, ChecksumMode::Trust).unwrap()
}

fn parse_ethernet(bytes: &[u8]) -> Layers {
    parse(LinkType::Ethernet, bytes)
}

/// The tunnels of a frame whose innermost packet is the SYN.
fn tunnels_of_syn(bytes: &[u8]) -> Vec<Tunnel> {
    let layers = parse_ethernet(bytes);
    let (ip, tcp) = layers.packet().and_then(|packet| packet.tcp()).unwrap();
    assert_eq!((ip.src, ip.dst), (IpAddr::V4(CLIENT), IpAddr::V4(SERVER)));
    assert_eq!((tcp.src_port, tcp.dst_port), (40_000, 80));
    layers.tunnels().copied().collect()
}

fn is_between_nodes(tunnel: &Tunnel) -> bool {
    (tunnel.ip.src, tunnel.ip.dst) == (IpAddr::V4(NODE_1), IpAddr::V4(NODE_2))
}

#[test]
fn vxlan_is_opened_on_any_port_with_both_packets() {
    for port in [4789, 8472, 31_234] {
        let frame = on_nodes(
            UDP,
            &udp(50_000, port, &vxlan(42, &ethernet(0x0800, &syn()))),
        );
        let layers = parse_ethernet(&frame);
        let tunnels = tunnels_of_syn(&frame);
        let [tunnel] = tunnels.as_slice() else {
            panic!("{tunnels:?}");
        };
        assert!(is_between_nodes(tunnel));
        assert_eq!(tunnel.kind, TunnelKind::Vxlan);
        assert_eq!((tunnel.key, tunnel.ports), (Some(42), Some((50_000, port))));
        assert_eq!(layers.outer_link(), &tunnel.link);
        assert_eq!(layers.link.addresses, layers.packet().unwrap().link);
    }
}

#[test]
fn a_group_policy_of_vxlan_is_no_hindrance() {
    let mut inside = vxlan(7, &ethernet(0x0800, &syn()));
    inside[0] = 0x88;
    inside[3] = 9;
    assert_eq!(
        tunnels_of_syn(&on_nodes(UDP, &udp(1, 4789, &inside)))[0].key,
        Some(7)
    );
}

#[test]
fn vxlan_that_names_its_protocol_and_ip_in_udp_are_opened() {
    let gpe = |protocol: u8, inside: &[u8]| {
        [&[0x0c, 0, 0, protocol][..], &[0, 0, 42, 0], inside].concat()
    };
    let syn_v6 = ipv6(v6(1), v6(2), TCP, &tcp(40_000, 80, 1000, &[]));
    for (payload, kind, key) in [
        (gpe(1, &syn()), TunnelKind::Vxlan, Some(42)),
        (gpe(2, &syn_v6), TunnelKind::Vxlan, Some(42)),
        (
            gpe(3, &ethernet(0x0800, &syn())),
            TunnelKind::Vxlan,
            Some(42),
        ),
        (syn(), TunnelKind::IpInIp, None),
        (syn_v6.clone(), TunnelKind::IpInIp, None),
        (
            [&[0, 4, 0, 0][..], &syn()].concat(),
            TunnelKind::IpInIp,
            None,
        ),
        (
            [&[0, 41, 0, 0][..], &syn_v6].concat(),
            TunnelKind::IpInIp,
            None,
        ),
    ] {
        let layers = parse_ethernet(&on_nodes(UDP, &udp(50_000, 5_555, &payload)));
        let tunnel = layers.tunnels().next().unwrap();
        assert_eq!((tunnel.kind, tunnel.key), (kind, key), "{payload:02x?}");
        assert!(layers.packet().is_some_and(|packet| packet.tcp().is_some()));
    }
    // One byte more, or a protocol without a checksum of its own: a datagram.
    let padded = [syn(), vec![0]].concat();
    for payload in [padded, ipv4(CLIENT, SERVER, 132, &[0; 20])] {
        let layers = parse_ethernet(&on_nodes(UDP, &udp(50_000, 5_555, &payload)));
        assert_eq!(layers.tunnels().count(), 0);
    }
}

#[test]
fn what_only_begins_as_vxlan_is_a_datagram() {
    let reserved = [vxlan(1, &[]), vec![0; 40]].concat();
    let mut flagged = vxlan(1, &ethernet(0x0800, &syn()));
    flagged[1] = 1;
    let lldp = vxlan(1, &ethernet(0x88cc, &[0; 30]));
    let cut = vxlan(1, &ethernet(0x0800, &syn()[..30]));
    for inside in [reserved, flagged, lldp, cut] {
        let layers = parse_ethernet(&on_nodes(UDP, &udp(50_000, 4789, &inside)));
        assert!(
            matches!(layers.inner, Inner::Udp(_, Udp { dst_port: 4789, .. })),
            "{layers:?}"
        );
        assert_eq!(layers.tunnels().count(), 0);
    }
}

#[test]
fn the_other_tunnels_are_opened() {
    let frame = ethernet(0x0800, &syn());
    let geneve = |kind: [u8; 2], inside: &[u8]| {
        let head = [1, 0, kind[0], kind[1], 0, 0, 9, 0, 0x01, 0x02, 0x80, 0];
        udp(50_000, 6081, &[&head[..], inside].concat())
    };
    let erspan_ii = [
        &[0x10, 0, 0x88, 0xbe, 0, 0, 0, 1][..],
        &[0x10, 0, 0, 0x65, 0, 0, 0, 0],
        &frame,
    ];
    let erspan_iii = [
        &[0x10, 0, 0x22, 0xeb, 0, 0, 0, 1][..],
        &[0x20, 0, 0, 0x65],
        &[0; 7],
        &[1],
        &[0; 8],
        &frame,
    ];
    for (protocol, payload, kind, key) in [
        (
            UDP,
            geneve([0x65, 0x58], &frame),
            TunnelKind::Geneve,
            Some(9),
        ),
        (
            UDP,
            geneve([0x08, 0x00], &syn()),
            TunnelKind::Geneve,
            Some(9),
        ),
        (
            47,
            [&[0, 0, 8, 0][..], &syn()].concat(),
            TunnelKind::Gre,
            None,
        ),
        (
            47,
            [&[0x20, 0, 8, 0, 0, 0, 0, 5][..], &syn()].concat(),
            TunnelKind::Gre,
            Some(5),
        ),
        (
            47,
            [
                &[0xb0, 0, 0x65, 0x58, 1, 2, 0, 0, 0, 0, 0, 5, 0, 0, 0, 1][..],
                &frame,
            ]
            .concat(),
            TunnelKind::Gre,
            Some(5),
        ),
        (
            47,
            [&[0, 0, 0x88, 0xbe][..], &frame].concat(),
            TunnelKind::Erspan,
            None,
        ),
        (47, erspan_ii.concat(), TunnelKind::Erspan, Some(0x65)),
        (47, erspan_iii.concat(), TunnelKind::Erspan, Some(0x65)),
        (4, syn(), TunnelKind::IpInIp, None),
    ] {
        let tunnels = tunnels_of_syn(&on_nodes(protocol, &payload));
        assert_eq!(tunnels.len(), 1);
        assert!(is_between_nodes(&tunnels[0]));
        assert_eq!((tunnels[0].kind, tunnels[0].key), (kind, key));
    }
}

#[test]
fn either_family_carries_the_other() {
    let inside = ipv6(v6(1), v6(2), TCP, &tcp(40_000, 80, 1, &[]));
    let layers = parse_ethernet(&on_nodes(41, &inside));
    assert_eq!(layers.inner.ip().unwrap().src, IpAddr::V6(v6(1)));
    assert!(layers.tunnels().all(is_between_nodes));
    let outside = ethernet(0x86dd, &ipv6(v6(1), v6(2), 4, &syn()));
    assert_eq!(tunnels_of_syn(&outside)[0].ip.dst, IpAddr::V6(v6(2)));
}

#[test]
fn tunnels_in_tunnels_are_opened_to_a_depth() {
    let mut packet = syn();
    for depth in 1..6 {
        packet = ipv4(NODE_1, NODE_2, 4, &packet);
        let layers = parse(LinkType::Raw, &packet);
        assert_eq!(layers.tunnels().count(), depth.min(MAX_TUNNELS));
        if depth > MAX_TUNNELS {
            assert!(matches!(layers.inner, Inner::Other(_, 4)));
        }
    }
}

#[test]
fn a_malformed_packet_in_a_tunnel_leaves_the_tunnel() {
    let layers = parse_ethernet(&on_nodes(4, &syn()[..24]));
    assert!(matches!(layers.inner, Inner::Other(_, 4)));
    assert_eq!(layers.inner.ip().unwrap().src, IpAddr::V4(NODE_1));
}

#[test]
fn tags_and_labels_are_kept_and_skipped() {
    let tagged = [&[0, 100, 0x81, 0][..], &[0x20, 7, 8, 0], &syn()].concat();
    let label = [&[0, 1, 0x10, 64][..], &[0, 2, 0x01, 64], &syn()].concat();
    let session = [&[0x11, 0, 0, 1, 0, 42][..], &[0, 0x21], &syn()].concat();
    let backbone = [&[0, 0, 0, 5][..], &ethernet(0x0800, &syn())].concat();
    let snap = [&[0xaa, 0xaa, 3, 0, 0, 0, 8, 0][..], &syn()].concat();
    for (ether_type, payload, vlans, labels) in [
        (0x88a8, tagged, [Some(100), Some(7)], 0),
        (0x8847, label, [None, None], 2),
        (0x8864, session, [None, None], 0),
        (0x88e7, backbone, [None, None], 0),
        (48, snap, [None, None], 0),
    ] {
        let frame = ethernet(ether_type, &payload);
        assert!(tunnels_of_syn(&frame).is_empty());
        let link = parse_ethernet(&frame).link;
        assert_eq!(
            (link.vlans, link.labels),
            (vlans, labels),
            "{ether_type:#x}"
        );
        let addresses = link.addresses.unwrap();
        assert_eq!(addresses.src, Mac([2, 0, 0, 0, 0, 1]));
        let end = frame.len() - syn().len();
        for cut in 0..end {
            // A cut length field of 802.3 has no header after it.
            let parsed = parse_layers(LinkType::Ethernet, &frame[..cut], ChecksumMode::Trust);
            assert!(
                parsed.is_err() || ether_type == 48,
                "{ether_type:#x} cut at {cut}"
            );
        }
    }
}

#[test]
fn every_link_of_the_captures_is_read() {
    for (link, header) in [
        (LinkType::Null, &[2, 0, 0, 0][..]),
        (LinkType::Null, &[0, 0, 0, 2]),
        (LinkType::Ppp, &[0xff, 3, 0, 0x21]),
        (LinkType::Ppp, &[0, 0x21]),
        (LinkType::Ppp, &[0x21]),
        (LinkType::Pppoe, &[0x11, 0, 0, 1, 0, 42, 0, 0x21]),
        (LinkType::Raw, &[]),
    ] {
        let layers = parse(link, &[header, &syn()].concat());
        assert_eq!(layers.link, Link::default());
        assert_eq!(layers.packet().unwrap().tcp().unwrap().1.dst_port, 80);
    }
    let packet = ipv6(v6(1), v6(2), TCP, &tcp(1, 80, 1, &[]));
    for header in [[30, 0, 0, 0], [0, 0, 0, 28], [0, 0, 0, 10], [24, 0, 0, 0]] {
        let layers = parse(LinkType::Null, &[&header[..], &packet].concat());
        assert!(layers.packet().is_some());
    }
}

#[test]
fn encrypted_tunnels_are_named() {
    let wireguard = |kind: u8, len: usize| {
        let mut payload = vec![0; len];
        payload[0] = kind;
        payload[4] = 7;
        payload[8] = 9;
        udp(51_820, 40_000, &payload)
    };
    for (protocol, payload, kind, key) in [
        (UDP, wireguard(1, 148), OpaqueKind::WireGuardHandshake, 0),
        (UDP, wireguard(2, 92), OpaqueKind::WireGuardHandshake, 9),
        (UDP, wireguard(4, 32), OpaqueKind::WireGuardData, 7),
        (50, vec![0, 0, 1, 0, 0, 0, 0, 1], OpaqueKind::Esp, 256),
        (
            UDP,
            udp(4500, 4500, &[0, 0, 1, 0, 0, 0, 0, 1]),
            OpaqueKind::Esp,
            256,
        ),
    ] {
        let Inner::Opaque(ip, opaque) = parse_ethernet(&on_nodes(protocol, &payload)).inner else {
            panic!("{kind:?}");
        };
        assert_eq!(ip.src, IpAddr::V4(NODE_1));
        assert_eq!((opaque.kind, opaque.key), (kind, key));
    }
    for payload in [
        wireguard(4, 33),
        wireguard(1, 147),
        udp(4500, 4500, &[0; 8]),
    ] {
        let layers = parse_ethernet(&on_nodes(UDP, &payload));
        assert!(matches!(layers.inner, Inner::Udp(..)));
    }
}

fn dns_of(payload: &[u8]) -> Option<Dns> {
    let layers = parse_ethernet(&on_nodes(UDP, &udp(40_000, 53, payload)));
    let Inner::Udp(_, Udp { application, .. }) = layers.inner else {
        return None;
    };
    match application? {
        Application::Dns(dns) => Some(dns),
        Application::Dhcp(_) => None,
    }
}

fn question(name: &[u8], query_type: u8) -> Vec<u8> {
    let head = [0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    [&head[..], name, &[0, query_type, 0, 1]].concat()
}

#[test]
fn a_query_and_its_answer_have_an_id_a_name_and_a_code() {
    let query = question(b"\x03dns\x04test\0", 28);
    let dns = dns_of(&query).unwrap();
    assert_eq!((dns.id, dns.is_answer, dns.query_type), (0x1234, false, 28));
    assert_eq!(dns.name.as_str(), "dns.test");
    let mut answer = query.clone();
    answer[2..4].copy_from_slice(&[0x83, 0x83]);
    answer[7] = 2;
    let dns = dns_of(&answer).unwrap();
    assert!(dns.is_answer && dns.is_cut);
    assert_eq!((dns.response_code, dns.answers), (3, 2));
}

#[test]
fn a_name_is_bounded_and_printable() {
    let odd = question(b"\x05a\x1b[2\xff\x01 \0", 1);
    assert_eq!(dns_of(&odd).unwrap().name.as_str(), "a?[2?.?");
    let long = [[&[63][..], &[b'x'; 63]].concat().repeat(3), vec![0]].concat();
    let name = dns_of(&question(&long, 1)).unwrap().name;
    assert_eq!(name.as_str().len(), DnsName::MAX);
    assert!(name.as_str().ends_with("x..."));
    // A pointer to itself, a label that is cut, a reserved form.
    assert_eq!(dns_of(&question(b"\xc0\x0c", 1)).unwrap().name.as_str(), "");
    for broken in [&b"\x3fa"[..], b"\x80a"] {
        assert_eq!(dns_of(&question(broken, 1)), None);
    }
    assert_eq!(dns_of(&[0; 11]).map(|dns| dns.id), Some(0));
    assert_eq!(dns_of(&[0; 7]), None);
}

#[test]
fn dhcp_has_a_type_and_a_transaction() {
    let mut discover = vec![0; 240];
    discover[0] = 1;
    discover[4..8].copy_from_slice(&[1, 2, 3, 4]);
    discover[236..].copy_from_slice(&[99, 130, 83, 99]);
    discover.extend([0, 12, 1, b'a', 53, 1, 1, 255]);
    let layers = parse_ethernet(&on_nodes(UDP, &udp(68, 67, &discover)));
    let Inner::Udp(
        _,
        Udp {
            application: Some(Application::Dhcp(dhcp)),
            ..
        },
    ) = layers.inner
    else {
        panic!("{layers:?}");
    };
    assert_eq!(
        dhcp,
        DhcpMessage {
            transaction: 0x0102_0304,
            is_request: true,
            message_type: Some(1)
        }
    );
    let solicit = ethernet(
        0x86dd,
        &ipv6(v6(1), v6(2), UDP, &udp(546, 547, &[1, 0, 0, 9])),
    );
    let Inner::Udp(_, datagram) = parse_ethernet(&solicit).inner else {
        panic!("{solicit:?}");
    };
    assert_eq!(
        datagram.application,
        Some(Application::Dhcp(DhcpMessage {
            transaction: 9,
            is_request: true,
            message_type: Some(1)
        }))
    );
}

fn icmp(kind: u8, code: u8, quoted: &[u8]) -> Layers {
    let message = [&[kind, code, 0, 0, 0, 0, 0, 0][..], quoted].concat();
    parse_ethernet(&on_nodes(1, &message))
}

#[test]
fn an_icmp_error_quotes_any_protocol() {
    let lookup = ipv4(CLIENT, SERVER, UDP, &udp(40_000, 53, &[0; 20]));
    let layers = icmp(3, 13, &lookup[..28]);
    let (_, message) = layers.packet().and_then(|packet| packet.icmp()).unwrap();
    assert_eq!(
        message.kind,
        IcmpKind::Unreachable {
            reason: Unreachable::Prohibited
        }
    );
    assert_eq!(message.quoted, None);
    let quoted = layers.quoted.unwrap();
    assert_eq!(
        (quoted.protocol, quoted.ports, quoted.seq),
        (UDP, Some((40_000, 53)), None)
    );
    assert_eq!(quoted.ip.dst, IpAddr::V4(SERVER));
    let quoted = icmp(11, 0, &syn()[..28]).quoted.unwrap();
    assert_eq!(quoted.seq, Some(Seq(1000)));
    assert_eq!(icmp(5, 1, &syn()[..22]).quoted.unwrap().ports, None);
    assert_eq!(icmp(8, 0, &syn()).quoted, None);
    let mut later = lookup;
    later[7] = 0xb9;
    assert_eq!(icmp(11, 1, &later).quoted.unwrap().ports, None);
}

#[test]
fn fragments_say_which_part_of_which_packet_they_are() {
    let mut first = ipv4(CLIENT, SERVER, UDP, &udp(1, 2, &[0; 24]));
    first[6] = 0x20;
    let layers = parse(LinkType::Raw, &first);
    assert!(matches!(
        layers.inner,
        Inner::Udp(
            _,
            Udp {
                payload_len: 24,
                ..
            }
        )
    ));
    let fragment = layers.fragment.unwrap();
    assert_eq!(
        (fragment.offset, fragment.len, fragment.more),
        (0, 32, true)
    );
    let mut later = ipv4(CLIENT, SERVER, UDP, &[0; 16]);
    later[6..8].copy_from_slice(&[0, 4]);
    let layers = parse(LinkType::Raw, &later);
    assert!(matches!(layers.inner, Inner::LaterFragment(_, UDP)));
    let fragment = layers.fragment.unwrap();
    assert_eq!(
        (fragment.offset, fragment.len, fragment.more),
        (32, 16, false)
    );
    assert_eq!(fragment.ident, 0x1234);
    let header = [UDP, 0, 0, 9, 0, 0, 1, 2];
    let packet = ipv6(v6(1), v6(2), 44, &[&header[..], &[0; 16]].concat());
    let layers = parse(LinkType::Raw, &packet);
    assert!(matches!(layers.inner, Inner::LaterFragment(_, UDP)));
    let fragment = layers.fragment.unwrap();
    assert_eq!(
        (fragment.offset, fragment.ident, fragment.more),
        (8, 0x102, true)
    );
    // A packet of one fragment (RFC 6946).
    let header = [UDP, 0, 0, 0, 0, 0, 1, 2];
    let packet = ipv6(v6(1), v6(2), 44, &[&header[..], &udp(1, 2, &[])].concat());
    assert_eq!(parse(LinkType::Raw, &packet).fragment, None);
}

#[test]
fn the_first_fragment_of_a_tunnel_is_opened() {
    let inside = vxlan(42, &ethernet(0x0800, &syn()));
    let mut outside = ipv4(NODE_1, NODE_2, UDP, &udp(50_000, 8472, &inside));
    outside[6] = 0x20;
    let tunnels = tunnels_of_syn(&ethernet(0x0800, &outside));
    assert!(tunnels[0].fragment.unwrap().more);
}

#[test]
fn an_announcement_is_for_the_senders_own_address() {
    let arp = |operation: u8, sender: Ipv4Addr, target: Ipv4Addr| {
        let mut out = vec![0, 1, 8, 0, 6, 4, 0, operation, 2, 0, 0, 0, 0, 1];
        out.extend(sender.octets());
        out.extend([0; 6]);
        out.extend(target.octets());
        parse_ethernet(&ethernet(0x0806, &out)).is_announcement
    };
    assert!(arp(1, CLIENT, CLIENT) && arp(2, CLIENT, CLIENT));
    assert!(!arp(1, CLIENT, SERVER) && !arp(2, CLIENT, SERVER));
    let advertisement = |flags: u8| {
        let message = [&[136, 0, 0, 0, flags, 0, 0, 0][..], &v6(1).octets()].concat();
        parse_ethernet(&ethernet(0x86dd, &ipv6(v6(1), v6(2), 58, &message))).is_announcement
    };
    assert!(advertisement(0x20) && !advertisement(0x60));
    let reverse = parse_ethernet(&ethernet(
        0x0806,
        &[
            0, 1, 8, 0, 6, 4, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        ],
    ));
    assert_eq!(reverse.inner, Inner::NotIp(0x0806));
}

#[test]
fn other_protocols_are_numbers() {
    assert!(matches!(
        parse_ethernet(&on_nodes(132, &[0; 12])).inner,
        Inner::Other(_, 132)
    ));
    assert_eq!(
        parse_ethernet(&ethernet(0x88cc, &[])).inner,
        Inner::NotIp(0x88cc)
    );
    assert_eq!(
        parse_ethernet(&ethernet(38, &[0x42, 0x42, 3])).inner,
        Inner::NotIp(38)
    );
}

#[test]
fn a_length_of_zero_is_that_of_the_frame() {
    let mut packet = syn();
    packet[2..4].fill(0);
    let layers = parse(LinkType::Raw, &packet);
    assert!(layers.is_unsegmented && layers.packet().is_some());
    assert!(!parse(LinkType::Raw, &syn()).is_unsegmented);
}

#[test]
fn the_options_of_tcp_beyond_the_handshake_are_read() {
    let sack = [
        1, 1, 5, 18, 0, 0, 0, 5, 0, 0, 0, 9, 0, 0, 0, 20, 0, 0, 0, 30,
    ];
    let packet = ipv4(CLIENT, SERVER, TCP, &tcp(1, 2, 3, &sack));
    let extra = parse(LinkType::Raw, &packet).tcp_extra;
    assert_eq!((extra.sack, extra.sack_blocks), (Some((Seq(5), Seq(9))), 2));
    let fast_open = ipv4(CLIENT, SERVER, TCP, &tcp(1, 2, 3, &[34, 2, 1, 1]));
    assert!(parse(LinkType::Raw, &fast_open).tcp_extra.fast_open);
    assert_eq!(parse(LinkType::Raw, &syn()).tcp_extra, TcpExtra::default());
}

#[test]
fn copies_of_a_packet_have_one_identity_and_other_packets_another() {
    let identity = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut packet = syn();
        change(&mut packet);
        parse(LinkType::Raw, &packet).identity
    };
    let original = identity(&|_| {});
    // A router: TTL, header checksum, traffic class. An offload: the checksum of TCP.
    let forwarded = identity(&|packet| {
        packet[8] = 63;
        packet[1] = 0xb8;
        packet[10..12].fill(7);
        packet[36..38].fill(9);
    });
    assert_eq!(forwarded, original);
    let translated = identity(&|packet| {
        packet[16..20].copy_from_slice(&[10, 96, 0, 1]);
        packet[20] = 1;
    });
    assert_ne!(translated.packet, original.packet);
    assert_eq!(translated.content, original.content);
    for place in [5, 24, 27, 33] {
        let other = identity(&|packet| packet[place] ^= 1);
        assert_ne!(other.packet, original.packet, "{place}");
        assert_ne!(other.content, original.content, "{place}");
    }
}

#[test]
fn the_checksum_of_a_datagram_is_verified() {
    let verify = |field: u16, payload: &[u8]| {
        let mut datagram = udp(40_000, 9999, payload);
        datagram[6..8].copy_from_slice(&field.to_be_bytes());
        let packet = ipv4(CLIENT, SERVER, UDP, &datagram);
        let layers = parse_layers(LinkType::Raw, &packet, ChecksumMode::Verify).unwrap();
        let Inner::Udp(_, udp) = layers.inner else {
            panic!("{layers:?}");
        };
        udp.checksum
    };
    assert_eq!(verify(0, b"ab"), Checksum::Unknown);
    let found: Vec<u16> = (1..=u16::MAX)
        .filter(|field| verify(*field, b"ab") == Checksum::Valid)
        .collect();
    assert_eq!(found.len(), 1);
    let partial = (1..=u16::MAX).filter(|field| verify(*field, b"ab") == Checksum::Unknown);
    assert_eq!(partial.count(), 1);
}

/// Frames of every kind, to be damaged.
fn samples() -> Vec<Vec<u8>> {
    let inside = ethernet(0x0800, &syn());
    let lookup = udp(40_000, 53, &question(b"\x03dns\x04test\0", 28));
    vec![
        on_nodes(UDP, &udp(1, 4789, &vxlan(1, &inside))),
        on_nodes(
            UDP,
            &udp(
                1,
                4789,
                &vxlan(1, &ethernet(0x0800, &ipv4(NODE_1, NODE_2, UDP, &lookup))),
            ),
        ),
        on_nodes(
            47,
            &[
                &[
                    0x10, 0, 0x88, 0xbe, 0, 0, 0, 1, 0x10, 0, 0, 0x65, 0, 0, 0, 0,
                ][..],
                &inside,
            ]
            .concat(),
        ),
        ethernet(
            0x86dd,
            &ipv6(
                v6(1),
                v6(2),
                44,
                &[&[UDP, 0, 0, 1, 0, 0, 1, 2][..], &lookup].concat(),
            ),
        ),
        on_nodes(1, &[&[3, 4, 0, 0, 0, 0, 5, 0][..], &syn()].concat()),
        ethernet(
            0x88a8,
            &[&[0, 1, 0x88, 0x47, 0, 1, 0x11, 64][..], &syn()].concat(),
        ),
    ]
}

#[test]
fn a_frame_that_is_cut_anywhere_parses_or_fails() {
    for sample in samples() {
        for end in 0..sample.len() {
            for link in ALL_LINKS {
                parse_layers(link, &sample[..end], ChecksumMode::Verify).ok();
            }
        }
    }
}

const ALL_LINKS: [LinkType; 7] = [
    LinkType::Ethernet,
    LinkType::LinuxSll,
    LinkType::LinuxSll2,
    LinkType::Raw,
    LinkType::Null,
    LinkType::Ppp,
    LinkType::Pppoe,
];

proptest! {
    #[test]
    fn a_frame_with_flipped_bits_parses_or_fails(
        which in any::<prop::sample::Index>(),
        flips in prop::collection::vec(any::<prop::sample::Index>(), 1..10),
    ) {
        let mut bytes = samples().swap_remove(which.index(samples().len()));
        for flip in flips {
            let bit = flip.index(bytes.len() * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
        if let Ok(layers) = parse_layers(LinkType::Ethernet, &bytes, ChecksumMode::Verify) {
            let trusted = parse_layers(LinkType::Ethernet, &bytes, ChecksumMode::Trust).unwrap();
            prop_assert_eq!(layers.identity, trusted.identity);
            prop_assert_eq!(layers.tunnels().count(), trusted.tunnels().count());
        }
    }

    #[test]
    fn any_bytes_parse_or_fail(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        for link in ALL_LINKS {
            parse_layers(link, &bytes, ChecksumMode::Verify).ok();
        }
    }

    #[test]
    fn layers_without_tunnels_are_the_packet_of_the_frame(
        packet in crate::packet::arbitrary::packet_without_payload(),
    ) {
        let link = LinkType::of(&packet);
        let frame = crate::packet::rebuild(&packet, link).unwrap();
        let layers = parse_layers(link, &frame.bytes, ChecksumMode::Verify).unwrap();
        prop_assert_eq!(layers.packet(), Some(&packet));
        let is_neighbour = matches!(packet.body, Body::Resolution(_));
        prop_assert_eq!(layers.inner.ip().is_none(), is_neighbour);
    }
}
