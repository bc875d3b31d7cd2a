//! From a captured frame to an observation: what it says, and which way it went.
use prober_core::packet::observation::{Direction, Observation};
use prober_core::packet::{self, Packet, Sums, parse_frame};

use crate::packet_socket::filter::CaptureFilter;
use crate::packet_socket::{Checksum, Frame, FrameKind, LinkType};

/// Reads a frame; `None` for what is no packet that a prober understands.
///
/// `own` holds this end's own ports: on loopback, where a packet is sent and received at once, they tell which of the
/// two it was for us.
pub fn observe<'ring>(
    frame: &Frame<'ring>,
    own: &CaptureFilter,
) -> Option<(Observation, &'ring [u8])> {
    let sums = match frame.checksum {
        Checksum::Partial => Sums::Trust,
        Checksum::Complete => Sums::Judge,
    };
    let (link, bytes) = match frame.link_type {
        LinkType::Ethernet => (packet::LinkType::Ethernet, frame.bytes),
        LinkType::Raw | LinkType::Other(_) => (packet::LinkType::Raw, frame.packet()),
    };
    let parsed = parse_frame(link, bytes, sums).ok()?;
    let direction = direction(frame.kind, &parsed.packet, own);
    let observation = Observation {
        at: frame.at,
        direction,
        packet: parsed.packet,
    };
    Some((observation, parsed.payload))
}

fn direction(kind: FrameKind, packet: &Packet, own: &CaptureFilter) -> Direction {
    match kind {
        FrameKind::Outgoing => Direction::Sent,
        FrameKind::OtherHost => Direction::Overheard,
        FrameKind::Loopback
            if packet
                .tcp()
                .is_some_and(|(_, tcp)| own.has_port(tcp.src_port)) =>
        {
            Direction::Sent
        }
        FrameKind::ToHost | FrameKind::Broadcast | FrameKind::Multicast | FrameKind::Loopback => {
            Direction::Received
        }
    }
}
