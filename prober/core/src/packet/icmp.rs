//! Parsing of ICMP and `ICMPv6` messages, with the TCP packet that an error quotes.

use std::net::{IpAddr, SocketAddr};

use super::bytes::{at, protocol, u16_at, u32_at};
use super::ip::{self, IpPayload};
use super::tcp;
use super::{Checksum, ChecksumMode, Icmp, IcmpKind, ParseError, Quoted, Seq, Unreachable};

const CUT: ParseError = ParseError::Truncated("ICMP header");

/// The type of an `ICMPv6` redirect (RFC 4861 4.5).
const REDIRECT: u8 = 137;

/// Parses an ICMP message (RFC 792; RFC 1191 for the MTU; RFC 1812 5.2.7.1 for the codes).
pub(super) fn parse_v4(bytes: &[u8]) -> Result<Icmp, ParseError> {
    let [icmp_type, code] = at(bytes, 0).ok_or(CUT)?;
    if bytes.len() < 8 {
        return Err(CUT);
    }
    let kind = match (icmp_type, code) {
        (3, 4) => IcmpKind::PacketTooBig {
            mtu: u32::from(u16_at(bytes, 6).ok_or(CUT)?),
        },
        (3, _) => IcmpKind::Unreachable {
            reason: match code {
                0 => Unreachable::Network,
                1 => Unreachable::Host,
                3 => Unreachable::Port,
                9 | 10 | 13 => Unreachable::Prohibited,
                _ => Unreachable::Other,
            },
        },
        (5, _) => IcmpKind::Redirect {
            gateway: IpAddr::from(at::<4>(bytes, 4).ok_or(CUT)?),
        },
        (11, 0) => IcmpKind::TimeExceeded,
        _ => IcmpKind::Other,
    };
    Ok(Icmp {
        kind,
        type_code: (icmp_type, code),
        quoted: quoted_bytes_v4(bytes).and_then(quoted_v4),
    })
}

/// The packet that an ICMP error quotes.
pub(super) fn quoted_bytes_v4(bytes: &[u8]) -> Option<&[u8]> {
    // Unreachable, source quench, redirect, time exceeded, parameter problem: the errors.
    match bytes.first()? {
        3 | 4 | 5 | 11 | 12 => bytes.get(8..),
        _ => None,
    }
}

/// The packet that an `ICMPv6` error or redirect quotes.
pub(super) fn quoted_bytes_v6(bytes: &[u8]) -> Option<&[u8]> {
    match *bytes.first()? {
        // Every type below 128 is an error and quotes (RFC 4443 2.1).
        0..=127 => bytes.get(8..),
        REDIRECT => bytes.get(40..).and_then(redirected),
        _ => None,
    }
}

/// Parses an `ICMPv6` message that is not neighbour discovery (RFC 4443; RFC 4861 4.5).
pub(super) fn parse_v6(bytes: &[u8]) -> Result<Icmp, ParseError> {
    let [icmp_type, code] = at(bytes, 0).ok_or(CUT)?;
    if bytes.len() < 8 {
        return Err(CUT);
    }
    let kind = match (icmp_type, code) {
        (1, _) => IcmpKind::Unreachable {
            reason: match code {
                0 => Unreachable::Network,
                1 | 5 | 6 => Unreachable::Prohibited,
                3 => Unreachable::Host,
                4 => Unreachable::Port,
                _ => Unreachable::Other,
            },
        },
        (2, _) => IcmpKind::PacketTooBig {
            mtu: u32_at(bytes, 4).ok_or(CUT)?,
        },
        (3, 0) => IcmpKind::TimeExceeded,
        (REDIRECT, _) => IcmpKind::Redirect {
            gateway: IpAddr::from(at::<16>(bytes, 8).ok_or(CUT)?),
        },
        _ => IcmpKind::Other,
    };
    Ok(Icmp {
        kind,
        type_code: (icmp_type, code),
        quoted: quoted_bytes_v6(bytes).and_then(quoted_v6),
    })
}

/// The packet in the Redirected Header option (RFC 4861 4.6.3), whose end may be cut.
fn redirected(options: &[u8]) -> Option<&[u8]> {
    const REDIRECTED_HEADER: u8 = 4;
    let mut rest = options;
    while let &[kind, units, ..] = rest {
        let length = usize::from(units) * 8;
        if kind == REDIRECTED_HEADER {
            return rest.get(8..length.min(rest.len()));
        }
        rest = rest.get(length..).filter(|_| length > 0)?;
    }
    None
}

fn quoted_v4(bytes: &[u8]) -> Option<Quoted> {
    ip::parse_v4(bytes).ok().and_then(|inner| quoted(&inner))
}

fn quoted_v6(bytes: &[u8]) -> Option<Quoted> {
    ip::parse_v6(bytes).ok().and_then(|inner| quoted(&inner))
}

/// Ports and sequence number are the first eight bytes of TCP, which RFC 792 guarantees; the checksum needs all of it.
fn quoted(inner: &IpPayload<'_>) -> Option<Quoted> {
    if inner.protocol != protocol::TCP {
        return None;
    }
    Some(Quoted {
        src: SocketAddr::new(inner.ip.src, u16_at(inner.bytes, 0)?),
        dst: SocketAddr::new(inner.ip.dst, u16_at(inner.bytes, 2)?),
        hop_limit: inner.ip.hop_limit,
        seq: Seq(u32_at(inner.bytes, 4)?),
        checksum: u16_at(inner.bytes, 16).map_or(Checksum::Unknown, |stated| {
            tcp::verify_checksum(inner, stated, protocol::TCP, ChecksumMode::Verify)
        }),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::TcpSegment;
    use crate::packet::arbitrary::segment;
    use crate::packet::craft::craft;
    use proptest::prelude::*;

    /// The checksum of this segment where time exceeded quotes so many of its bytes, of which one is flipped.
    fn quoted_checksum(segment: &TcpSegment, flipped: usize, cut: usize) -> Checksum {
        let mut packet = Vec::new();
        craft(segment, &mut packet).unwrap();
        let tcp = if segment.src.is_ipv4() { 20 } else { 40 };
        if let Some(byte) = packet.get_mut(tcp + flipped) {
            *byte ^= 1;
        }
        packet.truncate(packet.len() - cut);
        let icmp = |kind| [&[kind, 0, 0, 0, 0, 0, 0, 0][..], &packet].concat();
        let parsed = match segment.src.ip() {
            IpAddr::V4(_) => parse_v4(&icmp(11)),
            IpAddr::V6(_) => parse_v6(&icmp(3)),
        };
        parsed.unwrap().quoted.unwrap().checksum
    }

    proptest! {
        #[test]
        fn the_checksum_of_a_quoted_packet_is_verified_where_all_of_it_is_quoted(
            segment in segment(),
            flipped in 4_usize..8,
        ) {
            prop_assert_eq!(quoted_checksum(&segment, usize::MAX / 2, 0), Checksum::Valid);
            prop_assert_ne!(quoted_checksum(&segment, flipped, 0), Checksum::Valid);
            prop_assert_eq!(quoted_checksum(&segment, flipped, 1), Checksum::Unknown);
        }
    }
}
