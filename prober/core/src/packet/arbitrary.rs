//! Arbitrary packets and segments for property tests.

use std::net::{IpAddr, SocketAddr};

use proptest::prelude::*;

use super::*;

pub(crate) fn mac() -> impl Strategy<Value = Mac> {
    any::<[u8; 6]>().prop_map(Mac)
}

/// Two addresses of one family.
pub(crate) fn addresses() -> impl Strategy<Value = (IpAddr, IpAddr)> {
    prop_oneof![
        any::<([u8; 4], [u8; 4])>().prop_map(|(a, b)| (a.into(), b.into())),
        any::<([u8; 16], [u8; 16])>().prop_map(|(a, b)| (a.into(), b.into())),
    ]
}

pub(crate) fn tcp_options() -> impl Strategy<Value = TcpOptions> {
    (
        any::<Option<u16>>(),
        any::<Option<u8>>(),
        any::<bool>(),
        any::<Option<(u32, u32)>>(),
    )
        .prop_map(
            |(mss, window_scale, sack_permitted, timestamps)| TcpOptions {
                mss,
                window_scale,
                sack_permitted,
                timestamps,
            },
        )
}

pub(crate) fn segment() -> impl Strategy<Value = TcpSegment> {
    (
        (addresses(), any::<(u16, u16)>()),
        any::<(u8, u16, u32, u32)>(),
        any::<(u8, u16)>(),
        tcp_options(),
        prop::collection::vec(any::<u8>(), 0..40),
    )
        .prop_map(
            |(
                ((src, dst), (src_port, dst_port)),
                (hop_limit, ident, seq, ack),
                (flags, window),
                options,
                payload,
            )| {
                TcpSegment {
                    src: SocketAddr::new(src, src_port),
                    dst: SocketAddr::new(dst, dst_port),
                    hop_limit,
                    ident,
                    seq: Seq(seq),
                    ack: Seq(ack),
                    flags: TcpFlags(flags),
                    window,
                    options,
                    payload,
                }
            },
        )
}

fn ip() -> impl Strategy<Value = Ip> {
    (addresses(), any::<(u8, u16)>()).prop_map(|((src, dst), (hop_limit, ident))| Ip {
        src,
        dst,
        hop_limit,
        ident: if src.is_ipv4() { ident } else { 0 },
    })
}

fn tcp(payload_len: impl Strategy<Value = u32>) -> impl Strategy<Value = Body> {
    (
        ip(),
        any::<(u16, u16)>(),
        any::<(u32, u32)>(),
        any::<(u8, u16)>(),
        tcp_options(),
        payload_len,
        prop_oneof![Just(Checksum::Valid), Just(Checksum::Invalid)],
    )
        .prop_map(
            |(
                ip,
                (src_port, dst_port),
                (seq, ack),
                (flags, window),
                options,
                payload_len,
                checksum,
            )| {
                let tcp = Tcp {
                    src_port,
                    dst_port,
                    seq: Seq(seq),
                    ack: Seq(ack),
                    flags: TcpFlags(flags),
                    window,
                    options,
                    payload_len,
                    checksum,
                };
                Body::Tcp(ip, tcp)
            },
        )
}

/// Messages whose kind matches their type and code.
fn icmp() -> impl Strategy<Value = Body> {
    let quoted = prop::option::of((any::<(u16, u16)>(), any::<(u8, u32)>()));
    (ip(), 0..8_u8, any::<u16>(), quoted).prop_map(|(ip, which, number, quoted)| {
        let v4 = ip.src.is_ipv4();
        let (kind, type_code) = match which {
            0..=3 => {
                let (reason, v4_code, v6_code) = [
                    (Unreachable::Network, 0, 0),
                    (Unreachable::Host, 1, 3),
                    (Unreachable::Port, 3, 4),
                    (Unreachable::Prohibited, 13, 1),
                ][usize::from(which)];
                let type_code = if v4 { (3, v4_code) } else { (1, v6_code) };
                (IcmpKind::Unreachable { reason }, type_code)
            }
            4 => (IcmpKind::TimeExceeded, if v4 { (11, 0) } else { (3, 0) }),
            5 => {
                let mtu = u32::from(number);
                let type_code = if v4 { (3, 4) } else { (2, 0) };
                (IcmpKind::PacketTooBig { mtu }, type_code)
            }
            6 => {
                let gateway = ip.dst;
                (
                    IcmpKind::Redirect { gateway },
                    if v4 { (5, 1) } else { (137, 0) },
                )
            }
            _ => (IcmpKind::Other, if v4 { (8, 0) } else { (128, 0) }),
        };
        let quoted = quoted.filter(|_| kind != IcmpKind::Other).map(
            |((src_port, dst_port), (hop_limit, seq))| Quoted {
                src: SocketAddr::new(ip.dst, src_port),
                dst: SocketAddr::new(ip.src, dst_port),
                hop_limit,
                seq: Seq(seq),
                checksum: Checksum::Unknown,
            },
        );
        let icmp = Icmp {
            kind,
            type_code,
            quoted,
        };
        Body::Icmp(ip, icmp)
    })
}

fn resolution() -> impl Strategy<Value = Body> {
    (addresses(), mac(), any::<bool>(), any::<bool>()).prop_map(
        |((sender, target), mac, request, has_mac)| {
            let arp = sender.is_ipv4();
            Body::Resolution(Resolution {
                kind: if request {
                    ResolutionKind::Request
                } else {
                    ResolutionKind::Reply
                },
                sender,
                sender_mac: (arp || has_mac).then_some(mac),
                target: if arp && !request { sender } else { target },
            })
        },
    )
}

fn link() -> impl Strategy<Value = Option<EthernetAddresses>> {
    prop::option::of(
        (mac(), prop::option::of(mac())).prop_map(|(src, dst)| EthernetAddresses { src, dst }),
    )
}

fn with_body(body: impl Strategy<Value = Body>) -> impl Strategy<Value = Packet> {
    (link(), mac(), body).prop_map(|(link, src, body)| Packet {
        // Every ARP packet has an Ethernet sender.
        link: match body {
            Body::Resolution(_) => Some(link.unwrap_or(EthernetAddresses { src, dst: None })),
            Body::Tcp(..) | Body::Icmp(..) => link,
        },
        body,
    })
}

/// Any packet that fits a frame.
pub(crate) fn packet() -> impl Strategy<Value = Packet> {
    with_body(prop_oneof![4 => tcp(0..65_000_u32), 2 => icmp(), 1 => resolution()])
}

/// Any packet that is rebuilt completely.
pub(crate) fn packet_without_payload() -> impl Strategy<Value = Packet> {
    with_body(prop_oneof![4 => tcp(Just(0)), 2 => icmp(), 1 => resolution()])
}
