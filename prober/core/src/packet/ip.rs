//! Parsing of IP headers. Skips options and extension headers; detects fragments.

use std::net::IpAddr;

use pnet_packet::ipv4::Ipv4Packet;
use pnet_packet::ipv6::Ipv6Packet;

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
}

/// Whether a packet is complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Extent {
    /// All of the original packet, addressed to its final destination.
    Whole,
    /// The first fragment, or source-routed: the checksum cannot be verified.
    Partial,
}

/// Parses an IPv4 packet (RFC 791 3.1).
pub(super) fn parse_v4(bytes: &[u8]) -> Result<IpPayload<'_>, ParseError> {
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
    if header.get_fragment_offset() != 0 {
        return Err(ParseError::LaterFragment);
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
    Ok(IpPayload {
        ip,
        protocol: header.get_next_level_protocol().0,
        bytes: payload_of_ip,
        len: total_len - header_len,
        extent: if more_fragments {
            Extent::Partial
        } else {
            Extent::Whole
        },
    })
}

/// Parses an IPv6 packet with its extension headers (RFC 8200 3 and 4).
pub(super) fn parse_v6(bytes: &[u8]) -> Result<IpPayload<'_>, ParseError> {
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
        let fragment = u16::from_be_bytes([high, low]);
        match payload_of_ip.protocol {
            FRAGMENT if fragment >> 3 != 0 => return Err(ParseError::LaterFragment),
            FRAGMENT if fragment & 1 != 0 => payload_of_ip.extent = Extent::Partial,
            // The fourth byte of a routing header counts the segments left.
            ROUTING if low != 0 => payload_of_ip.extent = Extent::Partial,
            _ => {}
        }
        payload_of_ip.bytes = payload_of_ip.bytes.get(step..).ok_or(cut)?;
        payload_of_ip.len -= step;
        payload_of_ip.protocol = next;
    }
}
