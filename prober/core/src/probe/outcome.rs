//! What a client sees of one probe: its outcome, the exchange after the handshake, and its packets.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use crate::packet::observation::{Direction, Observation};
use crate::packet::{Seq, Unreachable};
use crate::probe::banner::Banner;
use crate::time::Timestamp;
use crate::topology::PathId;

/// What the client saw of one handshake; no causes, which are the diagnosis's business.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Outcome {
    /// The address that was asked answered SYN+ACK.
    Established {
        /// From the SYN that was answered to its SYN+ACK, nanoseconds.
        rtt_ns: u64,
        /// From the first SYN to the SYN+ACK, nanoseconds.
        connect_ns: u64,
    },
    /// An acceptable RST from the address that was asked (RFC 9293 3.10.7.3).
    Reset {
        /// Who is in its source field.
        by: IpAddr,
        /// What was left of its TTL.
        hop_limit: u8,
    },
    /// An ICMP error that quotes the SYN; without packets, what connect() makes of one after a SYN has left.
    Unreachable {
        /// The router or host that sent it; `None` where no packet was seen.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<IpAddr>,
        /// Why.
        reason: Unreachable,
    },
    /// connect() failed at once: the client's own kernel refused it and sent no packet.
    RefusedLocally {
        /// What connect() returned.
        errno: Errno,
    },
    /// No answer from the address that was asked, but one from another.
    Mismatched {
        /// Who answered instead.
        from: SocketAddr,
    },
    /// Nothing came before the deadline.
    Timeout,
}

impl Outcome {
    /// The outcome's name alone.
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

/// What connect() returned although it sent no packet (errno(3)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Errno {
    /// A route that says unreachable; or Cilium's, for a Service without backend.
    Ehostunreach,
    /// No route leads to the address.
    Enetunreach,
    /// A route that says prohibited, or a security module.
    Eacces,
    /// A program on connect(2), or a security module.
    Eperm,
    /// A program on connect(2) that gives this errno.
    Econnrefused,
    /// A route that is a blackhole.
    Einval,
    /// Any other.
    Other,
}

impl Errno {
    /// The name that errno(3) has for it.
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

    /// What happened, as a sentence without its full stop.
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
    /// The kernel's own connect(): what an application suffers.
    Kernel,
    /// Crafted segments on a raw socket.
    Raw,
}

/// What came of an established connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Exchange {
    /// The probe ended with the handshake.
    NotTried,
    /// No banner before the deadline.
    NoBanner,
    /// The other side answered something that is no banner of ours.
    Foreign,
    /// The connection was reset after the handshake.
    Reset,
    /// The banner came.
    Greeted {
        /// Who answered.
        banner: Banner,
        /// What came of the bulk echo.
        echo: Echo,
    },
}

impl Exchange {
    /// The banner, where one came.
    pub const fn banner(&self) -> Option<&Banner> {
        match self {
            Self::Greeted { banner, .. } => Some(banner),
            Self::NotTried | Self::NoBanner | Self::Foreign | Self::Reset => None,
        }
    }
}

/// What came of the bulk echo that finds MTU black holes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Echo {
    /// No bytes were to be echoed.
    NotTried,
    /// All of them came back.
    Complete {
        /// How many.
        bytes: u32,
    },
    /// Not all of them came back before the deadline.
    Stalled {
        /// How many were handed to the kernel.
        sent: u32,
        /// How many came back.
        received: u32,
    },
}

/// One probe as its client saw it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeResult {
    /// The path it belongs to.
    pub path: PathId,
    /// What sent it.
    pub engine: EngineKind,
    /// The client's address and port.
    pub src: SocketAddr,
    /// The address and port that were asked.
    pub dst: SocketAddr,
    /// When it started.
    pub started: Timestamp,
    /// The client's initial sequence number: names the probe at both ends. `None` in tier T0.
    pub isn: Option<Seq>,
    /// The server's initial sequence number, once it was seen.
    pub server_isn: Option<Seq>,
    /// What the client saw.
    pub outcome: Outcome,
    /// How many SYNs were sent.
    pub syns: u32,
    /// What came of the connection afterwards.
    pub exchange: Exchange,
    /// Every packet of it that the client's end saw, in order.
    pub observations: Vec<Observation>,
}

impl ProbeResult {
    /// Established by the first SYN: what is judged, since a retry hides a lost SYN.
    pub const fn is_first_syn_success(&self) -> bool {
        matches!(self.outcome, Outcome::Established { .. }) && self.syns <= 1
    }

    /// The destination of its first SYN, if that was seen leaving. Where a program on connect(2) translates (socket-level
    /// load balancing), that is a backend's, not `dst`.
    pub fn asked(&self) -> Option<SocketAddr> {
        self.observations.iter().find_map(|seen| {
            let (_, tcp) = seen.packet.tcp()?;
            let is_own = seen.direction == Direction::Sent
                && tcp.flags.is_syn()
                && seen.packet.tcp_src() == Some(self.src);
            is_own.then(|| seen.packet.tcp_dst()).flatten()
        })
    }

    /// What connect() itself translated `dst` to, before any packet left.
    pub fn translated_in_connect(&self) -> Option<SocketAddr> {
        match self.engine {
            EngineKind::Kernel => self.asked().filter(|asked| *asked != self.dst),
            EngineKind::Raw => None,
        }
    }

    /// Whose answer is the right one.
    pub fn peer(&self) -> SocketAddr {
        self.translated_in_connect().unwrap_or(self.dst)
    }
}
