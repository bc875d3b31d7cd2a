//! The two formats of capture files as steps over bytes: each step finds the next record, or says what is missing.

use std::ops::Range;

use super::pcap::Pcap;
use super::pcapng::Pcapng;
use super::{CaptureError, Interface, kind_of};
use crate::packet::observation::Direction;
use crate::time::Timestamp;

/// The most captured bytes of one frame, unless the file announces a larger snap length.
pub(super) const USUAL_SNAP_LENGTH: u32 = 262_144;

/// The most bytes of a record that is held in memory, whatever a file announces.
pub(super) const LARGEST_RECORD: u32 = 16 * 1024 * 1024;

/// The format of a file, and the place within it.
#[derive(Debug)]
pub(super) enum Format {
    /// Classic pcap.
    Pcap(Pcap),
    /// pcapng.
    Pcapng(Pcapng),
}

/// What the next bytes are.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// A frame; the record ends at `len`.
    Frame(FrameRecord),
    /// Something else, of this many bytes, which may be more than there are.
    Other {
        /// Its length.
        len: u64,
    },
    /// The bytes end within a record.
    Short,
    /// The bytes contradict the format.
    Damaged(String),
}

/// Where in the bytes a frame is, and what its record says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FrameRecord {
    /// The number of the interface in the file.
    pub(super) interface: usize,
    /// The time; `None` for a record without one.
    pub(super) at: Option<Timestamp>,
    /// The direction, where the record has it.
    pub(super) direction: Option<Direction>,
    /// The captured bytes.
    pub(super) bytes: Range<usize>,
    /// The length of the frame, bytes.
    pub(super) original_len: u32,
    /// Its first comment.
    pub(super) comment: Option<Range<usize>>,
    /// The length of the record.
    pub(super) len: usize,
}

impl Format {
    /// The format of a file that begins with these bytes, and the length of its header; `None` where they are too few to
    /// know, unless no more will come.
    pub(super) fn of(
        bytes: &[u8],
        is_all: bool,
        interfaces: &mut Vec<Interface>,
    ) -> Result<Option<(Self, usize)>, CaptureError> {
        let Some(magic) = bytes.first_chunk::<4>() else {
            return match bytes {
                _ if !is_all => Ok(None),
                [] => Err(CaptureError::Empty),
                _ => Err(CaptureError::NotACapture(kind_of(bytes))),
            };
        };
        match u32::from_be_bytes(*magic) {
            Pcapng::MAGIC => Ok(Some((Self::Pcapng(Pcapng::default()), 0))),
            magic => match Pcap::of(magic) {
                None => Err(CaptureError::NotACapture(kind_of(bytes))),
                Some(mut pcap) => match pcap.header(bytes, interfaces) {
                    // The only one of the file.
                    Some(_) if interfaces.iter().all(|found| found.link.is_none()) => {
                        let number = interfaces.first().map(|found| found.link_number);
                        Err(CaptureError::LinkType(number.unwrap_or_default()))
                    }
                    Some(len) => Ok(Some((Self::Pcap(pcap), len))),
                    None if is_all => Err(CaptureError::Cut(bytes.len())),
                    None => Ok(None),
                },
            },
        }
    }

    /// The next record.
    pub(super) fn next(&mut self, bytes: &[u8], interfaces: &mut Vec<Interface>) -> Found {
        match self {
            Self::Pcap(pcap) => pcap.next(bytes),
            Self::Pcapng(pcapng) => pcapng.next(bytes, interfaces),
        }
    }
}

/// The byte order of a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Order {
    /// The highest byte first.
    #[default]
    Big,
    /// The lowest byte first.
    Little,
}

impl Order {
    /// The number at an offset.
    pub(super) fn u16(self, bytes: &[u8], place: usize) -> Option<u16> {
        let number = bytes.get(place..)?.first_chunk().copied()?;
        Some(match self {
            Self::Big => u16::from_be_bytes(number),
            Self::Little => u16::from_le_bytes(number),
        })
    }

    /// The number at an offset.
    pub(super) fn u32(self, bytes: &[u8], place: usize) -> Option<u32> {
        let number = bytes.get(place..)?.first_chunk().copied()?;
        Some(match self {
            Self::Big => u32::from_be_bytes(number),
            Self::Little => u32::from_le_bytes(number),
        })
    }
}
