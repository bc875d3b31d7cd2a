//! TCP segments as bytes: an IP header, a TCP header as Linux writes it, and valid checksums.

use std::net::{IpAddr, SocketAddr};

use pnet_packet::ip::{IpNextHeaderProtocol, IpNextHeaderProtocols};
use pnet_packet::ipv4::{self, Ipv4Flags, MutableIpv4Packet};
use pnet_packet::ipv6::MutableIpv6Packet;
use pnet_packet::tcp::{self, MutableTcpPacket};

use super::tcp::{option, partial};
use super::{Checksum, Ip, Tcp, TcpOptions, TcpSegment};

/// Why a packet cannot be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CraftError {
    /// Source and destination are of different families.
    #[error("cannot write a packet from {src} to {dst}: one is IPv4, the other IPv6")]
    MixedFamilies {
        /// Source.
        src: IpAddr,
        /// Destination.
        dst: IpAddr,
    },
    /// More payload than fits an IP packet.
    #[error("cannot write a packet of {0} bytes: 65535 is the most, send less at a time")]
    TooLong(usize),
    /// ARP without a link layer.
    #[error("cannot write an ARP packet without a link header: choose Ethernet or a cooked link")]
    ArpWithoutLink,
}

/// Length of a TCP header without options, bytes.
const TCP_HEADER: usize = 20;

/// Appends a segment's IP packet to `out`: IPv4 with don't-fragment set, or IPv6.
///
/// Allocates only if `out` lacks capacity. After an error `out` is unchanged.
pub fn craft(segment: &TcpSegment, out: &mut Vec<u8>) -> Result<(), CraftError> {
    let (ip, tcp) = segment.headers();
    let tcp_len = tcp_header_len(&segment.options) + segment.payload.len();
    append_ip(&ip, IpNextHeaderProtocols::Tcp, tcp_len, out)?;
    append_tcp(&ip, &tcp, &segment.payload, out);
    Ok(())
}

impl TcpSegment {
    /// The headers of the segment as its receiver parses them.
    pub fn headers(&self) -> (Ip, Tcp) {
        let ip = Ip {
            src: self.src.ip(),
            dst: self.dst.ip(),
            hop_limit: self.hop_limit,
            ident: match self.src {
                SocketAddr::V4(_) => self.ident,
                SocketAddr::V6(_) => 0,
            },
        };
        let tcp = Tcp {
            src_port: self.src.port(),
            dst_port: self.dst.port(),
            seq: self.seq,
            ack: self.ack,
            flags: self.flags,
            window: self.window,
            options: self.options,
            payload_len: u32::try_from(self.payload.len()).unwrap_or(u32::MAX),
            checksum: Checksum::Valid,
        };
        (ip, tcp)
    }
}

/// Length of a TCP header with these options and their padding, bytes.
pub(super) fn tcp_header_len(options: &TcpOptions) -> usize {
    TCP_HEADER + OptionBytes::of(options).len
}

/// Appends the header of an IP packet that carries `len` bytes.
pub(super) fn append_ip(
    ip: &Ip,
    protocol: IpNextHeaderProtocol,
    len: usize,
    out: &mut Vec<u8>,
) -> Result<(), CraftError> {
    let too_long = |_| CraftError::TooLong(len);
    match (ip.src, ip.dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            let mut header = [0; 20];
            let total = u16::try_from(header.len() + len).map_err(too_long)?;
            if let Some(mut fields) = MutableIpv4Packet::new(&mut header) {
                fields.set_version(4);
                fields.set_header_length(5);
                fields.set_total_length(total);
                fields.set_identification(ip.ident);
                fields.set_flags(Ipv4Flags::DontFragment);
                fields.set_ttl(ip.hop_limit);
                fields.set_next_level_protocol(protocol);
                fields.set_source(src);
                fields.set_destination(dst);
                let sum = ipv4::checksum(&fields.to_immutable());
                fields.set_checksum(sum);
            }
            out.extend_from_slice(&header);
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            let mut header = [0; 40];
            let len = u16::try_from(len).map_err(too_long)?;
            if let Some(mut fields) = MutableIpv6Packet::new(&mut header) {
                fields.set_version(6);
                fields.set_payload_length(len);
                fields.set_next_header(protocol);
                fields.set_hop_limit(ip.hop_limit);
                fields.set_source(src);
                fields.set_destination(dst);
            }
            out.extend_from_slice(&header);
        }
        (src @ IpAddr::V4(_), dst @ IpAddr::V6(_)) | (src @ IpAddr::V6(_), dst @ IpAddr::V4(_)) => {
            return Err(CraftError::MixedFamilies { src, dst });
        }
    }
    Ok(())
}

/// Appends a TCP header and payload with their checksum: a wrong one where the header has `Checksum::Invalid`.
pub(super) fn append_tcp(ip: &Ip, tcp: &Tcp, payload: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    let options = OptionBytes::of(&tcp.options);
    out.extend_from_slice(&[0; TCP_HEADER]);
    out.extend_from_slice(options.as_slice());
    out.extend_from_slice(payload);
    let len = out.len() - start;
    let Some(mut fields) = out.get_mut(start..).and_then(MutableTcpPacket::new) else {
        return;
    };
    fields.set_source(tcp.src_port);
    fields.set_destination(tcp.dst_port);
    fields.set_sequence(tcp.seq.0);
    fields.set_acknowledgement(tcp.ack.0);
    fields.set_data_offset(options.header_words());
    fields.set_flags(tcp.flags.0);
    fields.set_window(tcp.window);
    let whole = fields.to_immutable();
    let sum = match (ip.src, ip.dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => tcp::ipv4_checksum(&whole, &src, &dst),
        (IpAddr::V6(src), IpAddr::V6(dst)) => tcp::ipv6_checksum(&whole, &src, &dst),
        // `append_ip` refuses these.
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => return,
    };
    fields.set_checksum(match tcp.checksum {
        Checksum::Valid | Checksum::Unknown => sum,
        Checksum::Invalid => wrong_sum(sum, partial(ip, len)),
    });
}

/// A wrong checksum that also differs from the partial one, which a device would complete.
///
/// Not `!right`: all ones and all zeroes are the same number (RFC 1071).
const fn wrong_sum(right: u16, partial: u16) -> u16 {
    if right ^ 1 == partial {
        right ^ 2
    } else {
        right ^ 1
    }
}

/// The options of a TCP header as bytes, padded to words.
struct OptionBytes {
    bytes: [u8; 40],
    len: usize,
}

impl OptionBytes {
    /// In the order in which Linux writes them (net/ipv4/tcp_output.c, tcp_options_write), so that middleboxes treat a crafted SYN
    /// like an ordinary one.
    fn of(options: &TcpOptions) -> Self {
        const NOP: u8 = option::NO_OPERATION;
        let mut out = Self {
            bytes: [option::END; 40],
            len: 0,
        };
        if let Some(mss) = options.mss {
            let [high, low] = mss.to_be_bytes();
            out.push(&[option::MSS, 4, high, low]);
        }
        match (options.sack_permitted, options.timestamps) {
            (true, Some(_)) => out.push(&[option::SACK_PERMITTED, 2]),
            (true, None) => out.push(&[NOP, NOP, option::SACK_PERMITTED, 2]),
            (false, Some(_)) => out.push(&[NOP, NOP]),
            (false, None) => {}
        }
        if let Some((value, echo)) = options.timestamps {
            out.push(&[option::TIMESTAMPS, 10]);
            out.push(&value.to_be_bytes());
            out.push(&echo.to_be_bytes());
        }
        if let Some(shift) = options.window_scale {
            out.push(&[NOP, option::WINDOW_SCALE, 3, shift]);
        }
        out
    }

    fn push(&mut self, bytes: &[u8]) {
        let end = self.len + bytes.len();
        if let Some(place) = self.bytes.get_mut(self.len..end) {
            place.copy_from_slice(bytes);
            self.len = end;
        }
    }

    fn as_slice(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    /// The data offset: at most 15, since there are at most 40 bytes of options.
    fn header_words(&self) -> u8 {
        u8::try_from((TCP_HEADER + self.len) / 4).unwrap_or(15)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::packet::arbitrary::segment;
    use crate::packet::{Body, ChecksumMode, LinkType, parse_frame};

    fn crafted(segment: &TcpSegment) -> Vec<u8> {
        let mut out = Vec::new();
        craft(segment, &mut out).unwrap();
        out
    }

    proptest! {
        #[test]
        fn a_crafted_segment_parses_back(segment in segment()) {
            let bytes = crafted(&segment);
            let parsed = parse_frame(LinkType::Raw, &bytes, ChecksumMode::Verify).unwrap();
            let ip = Ip {
                src: segment.src.ip(),
                dst: segment.dst.ip(),
                hop_limit: segment.hop_limit,
                ident: if segment.src.is_ipv4() { segment.ident } else { 0 },
            };
            let tcp = Tcp {
                src_port: segment.src.port(),
                dst_port: segment.dst.port(),
                seq: segment.seq,
                ack: segment.ack,
                flags: segment.flags,
                window: segment.window,
                options: segment.options,
                payload_len: u32::try_from(segment.payload.len()).unwrap(),
                checksum: Checksum::Valid,
            };
            prop_assert_eq!(parsed.packet.body, Body::Tcp(ip, tcp));
            prop_assert_eq!(parsed.payload, &segment.payload[..]);
        }

        #[test]
        fn crafting_only_appends(
            segment in segment(),
            before in prop::collection::vec(any::<u8>(), 0..8),
        ) {
            let mut out = before.clone();
            craft(&segment, &mut out).unwrap();
            prop_assert_eq!(&out[..before.len()], &before[..]);
            prop_assert_eq!(&out[before.len()..], &crafted(&segment)[..]);
        }

        #[test]
        fn the_checksum_detects_a_flipped_bit(
            segment in segment(),
            place in any::<prop::sample::Index>(),
        ) {
            let mut bytes = crafted(&segment);
            let start = if segment.src.is_ipv4() { 20 } else { 40 };
            let bit = start * 8 + place.index((bytes.len() - start) * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
            if let Ok(parsed) = parse_frame(LinkType::Raw, &bytes, ChecksumMode::Verify) {
                let (_, tcp) = parsed.packet.tcp().unwrap();
                prop_assert_ne!(tcp.checksum, Checksum::Valid);
            }
        }
    }

    fn syn() -> TcpSegment {
        TcpSegment {
            src: "10.0.0.1:40000".parse().unwrap(),
            dst: "10.0.0.2:80".parse().unwrap(),
            hop_limit: 64,
            ident: 7,
            seq: crate::packet::Seq(1),
            ack: crate::packet::Seq(0),
            flags: crate::packet::TcpFlags::SYN,
            window: 64240,
            options: TcpOptions::of_linux_syn(TcpOptions::ETHERNET_MSS, 1),
            payload: Vec::new(),
        }
    }

    #[test]
    fn a_syn_of_linux_has_sixty_bytes() {
        assert_eq!(crafted(&syn()).len(), 60);
    }

    #[test]
    fn mixed_families_are_refused_and_leave_nothing() {
        let mut out = vec![1];
        let mixed = TcpSegment {
            dst: "[fd00::1]:80".parse().unwrap(),
            ..syn()
        };
        let error = craft(&mixed, &mut out).unwrap_err();
        assert!(matches!(error, CraftError::MixedFamilies { .. }), "{error}");
        assert_eq!(out, [1]);
    }

    #[test]
    fn a_payload_above_the_maximum_is_refused() {
        let big = TcpSegment {
            payload: vec![0; 65_536],
            ..syn()
        };
        let error = craft(&big, &mut Vec::new()).unwrap_err();
        assert!(matches!(error, CraftError::TooLong(_)), "{error}");
    }
}
