//! What happened to each connection of a capture, in stable words for scripts.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::time::Timestamp;
use crate::topology::PathId;

/// What happened to the connections of captures.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connections {
    /// Each connection, those that failed first, each kind in the order of time.
    pub listed: Vec<ConnectionReport>,
    /// The number of further ones.
    pub omitted: u64,
}

/// One attempt to connect, as all captures together show it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectionReport {
    /// The path that it is part of; `None` if it is on none, since it is not judged.
    pub path: Option<PathId>,
    /// The client.
    pub client: SocketAddr,
    /// The address and port that the client addresses.
    pub target: SocketAddr,
    /// When its first packet was captured, on the clock of the place that is nearest to the client.
    pub started: Timestamp,
    /// What happened.
    pub outcome: ConnectionOutcome,
    /// The same in words, as a predicate such as "is refused by RST".
    pub summary: String,
    /// Where it was captured: nearest to the client, and nearest to the server where that is another place.
    pub captured: Vec<CapturedAt>,
}

/// What happened to a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ConnectionOutcome {
    /// A RST of the target refused the SYN.
    Refused,
    /// A RST of another address came, which the client ignores.
    RefusedByAnother,
    /// An ICMP error refused the SYN.
    Unreachable,
    /// Nothing that counts answered the SYNs.
    Unanswered,
    /// Another address answered SYN+ACK.
    AnsweredByAnother,
    /// Two different SYN+ACKs answered one SYN.
    AnsweredTwice,
    /// The SYN+ACK was repeated: the server did not take the client's ACK.
    HalfOpen,
    /// It was established, and payload was repeated and never acknowledged, or is missing, or too large for a next hop.
    Stalled,
    /// It was established, and a RST ended it before it was used, or one that the end did not send itself.
    Reset,
    /// The client refused the right answer.
    RefusedByClient,
    /// The SYN went around in a loop of routers.
    Looping,
    /// The captures have too little of it to judge it.
    Undecided,
    /// It was established after more than one SYN, or after 900 ms.
    Late,
    /// It was established, and what followed is ordinary.
    Established,
}

/// Where a connection was captured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CapturedAt {
    /// On the client's host.
    Client,
    /// Between client and server, such as on a node that forwards.
    Between,
    /// On the server's host.
    Server,
}

impl ConnectionOutcome {
    /// The outcome as in JSON, such as `refused`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::RefusedByAnother => "refused-by-another",
            Self::Unreachable => "unreachable",
            Self::Unanswered => "unanswered",
            Self::AnsweredByAnother => "answered-by-another",
            Self::AnsweredTwice => "answered-twice",
            Self::HalfOpen => "half-open",
            Self::Stalled => "stalled",
            Self::Reset => "reset",
            Self::RefusedByClient => "refused-by-client",
            Self::Looping => "looping",
            Self::Undecided => "undecided",
            Self::Late => "late",
            Self::Established => "established",
        }
    }

    /// Whether it is a failure.
    pub const fn is_failure(self) -> bool {
        !matches!(self, Self::Undecided | Self::Late | Self::Established)
    }
}
