//! Reading of capture files in memory: all packets of TCP, ICMP and ARP at once.

use std::borrow::Cow;

use super::{Advance, CaptureError, CaptureReader, CapturedFrame, Interface, summary};
use crate::packet::Packet;
use crate::packet::layers::Inner;
use crate::packet::observation::Direction;
use crate::time::Timestamp;

/// A parsed capture file.
#[derive(Clone, Debug, Default)]
pub struct Capture<'a> {
    /// The interfaces that packets were captured on.
    pub interfaces: Vec<Interface>,
    /// The packets of TCP, ICMP and ARP that no tunnel carries, in the order of the file.
    pub packets: Vec<CapturedPacket<'a>>,
    /// Lost or skipped packets, one sentence per kind.
    pub notes: Vec<String>,
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
    /// The length of the frame, bytes.
    pub original_len: u32,
    /// Its first comment in the file.
    pub comment: Option<Cow<'a, str>>,
}

/// Reads a capture file of either format.
pub fn read(bytes: &[u8]) -> Result<Capture<'static>, CaptureError> {
    let mut builder = CaptureBuilder::default();
    let reader = read_frames(bytes, |frame, _| builder.add(frame))?;
    Ok(builder.finish(&reader))
}

/// Reads a capture file of either format frame by frame; `each` also takes the interfaces that the file has described so far.
/// Returns the reader at the end of the file.
pub fn read_frames(
    bytes: &[u8],
    mut each: impl FnMut(&CapturedFrame<'_>, &[Interface]),
) -> Result<CaptureReader, CaptureError> {
    let mut reader = CaptureReader::new();
    let mut rest = bytes;
    loop {
        match reader.advance()? {
            Advance::End => return Ok(reader),
            Advance::NeedsBytes => {
                let room = reader.room();
                let (now, later) = rest.split_at(room.len().min(rest.len()));
                if let Some(room) = room.get_mut(..now.len()) {
                    room.copy_from_slice(now);
                }
                rest = later;
                reader.filled(now.len());
            }
            Advance::Frame => {
                if let Some(frame) = reader.frame() {
                    each(&frame, reader.interfaces());
                }
            }
        }
    }
}

/// A capture under construction, from the frames of a reader.
#[derive(Debug, Default)]
pub struct CaptureBuilder {
    packets: Vec<CapturedPacket<'static>>,
    other: u64,
    fragments: u64,
}

impl CaptureBuilder {
    /// Adds the packet of a frame, or counts what it is instead.
    pub fn add(&mut self, frame: &CapturedFrame<'_>) {
        match packet_of(frame) {
            Ok(packet) => self.packets.push(packet),
            Err(Left::Fragment) => self.fragments += 1,
            Err(Left::Other) => self.other += 1,
            Err(Left::Unread) => {}
        }
    }

    /// The capture, with what the reader counted.
    pub fn finish(self, reader: &CaptureReader) -> Capture<'static> {
        let mut notes = reader.summary().notes();
        for (count, what) in [
            (self.other, "neither TCP nor ICMP nor ARP: left out"),
            (
                self.fragments,
                "later fragments, which have no TCP header: left out",
            ),
        ] {
            notes.extend(summary::counted(count, what));
        }
        if self.packets.is_empty() {
            notes.push("no packet of TCP, ICMP or ARP is in this capture".to_owned());
        }
        Capture {
            interfaces: reader.interfaces().to_vec(),
            packets: self.packets,
            notes,
        }
    }
}

/// Why a frame is left out.
enum Left {
    /// It is a later fragment.
    Fragment,
    /// It carries something else.
    Other,
    /// It was not read, and is counted as such.
    Unread,
}

fn packet_of(frame: &CapturedFrame<'_>) -> Result<CapturedPacket<'static>, Left> {
    let layers = frame.layers.ok_or(Left::Unread)?;
    if matches!(layers.inner, Inner::LaterFragment(..)) {
        return Err(Left::Fragment);
    }
    let packet = *layers
        .packet()
        .filter(|_| layers.tunnels().next().is_none())
        .ok_or(Left::Other)?;
    Ok(CapturedPacket {
        interface: frame.interface,
        at: frame.at,
        direction: frame.direction,
        packet,
        original_len: frame.original_len,
        comment: frame.comment.as_deref().map(|text| text.to_owned().into()),
    })
}
