//! GRE: a packet or a frame, also a mirrored one (RFC 2784, RFC 2890, draft-foschiano-erspan).

use super::{Opened, TunnelKind, frame, packet};
use crate::packet::bytes::{ethertype, u16_at, u32_at};

/// Flags of the first word.
const CHECKSUM: u16 = 0x8000;
const ROUTING: u16 = 0x4000;
const KEY: u16 = 0x2000;
const SEQUENCE: u16 = 0x1000;
const VERSION: u16 = 0x0007;

/// Opens GRE of version 0; PPTP is version 1.
pub(super) fn open(bytes: &[u8]) -> Option<Opened<'_>> {
    let flags = u16_at(bytes, 0)?;
    let protocol = u16_at(bytes, 2)?;
    if flags & (VERSION | ROUTING) != 0 {
        return None;
    }
    let mut place = 4;
    if flags & CHECKSUM != 0 {
        place += 4;
    }
    let mut key = None;
    if flags & KEY != 0 {
        key = Some(u32_at(bytes, place)?);
        place += 4;
    }
    if flags & SEQUENCE != 0 {
        place += 4;
    }
    let rest = bytes.get(place..)?;
    match protocol {
        ethertype::IPV4 | ethertype::IPV6 => packet(TunnelKind::Gre, key, protocol, rest),
        ethertype::BRIDGED => frame(TunnelKind::Gre, key, rest),
        // Type I has no header of its own and no sequence number.
        ethertype::ERSPAN if flags & SEQUENCE == 0 => frame(TunnelKind::Erspan, None, rest),
        ethertype::ERSPAN => frame(TunnelKind::Erspan, session(rest), rest.get(8..)?),
        ethertype::ERSPAN_III => {
            const PLATFORM_SPECIFIC: u32 = 1;
            let header = if u32_at(rest, 8)? & PLATFORM_SPECIFIC == 0 {
                12
            } else {
                20
            };
            frame(TunnelKind::Erspan, session(rest), rest.get(header..)?)
        }
        _ => None,
    }
}

/// The session id of ERSPAN types II and III: the lowest ten bits of the first word.
fn session(bytes: &[u8]) -> Option<u32> {
    u32_at(bytes, 0).map(|word| word & 0x3ff)
}
