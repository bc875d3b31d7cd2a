//! What a result of a standing probe says about its path.

use super::StandingPath;
use crate::probe::banner::Banner;
use crate::probe::outcome::{Echo, Exchange, Outcome, ProbeResult};
use crate::topology::{AccessPath, AgentId};

/// The outcome of a standing probe, of its handshake and of what follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum StandingOutcome {
    /// The first SYN was answered, and everything after it.
    Established,
    /// A repeated SYN was answered.
    Late,
    /// See [`Outcome::Reset`]; also a connection that was reset after its handshake.
    Reset,
    /// See [`Outcome::Timeout`].
    Timeout,
    /// See [`Outcome::Unreachable`].
    Unreachable,
    /// See [`Outcome::RefusedLocally`].
    RefusedLocally,
    /// See [`Outcome::Mismatched`].
    Mismatched,
    /// The handshake was completed, and nothing more arrived.
    NoBanner,
    /// The handshake was completed, and not all bytes of the echo came back.
    Stalled,
    /// The server that answered is not a responder of prober.
    InvalidBanner,
    /// Another server answered than the plan says.
    OtherServer,
}

impl StandingOutcome {
    /// Every outcome, in the order of metrics.
    pub const ALL: [Self; 11] = [
        Self::Established,
        Self::Late,
        Self::Reset,
        Self::Timeout,
        Self::Unreachable,
        Self::RefusedLocally,
        Self::Mismatched,
        Self::NoBanner,
        Self::Stalled,
        Self::InvalidBanner,
        Self::OtherServer,
    ];

    /// The outcome of a result on this path, for a client. `nonce` is that of the plan.
    pub fn of(result: &ProbeResult, path: &StandingPath, client: &AgentId, nonce: u64) -> Self {
        match result.outcome {
            Outcome::Established { .. } => {}
            Outcome::Reset { .. } => return Self::Reset,
            Outcome::Timeout => return Self::Timeout,
            Outcome::Unreachable { .. } => return Self::Unreachable,
            Outcome::RefusedLocally { .. } => return Self::RefusedLocally,
            Outcome::Mismatched { .. } => return Self::Mismatched,
        }
        match &result.exchange {
            Exchange::NoBanner => return Self::NoBanner,
            Exchange::InvalidBanner => return Self::InvalidBanner,
            Exchange::Reset => return Self::Reset,
            Exchange::BannerReceived { banner, .. }
                if !is_expected(banner, path, client, nonce) =>
            {
                return Self::OtherServer;
            }
            Exchange::BannerReceived {
                echo: Echo::Stalled { .. },
                ..
            } => return Self::Stalled,
            Exchange::BannerReceived {
                echo: Echo::NotTried | Echo::Complete { .. },
                ..
            }
            | Exchange::NotTried => {}
        }
        if result.is_first_syn_success() {
            Self::Established
        } else {
            Self::Late
        }
    }

    /// Whether something answered, and wrongly: a client that gets too little processor time is no reason for that.
    pub const fn is_wrong_answer(self) -> bool {
        match self {
            Self::Reset
            | Self::Unreachable
            | Self::RefusedLocally
            | Self::Mismatched
            | Self::InvalidBanner => true,
            Self::Established
            | Self::Late
            | Self::Timeout
            | Self::NoBanner
            | Self::Stalled
            | Self::OtherServer => false,
        }
    }

    /// The name in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Established => "established",
            Self::Late => "late",
            Self::Reset => "reset",
            Self::Timeout => "timeout",
            Self::Unreachable => "unreachable",
            Self::RefusedLocally => "refused-locally",
            Self::Mismatched => "mismatched",
            Self::NoBanner => "no-banner",
            Self::Stalled => "stalled",
            Self::InvalidBanner => "invalid-banner",
            Self::OtherServer => "other-server",
        }
    }
}

/// Whether a banner is that of the server which the path leads to. A server that has not read the plan yet has the nonce 0.
fn is_expected(banner: &Banner, path: &StandingPath, client: &AgentId, nonce: u64) -> bool {
    let is_server = match (&path.server, path.access_path) {
        (Some(server), _) => banner.pod == server.pod && banner.node == server.node,
        (None, AccessPath::ClusterIpLocal) => banner.node == client.node,
        (None, _) => true,
    };
    is_server && (banner.nonce == nonce || banner.nonce == 0)
}
