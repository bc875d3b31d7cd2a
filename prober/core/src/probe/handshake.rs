//! One probe as a state machine that neither reads a clock nor knows a socket.
//!
//! Fed with time and with what one end sees, it says what to send, until when it waits, and what
//! came of it. It has two roles: the `HandshakeRole::Driver` sends crafted segments; the
//! `HandshakeRole::Observer` sends nothing and is only shown what the kernel, or a capture, did. Both
//! classify by the same code, and only by packets, never by an errno.
//!
//! ```text
//!                       Idle
//!                         | start: the driver sends SYN, and again each `resend`
//!                         v
//!   RST (acceptable)   SynSent ------- SYN+ACK or RST from another address ------> WrongSource
//!  +-------------------   |  \                                                   (1.1 s more)
//!  |                      |   ICMP unreachable that quotes the SYN -> Rejected        |
//!  |                      |                                          (0.1 s more)     |
//!  |     SYN+ACK from the address that was asked, in any of the three                 |
//!  |                      |                                                           |
//!  |   half-open: RST     |  full: ACK, banner, echo, FIN; a witness: until released   |
//!  |          +-----------+----------> Open                                           |
//!  |          v                         | all said, RST, released or late             |
//!  +----> Closing <---------------------+                                             |
//!             ^  <----------------------------- deadline ------------------------------+
//!             | `linger`: what still comes is recorded and changes nothing
//!             v
//!           Done
//! ```
//!
//! Call `start` once; then `observe` for each packet and `handle_timeout` when `poll_timeout` says
//! so; after each call take what `poll_transmit` gives. When `is_done`, `finish` gives the result.

use std::net::SocketAddr;
use std::time::Duration;

use crate::packet::observation::{Direction, Observation};
use crate::packet::{Seq, TcpFlags, TcpSegment};
use crate::probe::outcome::{EngineKind, Errno, Exchange, Outcome, ProbeResult};
use crate::time::Timestamp;
use crate::topology::PathId;

use classify::{Event, View};
use exchange::Stream;
use packet_record::Record;

/// What a packet means to a handshake.
mod classify;
/// The driver's connection after the handshake.
mod exchange;
/// The packets that a result carries.
mod packet_record;
/// The segments that a driver sends.
mod segments;
#[cfg(test)]
mod tests;
/// What happens in which state.
mod transition;

pub use exchange::pattern;
pub(crate) use segments::{HOP_LIMIT, segment, syn};

/// Who asks whom, and how patiently.
#[derive(Clone, Copy, Debug)]
pub struct HandshakeConfig {
    /// The path that the probe belongs to.
    pub path: PathId,
    /// The client's address and port.
    pub src: SocketAddr,
    /// The address and port that are asked.
    pub dst: SocketAddr,
    /// How long an answer to the first SYN may take; once established, the exchange again as long.
    pub deadline: Duration,
}

/// Until a driver sends again what was not answered.
const RESEND: Duration = Duration::from_secs(1);
/// After an answer from another address: long enough to see one retransmission.
const AFTER_MISMATCH: Duration = Duration::from_millis(1100);
/// After an ICMP error: other answers may still overtake it.
const AFTER_UNREACHABLE: Duration = Duration::from_millis(100);
/// For the other side's FIN when all is said.
const FAREWELL: Duration = Duration::from_secs(1);

/// What a handshake may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandshakeRole {
    /// It sends crafted segments.
    Driver {
        /// Its initial sequence number.
        isn: Seq,
        /// The largest segment that it can receive, and sends, bytes of TCP payload and options.
        mss: u16,
        /// How far it goes.
        goal: Goal,
    },
    /// It sends nothing; the kernel does, or did.
    Observer,
}

impl HandshakeRole {
    /// How long packets are still recorded when the outcome is known: those of a witness come through a capture,
    /// while the end of its connection is told at once.
    const fn linger(self) -> Duration {
        match self {
            Self::Driver { .. } => Duration::from_millis(20),
            Self::Observer => Duration::from_millis(100),
        }
    }
}

/// How far a driver goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Goal {
    /// To the answer.
    HalfOpen,
    /// To the banner, an echo of that many bytes (0: none), and FIN.
    Exchange {
        /// Bytes to be echoed.
        echo_bytes: u32,
    },
}

/// What a handshake is waiting for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timer {
    /// The segment that was not answered is sent again.
    Resend,
    /// No answer: it has failed.
    Deadline,
    /// Only another address has answered.
    Mismatch,
    /// Only an ICMP error has come.
    Unreachable,
    /// The exchange has stalled, or its farewell is not answered.
    Exchange,
    /// Enough was recorded.
    Linger,
}

/// See the diagram above.
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

/// One handshake; see the module's documentation.
#[derive(Debug)]
pub struct Handshake {
    call: HandshakeConfig,
    role: HandshakeRole,
    state: State,
    /// The latest time that it was told.
    now: Timestamp,
    started: Timestamp,
    /// When the state ends by itself.
    ends: Timestamp,
    resend_at: Option<Timestamp>,
    isn: Option<Seq>,
    server_isn: Option<Seq>,
    /// Whom its SYN asks on the wire: a witness's kernel may translate the target within connect(2).
    asked: SocketAddr,
    /// Whether a witness's connection is closed, whatever its packets have yet to tell.
    released: bool,
    /// SYNs that were handed out by `poll_transmit`, and when the first and the last were.
    transmitted: u32,
    first_transmitted: Timestamp,
    last_transmitted: Timestamp,
    /// SYNs that were seen leaving.
    seen: u32,
    outcome: Outcome,
    exchange: Exchange,
    stream: Option<Box<Stream>>,
    syn_due: bool,
    reset_due: Option<SocketAddr>,
    record: Record,
}

impl Handshake {
    /// A handshake that has not begun.
    pub fn new(call: HandshakeConfig, role: HandshakeRole) -> Self {
        let isn = match role {
            HandshakeRole::Driver { isn, .. } => Some(isn),
            HandshakeRole::Observer => None,
        };
        Self {
            call,
            role,
            state: State::Idle,
            now: Timestamp::default(),
            started: Timestamp::default(),
            ends: Timestamp::default(),
            resend_at: None,
            isn,
            server_isn: None,
            asked: call.dst,
            released: false,
            transmitted: 0,
            first_transmitted: Timestamp::default(),
            last_transmitted: Timestamp::default(),
            seen: 0,
            outcome: Outcome::Timeout,
            exchange: Exchange::NotTried,
            stream: None,
            syn_due: false,
            reset_due: None,
            record: Record::default(),
        }
    }

    /// Begins.
    pub fn start(&mut self, now: Timestamp) {
        self.now = now;
        self.handle(Event::Start);
    }

    /// Takes a packet of this probe, with the payload as far as it was captured.
    pub fn observe(&mut self, observation: &Observation, payload: &[u8]) {
        // An answer that came after the deadline is late, also where the clock was read later still.
        self.handle_timeout(observation.at);
        match self.state {
            State::Idle | State::Done => {}
            State::SynSent
            | State::WrongSource
            | State::Rejected
            | State::Open
            | State::Closing => {
                self.record.push(observation);
                if self.role == HandshakeRole::Observer && self.isn.is_none() {
                    self.asked = self.asked_by(observation).unwrap_or(self.asked);
                }
                let view = View {
                    src: self.call.src,
                    dst: self.asked,
                    isn: self.isn,
                    server_isn: self.server_isn,
                    next_expected: self.stream.as_ref().map(|stream| stream.next_expected()),
                };
                self.handle(view.judge(observation, payload));
            }
        }
    }

    /// Keeps a packet that belongs to the time of this probe but is none of its own.
    pub fn note(&mut self, observation: &Observation) {
        self.record.insert(observation);
    }

    /// Tells a witness what its socket got; the connection is closed by now.
    pub fn set_exchange(&mut self, exchange: Exchange, now: Timestamp) {
        self.now = self.now.max(now);
        self.exchange = exchange;
        self.released = true;
        self.handle(Event::Released);
    }

    /// Tells a witness that connect() failed at once with this errno, and that its kernel sent no packet.
    pub fn refuse_locally(&mut self, errno: Errno, now: Timestamp) {
        self.now = self.now.max(now);
        self.released = true;
        self.handle(Event::RefusedLocally(errno));
    }

    /// Lets what is due happen.
    pub fn handle_timeout(&mut self, now: Timestamp) {
        self.now = self.now.max(now);
        while let Some((at, timer)) = self.poll_timeout() {
            if at > self.now {
                break;
            }
            match timer {
                Timer::Resend => self.handle(Event::Resend),
                Timer::Deadline
                | Timer::Mismatch
                | Timer::Unreachable
                | Timer::Exchange
                | Timer::Linger => self.handle(Event::Deadline),
            }
        }
    }

    /// When `handle_timeout` is to be called, and what for; `None` before the start and when done.
    pub fn poll_timeout(&self) -> Option<(Timestamp, Timer)> {
        let timer = match self.state {
            State::Idle | State::Done => return None,
            State::SynSent => Timer::Deadline,
            State::WrongSource => Timer::Mismatch,
            State::Rejected => Timer::Unreachable,
            State::Open => Timer::Exchange,
            State::Closing => Timer::Linger,
        };
        match self.resend_at {
            Some(at) if at < self.ends => Some((at, Timer::Resend)),
            Some(_) | None => Some((self.ends, timer)),
        }
    }

    /// Appends what is to be sent now.
    pub fn poll_transmit(&mut self, out: &mut Vec<TcpSegment>) {
        let (HandshakeRole::Driver { mss, .. }, Some(isn)) = (self.role, self.isn) else {
            return;
        };
        if self.syn_due {
            self.syn_due = false;
            if self.transmitted == 0 {
                self.first_transmitted = self.now;
            }
            self.last_transmitted = self.now;
            self.transmitted += 1;
            out.push(syn(self.call.src, self.call.dst, isn, mss, self.now));
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
            out.push(segment(self.call.src, dst, next, TcpFlags::RST));
        }
    }

    /// What the client saw, once nothing can change it.
    pub fn outcome(&self) -> Option<Outcome> {
        match self.state {
            State::Idle | State::SynSent | State::WrongSource | State::Rejected => None,
            State::Open | State::Closing | State::Done => Some(self.outcome),
        }
    }

    /// Whom the kernel asks, if this is its SYN. Where a program on connect(2) translates the address
    /// (socket-level load balancing), that is not the target.
    fn asked_by(&self, observation: &Observation) -> Option<SocketAddr> {
        let (_, tcp) = observation.packet.tcp()?;
        let is_own = observation.direction == Direction::Sent
            && tcp.flags.is_syn()
            && observation.packet.tcp_src() == Some(self.call.src);
        is_own.then(|| observation.packet.tcp_dst()).flatten()
    }

    /// Whether all is over.
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// The client's address and port.
    pub const fn src(&self) -> SocketAddr {
        self.call.src
    }

    /// When it started.
    pub const fn started(&self) -> Timestamp {
        self.started
    }

    /// Stops waiting: what was opened is reset, and the outcome is what was seen so far.
    pub fn abandon(&mut self) {
        self.expire();
    }

    /// The result, which takes the packets along; of a handshake that is not done, as far as it came.
    pub fn finish(&mut self) -> ProbeResult {
        let exchange = std::mem::replace(&mut self.exchange, Exchange::NotTried);
        let exchange = match &self.stream {
            Some(stream) => stream.exchange(),
            None => exchange,
        };
        ProbeResult {
            path: self.call.path,
            engine: match self.role {
                HandshakeRole::Driver { .. } => EngineKind::Raw,
                HandshakeRole::Observer => EngineKind::Kernel,
            },
            src: self.call.src,
            dst: self.call.dst,
            started: self.started,
            isn: self.isn,
            server_isn: self.server_isn,
            outcome: self.outcome,
            syns: if self.seen > 0 {
                self.seen
            } else {
                self.transmitted
            },
            exchange,
            observations: std::mem::take(&mut self.record).into_observations(),
        }
    }
}
