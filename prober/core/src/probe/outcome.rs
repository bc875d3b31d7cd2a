//! What a client sees of one probe: its outcome, the exchange after the handshake, and its packets.

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use crate::packet::observation::Observation;
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
    /// An ICMP error that quotes the SYN.
    Unreachable {
        /// The router or host that sent it.
        by: IpAddr,
        /// Why.
        reason: Unreachable,
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
            Self::Mismatched { .. } => OutcomeKind::Mismatched,
            Self::Timeout => OutcomeKind::Timeout,
        }
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
    /// See [`Outcome::Mismatched`].
    Mismatched,
}

impl OutcomeKind {
    /// Every outcome, in the report's order.
    pub const ALL: [Self; 5] = [
        Self::Established,
        Self::Reset,
        Self::Timeout,
        Self::Unreachable,
        Self::Mismatched,
    ];

    /// The name used in JSON and text.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Established => "established",
            Self::Reset => "reset",
            Self::Timeout => "timeout",
            Self::Unreachable => "unreachable",
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
}
