//! Parsing of IP headers. Skips options and extension headers; detects fragments.

use std::net::IpAddr;

use pnet_packet::ipv4::Ipv4Packet;
use pnet_packet::ipv6::Ipv6Packet;

use super::bytes::u32_at;
use super::layers::Fragment;
use super::{Ip, ParseError};

/// An IP header and its payload.
#[derive(Clone, Copy, Debug)]
pub(super) struct IpPayload<'a> {
    /// The header.
    pub(super) ip: Ip,
    /// The protocol after the extension headers.
    pub(super) protocol: u8,
    /// The captured part of the payload.
    pub(super) bytes: &'a [u8],
    /// The length of the payload according to the headers; never less than that of `bytes`.
    pub(super) len: usize,
    /// Whether the checksum can be verified.
    pub(super) extent: Extent,
    /// Which fragment it is; `None` where it is whole.
    pub(super) fragment: Option<Fragment>,
    /// Whether the header states a length of zero.
    pub(super) is_unsegmented: bool,
}

impl IpPayload<'_> {
    /// The payload, unless it is a later fragment, which has no header of its protocol.
    fn of_first(self) -> Result<Self, ParseError> {
        match self.fragment {
            Some(Fragment { offset: 1.., .. }) => Err(ParseError::LaterFragment),
            Some(Fragment { offset: 0, .. }) | None => Ok(self),
        }
    }
}

/// Whether a packet is complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Extent {
    /// All of the original packet, addressed to its final destination.
    Whole,
    /// The first fragment, or source-routed: the checksum cannot be verified.
    Partial,
}

/// Parses an IPv4 packet that is no later fragment.
pub(super) fn parse_v4(bytes: &[u8]) -> Result<IpPayload<'_>, ParseError> {
    parse_any_v4(bytes)?.of_first()
}

/// Parses an IPv6 packet that is no later fragment.
pub(super) fn parse_v6(bytes: &[u8]) -> Result<IpPayload<'_>, ParseError> {
    parse_any_v6(bytes)?.of_first()
}

/// Parses an IPv4 packet (RFC 791 3.1).
pub(super) fn parse_any_v4(bytes: &[u8]) -> Result<IpPayload<'_>, ParseError> {
    let header = Ipv4Packet::new(bytes).ok_or(ParseError::Truncated("IPv4 header"))?;
    if header.get_version() != 4 {
        return Err(ParseError::Version(header.get_version()));
    }
    let header_len = usize::from(header.get_header_length()) * 4;
    // Offloaded sends have a length of zero before the device segments them.
    let total_len = match usize::from(header.get_total_length()) {
        0 => bytes.len(),
        stated => stated,
    };
    if header_len < 20 || header_len > total_len {
        return Err(ParseError::Length("IPv4 header"));
    }
    let more_fragments = header.get_flags() & 0b001 != 0;
    let ip = Ip {
        src: IpAddr::V4(header.get_source()),
        dst: IpAddr::V4(header.get_destination()),
        hop_limit: header.get_ttl(),
        ident: header.get_identification(),
    };
    let end = total_len.min(bytes.len());
    let payload_of_ip = bytes
        .get(header_len..end)
        .ok_or(ParseError::Truncated("IPv4 header"))?;
    let offset = u32::from(header.get_fragment_offset()) * 8;
    let protocol = header.get_next_level_protocol().0;
    let fragment = Fragment {
        src: ip.src,
        dst: ip.dst,
        protocol,
        ident: u32::from(ip.ident),
        offset,
        len: u32::try_from(total_len - header_len).unwrap_or(u32::MAX),
        more: more_fragments,
    };
    Ok(IpPayload {
        ip,
        protocol,
        bytes: payload_of_ip,
        len: total_len - header_len,
        fragment: (more_fragments || offset != 0).then_some(fragment),
        is_unsegmented: header.get_total_length() == 0,
        extent: if more_fragments {
            Extent::Partial
        } else {
            Extent::Whole
        },
    })
}

/// Parses an IPv6 packet with its extension headers (RFC 8200 3 and 4).
pub(super) fn parse_any_v6(bytes: &[u8]) -> Result<IpPayload<'_>, ParseError> {
    let header = Ipv6Packet::new(bytes).ok_or(ParseError::Truncated("IPv6 header"))?;
    if header.get_version() != 6 {
        return Err(ParseError::Version(header.get_version()));
    }
    let ip = Ip {
        src: IpAddr::V6(header.get_source()),
        dst: IpAddr::V6(header.get_destination()),
        hop_limit: header.get_hop_limit(),
        ident: 0,
    };
    let rest = bytes.get(40..).unwrap_or_default();
    // A length of zero is a jumbogram (RFC 2675), the form of offloaded sends in the kernel.
    let len = match usize::from(header.get_payload_length()) {
        0 => rest.len(),
        stated => stated,
    };
    let payload_of_ip = IpPayload {
        ip,
        protocol: header.get_next_header().0,
        bytes: rest.get(..len).unwrap_or(rest),
        len,
        extent: Extent::Whole,
        fragment: None,
        is_unsegmented: header.get_payload_length() == 0,
    };
    without_extensions(payload_of_ip)
}

fn without_extensions(mut payload_of_ip: IpPayload<'_>) -> Result<IpPayload<'_>, ParseError> {
    const HOP_BY_HOP: u8 = 0;
    const ROUTING: u8 = 43;
    const FRAGMENT: u8 = 44;
    const AUTHENTICATION: u8 = 51;
    const DESTINATION: u8 = 60;
    loop {
        let length_of = match payload_of_ip.protocol {
            HOP_BY_HOP | ROUTING | DESTINATION => |length: u8| (usize::from(length) + 1) * 8,
            FRAGMENT => |_| 8,
            AUTHENTICATION => |length: u8| (usize::from(length) + 2) * 4,
            _ => return Ok(payload_of_ip),
        };
        let cut = ParseError::Truncated("IPv6 extension headers");
        let &[next, length, high, low] = payload_of_ip.bytes.first_chunk::<4>().ok_or(cut)?;
        let step = length_of(length);
        if step > payload_of_ip.len {
            return Err(ParseError::Length("IPv6 extension headers"));
        }
        let extension = payload_of_ip.protocol;
        let header = payload_of_ip.bytes;
        payload_of_ip.bytes = header.get(step..).ok_or(cut)?;
        payload_of_ip.len -= step;
        payload_of_ip.protocol = next;
        match extension {
            FRAGMENT => {
                let field = u16::from_be_bytes([high, low]);
                // An offset of zero without more is a packet of one fragment (RFC 6946).
                if field & 0xfff9 == 0 {
                    continue;
                }
                payload_of_ip.extent = Extent::Partial;
                payload_of_ip.fragment = Some(Fragment {
                    src: payload_of_ip.ip.src,
                    dst: payload_of_ip.ip.dst,
                    protocol: next,
                    ident: u32_at(header, 4).ok_or(cut)?,
                    offset: u32::from(field & 0xfff8),
                    len: u32::try_from(payload_of_ip.len).unwrap_or(u32::MAX),
                    more: field & 1 != 0,
                });
                if field & 0xfff8 != 0 {
                    return Ok(payload_of_ip);
                }
            }
            // The fourth byte of a routing header counts the segments left.
            ROUTING if low != 0 => payload_of_ip.extent = Extent::Partial,
            _ => {}
        }
    }
}
