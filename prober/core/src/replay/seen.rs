//! One packet at one observer.

use std::net::IpAddr;

use crate::packet::capture::{CapturedFrame, CapturedPacket};
use crate::packet::layers::TunnelKind;
use crate::packet::observation::{Direction, Observation};
use crate::packet::{Checksum, Ip, Packet, Tcp};
use crate::time::Timestamp;

/// A packet as an observer captured it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    /// The number of its frame in the file, from 1; 0 where it is not known.
    pub(super) number: u64,
    /// When, on the clock of the capturing machine.
    pub(super) at: Timestamp,
    /// Its direction, where the file has it.
    pub(super) direction: Option<Direction>,
    /// The innermost packet.
    pub(super) packet: Packet,
    /// The outermost tunnel around it.
    pub(super) tunnel: Option<Tunnelled>,
}

/// The tunnel that a packet was captured in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tunnelled {
    /// Its kind.
    pub(super) kind: TunnelKind,
    /// The node that sent it.
    pub(super) from: IpAddr,
    /// The node that it is sent to.
    pub(super) to: IpAddr,
}

impl Seen {
    /// The packet of a capture.
    pub(super) const fn of(captured: &CapturedPacket<'_>) -> Self {
        Self {
            number: 0,
            at: captured.at,
            direction: captured.direction,
            packet: captured.packet,
            tunnel: None,
        }
    }

    /// The innermost packet of a frame; `None` where it is neither TCP nor ICMP nor ARP.
    pub(super) fn in_frame(frame: &CapturedFrame<'_>) -> Option<Self> {
        let layers = frame.layers?;
        let packet = *layers.packet()?;
        let tunnel = layers.tunnels().next().map(|tunnel| Tunnelled {
            kind: tunnel.kind,
            from: tunnel.ip.src,
            to: tunnel.ip.dst,
        });
        Some(Self {
            number: frame.number,
            at: frame.at,
            direction: frame.direction,
            packet,
            tunnel,
        })
    }

    /// The same packet with this direction; what an observer sent has no checksum to verify, since its device fills it in.
    pub(super) fn observation(&self, direction: Direction) -> Observation {
        let mut packet = self.packet;
        if let (Direction::Sent, crate::packet::Body::Tcp(_, tcp)) = (direction, &mut packet.body) {
            tcp.checksum = Checksum::Unknown;
        }
        Observation {
            at: self.at,
            direction,
            packet,
        }
    }

    /// The headers of a TCP segment.
    pub(super) const fn tcp(&self) -> Option<(&Ip, &Tcp)> {
        self.packet.tcp()
    }
}
