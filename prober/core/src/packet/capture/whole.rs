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
pub fn read(bytes: &[u8]) -> Result<Capture<'_>, CaptureError> {
    let mut reader = CaptureReader::new();
    let mut rest = bytes;
    let mut capture = Capture::default();
    let (mut other, mut fragments) = (0, 0);
    loop {
        match reader.advance()? {
            Advance::End => break,
            Advance::NeedsBytes => {
                let room = reader.room();
                let count = room.len().min(rest.len());
                let (now, later) = rest.split_at(count);
                if let Some(room) = room.get_mut(..count) {
                    room.copy_from_slice(now);
                }
                rest = later;
                reader.filled(count);
            }
            Advance::Frame => {
                let Some(frame) = reader.frame() else {
                    continue;
                };
                match packet_of(&frame) {
                    Ok(packet) => capture.packets.push(packet),
                    Err(Left::Fragment) => fragments += 1,
                    Err(Left::Other) => other += 1,
                    Err(Left::Unread) => {}
                }
            }
        }
    }
    capture.interfaces = reader.interfaces().to_vec();
    capture.notes = reader.summary().notes();
    for (count, what) in [
        (other, "neither TCP nor ICMP nor ARP: left out"),
        (
            fragments,
            "later fragments, which have no TCP header: left out",
        ),
    ] {
        capture.notes.extend(summary::counted(count, what));
    }
    if capture.packets.is_empty() {
        let nothing = "no packet of TCP, ICMP or ARP is in this capture";
        capture.notes.push(nothing.to_owned());
    }
    Ok(capture)
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
