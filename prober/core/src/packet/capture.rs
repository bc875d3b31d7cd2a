//! Capture files: pcap and pcapng, read from byte slices; pcapng, written.
//!
//! `read` returns all complete packets of a file, also of a cut one, and lists in `Capture::notes` what is missing. The
//! packets borrow the bytes of the file, so its size bounds the memory.

use std::borrow::Cow;
use std::collections::BTreeMap;

use crate::packet::observation::Direction;
use crate::packet::{ChecksumMode, LinkType, Packet, ParseError, parse_frame};
use crate::time::Timestamp;

pub use write::{CommentedPacket, InterfacePackets, WriteError, write_pcapng};

/// Reading of classic pcap files.
mod pcap;
/// Reading of pcapng files.
mod pcapng;
/// Writing of pcapng files.
mod write;

/// A parsed capture file.
#[derive(Clone, Debug, Default)]
pub struct Capture<'a> {
    /// The interfaces that packets were captured on.
    pub interfaces: Vec<Interface>,
    /// The packets that prober parses, in the order of the file.
    pub packets: Vec<CapturedPacket<'a>>,
    /// Lost or skipped packets, one sentence per kind.
    pub notes: Vec<String>,
}

/// An interface of a capture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its name; empty where the file has none.
    pub name: String,
    /// Its link type; `None` for one that prober does not support.
    pub link: Option<LinkType>,
}

/// One captured packet.
#[derive(Clone, Debug)]
pub struct CapturedPacket<'a> {
    /// Its index in [`Capture::interfaces`].
    pub interface: usize,
    /// The time, on the clock of the capturing machine.
    pub at: Timestamp,
    /// Its direction, where the file has it.
    pub direction: Option<Direction>,
    /// The packet.
    pub packet: Packet,
    /// The captured part of the frame.
    pub bytes: &'a [u8],
    /// The length of the frame, bytes.
    pub original_len: u32,
    /// Its first comment in the file.
    pub comment: Option<Cow<'a, str>>,
}

/// Why bytes are not a capture file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CaptureError {
    /// The file is empty.
    #[error("the file is empty: was the capture stopped before its first packet was written?")]
    Empty,
    /// The file ends within its header.
    #[error("the file ends after {0} bytes, within its header: copy it again, or capture again")]
    Cut(usize),
    /// The file has another format.
    #[error(
        "not a capture file: it looks like {0}; give a pcap or pcapng file, as written by 'tcpdump -w'"
    )]
    NotACapture(&'static str),
    /// The header has the right magic number and is malformed after it.
    #[error("the file's header is broken ({0}): copy it again, or capture again")]
    Broken(String),
    /// No interface has a supported link type.
    #[error(
        "the capture is of link type {0}: prober reads Ethernet, Linux cooked v1 and v2, and raw IP; \
         capture on another interface, or on 'any'"
    )]
    LinkType(u32),
}

/// Reads a capture file of either format.
pub fn read(bytes: &[u8]) -> Result<Capture<'_>, CaptureError> {
    let magic = match bytes.first_chunk::<4>() {
        Some(magic) => u32::from_be_bytes(*magic),
        None if bytes.is_empty() => return Err(CaptureError::Empty),
        None => return Err(CaptureError::NotACapture(kind_of(bytes))),
    };
    match magic {
        // Microseconds and nanoseconds, either endianness.
        0xa1b2_c3d4 | 0xd4c3_b2a1 | 0xa1b2_3c4d | 0x4d3c_b2a1 => pcap::read(bytes),
        0x0a0d_0d0a => pcapng::read(bytes),
        _ => Err(CaptureError::NotACapture(kind_of(bytes))),
    }
}

/// The likely format of a file that is not a capture.
fn kind_of(bytes: &[u8]) -> &'static str {
    const KINDS: &[(&[u8], &str)] = &[
        (b"\x1f\x8b", "gzip data (unpack it with gunzip)"),
        (
            b"\x28\xb5\x2f\xfd",
            "Zstandard data (unpack it with unzstd)",
        ),
        (b"\xfd7zXZ", "xz data (unpack it with unxz)"),
        (b"BZh", "bzip2 data (unpack it with bunzip2)"),
        (b"PK\x03\x04", "a ZIP archive (unpack it)"),
        (b"\x7fELF", "a program"),
        (b"snoop\0", "a snoop capture (convert it with editcap)"),
        (
            b"GMBU",
            "a Network Monitor capture (convert it with editcap)",
        ),
        (
            b"RTSS",
            "a Network Monitor capture (convert it with editcap)",
        ),
        (
            b"\xa1\xb2\xcd\x34",
            "a Kuznetzov pcap (convert it with editcap)",
        ),
        (
            b"\x34\xcd\xb2\xa1",
            "a Kuznetzov pcap (convert it with editcap)",
        ),
        (b"{", "JSON (prober report reads prober's own)"),
    ];
    let known = KINDS.iter().find(|(magic, _)| bytes.starts_with(magic));
    let start = bytes.get(..bytes.len().min(256)).unwrap_or_default();
    let is_text = |byte: &u8| byte.is_ascii_graphic() || byte.is_ascii_whitespace();
    match known {
        Some((_, kind)) => kind,
        None if start.iter().all(is_text) => {
            "text (tcpdump's printed output cannot be replayed: write with -w)"
        }
        None => "bytes of an unknown kind",
    }
}

/// The link type with this number in the pcap registry.
fn link_type(number: u32) -> Option<LinkType> {
    // The upper half of the field describes frame check sequences.
    match number & 0xffff {
        1 => Some(LinkType::Ethernet),
        113 => Some(LinkType::LinuxSll),
        276 => Some(LinkType::LinuxSll2),
        12 | 14 | 101 | 228 | 229 => Some(LinkType::Raw),
        _ => None,
    }
}

/// One frame of a file.
struct RawRecord<'a> {
    interface: usize,
    at: Timestamp,
    direction: Option<Direction>,
    bytes: &'a [u8],
    original_len: u32,
    comment: Option<Cow<'a, str>>,
}

/// A capture under construction.
#[derive(Default)]
struct CaptureBuilder<'a> {
    capture: Capture<'a>,
    foreign_links: BTreeMap<u32, u64>,
    other: u64,
    malformed: u64,
    cut: u64,
    fragments: u64,
}

/// Maximum length of a frame whose checksum is verified, bytes: a larger one was merged from several by the receiving
/// kernel, or is segmented later by the device.
const LARGEST_ON_THE_WIRE: usize = 1518;

impl<'a> CaptureBuilder<'a> {
    fn interface(&mut self, name: String, link: u32) -> usize {
        let read = link_type(link);
        if read.is_none() {
            self.foreign_links.entry(link).or_default();
        }
        self.capture.interfaces.push(Interface { name, link: read });
        self.capture.interfaces.len() - 1
    }

    fn note(&mut self, text: String) {
        self.capture.notes.push(text);
    }

    fn record(&mut self, record: RawRecord<'a>) {
        let Some(link) = self
            .capture
            .interfaces
            .get(record.interface)
            .and_then(|interface| interface.link)
        else {
            self.other += 1;
            return;
        };
        let sums = if record.bytes.len() > LARGEST_ON_THE_WIRE {
            ChecksumMode::Trust
        } else {
            ChecksumMode::Verify
        };
        match parse_frame(link, record.bytes, sums) {
            Ok(parsed) => self.capture.packets.push(CapturedPacket {
                interface: record.interface,
                at: record.at,
                direction: record.direction.or(cooked_direction(link, record.bytes)),
                packet: parsed.packet,
                bytes: record.bytes,
                original_len: record.original_len,
                comment: record.comment,
            }),
            Err(ParseError::EtherType(_) | ParseError::Protocol(_) | ParseError::Arp) => {
                self.other += 1;
            }
            Err(ParseError::LaterFragment) => self.fragments += 1,
            Err(ParseError::Truncated(_))
                if (record.bytes.len() as u64) < record.original_len.into() =>
            {
                self.cut += 1;
            }
            Err(ParseError::Truncated(_) | ParseError::Length(_) | ParseError::Version(_)) => {
                self.malformed += 1;
            }
        }
    }

    fn finish(mut self) -> Result<Capture<'a>, CaptureError> {
        let readable = |interface: &Interface| interface.link.is_some();
        if let Some(link) = self.foreign_links.keys().next()
            && !self.capture.interfaces.iter().any(readable)
        {
            return Err(CaptureError::LinkType(*link));
        }
        for (count, what) in [
            (self.other, "neither TCP nor ICMP nor ARP: left out"),
            (
                self.fragments,
                "later fragments, which have no TCP header: left out",
            ),
            (
                self.cut,
                "cut within their headers: capture with 'tcpdump -s 128' or more",
            ),
            (self.malformed, "malformed: left out"),
        ] {
            match count {
                0 => {}
                1 => self.note(format!("1 packet: {what}")),
                more => self.note(format!("{more} packets: {what}")),
            }
        }
        if self.capture.packets.is_empty() {
            self.note("no packet of TCP, ICMP or ARP is in this capture".to_owned());
        }
        Ok(self.capture)
    }
}

/// The direction in a cooked header (`PACKET_*` of linux/if_packet.h).
fn cooked_direction(link: LinkType, bytes: &[u8]) -> Option<Direction> {
    let packet_type = match link {
        LinkType::LinuxSll => bytes.get(1)?,
        LinkType::LinuxSll2 => bytes.get(10)?,
        LinkType::Ethernet | LinkType::Raw => return None,
    };
    match packet_type {
        0..=2 => Some(Direction::Received),
        3 => Some(Direction::Overheard),
        4 => Some(Direction::Sent),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
