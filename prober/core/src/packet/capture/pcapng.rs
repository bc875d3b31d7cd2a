//! pcapng (draft-ietf-opsawg-pcapng): sections of either byte order, interfaces with their clocks, packets with comments.

use std::ops::Range;

use super::Interface;
use super::format::{Found, FrameRecord, LARGEST_RECORD, Order, USUAL_SNAP_LENGTH};
use crate::packet::observation::Direction;
use crate::time::Timestamp;

/// The shortest block: type, length, length again.
const SHORTEST: u32 = 12;

/// The longest block that is read as a whole where it is no packet: a section or an interface.
const LONGEST_DESCRIPTION: u32 = 1024 * 1024;

/// Block types.
mod block {
    pub(super) const SECTION: u32 = 0x0a0d_0d0a;
    pub(super) const INTERFACE: u32 = 1;
    pub(super) const OLD_PACKET: u32 = 2;
    pub(super) const SIMPLE_PACKET: u32 = 3;
    pub(super) const PACKET: u32 = 6;
}

/// Option codes; 2 and 9 have another meaning in another block.
mod option {
    pub(super) const END: u16 = 0;
    pub(super) const COMMENT: u16 = 1;
    pub(super) const NAME: u16 = 2;
    pub(super) const FLAGS: u16 = 2;
    pub(super) const RESOLUTION: u16 = 9;
    pub(super) const OFFSET: u16 = 14;
}

/// The state of a reader.
#[derive(Debug, Default)]
pub(super) struct Pcapng {
    order: Order,
    /// Of this section, by number; a file may have several sections.
    clocks: Vec<Clock>,
    /// How many interfaces the sections before have.
    first_interface: usize,
}

impl Pcapng {
    /// The type of a section's header, which reads the same in either byte order.
    pub(super) const MAGIC: u32 = block::SECTION;

    /// The next block.
    pub(super) fn next(&mut self, bytes: &[u8], interfaces: &mut Vec<Interface>) -> Found {
        let Some(kind) = self.order.u32(bytes, 0) else {
            return Found::Short;
        };
        if kind == block::SECTION {
            match bytes.get(8..12) {
                None => return Found::Short,
                Some(&[0x1a, 0x2b, 0x3c, 0x4d]) => self.order = Order::Big,
                Some(&[0x4d, 0x3c, 0x2b, 0x1a]) => self.order = Order::Little,
                Some(_) => return Found::Damaged("a section without its byte order".to_owned()),
            }
        }
        let Some(len) = self.order.u32(bytes, 4) else {
            return Found::Short;
        };
        if len < SHORTEST || !len.is_multiple_of(4) {
            return Found::Damaged(format!("a block of {len} bytes"));
        }
        let most = match kind {
            block::SECTION | block::INTERFACE => LONGEST_DESCRIPTION,
            block::PACKET | block::OLD_PACKET | block::SIMPLE_PACKET => {
                let snap = self.clocks.iter().map(|clock| clock.snap_length).max();
                let snap = snap.unwrap_or_default();
                // Comments may be as long again.
                snap.clamp(USUAL_SNAP_LENGTH, LARGEST_RECORD) * 2
            }
            // Names, statistics, secrets: never read.
            _ => return Found::Other { len: len.into() },
        };
        if len > most {
            return Found::Damaged(format!("a block of {len} bytes"));
        }
        let stated = len;
        let len = len as usize;
        let Some(block) = bytes.get(..len) else {
            return Found::Short;
        };
        // The length stands at the end again.
        if self.order.u32(block, len - 4) != Some(stated) {
            return Found::Damaged("a block whose two lengths differ".to_owned());
        }
        // What follows reads within the block, without the length at its end.
        let block = block.get(..len - 4).unwrap_or_default();
        let frame = match kind {
            block::SECTION => {
                self.first_interface = interfaces.len();
                self.clocks.clear();
                return Found::Other { len: len as u64 };
            }
            block::INTERFACE => {
                if self.interface(block, interfaces).is_none() {
                    return Found::Damaged("an interface that is cut".to_owned());
                }
                return Found::Other { len: len as u64 };
            }
            block::SIMPLE_PACKET => self.simple_packet(block, len),
            block::OLD_PACKET => self.old_packet(block, len),
            _ => self.packet(block, len),
        };
        frame.map_or_else(
            || Found::Damaged("a packet longer than its block".to_owned()),
            Found::Frame,
        )
    }

    /// Link type, reserved, snap length, options.
    fn interface(&mut self, block: &[u8], interfaces: &mut Vec<Interface>) -> Option<()> {
        let link = self.order.u16(block, 8)?;
        let snap_length = self.order.u32(block, 12)?;
        let mut name = String::new();
        let mut clock = Clock {
            snap_length,
            ..Clock::default()
        };
        for (code, value) in Options::of(self.order, block, 16) {
            let value = block.get(value).unwrap_or_default();
            match (code, value) {
                (option::NAME, text) => name = String::from_utf8_lossy(text).into_owned(),
                (option::RESOLUTION, &[resolution, ..]) => clock.tick = Tick::of(resolution),
                (option::OFFSET, seconds) => {
                    let high = self.order.u32(seconds, 0);
                    let low = self.order.u32(seconds, 4);
                    // A number of eight bytes: which half is first is the byte order.
                    let (high, low) = match self.order {
                        Order::Big => (high?, low?),
                        Order::Little => (low?, high?),
                    };
                    clock.offset_seconds = (u64::from(high) << 32 | u64::from(low)).cast_signed();
                }
                _ => {}
            }
        }
        self.clocks.push(clock);
        interfaces.push(Interface::new(name, u32::from(link), snap_length));
        Some(())
    }

    /// Interface, time (two words), captured length, original length, the frame, options.
    fn packet(&self, block: &[u8], len: usize) -> Option<FrameRecord> {
        let interface = self.order.u32(block, 8)?;
        self.stamped(block, interface as usize, len)
    }

    /// As `packet`, with an interface of two bytes and a count of dropped packets.
    fn old_packet(&self, block: &[u8], len: usize) -> Option<FrameRecord> {
        let interface = self.order.u16(block, 8)?;
        self.stamped(block, usize::from(interface), len)
    }

    fn stamped(&self, block: &[u8], interface: usize, len: usize) -> Option<FrameRecord> {
        const FRAME: usize = 28;
        let word = |place| self.order.u32(block, place);
        let ticks = u64::from(word(12)?) << 32 | u64::from(word(16)?);
        let captured = word(20)? as usize;
        let end = FRAME
            .checked_add(captured)
            .filter(|end| *end <= block.len())?;
        let (mut direction, mut comment) = (None, None);
        for (code, value) in Options::of(self.order, block, end.next_multiple_of(4)) {
            match code {
                option::COMMENT => {
                    comment.get_or_insert(value);
                }
                option::FLAGS => {
                    let flags = block.get(value);
                    direction = self
                        .order
                        .u32(flags.unwrap_or_default(), 0)
                        .and_then(direction_of);
                }
                _ => {}
            }
        }
        let clock = self.clocks.get(interface).copied().unwrap_or_default();
        Some(FrameRecord {
            interface: self.first_interface.saturating_add(interface),
            at: Some(clock.time(ticks)),
            direction,
            bytes: FRAME..end,
            original_len: word(24)?,
            comment,
            len,
        })
    }

    /// Original length, the frame: of the first interface, without a time.
    fn simple_packet(&self, block: &[u8], len: usize) -> Option<FrameRecord> {
        const FRAME: usize = 12;
        let original_len = self.order.u32(block, 8)?;
        let snap = self.clocks.first().map_or(0, |clock| clock.snap_length);
        let most = if snap == 0 { u32::MAX } else { snap };
        let captured = original_len.min(most) as usize;
        let end = FRAME
            .checked_add(captured)
            .filter(|end| *end <= block.len())?;
        Some(FrameRecord {
            interface: self.first_interface,
            at: None,
            direction: None,
            bytes: FRAME..end,
            original_len,
            comment: None,
            len,
        })
    }
}

/// The clock of an interface.
#[derive(Clone, Copy, Debug, Default)]
struct Clock {
    tick: Tick,
    offset_seconds: i64,
    snap_length: u32,
}

/// The unit of a clock.
#[derive(Clone, Copy, Debug)]
enum Tick {
    /// So many nanoseconds.
    Nanos(u64),
    /// So many in a nanosecond.
    PerNano(u128),
    /// 2 to the power of so many in a second.
    Binary(u8),
}

impl Default for Tick {
    fn default() -> Self {
        Self::Nanos(1_000)
    }
}

impl Tick {
    /// The option's byte: a negative power of ten, or of two where its highest bit is set.
    const fn of(resolution: u8) -> Self {
        match resolution {
            0..=9 => Self::Nanos(10_u64.pow(9 - resolution as u32)),
            // Beyond any number of ticks that fits: the time is zero.
            10..=0x7f => Self::PerNano(10_u128.saturating_pow(resolution as u32 - 9)),
            0x80.. => Self::Binary(resolution & 0x7f),
        }
    }
}

impl Clock {
    /// The time of so many ticks; saturates at the ends of the range.
    fn time(self, ticks: u64) -> Timestamp {
        let nanos = match self.tick {
            Tick::Nanos(nanos) => u128::from(ticks) * u128::from(nanos),
            Tick::PerNano(ticks_per_nano) => u128::from(ticks) / ticks_per_nano,
            Tick::Binary(power) => (u128::from(ticks) * 1_000_000_000) >> power,
        };
        let nanos = i128::try_from(nanos).unwrap_or(i128::MAX);
        let nanos = nanos.saturating_add(i128::from(self.offset_seconds) * 1_000_000_000);
        let most = u64::try_from(nanos.max(0)).unwrap_or(u64::MAX);
        Timestamp::from_nanos(most)
    }
}

/// The options of a block: code, length, value, padding to four bytes. A malformed one ends the list.
struct Options<'a> {
    order: Order,
    block: &'a [u8],
    place: usize,
}

impl<'a> Options<'a> {
    const fn of(order: Order, block: &'a [u8], place: usize) -> Self {
        Self {
            order,
            block,
            place,
        }
    }
}

impl Iterator for Options<'_> {
    /// The code, and the place of the value in the block.
    type Item = (u16, Range<usize>);

    fn next(&mut self) -> Option<Self::Item> {
        let code = self.order.u16(self.block, self.place)?;
        let len = usize::from(self.order.u16(self.block, self.place + 2)?);
        if code == option::END {
            return None;
        }
        let start = self.place + 4;
        let end = start + len;
        if end > self.block.len() {
            return None;
        }
        self.place = end.next_multiple_of(4);
        Some((code, start..end))
    }
}

/// The `epb_flags` word: direction in bits 0 and 1, how it was received in bits 2 to 4.
const fn direction_of(flags: u32) -> Option<Direction> {
    const PROMISCUOUS: u32 = 4;
    match (flags & 0b11, flags >> 2 & 0b111) {
        (1, PROMISCUOUS) => Some(Direction::Overheard),
        (1, _) => Some(Direction::Received),
        (2, _) => Some(Direction::Sent),
        _ => None,
    }
}
