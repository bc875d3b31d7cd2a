//! Encrypted tunnels in UDP: WireGuard on any port, by its types and lengths, and ESP on its port.

use super::{Opaque, OpaqueKind};
use crate::packet::bytes::at;
use crate::packet::layers::Udp;

/// The port of IPsec behind a translation (RFC 3948).
const ESP_IN_UDP: u16 = 4500;

/// The encrypted tunnel that a datagram is, if it is one.
pub(super) fn opaque(datagram: &Udp, payload: &[u8]) -> Option<Opaque> {
    let (kind, key) =
        wireguard(datagram.payload_len, payload).or_else(|| esp(datagram, payload))?;
    Some(Opaque {
        kind,
        ports: Some((datagram.src_port, datagram.dst_port)),
        key,
        payload_len: datagram.payload_len,
    })
}

/// WireGuard's messages (wireguard.com/protocol): a type, three zero bytes, and for data the receiver's index, a counter
/// and ciphertext in blocks of sixteen bytes. Their lengths are fixed, or multiples of sixteen.
fn wireguard(len: u32, payload: &[u8]) -> Option<(OpaqueKind, u32)> {
    let [kind, zeros @ ..] = at::<4>(payload, 0)?;
    if zeros != [0; 3] {
        return None;
    }
    let index = |place| at(payload, place).map(u32::from_le_bytes);
    match (kind, len) {
        // An initiation has no receiver yet.
        (1, 148) => Some((OpaqueKind::WireGuardHandshake, 0)),
        (2, 92) => Some((OpaqueKind::WireGuardHandshake, index(8)?)),
        (3, 64) => Some((OpaqueKind::WireGuardHandshake, index(4)?)),
        (4, 32..) if len.is_multiple_of(16) => {
            // A counter of packets: its upper half stays zero for four thousand million of them.
            let upper = at::<4>(payload, 12)?;
            (upper == [0; 4])
                .then(|| index(4))
                .flatten()
                .map(|index| (OpaqueKind::WireGuardData, index))
        }
        _ => None,
    }
}

/// A security parameters index other than zero, which marks a message of IKE.
fn esp(datagram: &Udp, payload: &[u8]) -> Option<(OpaqueKind, u32)> {
    let is_its_port = datagram.src_port == ESP_IN_UDP || datagram.dst_port == ESP_IN_UDP;
    // A payload of one byte keeps a translation open.
    let index = at(payload, 0).map(u32::from_be_bytes)?;
    (is_its_port && index != 0).then_some((OpaqueKind::Esp, index))
}
