//! Commands of the main task to the packet thread.

use std::net::SocketAddr;
use std::time::Duration;

use prober_core::plan::ProbePlan;
use prober_core::probe::in_flight::pacing::Pace;
use prober_core::probe::outcome::{Errno, Exchange};
use prober_core::time::Timestamp;
use prober_core::topology::PathId;

use crate::engine::events::PlanId;

/// A command to the packet thread.
#[derive(Debug)]
pub(crate) enum PacketCommand {
    /// Start the crafted probes of a plan beside those under way.
    StartPlan(RawPlan),
    /// End all probes under way without an outcome.
    Abandon,
    /// Start no more probes of accepted plans; those of the standing plan go on.
    AbandonAccepted,
    /// The kernel is about to connect: watch the packets of this connection.
    WatchConnect {
        /// The plan.
        id: PlanId,
        /// The path that the probe belongs to.
        path: PathId,
        /// The bound source of the connection.
        src: SocketAddr,
        /// The target.
        dst: SocketAddr,
        /// The time that the handshake may take.
        deadline: Duration,
        /// When connect() is called.
        at: Timestamp,
    },
    /// A connection of the kernel has ended.
    ConnectEnded {
        /// Its source.
        src: SocketAddr,
        /// What came of it after the handshake.
        exchange: Exchange,
    },
    /// The kernel refused connect() at once, and sent no packet.
    ConnectRefused {
        /// Its source.
        src: SocketAddr,
        /// The error of connect().
        errno: Errno,
    },
    /// No probe was sent from a source that is watched.
    NotSent {
        /// Its source.
        src: SocketAddr,
        /// The reason.
        why: String,
    },
    /// Report all results, and end.
    Stop,
}

/// The part of a plan that the packet thread carries out.
#[derive(Debug)]
pub(crate) struct RawPlan {
    /// The plan.
    pub(crate) id: PlanId,
    /// The crafted probes.
    pub(crate) probes: Vec<ProbePlan>,
    /// The ports of the responder, at which handshakes are traced from now on; `None`: as before.
    pub(crate) ports: Option<Vec<u16>>,
    /// The time that the plan counts from.
    pub(crate) start: Timestamp,
    /// How exactly the times of the plan are kept.
    pub(crate) pace: Pace,
}
