//! VXLAN, Geneve and IP in UDP, on any port: by the reserved bits that must be zero, and by what is inside.

use super::{Opened, TunnelKind, frame};
use crate::packet::bytes::{ethertype, protocol, u16_at, u32_at};
use crate::packet::layers::tunnel::packet;

/// Opens the payload of a datagram.
pub(super) fn open(ports: (u16, u16), payload: &[u8]) -> Option<Opened<'_>> {
    let opened = vxlan(payload)
        .or_else(|| vxlan_gpe(payload))
        .or_else(|| geneve(payload))
        .or_else(|| direct(payload))?;
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

/// The same with the protocol of what follows (draft-ietf-nvo3-vxlan-gpe 3).
fn vxlan_gpe(payload: &[u8]) -> Option<Opened<'_>> {
    const VNI_AND_PROTOCOL: u32 = 0x0c00_0000;
    let first = u32_at(payload, 0)?;
    let second = u32_at(payload, 4)?;
    if first & !0xff != VNI_AND_PROTOCOL || second & 0xff != 0 {
        return None;
    }
    let (vni, rest) = (Some(second >> 8), payload.get(8..)?);
    match first & 0xff {
        1 => packet(TunnelKind::Vxlan, vni, ethertype::IPV4, rest),
        2 => packet(TunnelKind::Vxlan, vni, ethertype::IPV6, rest),
        3 => frame(TunnelKind::Vxlan, vni, rest),
        _ => None,
    }
}

/// An IP packet that is the whole payload, directly (foo over UDP of Linux) or after an empty header of Generic UDP Encapsulation
/// (draft-ietf-intarea-gue 3.2: version 0, no options, the protocol, no flags).
fn direct(payload: &[u8]) -> Option<Opened<'_>> {
    let inside = match *payload {
        [0, protocol::IPV4 | protocol::IPV6, 0, 0, ref rest @ ..] => rest,
        _ => payload,
    };
    let (ether_type, len) = match *inside.first()? {
        0x45 => (ethertype::IPV4, usize::from(u16_at(inside, 2)?)),
        0x60..=0x6f => (ethertype::IPV6, usize::from(u16_at(inside, 4)?) + 40),
        _ => return None,
    };
    if len != inside.len() {
        return None;
    }
    packet(TunnelKind::IpInIp, None, ether_type, inside)
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
