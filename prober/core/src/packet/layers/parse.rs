//! From the bytes of a frame to its layers: any byte string results in `Layers` or a `ParseError`.
//!
//! A frame whose tunnel is malformed inside is the packet that carries it.

use super::identity::Identity;
use super::{
    Fragment, Inner, Layers, MAX_TUNNELS, Opaque, OpaqueKind, QuotedPacket, TcpExtra, Tunnel,
    tunnel, udp,
};
use crate::packet::bytes::{ChecksumMode, ParseError, ethertype, protocol, u32_at};
use crate::packet::ip::IpPayload;
use crate::packet::link::{self, LinkPayload};
use crate::packet::{Body, LinkType, Packet, Resolution, ResolutionKind, icmp, ip, neighbour, tcp};

/// Parses one captured frame down to its innermost packet. Does not allocate.
///
/// Fails where the outermost headers are cut or contradict each other.
pub fn parse_layers(
    link: LinkType,
    bytes: &[u8],
    sums: ChecksumMode,
) -> Result<Layers, ParseError> {
    descend(&link::parse(link, bytes)?, sums, 0)
}

/// Parses what a link header carries, inside of so many tunnels.
fn descend(
    frame: &LinkPayload<'_>,
    sums: ChecksumMode,
    depth: usize,
) -> Result<Layers, ParseError> {
    let carrier = match frame.ether_type {
        ethertype::IPV4 => ip::parse_any_v4(frame.bytes)?,
        ethertype::IPV6 => ip::parse_any_v6(frame.bytes)?,
        ethertype::ARP => return arp(frame),
        other => return Ok(Layers::new(frame, Inner::NotIp(other))),
    };
    let is_later = matches!(carrier.fragment, Some(Fragment { offset: 1.., .. }));
    if !is_later
        && depth < MAX_TUNNELS
        && let Some(opened) = tunnel::open(&carrier)
        && let Ok(mut layers) = descend(&opened.frame, sums, depth + 1)
        && opened.is_certain(&layers)
    {
        if let Some(place) = layers.tunnels.get_mut(depth) {
            *place = Some(Tunnel {
                kind: opened.kind,
                link: frame.link,
                ip: carrier.ip,
                ports: opened.ports,
                key: opened.key,
                fragment: carrier.fragment,
            });
        }
        return Ok(layers);
    }
    let mut layers = if is_later {
        Layers::new(frame, Inner::LaterFragment(carrier.ip, carrier.protocol))
    } else {
        transport(frame, &carrier, sums)?
    };
    layers.fragment = carrier.fragment;
    layers.is_unsegmented = carrier.is_unsegmented;
    layers.identity = Identity::of(&carrier);
    Ok(layers)
}

impl Layers {
    /// The layers of a frame without tunnels.
    fn new(frame: &LinkPayload<'_>, inner: Inner) -> Self {
        Self {
            tunnels: [None; MAX_TUNNELS],
            link: frame.link,
            inner,
            fragment: None,
            quoted: None,
            tcp_extra: TcpExtra::default(),
            is_announcement: false,
            is_unsegmented: false,
            identity: Identity::default(),
        }
    }
}

fn arp(frame: &LinkPayload<'_>) -> Result<Layers, ParseError> {
    match neighbour::parse_arp(frame.bytes) {
        Ok(resolution) => {
            let mut layers = Layers::new(frame, packet(frame, Body::Resolution(resolution)));
            layers.is_announcement = neighbour::is_arp_announcement(frame.bytes);
            layers.identity = Identity::of_arp(frame.bytes);
            Ok(layers)
        }
        Err(ParseError::Arp) => Ok(Layers::new(frame, Inner::NotIp(ethertype::ARP))),
        Err(error) => Err(error),
    }
}

fn packet(frame: &LinkPayload<'_>, body: Body) -> Inner {
    Inner::Packet(Packet {
        link: frame.link.addresses,
        body,
    })
}

/// Parses the payload of an IP packet that is no tunnel.
fn transport(
    frame: &LinkPayload<'_>,
    carrier: &IpPayload<'_>,
    sums: ChecksumMode,
) -> Result<Layers, ParseError> {
    let ip = carrier.ip;
    match (carrier.protocol, frame.ether_type) {
        (protocol::TCP, _) => {
            let (segment, _) = tcp::parse(carrier, sums)?;
            let mut layers = Layers::new(frame, packet(frame, Body::Tcp(ip, segment)));
            layers.tcp_extra = tcp::parse_extra(carrier.bytes);
            Ok(layers)
        }
        (protocol::UDP, _) => Ok(Layers::new(frame, datagram(carrier, sums)?)),
        (protocol::ICMP, ethertype::IPV4) => {
            let message = icmp::parse_v4(carrier.bytes)?;
            let mut layers = Layers::new(frame, packet(frame, Body::Icmp(ip, message)));
            layers.quoted = icmp::quoted_bytes_v4(carrier.bytes)
                .and_then(|bytes| ip::parse_any_v4(bytes).ok())
                .map(|quoted| QuotedPacket::of(&quoted));
            Ok(layers)
        }
        (protocol::ICMPV6, ethertype::IPV6) => discovery_or_icmp(frame, carrier),
        (protocol::ESP, _) => {
            let key = u32_at(carrier.bytes, 0).ok_or(ParseError::Truncated("ESP header"))?;
            let opaque = Opaque {
                kind: OpaqueKind::Esp,
                ports: None,
                key,
                payload_len: u32::try_from(carrier.len).unwrap_or(u32::MAX),
            };
            Ok(Layers::new(frame, Inner::Opaque(ip, opaque)))
        }
        (other, _) => Ok(Layers::new(frame, Inner::Other(ip, other))),
    }
}

/// An encrypted tunnel, or a datagram of UDP that is none.
fn datagram(carrier: &IpPayload<'_>, sums: ChecksumMode) -> Result<Inner, ParseError> {
    let (udp, payload) = udp::parse(carrier, sums)?;
    Ok(match tunnel::opaque(&udp, payload) {
        Some(opaque) => Inner::Opaque(carrier.ip, opaque),
        None => Inner::Udp(carrier.ip, udp.with_application(payload)),
    })
}

fn discovery_or_icmp(
    frame: &LinkPayload<'_>,
    carrier: &IpPayload<'_>,
) -> Result<Layers, ParseError> {
    if let Some(resolution) = neighbour::parse_discovery(carrier.ip.src, carrier.bytes)? {
        let mut layers = Layers::new(frame, packet(frame, Body::Resolution(resolution)));
        layers.is_announcement = is_unsolicited(&resolution, carrier.bytes);
        return Ok(layers);
    }
    let message = icmp::parse_v6(carrier.bytes)?;
    let mut layers = Layers::new(frame, packet(frame, Body::Icmp(carrier.ip, message)));
    layers.quoted = icmp::quoted_bytes_v6(carrier.bytes)
        .and_then(|bytes| ip::parse_any_v6(bytes).ok())
        .map(|quoted| QuotedPacket::of(&quoted));
    Ok(layers)
}

/// An advertisement without the solicited flag (RFC 4861 4.4).
fn is_unsolicited(resolution: &Resolution, bytes: &[u8]) -> bool {
    const SOLICITED: u8 = 0x40;
    match resolution.kind {
        ResolutionKind::Request => false,
        ResolutionKind::Reply => bytes.get(4).is_some_and(|flags| flags & SOLICITED == 0),
    }
}

impl QuotedPacket {
    /// What is quoted of this packet.
    fn of(quoted: &IpPayload<'_>) -> Self {
        let has_ports = matches!(quoted.protocol, protocol::TCP | protocol::UDP)
            && !matches!(quoted.fragment, Some(Fragment { offset: 1.., .. }));
        let word = |place| u32_at(quoted.bytes, place).filter(|_| has_ports);
        Self {
            ip: quoted.ip,
            protocol: quoted.protocol,
            ports: word(0).map(udp::both_ports),
            seq: word(4)
                .filter(|_| quoted.protocol == protocol::TCP)
                .map(crate::packet::Seq),
        }
    }
}
