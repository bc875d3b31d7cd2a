//! Annotated captures: the frames of other files as they were captured, as pcapng, with comments on some of them.
//!
//! A second pass over the files writes one frame after the other: bytes, lengths and times are those of the original, to the
//! nanosecond. Wireshark shows the comments, and the name of each interface.

use super::{CapturedFrame, Interface};
use crate::packet::observation::Direction;

/// Block types and option codes of pcapng.
mod code {
    pub(super) const SECTION: u32 = 0x0a0d_0d0a;
    pub(super) const INTERFACE: u32 = 1;
    pub(super) const PACKET: u32 = 6;
    pub(super) const COMMENT: u16 = 1;
    pub(super) const NAME: u16 = 2;
    pub(super) const FLAGS: u16 = 2;
    pub(super) const APPLICATION: u16 = 4;
    pub(super) const RESOLUTION: u16 = 9;
}

/// A writer of one annotated capture, which appends to the buffer that it is given.
#[derive(Clone, Debug, Default)]
pub struct AnnotatedWriter {
    interfaces: u32,
}

/// An interface of an annotated capture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AnnotatedInterface(u32);

impl AnnotatedWriter {
    /// Begins a capture.
    pub fn start(out: &mut Vec<u8>) -> Self {
        block(code::SECTION, out, |out| {
            // The byte order, version 1.0, a length that is not known.
            out.extend_from_slice(&0x1a2b_3c4d_u32.to_le_bytes());
            out.extend_from_slice(&1_u16.to_le_bytes());
            out.extend_from_slice(&0_u16.to_le_bytes());
            out.extend_from_slice(&u64::MAX.to_le_bytes());
            option(code::APPLICATION, b"prober", out);
            end_of_options(out);
        });
        Self::default()
    }

    /// Adds an interface of a file under a name, such as `node-1 eth0 (server's end)`.
    pub fn interface(
        &mut self,
        name: &str,
        interface: &Interface,
        out: &mut Vec<u8>,
    ) -> AnnotatedInterface {
        const NANOSECONDS: u8 = 9;
        block(code::INTERFACE, out, |out| {
            let [low, high, ..] = interface.link_number.to_le_bytes();
            out.extend_from_slice(&[low, high, 0, 0]);
            out.extend_from_slice(&interface.snap_length.to_le_bytes());
            option(code::NAME, text(name), out);
            option(code::RESOLUTION, &[NANOSECONDS], out);
            end_of_options(out);
        });
        let number = self.interfaces;
        self.interfaces += 1;
        AnnotatedInterface(number)
    }

    /// Adds a frame with its own comment, if it has one, and these.
    pub fn frame(
        &self,
        interface: AnnotatedInterface,
        frame: &CapturedFrame<'_>,
        comments: &[&str],
        out: &mut Vec<u8>,
    ) {
        let [a, b, c, d, e, f, g, h] = frame.at.as_nanos().to_be_bytes();
        let (high, low) = ([a, b, c, d], [e, f, g, h]);
        block(code::PACKET, out, |out| {
            let captured = u32::try_from(frame.bytes.len()).unwrap_or(u32::MAX);
            for word in [
                interface.0,
                u32::from_be_bytes(high),
                u32::from_be_bytes(low),
                captured,
                frame.original_len,
            ] {
                out.extend_from_slice(&word.to_le_bytes());
            }
            padded(frame.bytes, out);
            let own = frame.comment.as_deref();
            let comments = own.into_iter().chain(comments.iter().copied());
            for comment in comments.filter(|comment| !comment.is_empty()) {
                option(code::COMMENT, text(comment), out);
            }
            if let Some(direction) = frame.direction {
                option(code::FLAGS, &flags_of(direction).to_le_bytes(), out);
            }
            end_of_options(out);
        });
    }
}

/// The `epb_flags` word: 1 inbound, 2 outbound, reception type 4 promiscuous.
pub(super) const fn flags_of(direction: Direction) -> u32 {
    match direction {
        Direction::Received => 1,
        Direction::Sent => 2,
        Direction::Overheard => 1 | 4 << 2,
    }
}

/// The bytes of a text that fit an option.
fn text(text: &str) -> &[u8] {
    let end = text.floor_char_boundary(usize::from(u16::MAX));
    text.as_bytes().get(..end).unwrap_or_default()
}

/// Appends a block: type, length, contents, length.
fn block(kind: u32, out: &mut Vec<u8>, contents: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&kind.to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    contents(out);
    let len = u32::try_from(out.len() - start + 4).unwrap_or(u32::MAX);
    let len = len.to_le_bytes();
    out.extend_from_slice(&len);
    if let Some(place) = out.get_mut(start + 4..start + 8) {
        place.copy_from_slice(&len);
    }
}

fn option(code: u16, value: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&code.to_le_bytes());
    let len = u16::try_from(value.len()).unwrap_or(u16::MAX);
    out.extend_from_slice(&len.to_le_bytes());
    padded(value, out);
}

fn end_of_options(out: &mut Vec<u8>) {
    out.extend_from_slice(&[0; 4]);
}

/// Appends bytes, and zeros up to a multiple of four.
fn padded(bytes: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(bytes);
    out.resize(out.len() + (4 - bytes.len() % 4) % 4, 0);
}

#[cfg(test)]
mod tests;
