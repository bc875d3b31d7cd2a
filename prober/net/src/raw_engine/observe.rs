//! Turns a captured frame into an observation: its packet, and its direction.
use prober_core::packet::observation::{Direction, Observation};
use prober_core::packet::{self, ChecksumMode, Packet, parse_frame};

use crate::packet_socket::filter::CaptureFilter;
use crate::packet_socket::{ChecksumStatus, Frame, FrameKind, LinkHeader};

/// Parses a frame; `None` for a packet of another protocol.
///
/// `own` holds the ports of this end. On loopback, where a packet is sent and received at once, they decide which of the
/// two it is.
pub fn observe<'ring>(
    frame: &Frame<'ring>,
    own: &CaptureFilter,
) -> Option<(Observation, &'ring [u8])> {
    let sums = match frame.checksum {
        ChecksumStatus::Partial => ChecksumMode::Trust,
        ChecksumStatus::Complete => ChecksumMode::Verify,
    };
    let (link, bytes) = match frame.link_header {
        LinkHeader::Ethernet => (packet::LinkType::Ethernet, frame.bytes),
        LinkHeader::None | LinkHeader::Other(_) => (packet::LinkType::Raw, frame.packet()),
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
