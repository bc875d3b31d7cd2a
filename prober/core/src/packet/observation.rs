//! One packet as one end sees it: its time, its direction and its contents.

use serde::{Deserialize, Serialize};

use crate::packet::Packet;
use crate::time::Timestamp;

/// Which way a packet went, as its observer sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    /// The observer sent it.
    Sent,
    /// It came to the observer.
    Received,
    /// It came by but was meant for somebody else: never an answer.
    Overheard,
}

/// One packet, seen by one end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observation {
    /// The kernel's stamp, on the observer's clock.
    pub at: Timestamp,
    /// Which way it went.
    pub direction: Direction,
    /// The packet.
    pub packet: Packet,
}
