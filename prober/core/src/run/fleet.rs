//! What a run and its fleet say to each other, over two channels.

use std::net::{IpAddr, SocketAddr};

use super::slices::Slices;
use crate::event::Event;
use crate::facts::NodeFacts;
use crate::plan::Plan;
use crate::topology::{AgentId, NodeName, Role};

/// What a run asks of its fleet.
#[derive(Clone, Debug, PartialEq)]
pub enum FleetCommand {
    /// Read what these nodes say of themselves.
    ReadFacts(Vec<NodeName>),
    /// Start these agents. Each is answered by `AgentReady` or `AgentFailed`.
    Place(Vec<Placement>),
    /// Make the test Services lead to these agents. Answered by `Published` or `Failed`.
    Publish(Endpoints),
    /// Give an agent its (next) plan.
    SendPlan(Plan),
    /// Remove everything that was placed. Answered by `Removed`.
    Remove,
}

/// One agent to be started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    /// Its name and node.
    pub agent: AgentId,
    /// What it is there for.
    pub role: Role,
}

/// Which agents are behind the test Services' ports.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Endpoints {
    /// Slot `k` of the Service `prober` leads to the `k`-th of these.
    pub slots: Vec<AgentId>,
    /// The port `any` is balanced over these; each is its node's endpoint of `prober-local`.
    pub any: Vec<AgentId>,
}

/// Where the test Services can be reached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Published {
    /// Addresses and ports of slot `k`, one per family.
    pub slots: Vec<Vec<SocketAddr>>,
    /// Addresses and ports of `any`, one per family.
    pub any: Vec<SocketAddr>,
    /// Addresses and ports of `prober-local`, one per family.
    pub local: Vec<SocketAddr>,
    /// What their EndpointSlices say; `None`: not read, and taken for what was asked.
    pub slices: Option<Slices>,
}

/// What a fleet tells its run.
#[derive(Clone, Debug, PartialEq)]
pub enum FleetEvent {
    /// What a node said of itself; `Err` says why it could not be read.
    Facts(NodeName, Result<Box<NodeFacts>, String>),
    /// An agent runs and is addressed so.
    AgentReady {
        /// The agent.
        agent: AgentId,
        /// Its addresses.
        addresses: Vec<IpAddr>,
    },
    /// An agent could not be started, or ended too early; never a network fault.
    AgentFailed {
        /// The agent.
        agent: AgentId,
        /// Why, as a sentence.
        reason: String,
    },
    /// The test Services lead where they should.
    Published(Published),
    /// A line of an agent.
    AgentLine {
        /// The agent.
        agent: AgentId,
        /// What it says.
        event: Event,
    },
    /// The fleet cannot go on.
    Failed(String),
    /// Everything is removed.
    Removed,
    /// The user wants it to end.
    Interrupted,
}
