//! The raw engine: crafted segments out, a capture in.
//!
//! The thin shell between the core's machines and the kernel. It keeps no state of any probe.
/// A captured frame as an observation.
pub mod observe;
/// Complete IP packets, sent in batches.
pub mod send;

use std::io;
use std::time::Duration;

use prober_core::packet::observation::Observation;
use prober_core::packet::{CraftError, TcpSegment, craft};
use prober_core::probe::engine::{Engine, Wake};
use prober_core::time::Timestamp;

use crate::packet_socket::filter::CaptureFilter;
use crate::packet_socket::{
    CaptureCounts, CaptureError, CaptureOptions, FilteredBy, PacketSocket, Ready, Waker, now,
};
use crate::raw_engine::observe::observe;
use crate::raw_engine::send::{RawSender, SendCounts, SendError, SendFailure};

/// How often a packet that met a full queue is tried again, and how long apart: ten milliseconds in all, well below
/// what a peer would take for a loss.
const MAX_SEND_TRIES: usize = 100;
const SEND_RETRY_PAUSE: Duration = Duration::from_micros(100);

/// The raw engine could not be opened, or cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum RawEngineError {
    /// The capture failed.
    #[error(transparent)]
    PacketSocket(#[from] CaptureError),
    /// The sender could not be opened.
    #[error(transparent)]
    Send(#[from] SendError),
    /// A segment makes no packet.
    #[error(transparent)]
    Craft(#[from] CraftError),
    /// The waker could not be made.
    #[error(
        "cannot make an eventfd to wake the engine by: {0}; is the limit of open files (ulimit -n) reached?"
    )]
    Waker(#[source] io::Error),
}

/// Sends crafted segments and sees every packet of its ports, in the network namespace that it was opened in.
///
/// The ports must be muted ([`crate::rst_suppression`]) for anything beyond the SYN+ACK.
#[derive(Debug)]
pub struct RawEngine {
    capture: PacketSocket,
    sender: RawSender,
    waker: Waker,
    own: CaptureFilter,
    /// Packets of one batch, one behind the other, and where each ends; kept for their memory.
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl RawEngine {
    /// Opens the capture and the sender. Wants `CAP_NET_RAW`.
    pub fn open(options: CaptureOptions) -> Result<Self, RawEngineError> {
        let own = options.filter.clone();
        let capture = PacketSocket::open(options)?;
        let sender = RawSender::open()?;
        let waker = Waker::new().map_err(RawEngineError::Waker)?;
        Ok(Self {
            capture,
            sender,
            waker,
            own,
            bytes: Vec::new(),
            ends: Vec::new(),
        })
    }

    /// Something that ends [`Engine::recv`] from another thread.
    pub fn waker(&self) -> Waker {
        self.waker.clone()
    }

    /// Who keeps uninteresting packets out of the capture.
    pub fn filtered(&self) -> &FilteredBy {
        self.capture.filtered()
    }

    /// What became of the packets that were sent. A packet that the kernel refused for good (a firewall, no route)
    /// is counted here and nowhere else: to the probe it is a packet that was never answered.
    pub fn send_counts(&self) -> &SendCounts {
        self.sender.counts()
    }

    /// What the kernel says of the capture.
    pub fn capture_counts(&mut self) -> Result<CaptureCounts, RawEngineError> {
        Ok(self.capture.counts()?)
    }

    /// Sees the packets of other ports from now on.
    pub fn set_filter(&mut self, filter: CaptureFilter) -> Result<(), RawEngineError> {
        self.capture.set_filter(filter.clone())?;
        self.own = filter;
        Ok(())
    }

    /// As [`Engine::recv`], but packets do not end the wait: all that came until then are handed over together.
    pub fn recv_batch(
        &mut self,
        until: Timestamp,
        sink: &mut dyn FnMut(&Observation, &[u8]),
    ) -> Result<Wake, RawEngineError> {
        let ready = self.capture.wait_for_deadline(until, Some(&self.waker))?;
        let seen = self.drain(sink);
        Ok(match ready {
            Ready::Woken => Wake::Called,
            Ready::Frames | Ready::Deadline if seen > 0 => Wake::Packets,
            Ready::Frames | Ready::Deadline => Wake::Deadline,
        })
    }

    /// Hands over the packets that are there, without waiting for any, and says how many.
    pub fn drain(&mut self, sink: &mut dyn FnMut(&Observation, &[u8])) -> usize {
        let own = &self.own;
        let mut seen = 0;
        self.capture.drain(|frame| {
            if let Some((observation, payload)) = observe(frame, own) {
                seen += 1;
                sink(&observation, payload);
            }
        });
        seen
    }
}

impl Engine for RawEngine {
    type Error = RawEngineError;

    fn now(&self) -> Timestamp {
        now()
    }

    fn send(&mut self, segments: &[TcpSegment]) -> Result<(), RawEngineError> {
        self.bytes.clear();
        self.ends.clear();
        for segment in segments {
            craft(segment, &mut self.bytes)?;
            self.ends.push(self.bytes.len());
        }
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        let mut packets: Vec<&[u8]> = starts
            .zip(&self.ends)
            .filter_map(|(start, end)| self.bytes.get(start..*end))
            .collect();
        for _ in 0..MAX_SEND_TRIES {
            let unsent = self.sender.send(&packets);
            let again = unsent
                .iter()
                .filter(|packet| packet.why == SendFailure::QueueFull);
            packets = again
                .filter_map(|packet| packets.get(packet.index).copied())
                .collect();
            if packets.is_empty() {
                break;
            }
            std::thread::sleep(SEND_RETRY_PAUSE);
        }
        Ok(())
    }

    fn recv(
        &mut self,
        until: Timestamp,
        sink: &mut dyn FnMut(&Observation, &[u8]),
    ) -> Result<Wake, RawEngineError> {
        loop {
            if self.drain(sink) > 0 {
                return Ok(Wake::Packets);
            }
            match self.capture.wait(until, Some(&self.waker))? {
                // What came may be none of ours, and may go on coming.
                Ready::Frames if now() < until => {}
                Ready::Frames | Ready::Deadline => {
                    let wake = if self.drain(sink) > 0 {
                        Wake::Packets
                    } else {
                        Wake::Deadline
                    };
                    return Ok(wake);
                }
                Ready::Woken => return Ok(Wake::Called),
            }
        }
    }
}
