//! VXLAN and Geneve, on any port: by the reserved bits that must be zero, and by the frame inside.

use super::{Opened, TunnelKind, frame};
use crate::packet::bytes::{ethertype, u16_at, u32_at};
use crate::packet::layers::tunnel::packet;

/// Opens the payload of a datagram.
pub(super) fn open(ports: (u16, u16), payload: &[u8]) -> Option<Opened<'_>> {
    let opened = vxlan(payload).or_else(|| geneve(payload))?;
    Some(Opened {
        ports: Some(ports),
        ..opened
    })
}

/// RFC 7348 5: flags with the VNI bit, reserved bits, VNI, a reserved byte. A group policy (draft-smith-vxlan-group-policy)
/// has its bit in the flags and an id in the second half of the first word.
fn vxlan(payload: &[u8]) -> Option<Opened<'_>> {
    const VNI: u32 = 0x0800_0000;
    const GROUP_POLICY: u32 = 0x8000_0000;
    let first = u32_at(payload, 0)?;
    let second = u32_at(payload, 4)?;
    let is_plain = first == VNI;
    let has_policy = first & 0xff80_0000 == VNI | GROUP_POLICY && first & 0x0037_0000 == 0;
    if !(is_plain || has_policy) || second & 0xff != 0 {
        return None;
    }
    frame(TunnelKind::Vxlan, Some(second >> 8), payload.get(8..)?)
}

/// RFC 8926 3.4: version 0, length of the options, flags, reserved bits, protocol, VNI, a reserved byte.
fn geneve(payload: &[u8]) -> Option<Opened<'_>> {
    let &[first, flags, ..] = payload else {
        return None;
    };
    let second = u32_at(payload, 4)?;
    if first & 0xc0 != 0 || flags & 0x3f != 0 || second & 0xff != 0 {
        return None;
    }
    let vni = Some(second >> 8);
    let rest = payload.get(8 + usize::from(first) * 4..)?;
    match u16_at(payload, 2)? {
        ethertype::BRIDGED => frame(TunnelKind::Geneve, vni, rest),
        protocol @ (ethertype::IPV4 | ethertype::IPV6) => {
            packet(TunnelKind::Geneve, vni, protocol, rest)
        }
        _ => None,
    }
}
