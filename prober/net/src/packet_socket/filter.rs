//! The filter of a capture: TCP of the given ports, ICMP, ICMPv6 with neighbour discovery, and ARP.
//!
//! It never filters by the peer's address, since an answer from a wrong address is evidence. The same filter is a classic BPF
//! program for the kernel, and a predicate for where the kernel refuses the program. Both read the packet from its network
//! header on, so they do not depend on the kind of link.
use std::ops::RangeInclusive;

use socket2::SockFilter;

/// Bytes of a packet that are captured: headers, a banner, and a whole Ethernet frame. Segments that the kernel has yet to
/// split into frames (GSO) are cut.
const SNAPLEN: u32 = 4096;

const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_ARP: u16 = 0x0806;
const ETHERTYPE_IPV6: u16 = 0x86dd;
const ICMP: u8 = 1;
const TCP: u8 = 6;
const ICMPV6: u8 = 58;
/// The 13 bits of the fragment offset (RFC 791, 3.1).
const FRAGMENT_OFFSET: u16 = 0x1fff;
const IPV6_HEADER: u8 = 40;

/// The offset of the ethertype (`SKF_AD_OFF + SKF_AD_PROTOCOL`, include/uapi/linux/filter.h).
const AT_PROTOCOL: u32 = 0xffff_f000;
/// The offset of the network header (`SKF_NET_OFF`).
const AT_NETWORK: u32 = 0xfff0_0000;

/// Instructions for one port range, of the 4096 (`BPF_MAXINSNS`) of a program.
const INSTRUCTIONS_PER_RANGE: usize = 6;
const FIXED_INSTRUCTIONS: usize = 32;

/// Which packets are captured.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CaptureFilter {
    ports: Vec<RangeInclusive<u16>>,
}

/// More port ranges than fit into a program.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot filter for {given} ranges of ports: at most {most} fit into one program; merge neighbouring ports into ranges"
)]
pub struct TooManyRanges {
    /// The number of ranges.
    pub given: usize,
    /// How many fit.
    pub most: usize,
}

impl CaptureFilter {
    /// The number of port ranges that fit into one program.
    pub const MAX_RANGES: usize = (4096 - FIXED_INSTRUCTIONS) / INSTRUCTIONS_PER_RANGE;

    /// TCP whose source or destination port lies in one of these ranges, and all ARP and ICMP of both families.
    pub fn in_ports(ports: Vec<RangeInclusive<u16>>) -> Result<Self, TooManyRanges> {
        if ports.len() > Self::MAX_RANGES {
            return Err(TooManyRanges {
                given: ports.len(),
                most: Self::MAX_RANGES,
            });
        }
        Ok(Self { ports })
    }

    /// Whether a port lies in one of the ranges.
    pub fn has_port(&self, port: u16) -> bool {
        self.ports.iter().any(|range| range.contains(&port))
    }

    /// Whether a packet is captured, by its ethertype and its bytes from the network header on.
    pub fn accepts(&self, ethertype: u16, packet: &[u8]) -> bool {
        match ethertype {
            ETHERTYPE_ARP => true,
            ETHERTYPE_IPV4 => match packet.get(9).copied() {
                Some(ICMP) => true,
                Some(TCP) => {
                    let first =
                        read_u16(packet, 6).is_some_and(|field| field & FRAGMENT_OFFSET == 0);
                    let header = packet.first().map_or(0, |byte| usize::from(byte & 0xf) * 4);
                    first && self.accepts_ports(packet, header)
                }
                Some(_) | None => false,
            },
            ETHERTYPE_IPV6 => match packet.get(6).copied() {
                Some(ICMPV6) => true,
                Some(TCP) => self.accepts_ports(packet, usize::from(IPV6_HEADER)),
                Some(_) | None => false,
            },
            _ => false,
        }
    }

    fn accepts_ports(&self, packet: &[u8], header: usize) -> bool {
        let Some((source, destination)) =
            read_u16(packet, header).zip(read_u16(packet, header + 2))
        else {
            return false;
        };
        self.has_port(source) || self.has_port(destination)
    }

    /// The program for `SO_ATTACH_FILTER`.
    pub(crate) fn program(&self) -> Vec<SockFilter> {
        let mut program = Program(Vec::with_capacity(
            FIXED_INSTRUCTIONS + INSTRUCTIONS_PER_RANGE * self.ports.len(),
        ));
        program.load_half(AT_PROTOCOL);
        program.accept_if_equal(ETHERTYPE_ARP.into());
        program.skip_unless_equal(ETHERTYPE_IPV4.into(), 10);
        program.load_byte(AT_NETWORK + 9);
        program.accept_if_equal(ICMP.into());
        program.reject_unless_equal(TCP.into());
        program.load_half(AT_NETWORK + 6);
        program.reject_if_any_bit(FRAGMENT_OFFSET.into());
        // X becomes the length of the header; then the program continues at the ports, after the code for IPv6.
        program.load_header_length(AT_NETWORK);
        program.jump_over(8);
        program.reject_unless_equal(ETHERTYPE_IPV6.into());
        program.load_byte(AT_NETWORK + 6);
        program.accept_if_equal(ICMPV6.into());
        program.reject_unless_equal(TCP.into());
        program.set_header_length(IPV6_HEADER.into());
        for at in [0, 2] {
            program.load_half_after_header(AT_NETWORK + at);
            for range in &self.ports {
                program.accept_if_in(range);
            }
        }
        program.reject();
        program.0
    }
}

fn read_u16(bytes: &[u8], at: usize) -> Option<u16> {
    let two = bytes.get(at..at + 2)?;
    Some(u16::from_be_bytes(two.try_into().ok()?))
}

/// A classic BPF program under construction (linux/Documentation/networking/filter.rst).
struct Program(Vec<SockFilter>);

impl Program {
    fn push(&mut self, code: u32, jump_true: u8, jump_false: u8, k: u32) {
        #[expect(clippy::cast_possible_truncation, reason = "opcodes are one byte")]
        self.0
            .push(SockFilter::new(code as u16, jump_true, jump_false, k));
    }

    fn load_byte(&mut self, at: u32) {
        self.push(libc::BPF_LD | libc::BPF_B | libc::BPF_ABS, 0, 0, at);
    }

    fn load_half(&mut self, at: u32) {
        self.push(libc::BPF_LD | libc::BPF_H | libc::BPF_ABS, 0, 0, at);
    }

    fn load_half_after_header(&mut self, at: u32) {
        self.push(libc::BPF_LD | libc::BPF_H | libc::BPF_IND, 0, 0, at);
    }

    /// X = 4 * (the low four bits at `at`).
    fn load_header_length(&mut self, at: u32) {
        self.push(libc::BPF_LDX | libc::BPF_B | libc::BPF_MSH, 0, 0, at);
    }

    fn set_header_length(&mut self, length: u32) {
        self.push(libc::BPF_LDX | libc::BPF_W | libc::BPF_IMM, 0, 0, length);
    }

    fn accept(&mut self) {
        self.push(libc::BPF_RET | libc::BPF_K, 0, 0, SNAPLEN);
    }

    fn reject(&mut self) {
        self.push(libc::BPF_RET | libc::BPF_K, 0, 0, 0);
    }

    fn accept_if_equal(&mut self, k: u32) {
        self.push(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, k);
        self.accept();
    }

    fn reject_unless_equal(&mut self, k: u32) {
        self.push(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 1, 0, k);
        self.reject();
    }

    fn reject_if_any_bit(&mut self, k: u32) {
        self.push(libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K, 0, 1, k);
        self.reject();
    }

    fn skip_unless_equal(&mut self, k: u32, skipped: u8) {
        self.push(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, skipped, k);
    }

    fn accept_if_in(&mut self, range: &RangeInclusive<u16>) {
        self.push(
            libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K,
            0,
            2,
            (*range.start()).into(),
        );
        self.push(
            libc::BPF_JMP | libc::BPF_JGT | libc::BPF_K,
            1,
            0,
            (*range.end()).into(),
        );
        self.accept();
    }

    fn jump_over(&mut self, instructions: u32) {
        self.push(libc::BPF_JMP | libc::BPF_JA, 0, 0, instructions);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_filter_fits_into_the_kernels_largest_program() {
        let ports = (0..=u16::MAX)
            .map(|port| port..=port)
            .take(CaptureFilter::MAX_RANGES)
            .collect();
        assert!(CaptureFilter::in_ports(ports).unwrap().program().len() <= 4096);
        assert!(CaptureFilter::in_ports(vec![1..=1; CaptureFilter::MAX_RANGES + 1]).is_err());
    }

    #[test]
    fn packets_cut_anywhere_are_filtered_without_panic() {
        let filter = CaptureFilter::in_ports(vec![0..=u16::MAX]).unwrap();
        for ethertype in [ETHERTYPE_IPV4, ETHERTYPE_IPV6, ETHERTYPE_ARP, 0x1234] {
            for length in 0..64 {
                for first in [0x40, 0x45, 0x4f, 0x60, 0xff] {
                    let mut packet = vec![TCP; length];
                    packet.iter_mut().take(1).for_each(|byte| *byte = first);
                    filter.accepts(ethertype, &packet);
                }
            }
        }
    }
}
