//! Frames into packets: any byte string gives a [`Packet`] or a [`ParseError`].
//!
//! A frame may be cut at the end by a capture's snap length: lengths come from the headers, the
//! payload is what is there. What contradicts itself is an error, never a guess.

use super::{Body, Icmp, Link, LinkType, Packet, icmp, ip, neighbour, tcp};
use crate::mac::Mac;

/// Whether TCP checksums can be judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sums {
    /// The bytes are those of the wire.
    Judge,
    /// The kernel had yet to fill the checksum in (`TP_STATUS_CSUMNOTREADY`), or has checked it.
    Trust,
}

/// A frame, read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parsed<'a> {
    /// What it says.
    pub packet: Packet,
    /// The TCP payload as far as it was captured; empty for everything else.
    pub payload: &'a [u8],
}

/// Why a frame gives no packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// The bytes end within a header.
    #[error("the bytes end within the {0}: capture with a larger snap length")]
    Truncated(&'static str),
    /// A length field contradicts the header that it belongs to.
    #[error("the lengths in the {0} contradict each other: the packet is malformed")]
    Length(&'static str),
    /// An IP header of another version than its frame says.
    #[error("an IP header of version {0} where 4 or 6 was expected")]
    Version(u8),
    /// The frame carries neither IP nor ARP.
    #[error("a frame of EtherType {0:#06x}, which is none of IPv4, IPv6 and ARP")]
    EtherType(u16),
    /// The packet carries neither TCP nor ICMP.
    #[error("an IP packet of protocol {0}, which is none of TCP, ICMP and ICMPv6")]
    Protocol(u8),
    /// A fragment other than the first: it has no TCP header.
    #[error("a later fragment of an IP packet, which has no TCP header")]
    LaterFragment,
    /// ARP for other hardware or protocols, or of another operation.
    #[error("an ARP packet that neither asks for nor tells an Ethernet address of IPv4")]
    Arp,
}

/// EtherTypes (IEEE 802 numbers, as listed by IANA).
pub(super) mod ethertype {
    pub(crate) const IPV4: u16 = 0x0800;
    pub(crate) const ARP: u16 = 0x0806;
    pub(crate) const VLAN: u16 = 0x8100;
    pub(crate) const IPV6: u16 = 0x86dd;
    pub(crate) const PROVIDER_VLAN: u16 = 0x88a8;
    pub(crate) const OLD_PROVIDER_VLAN: u16 = 0x9100;
}

/// IP protocol numbers.
pub(super) mod protocol {
    pub(crate) const ICMP: u8 = 1;
    pub(crate) const TCP: u8 = 6;
    pub(crate) const ICMPV6: u8 = 58;
}

/// Reads one captured frame.
pub fn parse_frame(link: LinkType, bytes: &[u8], sums: Sums) -> Result<Parsed<'_>, ParseError> {
    let (link, ether_type, rest) = match link {
        LinkType::Ethernet => ethernet(bytes)?,
        LinkType::LinuxSll => cooked_v1(bytes)?,
        LinkType::LinuxSll2 => cooked_v2(bytes)?,
        LinkType::Raw => (None, raw_ether_type(bytes)?, bytes),
    };
    let (body, payload) = network(ether_type, rest, sums)?;
    Ok(Parsed {
        packet: Packet { link, body },
        payload,
    })
}

type LinkHeader<'a> = (Option<Link>, u16, &'a [u8]);

fn ethernet(bytes: &[u8]) -> Result<LinkHeader<'_>, ParseError> {
    let cut = ParseError::Truncated("Ethernet header");
    let (dst, rest) = bytes.split_first_chunk::<6>().ok_or(cut)?;
    let (src, rest) = rest.split_first_chunk::<6>().ok_or(cut)?;
    let (ether_type, rest) = rest.split_first_chunk::<2>().ok_or(cut)?;
    let link = Link {
        src: Mac(*src),
        dst: Some(Mac(*dst)),
    };
    let (ether_type, rest) = without_vlan_tags(u16::from_be_bytes(*ether_type), rest)?;
    Ok((Some(link), ether_type, rest))
}

/// `LINKTYPE_LINUX_SLL`: packet type, ARPHRD, address length, address, protocol.
fn cooked_v1(bytes: &[u8]) -> Result<LinkHeader<'_>, ParseError> {
    let cut = ParseError::Truncated("Linux cooked header");
    let (header, rest) = bytes.split_first_chunk::<16>().ok_or(cut)?;
    let &[_, _, _, _, _, length, a, b, c, d, e, f, _, _, high, low] = header;
    let link = cooked_link(length, [a, b, c, d, e, f]);
    let (ether_type, rest) = without_vlan_tags(u16::from_be_bytes([high, low]), rest)?;
    Ok((link, ether_type, rest))
}

/// `LINKTYPE_LINUX_SLL2`: protocol, reserved, interface, ARPHRD, packet type, address.
fn cooked_v2(bytes: &[u8]) -> Result<LinkHeader<'_>, ParseError> {
    let cut = ParseError::Truncated("Linux cooked header");
    let (header, rest) = bytes.split_first_chunk::<20>().ok_or(cut)?;
    let &[
        high,
        low,
        _,
        _,
        _,
        _,
        _,
        _,
        _,
        _,
        _,
        length,
        a,
        b,
        c,
        d,
        e,
        f,
        _,
        _,
    ] = header;
    let link = cooked_link(length, [a, b, c, d, e, f]);
    let (ether_type, rest) = without_vlan_tags(u16::from_be_bytes([high, low]), rest)?;
    Ok((link, ether_type, rest))
}

fn cooked_link(length: u8, address: [u8; 6]) -> Option<Link> {
    (length == 6).then_some(Link {
        src: Mac(address),
        dst: None,
    })
}

fn raw_ether_type(bytes: &[u8]) -> Result<u16, ParseError> {
    match bytes.first().map(|byte| byte >> 4) {
        None => Err(ParseError::Truncated("IP header")),
        Some(4) => Ok(ethertype::IPV4),
        Some(6) => Ok(ethertype::IPV6),
        Some(other) => Err(ParseError::Version(other)),
    }
}

fn without_vlan_tags(mut ether_type: u16, mut rest: &[u8]) -> Result<(u16, &[u8]), ParseError> {
    while matches!(
        ether_type,
        ethertype::VLAN | ethertype::PROVIDER_VLAN | ethertype::OLD_PROVIDER_VLAN
    ) {
        let cut = ParseError::Truncated("VLAN tag");
        let (&[_, _, high, low], inner) = rest.split_first_chunk::<4>().ok_or(cut)?;
        ether_type = u16::from_be_bytes([high, low]);
        rest = inner;
    }
    Ok((ether_type, rest))
}

fn network(ether_type: u16, bytes: &[u8], sums: Sums) -> Result<(Body, &[u8]), ParseError> {
    let carried = match ether_type {
        ethertype::IPV4 => ip::parse_v4(bytes)?,
        ethertype::IPV6 => ip::parse_v6(bytes)?,
        ethertype::ARP => return Ok((Body::Resolution(neighbour::parse_arp(bytes)?), &[])),
        other => return Err(ParseError::EtherType(other)),
    };
    let icmp = |message: Icmp| (Body::Icmp(carried.ip, message), &[][..]);
    match (carried.protocol, ether_type) {
        (protocol::TCP, _) => {
            let (segment, payload) = tcp::parse(&carried, sums)?;
            Ok((Body::Tcp(carried.ip, segment), payload))
        }
        (protocol::ICMP, ethertype::IPV4) => icmp::parse_v4(carried.bytes).map(icmp),
        (protocol::ICMPV6, ethertype::IPV6) => {
            match neighbour::parse_discovery(carried.ip.src, carried.bytes)? {
                Some(resolution) => Ok((Body::Resolution(resolution), &[])),
                None => icmp::parse_v6(carried.bytes).map(icmp),
            }
        }
        (other, _) => Err(ParseError::Protocol(other)),
    }
}
