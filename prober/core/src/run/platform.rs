//! What a run and its fleet say to each other, over two channels.

use std::net::{IpAddr, SocketAddr};

use super::endpoint_slices::EndpointSlices;
use crate::plan::Plan;
use crate::probe::event::Event;
use crate::topology::{AgentId, Role};

/// What a run asks of its fleet.
#[derive(Clone, Debug, PartialEq)]
pub enum PlatformCommand {
    /// Start these agents, beside those that are there. Each is answered by `AgentReady` or
    /// `AgentFailed`.
    Place(Vec<Placement>),
    /// Make the test Services lead to these agents. Answered by `Published` or `Failed`.
    Publish(Endpoints),
    /// Give an agent its next plan.
    SendPlan(Plan),
    /// Read no agent's log until `ResumeLogs`; an agent with something to report meanwhile is an `Alert`.
    PauseLogs,
    /// Read every agent's log again, from where reading stopped.
    ResumeLogs,
    /// Remove everything that was placed. Answered by `Removed`.
    Remove,
}

/// One agent to be started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    /// Its name and node.
    pub agent: AgentId,
    /// What it is there for. A fleet that cannot place a host says `AgentFailed` of it, which
    /// never ends a run.
    pub role: Role,
    /// Its first plan, which it is started with.
    pub plan: Plan,
}

/// Which agents are behind the test Services' ports.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Endpoints {
    /// Slot `k` of the Service `prober` leads to the `k`-th of these.
    pub slots: Vec<AgentId>,
    /// The port `any` is balanced over these.
    pub any: Vec<AgentId>,
    /// Each is an endpoint of its node's `prober-local`: every server that runs.
    pub local: Vec<AgentId>,
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
    /// Slot `k`'s node port at the address of its server's node, one per family; empty where
    /// there is none.
    pub node_ports: Vec<Vec<SocketAddr>>,
    /// What their EndpointSlices say; `None`: not read, and taken for what was asked.
    pub slices: Option<EndpointSlices>,
    /// Whether the nodes know of it.
    pub rules: Rules,
}

/// Whether the nodes' rules lead where the Services should.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rules {
    /// They do, as far as they ever will.
    #[default]
    Written,
    /// Whoever writes them has been told, and may not have done it. Those of `any` are told last.
    Underway,
}

/// What a fleet tells its run.
#[derive(Clone, Debug, PartialEq)]
pub enum PlatformEvent {
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
        /// Why, as a sentence without its full stop.
        reason: String,
    },
    /// The test Services lead where they should.
    Published(Published),
    /// A line of an agent. What a node says of itself comes as a host's `Event::Facts`.
    AgentLine {
        /// The agent.
        agent: AgentId,
        /// What it says.
        event: Event,
    },
    /// An agent whose log is not read has something to report, or is no longer ready, which may mean the same.
    Alert {
        /// The agent.
        agent: AgentId,
    },
    /// A sentence for the report's notes.
    Note(String),
    /// The fleet cannot go on: why, as a sentence without its full stop. The run ends with what
    /// was measured until then.
    Failed(String),
    /// Everything is removed.
    Removed,
    /// The user wants it to end.
    Interrupted,
}
