//! Frames rebuilt from packets, for capture files.
//!
//! Unknown fields are zero. Parts that are not kept (the payload, most of a quoted packet) are cut off, as by a snap
//! length, so that `parse_frame` returns the same packet.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use pnet_packet::icmp::{self, IcmpPacket};
use pnet_packet::icmpv6::{self, Icmpv6Packet};
use pnet_packet::ip::IpNextHeaderProtocols;

use super::bytes::ethertype;
use super::craft::{CraftError, append_ip, append_tcp, tcp_header_len};
use super::neighbour::{ADVERTISEMENT, SOLICITATION, SOURCE_LINK_ADDRESS, TARGET_LINK_ADDRESS};
use super::{
    Body, EthernetAddresses, Icmp, IcmpKind, Ip, LinkType, Packet, Quoted, Resolution,
    ResolutionKind, Tcp,
};
use crate::packet::mac::Mac;

/// A frame with the contents of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RebuiltFrame {
    /// The frame without the parts that are not kept.
    pub bytes: Vec<u8>,
    /// The length of the original frame, bytes.
    pub original_len: u32,
}

impl LinkType {
    /// The link type that keeps all link addresses of a packet.
    pub const fn of(packet: &Packet) -> Self {
        match packet.link {
            Some(EthernetAddresses { dst: Some(_), .. }) => Self::Ethernet,
            Some(EthernetAddresses { dst: None, .. }) => Self::LinuxSll,
            None => Self::Raw,
        }
    }

    /// Whether its frames say what they carry by an EtherType, so that it may be ARP.
    const fn carries_arp(self) -> bool {
        match self {
            Self::Ethernet | Self::LinuxSll | Self::LinuxSll2 => true,
            Self::Raw | Self::Null | Self::Ppp | Self::Pppoe => false,
        }
    }
}

/// Writes a packet as a frame of this link type.
///
/// A cooked frame has packet type 0, received; the caller may change it.
pub fn rebuild(packet: &Packet, link: LinkType) -> Result<RebuiltFrame, CraftError> {
    let mut network = Vec::with_capacity(128);
    let mut cut = 0;
    let ether_type = match &packet.body {
        Body::Tcp(ip, tcp) => {
            cut = tcp.payload_len;
            append_segment(ip, tcp, &mut network)?;
            ether_type_of(ip.src)
        }
        Body::Icmp(ip, message) => {
            append_icmp(ip, message, &mut network)?;
            ether_type_of(ip.src)
        }
        Body::Resolution(resolution) => match (resolution.sender, resolution.target) {
            (IpAddr::V4(_), IpAddr::V4(_)) if !link.carries_arp() => {
                return Err(CraftError::ArpWithoutLink);
            }
            (IpAddr::V4(sender), IpAddr::V4(target)) => {
                append_arp(resolution, sender, target, &mut network);
                ethertype::ARP
            }
            (IpAddr::V6(sender), IpAddr::V6(target)) => {
                append_discovery(resolution, sender, target, &mut network)?;
                ethertype::IPV6
            }
            (src @ IpAddr::V4(_), dst @ IpAddr::V6(_))
            | (src @ IpAddr::V6(_), dst @ IpAddr::V4(_)) => {
                return Err(CraftError::MixedFamilies { src, dst });
            }
        },
    };
    let mut bytes = link_header(packet.link, link, ether_type);
    bytes.extend_from_slice(&network);
    let kept = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    Ok(RebuiltFrame {
        bytes,
        original_len: kept.saturating_add(cut),
    })
}

const fn ether_type_of(address: IpAddr) -> u16 {
    match address {
        IpAddr::V4(_) => ethertype::IPV4,
        IpAddr::V6(_) => ethertype::IPV6,
    }
}

fn link_header(stated: Option<EthernetAddresses>, link: LinkType, ether_type: u16) -> Vec<u8> {
    let unknown = Mac([0; 6]);
    let src = stated.map_or(unknown, |link| link.src);
    let dst = stated.and_then(|link| link.dst).unwrap_or(unknown);
    let address_len = if stated.is_some() { 6 } else { 0 };
    let mut out = Vec::new();
    match link {
        LinkType::Ethernet => {
            out.extend_from_slice(&dst.0);
            out.extend_from_slice(&src.0);
            out.extend_from_slice(&ether_type.to_be_bytes());
        }
        LinkType::LinuxSll => {
            // Packet type 0, ARPHRD_ETHER, address length, address, protocol.
            out.extend_from_slice(&[0, 0, 0, 1, 0, address_len]);
            out.extend_from_slice(&src.0);
            out.extend_from_slice(&[0, 0]);
            out.extend_from_slice(&ether_type.to_be_bytes());
        }
        LinkType::LinuxSll2 => {
            // Protocol, reserved, interface 0, ARPHRD_ETHER, packet type 0, address.
            out.extend_from_slice(&ether_type.to_be_bytes());
            out.extend_from_slice(&[0, 0, 0, 0, 0, 0, 0, 1, 0, address_len]);
            out.extend_from_slice(&src.0);
            out.extend_from_slice(&[0, 0]);
        }
        LinkType::Raw => {}
        LinkType::Null => {
            let family: u32 = if ether_type == ethertype::IPV6 { 30 } else { 2 };
            out.extend_from_slice(&family.to_be_bytes());
        }
        LinkType::Ppp | LinkType::Pppoe => {
            if link == LinkType::Pppoe {
                // Version 1, type 1, code 0, session 1, and a length that readers take from IP.
                out.extend_from_slice(&[0x11, 0, 0, 1, 0, 0]);
            }
            let protocol = if ether_type == ethertype::IPV6 {
                0x57
            } else {
                0x21
            };
            out.extend_from_slice(&[0, protocol]);
        }
    }
    out
}

/// The headers are those of the whole segment; the payload is cut off.
fn append_segment(ip: &Ip, tcp: &Tcp, out: &mut Vec<u8>) -> Result<(), CraftError> {
    let payload_len = usize::try_from(tcp.payload_len).unwrap_or(usize::MAX);
    let len = payload_len.saturating_add(tcp_header_len(&tcp.options));
    append_ip(ip, IpNextHeaderProtocols::Tcp, len, out)?;
    append_tcp(ip, tcp, &[], out);
    Ok(())
}

fn append_icmp(ip: &Ip, message: &Icmp, out: &mut Vec<u8>) -> Result<(), CraftError> {
    const REDIRECT_V6: u8 = 137;
    let (icmp_type, code) = message.type_code;
    let mut rest = [0; 4];
    let mut redirect = None;
    match message.kind {
        IcmpKind::PacketTooBig { mtu } => rest = mtu.to_be_bytes(),
        IcmpKind::Redirect {
            gateway: IpAddr::V4(gateway),
        } => rest = gateway.octets(),
        IcmpKind::Redirect {
            gateway: IpAddr::V6(target),
        } => redirect = Some(target),
        IcmpKind::Unreachable { .. } | IcmpKind::TimeExceeded | IcmpKind::Other => {}
    }
    let mut body = vec![icmp_type, code, 0, 0];
    body.extend_from_slice(&rest);
    let quoted = message.quoted.as_ref().map(quote).transpose()?;
    let quoted = quoted.unwrap_or_default();
    if let Some(target) = redirect.filter(|_| icmp_type == REDIRECT_V6) {
        body.extend_from_slice(&target.octets());
        let destination = match message.quoted.map(|quoted| quoted.dst.ip()) {
            Some(IpAddr::V6(destination)) => destination,
            Some(IpAddr::V4(_)) | None => Ipv6Addr::UNSPECIFIED,
        };
        body.extend_from_slice(&destination.octets());
        if !quoted.is_empty() {
            // The Redirected Header option (RFC 4861 4.6.3): seven units of eight bytes.
            body.extend_from_slice(&[4, 7, 0, 0, 0, 0, 0, 0]);
        }
    }
    body.extend_from_slice(&quoted);
    append_message(ip, &mut body, out)
}

/// The quoted packet's IP header and the eight bytes of TCP that every router quotes.
fn quote(quoted: &Quoted) -> Result<Vec<u8>, CraftError> {
    let mut out = Vec::new();
    let ip = Ip {
        src: quoted.src.ip(),
        dst: quoted.dst.ip(),
        hop_limit: quoted.hop_limit,
        ident: 0,
    };
    append_ip(&ip, IpNextHeaderProtocols::Tcp, 40, &mut out)?;
    let port = |address: SocketAddr| address.port().to_be_bytes();
    out.extend_from_slice(&port(quoted.src));
    out.extend_from_slice(&port(quoted.dst));
    out.extend_from_slice(&quoted.seq.0.to_be_bytes());
    Ok(out)
}

/// Appends an IP packet with an ICMP message whose checksum is still zero.
fn append_message(ip: &Ip, body: &mut [u8], out: &mut Vec<u8>) -> Result<(), CraftError> {
    let (protocol, sum) = match (ip.src, ip.dst) {
        (IpAddr::V6(src), IpAddr::V6(dst)) => (
            IpNextHeaderProtocols::Icmpv6,
            Icmpv6Packet::new(body).map(|message| icmpv6::checksum(&message, &src, &dst)),
        ),
        (IpAddr::V4(_), IpAddr::V4(_) | IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => (
            IpNextHeaderProtocols::Icmp,
            IcmpPacket::new(body).map(|message| icmp::checksum(&message)),
        ),
    };
    if let Some((place, sum)) = body.get_mut(2..4).zip(sum) {
        place.copy_from_slice(&sum.to_be_bytes());
    }
    append_ip(ip, protocol, body.len(), out)?;
    out.extend_from_slice(body);
    Ok(())
}

/// RFC 826, for Ethernet and IPv4. The target of a reply is not kept; the Ethernet header has it.
fn append_arp(resolution: &Resolution, sender: Ipv4Addr, target: Ipv4Addr, out: &mut Vec<u8>) {
    let Mac(mac) = resolution.sender_mac.unwrap_or(Mac([0; 6]));
    let (operation, target) = match resolution.kind {
        ResolutionKind::Request => (1, target),
        ResolutionKind::Reply => (2, Ipv4Addr::UNSPECIFIED),
    };
    out.extend_from_slice(&[0, 1, 8, 0, 6, 4, 0, operation]);
    out.extend_from_slice(&mac);
    out.extend_from_slice(&sender.octets());
    out.extend_from_slice(&[0; 6]);
    out.extend_from_slice(&target.octets());
}

fn append_discovery(
    resolution: &Resolution,
    sender: Ipv6Addr,
    target: Ipv6Addr,
    out: &mut Vec<u8>,
) -> Result<(), CraftError> {
    const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
    let [.., high, middle, low] = target.octets();
    let (icmp_type, option, dst) = match resolution.kind {
        ResolutionKind::Request => (
            SOLICITATION,
            SOURCE_LINK_ADDRESS,
            // The solicited-node address (RFC 4291 2.7.1).
            Ipv6Addr::from([
                0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, high, middle, low,
            ]),
        ),
        ResolutionKind::Reply => (ADVERTISEMENT, TARGET_LINK_ADDRESS, ALL_NODES),
    };
    let ip = Ip {
        src: IpAddr::V6(sender),
        dst: IpAddr::V6(dst),
        hop_limit: 255,
        ident: 0,
    };
    let mut body = vec![icmp_type, 0, 0, 0, 0, 0, 0, 0];
    body.extend_from_slice(&target.octets());
    if let Some(Mac(mac)) = resolution.sender_mac {
        body.extend_from_slice(&[option, 1]);
        body.extend_from_slice(&mac);
    }
    append_message(&ip, &mut body, out)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::packet::arbitrary::{packet, packet_without_payload};
    use crate::packet::{Checksum, ChecksumMode, Seq, TcpFlags, TcpOptions, parse_frame};

    proptest! {
        #[test]
        fn a_rebuilt_packet_parses_back(packet in packet_without_payload()) {
            let frame = rebuild(&packet, LinkType::of(&packet)).unwrap();
            let parsed = parse_frame(LinkType::of(&packet), &frame.bytes, ChecksumMode::Verify).unwrap();
            prop_assert_eq!(parsed.packet, packet);
            prop_assert_eq!(frame.bytes.len(), frame.original_len as usize);
        }

        #[test]
        fn a_payload_counts_but_is_not_written(packet in packet()) {
            let frame = rebuild(&packet, LinkType::of(&packet)).unwrap();
            let parsed = parse_frame(LinkType::of(&packet), &frame.bytes, ChecksumMode::Trust).unwrap();
            let mut stated = packet;
            if let Body::Tcp(_, tcp) = &mut stated.body {
                tcp.checksum = Checksum::Unknown;
            }
            prop_assert_eq!(parsed.packet, stated);
            prop_assert!(parsed.payload.is_empty());
        }

        #[test]
        fn every_link_type_carries_the_same_body(packet in packet()) {
            for link in [
                LinkType::Ethernet,
                LinkType::LinuxSll,
                LinkType::LinuxSll2,
                LinkType::Raw,
            ] {
                let Ok(frame) = rebuild(&packet, link) else {
                    prop_assert!(link == LinkType::Raw && packet.tcp().is_none());
                    continue;
                };
                let parsed = parse_frame(link, &frame.bytes, ChecksumMode::Trust).unwrap().packet;
                match (&parsed.body, &packet.body) {
                    (Body::Tcp(ip, _), Body::Tcp(was, _)) => prop_assert_eq!(ip, was),
                    (now, was) => prop_assert_eq!(now, was),
                }
                if link != LinkType::Raw {
                    prop_assert_eq!(
                        parsed.link.map_or(Mac([0; 6]), |link| link.src),
                        packet.link.map_or(Mac([0; 6]), |link| link.src)
                    );
                }
            }
        }
    }

    #[test]
    fn a_wrong_checksum_stays_wrong_where_the_right_one_is_zero() {
        let packet = |checksum| Packet {
            link: None,
            body: Body::Tcp(
                Ip {
                    src: "250.193.130.120".parse().unwrap(),
                    dst: "106.0.31.59".parse().unwrap(),
                    hop_limit: 0,
                    ident: 0,
                },
                Tcp {
                    src_port: 44977,
                    dst_port: 50080,
                    seq: Seq(1_368_740_845),
                    ack: Seq(1_711_627_113),
                    flags: TcpFlags(252),
                    window: 42121,
                    options: TcpOptions {
                        mss: None,
                        window_scale: Some(152),
                        sack_permitted: true,
                        timestamps: None,
                    },
                    payload_len: 0,
                    checksum,
                },
            ),
        };
        let field =
            |packet: &Packet| rebuild(packet, LinkType::Raw).unwrap().bytes[36..38].to_vec();
        let right = field(&packet(Checksum::Valid));
        assert!(right == [0, 0] || right == [0xff, 0xff]);
        let wrong = rebuild(&packet(Checksum::Invalid), LinkType::Raw).unwrap();
        let parsed = parse_frame(LinkType::Raw, &wrong.bytes, ChecksumMode::Verify).unwrap();
        assert_eq!(parsed.packet, packet(Checksum::Invalid));
    }

    #[test]
    fn arp_has_no_place_in_a_capture_of_raw_ip() {
        let request = Packet {
            link: None,
            body: Body::Resolution(Resolution {
                kind: ResolutionKind::Request,
                sender: "10.0.0.1".parse().unwrap(),
                sender_mac: None,
                target: "10.0.0.2".parse().unwrap(),
            }),
        };
        assert_eq!(
            rebuild(&request, LinkType::Raw),
            Err(CraftError::ArpWithoutLink)
        );
    }
}
