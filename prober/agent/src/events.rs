//! What the engines tell the agent's main task.

use std::time::Duration;

use prober_core::node_facts::NodeFacts;
use prober_core::probe::event::{ServerTrace, TtlProbe};
use prober_core::probe::outcome::ProbeResult;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};

/// Something that an engine has to tell.
#[derive(Debug)]
pub(crate) enum News {
    /// About a probe of the plan with this generation.
    Round(u32, Progress),
    /// What the node says, read for the plan with this generation.
    Read(u32, Read),
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
    Trouble(String),
    /// The packets thread has ended, for that reason.
    Failed(String),
}

/// What a node says, or why it was not read.
pub(crate) type Read = Result<Box<NodeFacts>, String>;

/// Something about the probes of one plan.
#[derive(Debug)]
pub(crate) enum Progress {
    /// One has its outcome.
    Result(Box<ProbeResult>),
    /// A ladder has ended.
    TtlProbe(TtlProbe),
    /// That many could not be sent, which says nothing about the network.
    Unsent(u64, String),
}

/// The least lateness that is news: timers are always a little late, and nobody judges by less.
const LEAST_LATENESS: Duration = Duration::from_millis(100);

impl News {
    /// That something began so late, if that is news.
    pub(crate) fn of_lateness(late: Duration) -> Option<Self> {
        (late >= LEAST_LATENESS).then_some(Self::Late(late))
    }
}

/// Where news go in.
pub(crate) type NewsSender = UnboundedSender<News>;
/// Where news come out.
pub(crate) type NewsReceiver = UnboundedReceiver<News>;
