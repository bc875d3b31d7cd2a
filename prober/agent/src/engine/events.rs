//! What the engines tell the agent's main task.

use std::time::Duration;

use prober_core::node_facts::NodeFacts;
use prober_core::probe::event::{ServerTrace, TtlProbe};
use prober_core::probe::outcome::ProbeResult;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};

/// Something that an engine has to tell.
#[derive(Debug)]
pub(crate) enum EngineEvent {
    /// About a probe of the plan with this generation.
    Probe(u32, ProbeEvent),
    /// What the node says, read for the plan with this generation.
    NodeFacts(u32, FactsResult),
    /// What this end saw as a server.
    ServerTrace(Vec<ServerTrace>),
    /// How complete the packets are, since the start.
    Capture {
        /// Packets that the ring gave.
        received: u64,
        /// Packets that it lost.
        dropped: u64,
    },
    /// The agent was late by so much for what it had to do.
    Late(Duration),
    /// Something that a person should know.
    Notice(String),
    /// The packets thread has ended, for that reason.
    PacketThreadFailed(String),
}

/// What a node says, or why it was not read.
pub(crate) type FactsResult = Result<Box<NodeFacts>, String>;

/// Something about the probes of one plan.
#[derive(Debug)]
pub(crate) enum ProbeEvent {
    /// One has its outcome.
    Result(Box<ProbeResult>),
    /// A ttl_probe has ended.
    TtlProbe(TtlProbe),
    /// That many could not be sent, which says nothing about the network.
    Unsent(u64, String),
}

/// The least lateness that is events: timers are always a little late, and nobody judges by less.
const MIN_LATENESS: Duration = Duration::from_millis(100);

impl EngineEvent {
    /// That something began so late, if that is events.
    pub(crate) fn if_late(late: Duration) -> Option<Self> {
        (late >= MIN_LATENESS).then_some(Self::Late(late))
    }
}

/// Where events go in.
pub(crate) type EngineEventSender = UnboundedSender<EngineEvent>;
/// Where events come out.
pub(crate) type EngineEventReceiver = UnboundedReceiver<EngineEvent>;
