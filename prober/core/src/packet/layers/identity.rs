//! What two copies of one packet have in common: hashes of the fields that forwarding leaves as they are.

use std::net::IpAddr;

use crate::packet::bytes::protocol;
use crate::packet::ip::IpPayload;

/// Hashes of a packet, without TTL, traffic class and checksums. Not collision-resistant: a hint, never a proof.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Identity {
    /// Of the addresses, the identification, the length, and the first 40 bytes after the IP header: equal for the same
    /// packet at two points.
    pub packet: u64,
    /// The same without addresses and ports: equal also across a translation.
    pub content: u64,
}

/// How many bytes after the IP header are hashed: a TCP header with the options of a SYN.
const HEAD: usize = 40;

impl Identity {
    /// The identity of an IP packet.
    pub(super) fn of(carrier: &IpPayload<'_>) -> Self {
        let mut head = [0; HEAD];
        let len = carrier.bytes.len().min(HEAD);
        if let (Some(head), Some(bytes)) = (head.get_mut(..len), carrier.bytes.get(..len)) {
            head.copy_from_slice(bytes);
        }
        let place = match carrier.protocol {
            protocol::TCP => 16,
            protocol::UDP => 6,
            protocol::ICMP | protocol::ICMPV6 => 2,
            _ => HEAD,
        };
        if let Some(checksum) = head.get_mut(place..place + 2) {
            checksum.fill(0);
        }
        let fragment = carrier.fragment.map_or(0, |fragment| {
            (u64::from(fragment.ident) << 32) | u64::from(fragment.offset)
        });
        let seed = [
            u64::from(carrier.ip.ident) << 8 | u64::from(carrier.protocol),
            carrier.len as u64,
            fragment,
        ];
        let seed = seed.into_iter().fold(0, mix);
        let packet = addresses(carrier.ip.src, carrier.ip.dst)
            .into_iter()
            .chain(words(&head))
            .fold(seed, mix);
        if matches!(carrier.protocol, protocol::TCP | protocol::UDP)
            && let Some(ports) = head.get_mut(..4)
        {
            ports.fill(0);
        }
        Self {
            packet,
            content: words(&head).fold(seed, mix),
        }
    }

    /// The identity of an ARP packet, which is never translated.
    pub(super) fn of_arp(bytes: &[u8]) -> Self {
        let mut head = [0; HEAD];
        for (place, byte) in head.iter_mut().zip(bytes.iter().take(28)) {
            *place = *byte;
        }
        let hash = words(&head).fold(0, mix);
        Self {
            packet: hash,
            content: hash,
        }
    }
}

/// The words of a header.
fn words(head: &[u8; HEAD]) -> impl Iterator<Item = u64> {
    let (words, _) = head.as_chunks::<8>();
    words.iter().copied().map(u64::from_le_bytes)
}

fn addresses(src: IpAddr, dst: IpAddr) -> [u64; 4] {
    let halves = |address: IpAddr| match address {
        IpAddr::V4(address) => [u64::from(address.to_bits()), 0],
        IpAddr::V6(address) => {
            let [a, b, c, d, e, f, g, h] = address.segments().map(u64::from);
            [
                a << 48 | b << 32 | c << 16 | d,
                e << 48 | f << 32 | g << 16 | h,
            ]
        }
    };
    let ([a, b], [c, d]) = (halves(src), halves(dst));
    [a, b, c, d]
}

/// Adds a word to a hash: a multiplication by an odd number, whose upper bits then change the lower ones.
const fn mix(hash: u64, word: u64) -> u64 {
    const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
    let product = (hash ^ word).wrapping_add(1).wrapping_mul(FACTOR);
    product ^ product >> 32
}
