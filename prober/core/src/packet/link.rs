//! Link headers: from the bytes of a frame to an EtherType and what follows.

use super::EthernetAddresses;
use super::bytes::{ParseError, at, ethertype, u16_at, u32_at};
use super::layers::Link;
use crate::packet::mac::Mac;

/// The first header of a captured frame (a pcap link type).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LinkType {
    /// Ethernet (1).
    Ethernet,
    /// Linux cooked capture v1 (113).
    LinuxSll,
    /// Linux cooked capture v2 (276).
    LinuxSll2,
    /// Starts with the IP header (12, 14, 101, 228, 229).
    Raw,
    /// An address family, as of the loopback of BSD and macOS (0, 108).
    Null,
    /// PPP, with or without HDLC framing (9, 50).
    Ppp,
    /// A session of PPPoE without its Ethernet header (51).
    Pppoe,
}

/// A link header, and what it carries.
#[derive(Clone, Copy, Debug)]
pub(super) struct LinkPayload<'a> {
    /// The header.
    pub(super) link: Link,
    /// The EtherType of the payload; a length (IEEE 802.3) where it is below 1501.
    pub(super) ether_type: u16,
    /// The payload.
    pub(super) bytes: &'a [u8],
}

/// Parses the link headers of a frame: all down to the first that is none of a link.
pub(super) fn parse(link: LinkType, bytes: &[u8]) -> Result<LinkPayload<'_>, ParseError> {
    match link {
        LinkType::Ethernet => ethernet(bytes),
        LinkType::LinuxSll => cooked_v1(bytes),
        LinkType::LinuxSll2 => cooked_v2(bytes),
        LinkType::Raw => bare(raw_ether_type(bytes)?, bytes),
        LinkType::Null => null(bytes),
        LinkType::Ppp => ppp(Link::default(), bytes),
        LinkType::Pppoe => pppoe(Link::default(), bytes),
    }
}

/// Parses an Ethernet header and the tags after it.
pub(super) fn ethernet(bytes: &[u8]) -> Result<LinkPayload<'_>, ParseError> {
    let cut = ParseError::Truncated("Ethernet header");
    let rest = bytes.get(14..).ok_or(cut)?;
    let addresses = EthernetAddresses {
        src: Mac(at(bytes, 6).ok_or(cut)?),
        dst: Some(Mac(at(bytes, 0).ok_or(cut)?)),
    };
    let link = Link {
        addresses: Some(addresses),
        ..Link::default()
    };
    without_tags(link, u16_at(bytes, 12).ok_or(cut)?, rest)
}

/// An IP packet without a link header.
pub(super) fn bare(ether_type: u16, bytes: &[u8]) -> Result<LinkPayload<'_>, ParseError> {
    without_tags(Link::default(), ether_type, bytes)
}

/// `LINKTYPE_LINUX_SLL`: packet type, ARPHRD, address length at 5, address at 6, protocol at 14.
fn cooked_v1(bytes: &[u8]) -> Result<LinkPayload<'_>, ParseError> {
    cooked(bytes, 16, at(bytes, 6), at(bytes, 5), u16_at(bytes, 14))
}

/// `LINKTYPE_LINUX_SLL2`: protocol, reserved, interface, ARPHRD, packet type, address length at 11,
/// address at 12.
fn cooked_v2(bytes: &[u8]) -> Result<LinkPayload<'_>, ParseError> {
    cooked(bytes, 20, at(bytes, 12), at(bytes, 11), u16_at(bytes, 0))
}

fn cooked(
    bytes: &[u8],
    header_len: usize,
    address: Option<[u8; 6]>,
    address_len: Option<[u8; 1]>,
    ether_type: Option<u16>,
) -> Result<LinkPayload<'_>, ParseError> {
    let cut = ParseError::Truncated("Linux cooked header");
    let rest = bytes.get(header_len..).ok_or(cut)?;
    let addresses = EthernetAddresses {
        src: Mac(address.ok_or(cut)?),
        dst: None,
    };
    let link = Link {
        addresses: (address_len == Some([6])).then_some(addresses),
        ..Link::default()
    };
    without_tags(link, ether_type.ok_or(cut)?, rest)
}

/// `LINKTYPE_NULL` and `LINKTYPE_LOOP`: an address family in the byte order of the capturing machine, or of the network.
fn null(bytes: &[u8]) -> Result<LinkPayload<'_>, ParseError> {
    let cut = ParseError::Truncated("loopback header");
    let family = u32_at(bytes, 0).ok_or(cut)?;
    let rest = bytes.get(4..).ok_or(cut)?;
    let family = if family > 0xffff {
        family.swap_bytes()
    } else {
        family
    };
    let ether_type = match family {
        2 => ethertype::IPV4,
        // AF_INET6 of Linux, NetBSD, FreeBSD, macOS, and Windows.
        10 | 23 | 24 | 28 | 30 => ethertype::IPV6,
        other => return bare(u16::try_from(other).unwrap_or(u16::MAX), rest),
    };
    bare(ether_type, rest)
}

/// PPP, with or without HDLC framing, of address and control 0xff03 (RFC 1661 2, RFC 1662 3.1).
fn ppp(link: Link, bytes: &[u8]) -> Result<LinkPayload<'_>, ParseError> {
    const IPV4: u16 = 0x21;
    const IPV6: u16 = 0x57;
    let bytes = bytes.strip_prefix(&[0xff, 0x03]).unwrap_or(bytes);
    // A protocol field of one byte has an odd one (RFC 1661 6.5).
    let (protocol, len) = match *bytes {
        [low, ..] if low & 1 == 1 => (u16::from(low), 1),
        [high, low, ..] => (u16::from_be_bytes([high, low]), 2),
        _ => return Err(ParseError::Truncated("PPP header")),
    };
    let rest = bytes.get(len..).unwrap_or_default();
    let ether_type = match protocol {
        IPV4 => ethertype::IPV4,
        IPV6 => ethertype::IPV6,
        // Control messages of PPP.
        _ => ethertype::PPP,
    };
    without_tags(link, ether_type, rest)
}

/// A session of PPPoE: version and type, code, session, length (RFC 2516 4).
fn pppoe(link: Link, bytes: &[u8]) -> Result<LinkPayload<'_>, ParseError> {
    let rest = bytes.get(6..);
    ppp(link, rest.ok_or(ParseError::Truncated("PPPoE header"))?)
}

fn raw_ether_type(bytes: &[u8]) -> Result<u16, ParseError> {
    match bytes.first().map(|byte| byte >> 4) {
        None => Err(ParseError::Truncated("IP header")),
        Some(4) => Ok(ethertype::IPV4),
        Some(6) => Ok(ethertype::IPV6),
        Some(other) => Err(ParseError::Version(other)),
    }
}

/// Skips the tags between an Ethernet header and its payload, and notes them in `link`.
fn without_tags(
    mut link: Link,
    mut ether_type: u16,
    mut bytes: &[u8],
) -> Result<LinkPayload<'_>, ParseError> {
    loop {
        match ether_type {
            ethertype::VLAN | ethertype::PROVIDER_VLAN | ethertype::OLD_PROVIDER_VLAN => {
                let cut = ParseError::Truncated("VLAN tag");
                let tag = u16_at(bytes, 0).ok_or(cut)?;
                ether_type = u16_at(bytes, 2).ok_or(cut)?;
                bytes = bytes.get(4..).ok_or(cut)?;
                if let Some(place) = link.vlans.iter_mut().find(|place| place.is_none()) {
                    *place = Some(tag & 0xfff);
                }
            }
            ethertype::MPLS | ethertype::MPLS_MULTICAST => {
                let cut = ParseError::Truncated("MPLS label");
                let label = u32_at(bytes, 0).ok_or(cut)?;
                bytes = bytes.get(4..).ok_or(cut)?;
                link.labels = link.labels.saturating_add(1);
                // The bottom of the stack: what follows is known by its first half byte alone (RFC 4928).
                if label & 0x100 != 0 {
                    match bytes.first().map(|byte| byte >> 4) {
                        Some(4) => ether_type = ethertype::IPV4,
                        Some(6) => ether_type = ethertype::IPV6,
                        Some(_) | None => break,
                    }
                }
            }
            ethertype::PPPOE_SESSION => return pppoe(link, bytes),
            // IEEE 802.2 with SNAP: a length, then the header 0xaaaa03, an organisation and an EtherType.
            0..=1500 => match bytes {
                &[0xaa, 0xaa, 0x03, 0, 0, 0, high, low, ref rest @ ..] if high >= 6 => {
                    ether_type = u16::from_be_bytes([high, low]);
                    bytes = rest;
                }
                _ => break,
            },
            // IEEE 802.1ah: a service tag, then the frame of the customer.
            ethertype::PROVIDER_BACKBONE => {
                let rest = bytes.get(4..);
                return ethernet(rest.ok_or(ParseError::Truncated("backbone tag"))?);
            }
            _ => break,
        }
    }
    Ok(LinkPayload {
        link,
        ether_type,
        bytes,
    })
}
