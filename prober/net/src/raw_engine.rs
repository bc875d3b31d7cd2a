//! The raw engine: sends crafted segments, and captures the packets of its ports.
//!
//! It connects the state machines of `prober-core` with the kernel, and keeps no state of any probe.

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

/// How often a packet that found a full queue is sent again, and the pause between two attempts: ten milliseconds in all,
/// well below the time after which a peer would assume a loss.
const MAX_SEND_TRIES: usize = 100;
const SEND_RETRY_PAUSE: Duration = Duration::from_micros(100);

/// The raw engine cannot be opened, or cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum RawEngineError {
    /// The capture failed.
    #[error(transparent)]
    PacketSocket(#[from] CaptureError),
    /// The sender cannot be opened.
    #[error(transparent)]
    Send(#[from] SendError),
    /// A segment cannot be crafted into a packet.
    #[error(transparent)]
    Craft(#[from] CraftError),
    /// The waker cannot be made.
    #[error(
        "cannot make an eventfd to wake the engine by: {0}; is the limit of open files (ulimit -n) reached?"
    )]
    Waker(#[source] io::Error),
}

/// Sends crafted segments and captures the packets of its ports, in the network namespace that it was opened in.
///
/// For anything after the SYN+ACK, RST must be suppressed on these ports ([`crate::rst_suppression`]).
#[derive(Debug)]
pub struct RawEngine {
    capture: PacketSocket,
    sender: RawSender,
    waker: Waker,
    own: CaptureFilter,
    /// The packets of one batch in sequence, and where each ends; kept to reuse the memory.
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl RawEngine {
    /// Opens the capture and the sender. Needs `CAP_NET_RAW`.
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

    /// A handle that ends [`Engine::recv`] from another thread.
    pub fn waker(&self) -> Waker {
        self.waker.clone()
    }

    /// What filters the packets of the capture.
    pub fn filtered(&self) -> &FilteredBy {
        self.capture.filtered()
    }

    /// Counts of the packets that were sent. A packet that the kernel refused for good (a firewall, no route) is counted
    /// only here: for its probe it is a packet without an answer.
    pub fn send_counts(&self) -> &SendCounts {
        self.sender.counts()
    }

    /// The kernel's counts of the capture.
    pub fn capture_counts(&mut self) -> Result<CaptureCounts, RawEngineError> {
        Ok(self.capture.counts()?)
    }

    /// Captures the packets of other ports from now on.
    pub fn set_filter(&mut self, filter: CaptureFilter) -> Result<(), RawEngineError> {
        self.capture.set_filter(filter.clone())?;
        self.own = filter;
        Ok(())
    }

    /// As [`Engine::recv`], but packets do not end the wait: all that arrive until then are handed over together.
    pub fn recv_batch(
        &mut self,
        until: Timestamp,
        sink: &mut dyn FnMut(&Observation, &[u8]),
    ) -> Result<Wake, RawEngineError> {
        let ready = self.capture.wait_for_deadline(until, Some(&self.waker))?;
        let seen = self.drain(sink);
        Ok(match ready {
            Ready::Woken => Wake::Interrupted,
            Ready::Frames | Ready::Deadline if seen > 0 => Wake::Packets,
            Ready::Frames | Ready::Deadline => Wake::Deadline,
        })
    }

    /// Hands over the packets that have arrived, without waiting, and returns how many.
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
                // The frames may be none that the core parses, and more of them may keep arriving.
                Ready::Frames if now() < until => {}
                Ready::Frames | Ready::Deadline => {
                    let wake = if self.drain(sink) > 0 {
                        Wake::Packets
                    } else {
                        Wake::Deadline
                    };
                    return Ok(wake);
                }
                Ready::Woken => return Ok(Wake::Interrupted),
            }
        }
    }
}
