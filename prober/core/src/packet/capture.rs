//! Capture files: pcap and pcapng of any size, read in one pass; pcapng, written.
//!
//! [`CaptureReader`] takes the bytes of a file in pieces and returns its frames one by one, with their layers; it holds one
//! record at a time. A file that is cut or damaged gives all frames before that place, and a note. [`read`] does the same
//! with a file in memory, and keeps the packets.
//!
//! [`CaptureReader`]: crate::packet::capture::CaptureReader
//! [`read`]: crate::packet::capture::read

use std::borrow::Cow;

use crate::packet::LinkType;
use crate::packet::layers::Layers;
use crate::packet::observation::Direction;
use crate::time::Timestamp;

pub use annotate::{AnnotatedInterface, AnnotatedWriter};
pub use reader::{Advance, CaptureReader};
pub use summary::{CaptureSummary, Ending};
pub use whole::{Capture, CaptureBuilder, CapturedPacket, read, read_frames};
pub use write::{CommentedPacket, InterfacePackets, WriteError, write_pcapng};

/// Writing of annotated captures.
mod annotate;
/// The formats as steps over bytes.
mod format;
/// Reading of classic pcap files.
mod pcap;
/// Reading of pcapng files.
mod pcapng;
/// Reading of files in pieces.
mod reader;
/// What a file has beside its packets.
mod summary;
/// Reading of files in memory.
mod whole;
/// Writing of pcapng files.
mod write;

/// An interface of a capture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its name; empty where the file has none.
    pub name: String,
    /// Its link type; `None` for one that prober does not support.
    pub link: Option<LinkType>,
    /// The number of its link type in the pcap registry.
    pub link_number: u32,
    /// The most bytes of a frame that were captured; 0 for no limit.
    pub snap_length: u32,
}

impl Interface {
    fn new(name: String, link_field: u32, snap_length: u32) -> Self {
        // The upper half of the field describes frame check sequences.
        let link_number = link_field & 0xffff;
        Self {
            name,
            link: link_type(link_number),
            link_number,
            snap_length,
        }
    }
}

/// One frame of a capture file.
#[derive(Clone, Debug)]
pub struct CapturedFrame<'a> {
    /// Its number in the file, from 1, as Wireshark shows it.
    pub number: u64,
    /// Its index in [`CaptureReader::interfaces`].
    pub interface: usize,
    /// The time, on the clock of the capturing machine.
    pub at: Timestamp,
    /// Its direction, where the file has it: a cooked header, or the flags of its record.
    pub direction: Option<Direction>,
    /// The captured part of the frame.
    pub bytes: &'a [u8],
    /// The length of the frame, bytes.
    pub original_len: u32,
    /// Its first comment in the file.
    pub comment: Option<Cow<'a, str>>,
    /// Its layers; `None` where its link type is not supported, or its headers are cut or malformed.
    pub layers: Option<&'a Layers>,
}

impl CapturedFrame<'_> {
    /// Whether the frame was longer than what was captured of it.
    pub fn is_cut(&self) -> bool {
        (self.bytes.len() as u64) < u64::from(self.original_len)
    }
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
        "the capture is of link type {0}: prober reads Ethernet, Linux cooked v1 and v2, raw IP, PPP and loopback; \
         capture on another interface, or on 'any'"
    )]
    LinkType(u32),
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
    match number {
        0 | 108 => Some(LinkType::Null),
        1 => Some(LinkType::Ethernet),
        9 | 50 => Some(LinkType::Ppp),
        12 | 14 | 101 | 228 | 229 => Some(LinkType::Raw),
        51 => Some(LinkType::Pppoe),
        113 => Some(LinkType::LinuxSll),
        276 => Some(LinkType::LinuxSll2),
        _ => None,
    }
}

/// The direction in a cooked header.
fn cooked_direction(link: LinkType, bytes: &[u8]) -> Option<Direction> {
    let packet_type = match link {
        LinkType::LinuxSll => bytes.get(1),
        LinkType::LinuxSll2 => bytes.get(10),
        LinkType::Ethernet | LinkType::Raw | LinkType::Null | LinkType::Ppp | LinkType::Pppoe => {
            None
        }
    };
    packet_type.copied().and_then(direction_of_packet_type)
}

/// The direction of a `PACKET_*` number (linux/if_packet.h).
const fn direction_of_packet_type(packet_type: u8) -> Option<Direction> {
    match packet_type {
        0..=2 => Some(Direction::Received),
        3 => Some(Direction::Overheard),
        4 => Some(Direction::Sent),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
