//! What the main task asks of the packets thread.

use std::net::SocketAddr;
use std::time::Duration;

use prober_core::plan::ProbePlan;
use prober_core::probe::in_flight::pacing::Pace;
use prober_core::probe::outcome::{Errno, Exchange};
use prober_core::time::Timestamp;
use prober_core::topology::PathId;

/// What the main task asks of the packets thread.
#[derive(Debug)]
pub(crate) enum PacketCommand {
    /// Do the crafted probes of this plan beside what is under way, and witness on its ports instead of others.
    StartPlan(RawPlan),
    /// End what is under way: it belongs to a run that is over.
    Abandon,
    /// The kernel is about to connect.
    WatchConnect {
        /// The plan's generation.
        generation: u32,
        /// The path that the probe belongs to.
        path: PathId,
        /// The source that it is bound to.
        src: SocketAddr,
        /// Whom it is going to ask.
        dst: SocketAddr,
        /// How long it waits.
        deadline: Duration,
        /// When.
        at: Timestamp,
    },
    /// The kernel's connection from that source is over.
    ConnectEnded {
        /// Its source.
        src: SocketAddr,
        /// What came of it after the handshake.
        exchange: Exchange,
    },
    /// The kernel refused to connect from that source at once, and sent no packet.
    ConnectRefused {
        /// Its source.
        src: SocketAddr,
        /// What connect() returned.
        errno: Errno,
    },
    /// The probe from that source could not be made, for that reason.
    NotSent {
        /// Its source.
        src: SocketAddr,
        /// Why.
        why: String,
    },
    /// Tell what is there, and end.
    Stop,
}

/// What concerns the packets thread of a plan.
#[derive(Debug)]
pub(crate) struct RawPlan {
    /// The plan's generation.
    pub(crate) generation: u32,
    /// The probes with crafted segments.
    pub(crate) probes: Vec<ProbePlan>,
    /// The ports on which this agent answers.
    pub(crate) ports: Vec<u16>,
    /// From when on.
    pub(crate) start: Timestamp,
    /// How strictly its times are kept.
    pub(crate) pace: Pace,
}
