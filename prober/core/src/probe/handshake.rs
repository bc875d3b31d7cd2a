//! One probe as a state machine without clock and sockets.
//!
//! Its input is time and the packets that one end observes. Its output is the segments to send, the time until which
//! it waits, and the result. It has two roles: a `HandshakeRole::Driver` sends crafted segments; a
//! `HandshakeRole::Observer` sends nothing and only observes the packets of the kernel, or of a capture. Both classify
//! packets by the same code.
//!
//! ```text
//!                       Idle
//!                         | start: the driver sends SYN, and again each `resend`
//!                         v
//!   RST (acceptable)   SynSent ------- SYN+ACK or RST from another address ------> WrongSource
//!  +-------------------   |  \                                                   (1.1 s more)
//!  |                      |   ICMP unreachable that quotes the SYN -> Rejected        |
//!  |                      |                                          (0.1 s more)     |
//!  |     SYN+ACK from the target, in any of the three                              |
//!  |                      |                                                           |
//!  |   half-open: RST     |  full: ACK, banner, echo, FIN; observer: until socket close|
//!  |          +-----------+----------> Open                                           |
//!  |          v                         | FIN, RST, socket close or deadline          |
//!  +----> Closing <---------------------+                                             |
//!             ^  <----------------------------- deadline ------------------------------+
//!             | `linger`: later packets are recorded and change nothing
//!             v
//!           Done
//! ```
//!
//! Call `start` once, then `observe` for each packet and `handle_timeout` at the time of `poll_timeout`. After each
//! call, send the segments of `poll_transmit`. Once `is_done`, `finish` returns the result.

use std::net::SocketAddr;
use std::time::Duration;

use crate::packet::observation::{Direction, Observation};
use crate::packet::{Seq, TcpFlags, TcpSegment};
use crate::probe::outcome::{EngineKind, Errno, Exchange, Outcome, ProbeResult};
use crate::time::Timestamp;
use crate::topology::PathId;

use classify::{Classifier, HandshakeEvent};
use exchange::Stream;
use packet_log::PacketLog;

/// What a packet means to a handshake.
mod classify;
/// The driver's connection after the handshake.
mod exchange;
/// The recorded packets of a probe.
mod packet_log;
/// The segments that a driver sends.
mod segments;
#[cfg(test)]
mod tests;
/// The transition table.
mod transition;

pub use exchange::pattern;
pub(crate) use segments::{HOP_LIMIT, segment, syn};

/// The two ends of a handshake, and its deadline.
#[derive(Clone, Copy, Debug)]
pub struct HandshakeConfig {
    /// The path that the probe belongs to.
    pub path: PathId,
    /// The client's address and port.
    pub src: SocketAddr,
    /// The address and port of the target.
    pub dst: SocketAddr,
    /// Maximum time from the first SYN to its answer, and again from there to the end of the exchange.
    pub deadline: Duration,
}

/// Time after which a driver repeats an unanswered segment.
const RESEND: Duration = Duration::from_secs(1);
/// Waiting time after an answer from another address: long enough to observe one retransmission.
const AFTER_WRONG_SOURCE: Duration = Duration::from_millis(1100);
/// Waiting time after an ICMP error: other answers may arrive after it.
const AFTER_UNREACHABLE: Duration = Duration::from_millis(100);
/// Waiting time for the server's FIN at the end of the exchange.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// Whether a handshake sends packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandshakeRole {
    /// It sends crafted segments.
    Driver {
        /// Its initial sequence number.
        isn: Seq,
        /// The maximum segment size that it announces and sends, bytes of TCP payload and options.
        mss: u16,
        /// Where it ends.
        goal: Goal,
    },
    /// It sends nothing; the kernel does, or did when the capture was taken.
    Observer,
}

impl HandshakeRole {
    /// How long packets are recorded after the outcome is known. An observer waits longer: its packets come through a
    /// capture, later than the end of its connection is reported.
    const fn linger(self) -> Duration {
        match self {
            Self::Driver { .. } => Duration::from_millis(20),
            Self::Observer => Duration::from_millis(100),
        }
    }
}

/// Where a driver ends its handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Goal {
    /// At the answer to its SYN.
    HalfOpen,
    /// After the banner, an echo of that many bytes (0: none), and FIN.
    Exchange {
        /// Bytes to echo.
        echo_bytes: u32,
    },
}

/// What a handshake waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timer {
    /// An unanswered segment is due for retransmission.
    Resend,
    /// No answer: the probe fails.
    Deadline,
    /// Only another address answered.
    WrongSource,
    /// Only an ICMP error arrived.
    Unreachable,
    /// The exchange stalls, or its FIN is not answered.
    Exchange,
    /// Recording ends.
    Linger,
}

/// The states of the diagram above.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Idle,
    SynSent,
    WrongSource,
    Rejected,
    Open,
    Closing,
    Done,
}

/// One handshake, driven or observed.
#[derive(Debug)]
pub struct Handshake {
    config: HandshakeConfig,
    role: HandshakeRole,
    state: State,
    /// The latest time of its input.
    now: Timestamp,
    started: Timestamp,
    /// When the deadline of the current state is.
    ends_at: Timestamp,
    resend_at: Option<Timestamp>,
    isn: Option<Seq>,
    server_isn: Option<Seq>,
    /// The destination of its SYN on the wire: an observer's kernel may translate the target within connect(2).
    syn_destination: SocketAddr,
    /// Whether an observer's socket is closed; packets may still arrive through the capture.
    socket_closed: bool,
    /// Number of SYNs that `poll_transmit` returned, and the times of the first and the last.
    syns_transmitted: u32,
    first_transmitted: Timestamp,
    last_transmitted: Timestamp,
    /// Number of SYNs in the capture.
    syns_seen: u32,
    outcome: Outcome,
    exchange: Exchange,
    stream: Option<Box<Stream>>,
    syn_due: bool,
    reset_due: Option<SocketAddr>,
    packets: PacketLog,
}

impl Handshake {
    /// A handshake that has not started.
    pub fn new(config: HandshakeConfig, role: HandshakeRole) -> Self {
        let isn = match role {
            HandshakeRole::Driver { isn, .. } => Some(isn),
            HandshakeRole::Observer => None,
        };
        Self {
            config,
            role,
            state: State::Idle,
            now: Timestamp::default(),
            started: Timestamp::default(),
            ends_at: Timestamp::default(),
            resend_at: None,
            isn,
            server_isn: None,
            syn_destination: config.dst,
            socket_closed: false,
            syns_transmitted: 0,
            first_transmitted: Timestamp::default(),
            last_transmitted: Timestamp::default(),
            syns_seen: 0,
            outcome: Outcome::Timeout,
            exchange: Exchange::NotTried,
            stream: None,
            syn_due: false,
            reset_due: None,
            packets: PacketLog::default(),
        }
    }

    /// Starts the handshake.
    pub fn start(&mut self, now: Timestamp) {
        self.now = now;
        self.handle(HandshakeEvent::Start);
    }

    /// Processes a packet of this probe, with the captured part of its payload.
    pub fn observe(&mut self, observation: &Observation, payload: &[u8]) {
        // An answer after the deadline is late, also where the caller has not handled the deadline yet.
        self.handle_timeout(observation.at);
        match self.state {
            State::Idle | State::Done => {}
            State::SynSent
            | State::WrongSource
            | State::Rejected
            | State::Open
            | State::Closing => {
                self.packets.push(observation);
                if self.role == HandshakeRole::Observer && self.isn.is_none() {
                    self.syn_destination = self
                        .own_syn_destination(observation)
                        .unwrap_or(self.syn_destination);
                }
                let classifier = Classifier {
                    src: self.config.src,
                    dst: self.syn_destination,
                    isn: self.isn,
                    server_isn: self.server_isn,
                    next_expected: self.stream.as_ref().map(|stream| stream.next_expected()),
                };
                self.handle(classifier.classify(observation, payload));
            }
        }
    }

    /// Records a packet of the same time that is not part of this probe, such as a neighbour resolution.
    pub fn note(&mut self, observation: &Observation) {
        self.packets.insert(observation);
    }

    /// Reports to an observer that its socket is closed, and what it received.
    pub fn socket_closed(&mut self, exchange: Exchange, now: Timestamp) {
        self.now = self.now.max(now);
        self.exchange = exchange;
        self.socket_closed = true;
        self.handle(HandshakeEvent::SocketClosed);
    }

    /// Reports to an observer that connect() failed at once with this errno, without a packet.
    pub fn refuse_locally(&mut self, errno: Errno, now: Timestamp) {
        self.now = self.now.max(now);
        self.socket_closed = true;
        self.handle(HandshakeEvent::RefusedLocally(errno));
    }

    /// Handles the timers that are due.
    pub fn handle_timeout(&mut self, now: Timestamp) {
        self.now = self.now.max(now);
        while let Some((at, timer)) = self.poll_timeout() {
            if at > self.now {
                break;
            }
            match timer {
                Timer::Resend => self.handle(HandshakeEvent::Resend),
                Timer::Deadline
                | Timer::WrongSource
                | Timer::Unreachable
                | Timer::Exchange
                | Timer::Linger => self.handle(HandshakeEvent::Deadline),
            }
        }
    }

    /// When to call `handle_timeout`, and for what; `None` before the start and when done.
    pub fn poll_timeout(&self) -> Option<(Timestamp, Timer)> {
        let timer = match self.state {
            State::Idle | State::Done => return None,
            State::SynSent => Timer::Deadline,
            State::WrongSource => Timer::WrongSource,
            State::Rejected => Timer::Unreachable,
            State::Open => Timer::Exchange,
            State::Closing => Timer::Linger,
        };
        match self.resend_at {
            Some(at) if at < self.ends_at => Some((at, Timer::Resend)),
            Some(_) | None => Some((self.ends_at, timer)),
        }
    }

    /// Appends the segments to send now.
    pub fn poll_transmit(&mut self, out: &mut Vec<TcpSegment>) {
        let (HandshakeRole::Driver { mss, .. }, Some(isn)) = (self.role, self.isn) else {
            return;
        };
        if self.syn_due {
            self.syn_due = false;
            if self.syns_transmitted == 0 {
                self.first_transmitted = self.now;
            }
            self.last_transmitted = self.now;
            self.syns_transmitted += 1;
            out.push(syn(self.config.src, self.config.dst, isn, mss, self.now));
        }
        let mut next = isn.add(1);
        if let Some(stream) = &mut self.stream {
            stream.poll_transmit(self.now, out);
            next = stream.next_to_send();
            if self.state == State::Open {
                self.resend_at = stream.resend_at();
            }
        }
        if let Some(dst) = self.reset_due.take() {
            out.push(segment(self.config.src, dst, next, TcpFlags::RST));
        }
    }

    /// The outcome, once it is final.
    pub fn outcome(&self) -> Option<Outcome> {
        match self.state {
            State::Idle | State::SynSent | State::WrongSource | State::Rejected => None,
            State::Open | State::Closing | State::Done => Some(self.outcome),
        }
    }

    /// The destination of this packet if it is the own SYN. Under socket-level load balancing, where an eBPF program on
    /// connect(2) translates the address, it is not the target.
    fn own_syn_destination(&self, observation: &Observation) -> Option<SocketAddr> {
        let (_, tcp) = observation.packet.tcp()?;
        let is_own = observation.direction == Direction::Sent
            && tcp.flags.is_syn()
            && observation.packet.tcp_src() == Some(self.config.src);
        is_own.then(|| observation.packet.tcp_dst()).flatten()
    }

    /// Whether the handshake is over.
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// The client's address and port.
    pub const fn src(&self) -> SocketAddr {
        self.config.src
    }

    /// When it started.
    pub const fn started(&self) -> Timestamp {
        self.started
    }

    /// Ends the handshake now: resets an open connection and keeps the outcome so far.
    pub fn abandon(&mut self) {
        self.expire();
    }

    /// The result, with the recorded packets; of a handshake that is not done, the result so far.
    pub fn finish(&mut self) -> ProbeResult {
        let exchange = std::mem::replace(&mut self.exchange, Exchange::NotTried);
        let exchange = match &self.stream {
            Some(stream) => stream.exchange(),
            None => exchange,
        };
        ProbeResult {
            path: self.config.path,
            engine: match self.role {
                HandshakeRole::Driver { .. } => EngineKind::Raw,
                HandshakeRole::Observer => EngineKind::Kernel,
            },
            src: self.config.src,
            dst: self.config.dst,
            started: self.started,
            isn: self.isn,
            server_isn: self.server_isn,
            outcome: self.outcome,
            syns: if self.syns_seen > 0 {
                self.syns_seen
            } else {
                self.syns_transmitted
            },
            exchange,
            observations: std::mem::take(&mut self.packets).into_observations(),
        }
    }
}
