//! Reading of capture files in pieces, in one pass: the memory is that of one record.

use super::format::{Format, Found, FrameRecord};
use super::{CaptureError, CaptureSummary, CapturedFrame, Ending, Interface, cooked_direction};
use crate::packet::ChecksumMode;
use crate::packet::fragments::Fragments;
use crate::packet::layers::{Layers, parse_layers};
use crate::time::Timestamp;

/// The room for the next bytes of a file, at least.
const ROOM: usize = 256 * 1024;

/// Maximum length of a frame whose checksum is verified, bytes: a larger one was merged from several by the receiving
/// kernel, or is segmented later by the device.
const LARGEST_ON_THE_WIRE: usize = 1518;

/// A reader of one capture file.
///
/// Its caller brings the bytes: [`advance`](Self::advance) until it wants more, then fill [`room`](Self::room) and say how
/// much with [`filled`](Self::filled). Zero bytes are the end of the file.
#[derive(Debug, Default)]
pub struct CaptureReader {
    /// Bytes of the file; those from `start` to `end` are not read yet.
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// Where in the file `start` is.
    offset: u64,
    /// How many of the next bytes belong to a block that is not read.
    skipped: u64,
    /// Where in the file that block begins.
    skipped_from: u64,
    /// The time of the frame before.
    last: Timestamp,
    /// No more bytes will come.
    is_all: bool,
    state: State,
    interfaces: Vec<Interface>,
    /// The frame at `start`.
    current: Option<Current>,
    fragments: Fragments,
    summary: CaptureSummary,
}

/// Where in its file a reader is.
#[derive(Debug, Default)]
enum State {
    /// Before the header.
    #[default]
    Start,
    /// Between records.
    Records(Format),
    /// After the last record.
    End,
}

/// A frame in the buffer.
#[derive(Debug)]
struct Current {
    record: FrameRecord,
    at: Timestamp,
    layers: Option<Layers>,
}

/// What a reader has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Advance {
    /// A frame: see [`CaptureReader::frame`].
    Frame,
    /// Too few bytes for the next frame.
    NeedsBytes,
    /// The end of the file: see [`CaptureReader::summary`].
    End,
}

impl CaptureReader {
    /// A reader at the start of a file.
    pub fn new() -> Self {
        Self::default()
    }

    /// Room for the next bytes of the file, never empty. What was returned before is gone.
    pub fn room(&mut self) -> &mut [u8] {
        self.current = None;
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        if self.buffer.len() < self.end + ROOM / 2 {
            self.buffer.resize(self.end + ROOM, 0);
        }
        self.buffer.get_mut(self.end..).unwrap_or_default()
    }

    /// Takes the first `count` bytes of the room; zero means that the file has no more.
    pub fn filled(&mut self, count: usize) {
        self.end = self.end.saturating_add(count).min(self.buffer.len());
        self.summary.bytes += count as u64;
        self.is_all |= count == 0;
    }

    /// Steps to the next frame.
    ///
    /// Fails at the start where the bytes are no capture file, and at the end where no interface has a supported link type.
    pub fn advance(&mut self) -> Result<Advance, CaptureError> {
        if let Some(current) = self.current.take() {
            self.consume(current.record.len);
        }
        loop {
            if !self.skip() {
                return Ok(Advance::NeedsBytes);
            }
            let bytes = self.buffer.get(self.start..self.end).unwrap_or_default();
            let found = match &mut self.state {
                State::End => return Ok(Advance::End),
                State::Start => {
                    match Format::of(bytes, self.is_all, &mut self.interfaces)? {
                        None => return Ok(Advance::NeedsBytes),
                        Some((format, header)) => {
                            self.state = State::Records(format);
                            self.consume(header);
                        }
                    }
                    continue;
                }
                State::Records(_) if bytes.is_empty() && self.is_all => {
                    return self.finish(Ending::Whole);
                }
                State::Records(format) => format.next(bytes, &mut self.interfaces),
            };
            match found {
                Found::Frame(record) => {
                    self.take(record);
                    return Ok(Advance::Frame);
                }
                Found::Other { len } => {
                    self.skipped = len;
                    self.skipped_from = self.offset;
                }
                Found::Short if !self.is_all => return Ok(Advance::NeedsBytes),
                Found::Short => {
                    let lost = bytes.len() as u64;
                    let offset = self.offset;
                    return self.finish(Ending::Cut { offset, lost });
                }
                Found::Damaged(reason) => {
                    let offset = self.offset;
                    return self.finish(Ending::Damaged { offset, reason });
                }
            }
        }
    }

    /// The frame to which the reader advanced.
    pub fn frame(&self) -> Option<CapturedFrame<'_>> {
        let Current { record, at, layers } = self.current.as_ref()?;
        let bytes = self.buffer.get(self.start..self.end)?;
        let frame = bytes.get(record.bytes.clone())?;
        let link = self
            .interfaces
            .get(record.interface)
            .and_then(|found| found.link);
        let comment = record.comment.clone().and_then(|place| bytes.get(place));
        Some(CapturedFrame {
            number: self.summary.frames,
            interface: record.interface,
            at: *at,
            direction: record.direction.or_else(|| cooked_direction(link?, frame)),
            bytes: frame,
            original_len: record.original_len,
            comment: comment.map(String::from_utf8_lossy),
            layers: layers.as_ref(),
        })
    }

    /// The interfaces that the file has described so far.
    pub fn interfaces(&self) -> &[Interface] {
        &self.interfaces
    }

    /// The packets that were seen in fragments so far, on all interfaces.
    pub const fn fragments(&self) -> &Fragments {
        &self.fragments
    }

    /// What was counted so far.
    pub const fn summary(&self) -> &CaptureSummary {
        &self.summary
    }

    fn consume(&mut self, len: usize) {
        let len = len.min(self.end - self.start);
        self.start += len;
        self.offset += len as u64;
    }

    /// Skips what is not read; `false` where more bytes are needed for that.
    fn skip(&mut self) -> bool {
        let there = (self.end - self.start) as u64;
        let step = self.skipped.min(there);
        self.skipped -= step;
        self.consume(usize::try_from(step).unwrap_or(usize::MAX));
        self.skipped == 0 || self.is_all
    }

    /// Makes the frame at `start` the current one.
    fn take(&mut self, record: FrameRecord) {
        self.summary.frames += 1;
        if record.at.is_none() {
            self.summary.without_time += 1;
        }
        let at = record.at.unwrap_or(self.last);
        self.last = at;
        let place = self.start + record.bytes.start..self.start + record.bytes.end;
        let bytes = self.buffer.get(place).unwrap_or_default();
        let interface = self.interfaces.get(record.interface);
        let parsed = interface.and_then(|interface| interface.link).map(|link| {
            let sums = if bytes.len() > LARGEST_ON_THE_WIRE {
                ChecksumMode::Trust
            } else {
                ChecksumMode::Verify
            };
            parse_layers(link, bytes, sums)
        });
        let layers = match parsed {
            None => {
                self.summary.unknown_link += 1;
                None
            }
            Some(Ok(layers)) => {
                for fragment in layers.fragments() {
                    self.fragments.add(fragment, at);
                }
                Some(layers)
            }
            Some(Err(error)) => {
                let is_cut = (bytes.len() as u64) < u64::from(record.original_len);
                self.summary.count(error, is_cut);
                None
            }
        };
        self.current = Some(Current { record, at, layers });
    }

    /// Ends the file. A block that is skipped and not whole is cut as well.
    fn finish(&mut self, ending: Ending) -> Result<Advance, CaptureError> {
        self.state = State::End;
        self.summary.ending = match ending {
            Ending::Whole if self.skipped > 0 => Ending::Cut {
                offset: self.skipped_from,
                lost: self.offset - self.skipped_from,
            },
            ending @ (Ending::Whole | Ending::Cut { .. } | Ending::Damaged { .. }) => ending,
        };
        let is_readable = |interface: &Interface| interface.link.is_some();
        match self.interfaces.first() {
            Some(first) if !self.interfaces.iter().any(is_readable) => {
                Err(CaptureError::LinkType(first.link_number))
            }
            Some(_) | None => Ok(Advance::End),
        }
    }
}

#[cfg(test)]
mod tests;
