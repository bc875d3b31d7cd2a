//! A packet as one end observes it: time, direction and contents.

use serde::{Deserialize, Serialize};

use crate::packet::Packet;
use crate::time::Timestamp;

/// The direction of a packet, relative to its observer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    /// The observer sent it.
    Sent,
    /// The observer received it.
    Received,
    /// Addressed to another host: never an answer.
    Overheard,
}

/// One packet, observed at one end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observation {
    /// The kernel's timestamp, on the observer's clock.
    pub at: Timestamp,
    /// Its direction.
    pub direction: Direction,
    /// The packet.
    pub packet: Packet,
}
