//! What a capture file has beside the frames that are read, counted while it is read, as sentences.

use crate::packet::ParseError;

/// How a file ends.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Ending {
    /// After a whole record.
    #[default]
    Whole,
    /// Within a record.
    Cut {
        /// Where that record begins, bytes.
        offset: u64,
        /// How many bytes of it there are.
        lost: u64,
    },
    /// With bytes that contradict the format; what follows is not read.
    Damaged {
        /// Where the record begins, bytes.
        offset: u64,
        /// What is there.
        reason: String,
    },
}

/// What was counted while a file was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CaptureSummary {
    /// The frames.
    pub frames: u64,
    /// The bytes of the file that were read.
    pub bytes: u64,
    /// How it ends.
    pub ending: Ending,
    /// Frames of interfaces whose link type is not supported, or that the file does not describe.
    pub unknown_link: u64,
    /// Frames that the snap length cuts within their headers.
    pub cut: u64,
    /// Frames whose headers contradict each other.
    pub malformed: u64,
    /// Frames whose record has no time: it is taken from the one before.
    pub without_time: u64,
}

impl CaptureSummary {
    /// Counts a frame that does not parse.
    pub(super) const fn count(&mut self, error: ParseError, is_cut: bool) {
        match error {
            ParseError::Truncated(_) if is_cut => self.cut += 1,
            ParseError::Truncated(_)
            | ParseError::Length(_)
            | ParseError::Version(_)
            | ParseError::EtherType(_)
            | ParseError::Protocol(_)
            | ParseError::LaterFragment
            | ParseError::Arp => self.malformed += 1,
        }
    }

    /// What is missing or was left out, one sentence each.
    pub fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        match &self.ending {
            Ending::Whole => {}
            Ending::Cut { offset, lost } => notes.push(format!(
                "the file ends within a packet that begins at byte {offset}: its last {lost} bytes are lost"
            )),
            Ending::Damaged { offset, reason } => notes.push(format!(
                "the file is broken at byte {offset} ({reason}): what follows is lost; copy it again, or capture again"
            )),
        }
        for (count, what) in [
            (
                self.unknown_link,
                "on interfaces of another link type: left out",
            ),
            (
                self.cut,
                "cut within their headers: capture with 'tcpdump -s 128' or more",
            ),
            (self.malformed, "malformed: left out"),
            (
                self.without_time,
                "without a time of their own: taken as that of the packet before",
            ),
        ] {
            notes.extend(counted(count, what));
        }
        notes
    }
}

/// A count of packets as a sentence; `None` for zero.
pub(super) fn counted(count: u64, what: &str) -> Option<String> {
    match count {
        0 => None,
        1 => Some(format!("1 packet: {what}")),
        more => Some(format!("{more} packets: {what}")),
    }
}
