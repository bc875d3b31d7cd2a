//! The commands of a run to its platform, and the platform's events.

use std::net::{IpAddr, SocketAddr};

use super::endpoint_slices::EndpointSlices;
use crate::plan::Plan;
use crate::probe::event::Event;
use crate::topology::{AgentId, AgentRole};

/// A command to the platform.
#[derive(Clone, Debug, PartialEq)]
pub enum PlatformCommand {
    /// Start these agents, in addition to those that run. Each is answered by `AgentReady` or `AgentFailed`.
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
    /// Its role. A platform that cannot place a host agent reports `AgentFailed` for it, which never ends a run.
    pub role: AgentRole,
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
    /// What their EndpointSlices hold; `None`: not read, and taken for what was requested.
    pub slices: Option<EndpointSlices>,
    /// Whether the nodes' rules are written.
    pub rules: Rules,
}

/// Whether the nodes' rules lead where the Services should.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rules {
    /// They do, as far as they ever will.
    #[default]
    Written,
    /// The component that writes them has been notified, and may not have written them. Those of `any` are notified last.
    Underway,
}

/// What a platform reports to its run.
#[derive(Clone, Debug, PartialEq)]
pub enum PlatformEvent {
    /// An agent runs.
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
    /// A line of an agent. The facts of a node are a host agent's `Event::Facts`.
    AgentLine {
        /// The agent.
        agent: AgentId,
        /// The event that the line holds.
        event: Event,
    },
    /// An agent whose log is not read has something to report, or is no longer ready, which may mean the same.
    Alert {
        /// The agent.
        agent: AgentId,
    },
    /// A sentence for the report's notes.
    Note(String),
    /// The platform cannot go on: why, as a sentence without its full stop. The run ends with what was measured until then.
    Failed(String),
    /// Everything is removed.
    Removed,
    /// The user ends the run.
    Interrupted,
}
