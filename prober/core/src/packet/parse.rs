//! Parsing of frames: any byte string results in a `Packet` or a `ParseError`.
//!
//! A capture's snap length may cut a frame: lengths come from the headers, the payload is the captured part.
//! Contradictory headers are an error.

use super::bytes::{ChecksumMode, ParseError, ethertype, protocol};
use super::{Body, Icmp, LinkType, Packet, icmp, ip, link, neighbour, tcp};

/// A parsed frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParsedFrame<'a> {
    /// The packet.
    pub packet: Packet,
    /// The captured part of the TCP payload; empty for other packets.
    pub payload: &'a [u8],
}

/// Parses one captured frame.
pub fn parse_frame(
    link: LinkType,
    bytes: &[u8],
    sums: ChecksumMode,
) -> Result<ParsedFrame<'_>, ParseError> {
    let found = link::parse(link, bytes)?;
    let (body, payload) = network(found.ether_type, found.bytes, sums)?;
    Ok(ParsedFrame {
        packet: Packet {
            link: found.link.addresses,
            body,
        },
        payload,
    })
}

fn network(ether_type: u16, bytes: &[u8], sums: ChecksumMode) -> Result<(Body, &[u8]), ParseError> {
    let payload_of_ip = match ether_type {
        ethertype::IPV4 => ip::parse_v4(bytes)?,
        ethertype::IPV6 => ip::parse_v6(bytes)?,
        ethertype::ARP => return Ok((Body::Resolution(neighbour::parse_arp(bytes)?), &[])),
        other => return Err(ParseError::EtherType(other)),
    };
    let icmp = |message: Icmp| (Body::Icmp(payload_of_ip.ip, message), &[][..]);
    match (payload_of_ip.protocol, ether_type) {
        (protocol::TCP, _) => {
            let (segment, payload) = tcp::parse(&payload_of_ip, sums)?;
            Ok((Body::Tcp(payload_of_ip.ip, segment), payload))
        }
        (protocol::ICMP, ethertype::IPV4) => icmp::parse_v4(payload_of_ip.bytes).map(icmp),
        (protocol::ICMPV6, ethertype::IPV6) => {
            match neighbour::parse_discovery(payload_of_ip.ip.src, payload_of_ip.bytes)? {
                Some(resolution) => Ok((Body::Resolution(resolution), &[])),
                None => icmp::parse_v6(payload_of_ip.bytes).map(icmp),
            }
        }
        (other, _) => Err(ParseError::Protocol(other)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::packet::arbitrary::packet;
    use crate::packet::{Checksum, rebuild};

    const LINKS: [LinkType; 4] = [
        LinkType::Ethernet,
        LinkType::LinuxSll,
        LinkType::LinuxSll2,
        LinkType::Raw,
    ];

    /// Whether a parsed packet is consistent with its frame.
    fn is_consistent(bytes: &[u8], parsed: &ParsedFrame<'_>) -> bool {
        let Some((ip, tcp)) = parsed.packet.tcp() else {
            return parsed.payload.is_empty();
        };
        ip.src.is_ipv4() == ip.dst.is_ipv4()
            && parsed.payload.len() <= tcp.payload_len as usize
            && parsed.payload.len() + 40 <= bytes.len()
    }

    proptest! {
        #[test]
        fn any_bytes_parse_or_fail(
            bytes in prop::collection::vec(any::<u8>(), 0..200),
        ) {
            for link in LINKS {
                if let Ok(parsed) = parse_frame(link, &bytes, ChecksumMode::Verify) {
                    prop_assert!(is_consistent(&bytes, &parsed));
                }
            }
        }

        #[test]
        fn a_packet_with_flipped_bits_parses_or_fails(
            packet in packet(),
            flips in prop::collection::vec(any::<prop::sample::Index>(), 1..8),
        ) {
            let link = LinkType::of(&packet);
            let mut bytes = rebuild(&packet, link).unwrap().bytes;
            for flip in flips {
                let bit = flip.index(bytes.len() * 8);
                bytes[bit / 8] ^= 1 << (bit % 8);
            }
            if let Ok(parsed) = parse_frame(link, &bytes, ChecksumMode::Verify) {
                prop_assert!(is_consistent(&bytes, &parsed));
            }
        }

        #[test]
        fn a_cut_packet_parses_the_same_or_fails(
            packet in packet(),
            cut in any::<prop::sample::Index>(),
        ) {
            let link = LinkType::of(&packet);
            let bytes = rebuild(&packet, link).unwrap().bytes;
            let whole = parse_frame(link, &bytes, ChecksumMode::Trust).unwrap().packet;
            let cut = parse_frame(link, &bytes[..cut.index(bytes.len())], ChecksumMode::Trust);
            let Ok(ParsedFrame { packet: mut left, .. }) = cut else {
                return Ok(());
            };
            match (&mut left.body, whole.body) {
                (Body::Tcp(_, tcp), Body::Tcp(_, whole)) => {
                    tcp.options = whole.options;
                    // After the flags a header may be cut.
                    if tcp.window == 0 {
                        tcp.window = whole.window;
                    }
                }
                (Body::Icmp(_, icmp), Body::Icmp(_, whole)) if icmp.quoted.is_none() => {
                    icmp.quoted = whole.quoted;
                }
                (Body::Resolution(left), Body::Resolution(whole)) => {
                    left.sender_mac = whole.sender_mac;
                }
                _ => {}
            }
            prop_assert_eq!(left, whole);
        }
    }

    /// Bytes written as hex, spaces and line ends ignored.
    fn hex(text: &str) -> Vec<u8> {
        let digits: Vec<char> = text.chars().filter(char::is_ascii_hexdigit).collect();
        digits
            .chunks(2)
            .map(|pair| u8::from_str_radix(&pair.iter().collect::<String>(), 16).unwrap())
            .collect()
    }

    /// `python3 -c 'import socket; socket.create_connection(("127.0.0.1", 9))'` beside an
    /// AF_PACKET socket on lo (Linux 6.18): the SYN with its partial checksum.
    const SYN_ON_LO: &str = "0000000000000000000000000800\
        4500003cf9944000400643257f0000017f000001\
        98880009b0a2afb200000000a002ffd7fe300000\
        0204ffd70402080ad6b3de61000000000103030a";

    #[test]
    fn a_syn_of_linux_on_loopback_is_parsed() {
        let bytes = hex(SYN_ON_LO);
        let parsed = parse_frame(LinkType::Ethernet, &bytes, ChecksumMode::Verify).unwrap();
        let (ip, tcp) = parsed.packet.tcp().unwrap();
        assert_eq!(ip.hop_limit, 64);
        assert!(tcp.flags.is_syn());
        assert_eq!(tcp.dst_port, 9);
        assert_eq!(tcp.options.mss, Some(65495));
        assert!(tcp.options.sack_permitted);
        assert_eq!(tcp.options.window_scale, Some(10));
    }

    #[test]
    fn a_partial_checksum_is_not_invalid() {
        let bytes = hex(SYN_ON_LO);
        let parsed = parse_frame(LinkType::Ethernet, &bytes, ChecksumMode::Verify).unwrap();
        let (_, tcp) = parsed.packet.tcp().unwrap();
        assert_eq!(tcp.checksum, Checksum::Unknown);
    }
}
