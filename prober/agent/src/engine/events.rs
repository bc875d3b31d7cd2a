//! Events of the engines, for the main task.

use std::time::Duration;

use prober_core::node_facts::NodeFacts;
use prober_core::probe::event::{ServerTrace, TtlProbe};
use prober_core::probe::outcome::ProbeResult;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};

/// An event of an engine.
#[derive(Debug)]
pub(crate) enum EngineEvent {
    /// About a probe of the plan with this generation.
    Probe(u32, ProbeEvent),
    /// The facts of the node, read for the plan with this generation.
    NodeFacts(u32, FactsResult),
    /// What this end saw of handshakes as a server.
    ServerTrace(Vec<ServerTrace>),
    /// Counts of the capture since its start.
    Capture {
        /// Packets that were captured.
        received: u64,
        /// Packets that the capture lost.
        dropped: u64,
    },
    /// The agent woke up so much later than something was due.
    Late(Duration),
    /// A text for the reader of the log.
    Notice(String),
    /// The packet thread has ended, for this reason.
    PacketThreadFailed(String),
}

/// The facts of a node, or why they were not read.
pub(crate) type FactsResult = Result<Box<NodeFacts>, String>;

/// An event about the probes of one plan.
#[derive(Debug)]
pub(crate) enum ProbeEvent {
    /// A probe has its outcome.
    Result(Box<ProbeResult>),
    /// A TTL probe has ended.
    TtlProbe(TtlProbe),
    /// So many probes were not sent, for this reason; that says nothing about the network.
    Unsent(u64, String),
}

/// The least lateness that is reported: timers are always a little late.
const MIN_LATENESS: Duration = Duration::from_millis(100);

impl EngineEvent {
    /// An event, if something was late enough to be reported.
    pub(crate) fn if_late(late: Duration) -> Option<Self> {
        (late >= MIN_LATENESS).then_some(Self::Late(late))
    }
}

/// The sender of events.
pub(crate) type EngineEventSender = UnboundedSender<EngineEvent>;
/// The receiver of events.
pub(crate) type EngineEventReceiver = UnboundedReceiver<EngineEvent>;
