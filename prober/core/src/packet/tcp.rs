//! Parsing of TCP headers and options, and checksum verification (RFC 9293 3.1).

use std::net::IpAddr;

use pnet_packet::tcp::TcpPacket;

use super::bytes::{protocol, u32_at};
use super::ip::{Extent, IpPayload};
use super::layers::TcpExtra;
use super::{Checksum, ChecksumMode, Ip, ParseError, Seq, Tcp, TcpFlags, TcpOptions};

/// Option kinds (RFC 9293 3.2, RFC 7323, RFC 2018, RFC 7413).
pub(super) mod option {
    pub(crate) const END: u8 = 0;
    pub(crate) const NO_OPERATION: u8 = 1;
    pub(crate) const MSS: u8 = 2;
    pub(crate) const WINDOW_SCALE: u8 = 3;
    pub(crate) const SACK_PERMITTED: u8 = 4;
    pub(crate) const SACK: u8 = 5;
    pub(crate) const TIMESTAMPS: u8 = 8;
    pub(crate) const FAST_OPEN: u8 = 34;
}

/// Parses a segment; returns its header and the captured part of its payload.
pub(super) fn parse<'a>(
    payload_of_ip: &IpPayload<'a>,
    sums: ChecksumMode,
) -> Result<(Tcp, &'a [u8]), ParseError> {
    let bytes = payload_of_ip.bytes;
    let padded = padded(bytes);
    let header = TcpPacket::new(padded.as_ref().map_or(bytes, |whole| whole.as_slice()))
        .ok_or(ParseError::Truncated("TCP header"))?;
    let header_len = usize::from(header.get_data_offset()) * 4;
    if header_len < 20 || header_len > payload_of_ip.len {
        return Err(ParseError::Length("TCP header"));
    }
    let options = bytes.get(20..header_len.min(bytes.len()));
    let payload_len = u32::try_from(payload_of_ip.len - header_len);
    let tcp = Tcp {
        src_port: header.get_source(),
        dst_port: header.get_destination(),
        seq: Seq(header.get_sequence()),
        ack: Seq(header.get_acknowledgement()),
        flags: TcpFlags(header.get_flags()),
        window: header.get_window(),
        options: parse_options(options.unwrap_or_default()),
        payload_len: payload_len.map_err(|_| ParseError::Length("TCP header"))?,
        checksum: verify_checksum(payload_of_ip, header.get_checksum(), protocol::TCP, sums),
    };
    Ok((tcp, bytes.get(header_len..).unwrap_or_default()))
}

/// A header that is cut after its flags, with zeros for its window, checksum and urgent pointer.
fn padded(bytes: &[u8]) -> Option<[u8; 20]> {
    if !(14..20).contains(&bytes.len()) {
        return None;
    }
    let mut whole = [0; 20];
    let kept = if bytes.len() < 16 { 14 } else { 16 };
    for (to, from) in whole.iter_mut().zip(bytes).take(kept) {
        *to = *from;
    }
    Some(whole)
}

/// The options of a handshake.
fn parse_options(bytes: &[u8]) -> TcpOptions {
    let mut options = TcpOptions::default();
    each_option(bytes, |kind, value| match (kind, value) {
        (option::MSS, &[high, low]) => options.mss = Some(u16::from_be_bytes([high, low])),
        (option::WINDOW_SCALE, &[shift]) => options.window_scale = Some(shift),
        (option::SACK_PERMITTED, []) => options.sack_permitted = true,
        (option::TIMESTAMPS, stamps) if stamps.len() == 8 => {
            options.timestamps = u32_at(stamps, 0).zip(u32_at(stamps, 4));
        }
        _ => {}
    });
    options
}

/// The options of a segment beyond those of a handshake.
pub(super) fn parse_extra(segment: &[u8]) -> TcpExtra {
    let mut extra = TcpExtra::default();
    let header_len = segment.get(12).map_or(0, |byte| usize::from(byte >> 4) * 4);
    if header_len <= 20 {
        return extra;
    }
    let options = segment.get(20..header_len.min(segment.len()));
    each_option(options.unwrap_or_default(), |kind, value| match kind {
        option::SACK => {
            let block = u32_at(value, 0).zip(u32_at(value, 4));
            extra.sack = block.map(|(first, end)| (Seq(first), Seq(end)));
            extra.sack_blocks = u8::try_from(value.len() / 8).unwrap_or(u8::MAX);
        }
        option::FAST_OPEN => extra.fast_open = true,
        _ => {}
    });
    extra
}

/// Calls `found` for each option, as the kernel does (net/ipv4/tcp_input.c, tcp_parse_options): a malformed option ends the
/// list.
fn each_option<'a>(mut bytes: &'a [u8], mut found: impl FnMut(u8, &'a [u8])) {
    loop {
        bytes = match bytes {
            [] | [option::END, ..] | [_] => return,
            [option::NO_OPERATION, rest @ ..] => rest,
            &[kind, length, ref rest @ ..] => {
                let Some((value, rest)) = usize::from(length)
                    .checked_sub(2)
                    .and_then(|length| rest.split_at_checked(length))
                else {
                    return;
                };
                found(kind, value);
                rest
            }
        };
    }
}

/// Verifies the checksum of a TCP segment or a UDP datagram, of which this is the field.
pub(super) fn verify_checksum(
    payload_of_ip: &IpPayload<'_>,
    stated: u16,
    protocol: u8,
    sums: ChecksumMode,
) -> Checksum {
    let whole =
        payload_of_ip.extent == Extent::Whole && payload_of_ip.bytes.len() == payload_of_ip.len;
    if sums == ChecksumMode::Trust || !whole {
        return Checksum::Unknown;
    }
    // The sum includes the checksum field, so a right one gives all ones.
    if fold(
        pseudo_header(&payload_of_ip.ip, protocol, payload_of_ip.len) + sum(payload_of_ip.bytes),
    ) == 0xffff
    {
        return Checksum::Valid;
    }
    // Not filled in yet.
    if stated
        == fold(pseudo_header(
            &payload_of_ip.ip,
            protocol,
            payload_of_ip.len,
        ))
    {
        return Checksum::Unknown;
    }
    Checksum::Invalid
}

/// The checksum field of a segment of this length where the sender's kernel leaves the rest to the device
/// (`CHECKSUM_PARTIAL`, include/linux/skbuff.h): the sum of the pseudo-header.
pub(super) fn partial(ip: &Ip, len: usize) -> u16 {
    fold(pseudo_header(ip, protocol::TCP, len))
}

fn pseudo_header(ip: &Ip, protocol: u8, len: usize) -> u64 {
    let address = |address: IpAddr| match address {
        IpAddr::V4(address) => sum(&address.octets()),
        IpAddr::V6(address) => sum(&address.octets()),
    };
    address(ip.src) + address(ip.dst) + u64::from(protocol) + len as u64
}

/// The sum of the 16-bit words, big-endian, an odd byte padded with zero (RFC 1071).
fn sum(bytes: &[u8]) -> u64 {
    let mut words = bytes.chunks_exact(2);
    let mut sum = 0;
    for word in &mut words {
        if let &[high, low] = word {
            sum += u64::from(u16::from_be_bytes([high, low]));
        }
    }
    match *words.remainder() {
        [odd] => sum + (u64::from(odd) << 8),
        _ => sum,
    }
}

fn fold(mut sum: u64) -> u16 {
    while let carry @ 1.. = sum >> 16 {
        sum = (sum & 0xffff) + carry;
    }
    // The loop ends with at most sixteen bits.
    (sum & 0xffff) as u16
}
