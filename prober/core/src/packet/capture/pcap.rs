//! Classic pcap (draft-ietf-opsawg-pcap): one link type, micro- or nanoseconds, either byte order, and the modified form of
//! old Linux (magic 0xa1b2cd34), whose records also have the interface and the direction.

use super::format::{Found, FrameRecord, LARGEST_RECORD, Order, USUAL_SNAP_LENGTH};
use super::{Interface, direction_of_packet_type};
use crate::time::Timestamp;

/// The header of the file.
const FILE_HEADER: usize = 24;

/// The state of a reader.
#[derive(Debug)]
pub(super) struct Pcap {
    order: Order,
    nanos_per_tick: u64,
    is_modified: bool,
    snap_length: u32,
}

impl Pcap {
    /// A reader for the file whose first four bytes are this number, big-endian.
    pub(super) fn of(magic: u32) -> Option<Self> {
        const MICROSECONDS: u32 = 0xa1b2_c3d4;
        const NANOSECONDS: u32 = 0xa1b2_3c4d;
        const MODIFIED: u32 = 0xa1b2_cd34;
        let of = |magic, order| {
            let (nanos_per_tick, is_modified) = match magic {
                MICROSECONDS => (1_000, false),
                NANOSECONDS => (1, false),
                MODIFIED => (1_000, true),
                _ => return None,
            };
            Some(Self {
                order,
                nanos_per_tick,
                is_modified,
                snap_length: 0,
            })
        };
        of(magic, Order::Big).or_else(|| of(magic.swap_bytes(), Order::Little))
    }

    /// Reads the header: magic, version, two obsolete fields, snap length, link type. Returns its length; `None` where the
    /// bytes end within it.
    pub(super) fn header(
        &mut self,
        bytes: &[u8],
        interfaces: &mut Vec<Interface>,
    ) -> Option<usize> {
        self.snap_length = self.order.u32(bytes, 16)?;
        let link = self.order.u32(bytes, 20)?;
        interfaces.push(Interface::new(String::new(), link, self.snap_length));
        Some(FILE_HEADER)
    }

    /// The next record: seconds, fraction, captured length, original length; in the modified form also the index of the
    /// interface, the EtherType, the packet type and a byte of padding.
    pub(super) fn next(&self, bytes: &[u8]) -> Found {
        let header = if self.is_modified { 24 } else { 16 };
        let word = |place| self.order.u32(bytes, place);
        let (Some(seconds), Some(fraction), Some(captured), Some(original_len)) =
            (word(0), word(4), word(8), word(12))
        else {
            return Found::Short;
        };
        let most = self.snap_length.clamp(USUAL_SNAP_LENGTH, LARGEST_RECORD);
        if captured > most {
            return Found::Damaged(format!("a packet of {captured} captured bytes"));
        }
        let len = header + captured as usize;
        if bytes.len() < len {
            return Found::Short;
        }
        let packet_type = bytes.get(22).filter(|_| self.is_modified);
        let nanos = u64::from(fraction) * self.nanos_per_tick;
        Found::Frame(FrameRecord {
            interface: 0,
            at: Some(Timestamp::from_nanos(
                u64::from(seconds) * 1_000_000_000 + nanos,
            )),
            direction: packet_type.copied().and_then(direction_of_packet_type),
            bytes: header..len,
            original_len,
            comment: None,
            len,
        })
    }
}
