//! The result of one probe at its client's end: outcome, exchange after the handshake, and packets.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::packet::observation::{Direction, Observation};
use crate::packet::{Seq, Unreachable};
use crate::probe::banner::Banner;
use crate::time::Timestamp;
use crate::topology::PathId;

/// How one handshake ended for its client. The diagnosis names the causes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Outcome {
    /// The target answered SYN+ACK.
    Established {
        /// Time from the SYN that the SYN+ACK answers to the SYN+ACK, nanoseconds.
        rtt_ns: u64,
        /// Time from the first SYN to the SYN+ACK, nanoseconds.
        connect_ns: u64,
    },
    /// The target answered with an acceptable RST (RFC 9293 3.10.7.3).
    Reset {
        /// Its source address.
        by: IpAddr,
        /// The hop limit that it arrived with.
        hop_limit: u8,
    },
    /// An ICMP error that quotes the SYN; without packet capture, the errno that connect() makes of such an error.
    Unreachable {
        /// The router or host that sent it; `None` without packet capture.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<IpAddr>,
        /// Why.
        reason: Unreachable,
    },
    /// connect() failed at once: the client's own kernel refused it and did not send a packet.
    RefusedLocally {
        /// What connect() returned.
        errno: Errno,
    },
    /// The target did not answer, but another address answered its SYN.
    Mismatched {
        /// The address and port that answered.
        from: SocketAddr,
    },
    /// No answer before the deadline.
    Timeout,
}

impl Outcome {
    /// The outcome without its details.
    pub const fn kind(&self) -> OutcomeKind {
        match self {
            Self::Established { .. } => OutcomeKind::Established,
            Self::Reset { .. } => OutcomeKind::Reset,
            Self::Unreachable { .. } => OutcomeKind::Unreachable,
            Self::RefusedLocally { .. } => OutcomeKind::RefusedLocally,
            Self::Mismatched { .. } => OutcomeKind::Mismatched,
            Self::Timeout => OutcomeKind::Timeout,
        }
    }
}

/// The errno of a connect() that sent no packet (errno(3)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Errno {
    /// An unreachable route; or Cilium, for a Service without backend.
    Ehostunreach,
    /// No route leads to the address.
    Enetunreach,
    /// A prohibit route, or a security module.
    Eacces,
    /// An eBPF program on connect(2), or a security module.
    Eperm,
    /// An eBPF program on connect(2) that returns this errno.
    Econnrefused,
    /// A blackhole route.
    Einval,
    /// Any other.
    Other,
}

impl Errno {
    /// The name in errno(3).
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ehostunreach => "EHOSTUNREACH",
            Self::Enetunreach => "ENETUNREACH",
            Self::Eacces => "EACCES",
            Self::Eperm => "EPERM",
            Self::Econnrefused => "ECONNREFUSED",
            Self::Einval => "EINVAL",
            Self::Other => "another errno",
        }
    }

    /// A sentence that describes the failure, without its full stop.
    pub fn sentence(self) -> String {
        format!("connect() failed at once with {self}: the kernel sent no packet")
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The name of an outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OutcomeKind {
    /// See [`Outcome::Established`].
    Established,
    /// See [`Outcome::Reset`].
    Reset,
    /// See [`Outcome::Timeout`].
    Timeout,
    /// See [`Outcome::Unreachable`].
    Unreachable,
    /// See [`Outcome::RefusedLocally`].
    RefusedLocally,
    /// See [`Outcome::Mismatched`].
    Mismatched,
}

impl OutcomeKind {
    /// Every outcome, in the report's order.
    pub const ALL: [Self; 6] = [
        Self::Established,
        Self::Reset,
        Self::Timeout,
        Self::Unreachable,
        Self::RefusedLocally,
        Self::Mismatched,
    ];

    /// The name used in JSON and text.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Established => "established",
            Self::Reset => "reset",
            Self::Timeout => "timeout",
            Self::Unreachable => "unreachable",
            Self::RefusedLocally => "refused-locally",
            Self::Mismatched => "mismatched",
        }
    }
}

/// What sent the packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EngineKind {
    /// The kernel's connect(), as an application uses it.
    Kernel,
    /// Crafted segments on a raw socket.
    Raw,
}

/// How the connection went on after the handshake.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Exchange {
    /// The probe ended with the handshake.
    NotTried,
    /// No banner before the deadline.
    NoBanner,
    /// The server sent something other than a prober banner.
    InvalidBanner,
    /// The connection was reset after the handshake.
    Reset,
    /// The server sent its banner.
    BannerReceived {
        /// The banner, which names the server.
        banner: Banner,
        /// How the bulk echo ended.
        echo: Echo,
    },
}

impl Exchange {
    /// The banner, where one came.
    pub const fn banner(&self) -> Option<&Banner> {
        match self {
            Self::BannerReceived { banner, .. } => Some(banner),
            Self::NotTried | Self::NoBanner | Self::InvalidBanner | Self::Reset => None,
        }
    }
}

/// How the bulk echo ended, which detects MTU black holes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Echo {
    /// The plan requests no echo.
    NotTried,
    /// All bytes came back.
    Complete {
        /// Number of bytes.
        bytes: u32,
    },
    /// Not all bytes came back before the deadline.
    Stalled {
        /// Number of bytes handed to the kernel.
        sent: u32,
        /// Number of bytes that came back.
        received: u32,
    },
}

/// One probe as its client observed it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeResult {
    /// The path it belongs to.
    pub path: PathId,
    /// How it was sent.
    pub engine: EngineKind,
    /// The client's address and port.
    pub src: SocketAddr,
    /// The address and port of the target.
    pub dst: SocketAddr,
    /// When it started.
    pub started: Timestamp,
    /// The client's initial sequence number: identifies the probe at both ends. `None` in tier T0.
    pub isn: Option<Seq>,
    /// The server's initial sequence number, where its SYN+ACK was observed.
    pub server_isn: Option<Seq>,
    /// How the handshake ended.
    pub outcome: Outcome,
    /// Number of SYNs sent.
    pub syns: u32,
    /// How the connection went on after the handshake.
    pub exchange: Exchange,
    /// The packets of the probe that the client's end observed, in order.
    pub observations: Vec<Observation>,
}

impl ProbeResult {
    /// Whether the first SYN established the connection. The diagnosis uses this, since a retry hides a lost SYN.
    pub const fn is_first_syn_success(&self) -> bool {
        matches!(self.outcome, Outcome::Established { .. }) && self.syns <= 1
    }

    /// The destination of its first SYN, if the capture has it. Under socket-level load balancing, where an eBPF program
    /// on connect(2) translates the address, this is a backend and not `dst`.
    pub fn syn_destination(&self) -> Option<SocketAddr> {
        self.observations.iter().find_map(|seen| {
            let (_, tcp) = seen.packet.tcp()?;
            let is_own = seen.direction == Direction::Sent
                && tcp.flags.is_syn()
                && seen.packet.tcp_src() == Some(self.src);
            is_own.then(|| seen.packet.tcp_dst()).flatten()
        })
    }

    /// The address that socket-level load balancing translated `dst` to within connect().
    pub fn translated_in_connect(&self) -> Option<SocketAddr> {
        match self.engine {
            EngineKind::Kernel => self
                .syn_destination()
                .filter(|syn_destination| *syn_destination != self.dst),
            EngineKind::Raw => None,
        }
    }

    /// When a probe was answered, if it was.
    pub fn answered_at(&self) -> Option<Timestamp> {
        match self.outcome {
            Outcome::Established { connect_ns, .. } => {
                Some(self.started + Duration::from_nanos(connect_ns))
            }
            Outcome::Reset { .. }
            | Outcome::Unreachable { .. }
            | Outcome::RefusedLocally { .. }
            | Outcome::Mismatched { .. }
            | Outcome::Timeout => None,
        }
    }

    /// When the SYN was sent that was answered, if one was.
    pub fn answered_syn_sent_at(&self) -> Option<Timestamp> {
        match self.outcome {
            Outcome::Established { rtt_ns, connect_ns } => {
                Some(self.started + Duration::from_nanos(connect_ns.saturating_sub(rtt_ns)))
            }
            Outcome::Reset { .. }
            | Outcome::Unreachable { .. }
            | Outcome::RefusedLocally { .. }
            | Outcome::Mismatched { .. }
            | Outcome::Timeout => None,
        }
    }

    /// When a late probe's path opened: after its last unanswered SYN, before its answer.
    pub fn opening(&self) -> Option<(Timestamp, Option<Timestamp>)> {
        let is_answer = |seen: &&Observation| {
            seen.direction == Direction::Received
                && seen.packet.tcp_src() == Some(self.peer())
                && (seen.packet.tcp()).is_some_and(|(_, tcp)| tcp.flags.is_syn_ack())
        };
        let answered = self.observations.iter().find(is_answer);
        let answered = answered.map(|seen| seen.at);
        let before = match answered {
            Some(at) => self.syn_before_answer(at),
            None => self.sent_syns().next_back(),
        }?;
        Some((before, answered))
    }

    /// When the SYN was sent before the one that was answered at this time.
    pub fn syn_before_answer(&self, answered: Timestamp) -> Option<Timestamp> {
        let until = self.sent_syns().filter(|at| *at <= answered);
        until.rev().nth(1)
    }

    /// When its SYNs were sent, as captured.
    fn sent_syns(&self) -> impl DoubleEndedIterator<Item = Timestamp> {
        let is_sent = |seen: &&Observation| {
            seen.direction == Direction::Sent
                && (seen.packet.tcp()).is_some_and(|(_, tcp)| tcp.flags.is_syn())
        };
        self.observations.iter().filter(is_sent).map(|seen| seen.at)
    }

    /// The address and port that the right answer comes from.
    pub fn peer(&self) -> SocketAddr {
        self.translated_in_connect().unwrap_or(self.dst)
    }
}
