//! ICMP and `ICMPv6` messages, read, with the TCP packet that an error quotes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::ip::{self, Carried};
use super::parse::protocol;
use super::{Icmp, IcmpKind, ParseError, Quoted, Seq, Unreachable};

/// Reads an ICMP message (RFC 792; RFC 1191 for the MTU; RFC 1812 5.2.7.1 for the codes).
pub(super) fn parse_v4(bytes: &[u8]) -> Result<Icmp, ParseError> {
    let (&[kind, code, _, _, a, b, c, d], quoted) = split_header(bytes)?;
    let quotes = |kind| (kind, quoted_v4(quoted));
    let (kind_, quoted) = match (kind, code) {
        (3, 4) => quotes(IcmpKind::PacketTooBig {
            mtu: u32::from(u16::from_be_bytes([c, d])),
        }),
        (3, code) => quotes(IcmpKind::Unreachable {
            reason: match code {
                0 => Unreachable::Network,
                1 => Unreachable::Host,
                3 => Unreachable::Port,
                9 | 10 | 13 => Unreachable::Prohibited,
                _ => Unreachable::Other,
            },
        }),
        (5, _) => quotes(IcmpKind::Redirect {
            gateway: IpAddr::V4(Ipv4Addr::new(a, b, c, d)),
        }),
        (11, 0) => quotes(IcmpKind::TimeExceeded),
        // Source quench, reassembly time exceeded, parameter problem: errors that quote, too.
        (4 | 11 | 12, _) => quotes(IcmpKind::Other),
        _ => (IcmpKind::Other, None),
    };
    Ok(Icmp {
        kind: kind_,
        type_code: (kind, code),
        quoted,
    })
}

/// Reads an `ICMPv6` message other than neighbour discovery's (RFC 4443; RFC 4861 4.5).
pub(super) fn parse_v6(bytes: &[u8]) -> Result<Icmp, ParseError> {
    let (&[kind, code, _, _, a, b, c, d], rest) = split_header(bytes)?;
    let quotes = |kind| (kind, quoted_v6(rest));
    let (kind_, quoted) = match (kind, code) {
        (1, code) => quotes(IcmpKind::Unreachable {
            reason: match code {
                0 => Unreachable::Network,
                1 | 5 | 6 => Unreachable::Prohibited,
                3 => Unreachable::Host,
                4 => Unreachable::Port,
                _ => Unreachable::Other,
            },
        }),
        (2, _) => quotes(IcmpKind::PacketTooBig {
            mtu: u32::from_be_bytes([a, b, c, d]),
        }),
        (3, 0) => quotes(IcmpKind::TimeExceeded),
        // Every type below 128 is an error and quotes (RFC 4443 2.1).
        (0..=127, _) => quotes(IcmpKind::Other),
        (137, _) => {
            let cut = ParseError::Truncated("ICMPv6 redirect");
            let (target, rest) = rest.split_first_chunk::<16>().ok_or(cut)?;
            let (_destination, options) = rest.split_first_chunk::<16>().ok_or(cut)?;
            let kind = IcmpKind::Redirect {
                gateway: IpAddr::V6(Ipv6Addr::from(*target)),
            };
            (kind, redirected(options).and_then(quoted_v6))
        }
        _ => (IcmpKind::Other, None),
    };
    Ok(Icmp {
        kind: kind_,
        type_code: (kind, code),
        quoted,
    })
}

fn split_header(bytes: &[u8]) -> Result<(&[u8; 8], &[u8]), ParseError> {
    bytes
        .split_first_chunk::<8>()
        .ok_or(ParseError::Truncated("ICMP header"))
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

/// Ports and sequence number are the first eight bytes of TCP: all that RFC 792 promises.
fn quoted(inner: &Carried<'_>) -> Option<Quoted> {
    if inner.protocol != protocol::TCP {
        return None;
    }
    let &[a, b, c, d, e, f, g, h] = inner.bytes.first_chunk::<8>()?;
    Some(Quoted {
        src: SocketAddr::new(inner.ip.src, u16::from_be_bytes([a, b])),
        dst: SocketAddr::new(inner.ip.dst, u16::from_be_bytes([c, d])),
        hop_limit: inner.ip.hop_limit,
        seq: Seq(u32::from_be_bytes([e, f, g, h])),
    })
}
