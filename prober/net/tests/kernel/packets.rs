//! Packets made byte by byte, so that the sockets are tested without the code under test.
use std::net::{IpAddr, SocketAddr};

pub(crate) const SYN: u8 = 0x02;
pub(crate) const RST: u8 = 0x04;
pub(crate) const SYN_ACK: u8 = 0x12;

/// The Internet checksum (RFC 1071).
fn checksum(parts: &[&[u8]]) -> u16 {
    let mut sum = 0_u32;
    for part in parts {
        for two in part.chunks(2) {
            sum += u32::from(two[0]) << 8 | u32::from(two.get(1).copied().unwrap_or(0));
        }
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// An IP packet with a correct header; the caller computes the checksum of the transport.
pub(crate) fn ip(from: IpAddr, to: IpAddr, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let total = (20 + payload.len()) as u16;
            let mut header = vec![0x45, 0];
            header.extend(total.to_be_bytes());
            header.extend([0x12, 0x34, 0x40, 0, 64, protocol, 0, 0]);
            header.extend(from.octets());
            header.extend(to.octets());
            let sum = checksum(&[&header]);
            header[10..12].copy_from_slice(&sum.to_be_bytes());
            header
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let mut header = vec![0x60, 0, 0, 0];
            header.extend((payload.len() as u16).to_be_bytes());
            header.extend([protocol, 64]);
            header.extend(from.octets());
            header.extend(to.octets());
            header
        }
        _ => panic!("two families in one packet"),
    };
    packet.extend(payload);
    packet
}

fn transport_checksum(from: IpAddr, to: IpAddr, protocol: u8, segment: &[u8]) -> u16 {
    let length = (segment.len() as u32).to_be_bytes();
    let protocol = [0, protocol];
    match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            checksum(&[&from.octets(), &to.octets(), &protocol, &length, segment])
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            checksum(&[&from.octets(), &to.octets(), &length, &protocol, segment])
        }
        _ => panic!("two families in one packet"),
    }
}

/// A TCP segment without options.
pub(crate) fn tcp(from: SocketAddr, to: SocketAddr, flags: u8, sequence: u32) -> Vec<u8> {
    let mut segment = Vec::new();
    segment.extend(from.port().to_be_bytes());
    segment.extend(to.port().to_be_bytes());
    segment.extend(sequence.to_be_bytes());
    segment.extend([0, 0, 0, 0, 0x50, flags, 0xfa, 0xf0, 0, 0, 0, 0]);
    let sum = transport_checksum(from.ip(), to.ip(), 6, &segment);
    segment[16..18].copy_from_slice(&sum.to_be_bytes());
    ip(from.ip(), to.ip(), 6, &segment)
}

/// The fields of a TCP packet that tests compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tcp {
    pub(crate) source: u16,
    pub(crate) destination: u16,
    pub(crate) sequence: u32,
    pub(crate) acknowledged: u32,
    pub(crate) flags: u8,
}

impl Tcp {
    /// Reads a packet from its network header on.
    pub(crate) fn read(packet: &[u8]) -> Option<Self> {
        let header = match (packet[0] >> 4, packet[0] & 0xf) {
            (4, words) if packet[9] == 6 => usize::from(words) * 4,
            (6, _) if packet[6] == 6 => 40,
            _ => return None,
        };
        let segment = packet.get(header..)?;
        let word = |at: usize| u32::from_be_bytes(segment[at..at + 4].try_into().unwrap());
        let ports = word(0);
        Some(Self {
            source: (ports >> 16) as u16,
            destination: ports as u16,
            sequence: word(4),
            acknowledged: word(8),
            flags: segment[13],
        })
    }
}
