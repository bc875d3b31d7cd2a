//! The tier of evidence: how much an agent and a run can observe.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How much evidence can be collected. Every report states its tier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Tier {
    /// No capability: results of connect() and counters.
    T0,
    /// `CAP_NET_RAW`: the packets of both ends.
    T1,
    /// Also the facts of the nodes.
    T2,
}

impl Tier {
    /// The name used in JSON, flags and text.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::T0 => "T0",
            Self::T1 => "T1",
            Self::T2 => "T2",
        }
    }
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
