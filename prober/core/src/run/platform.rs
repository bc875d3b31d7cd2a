//! The commands of a run to its platform, and the platform's events.

use std::net::{IpAddr, SocketAddr};

use super::endpoint_slices::EndpointSlices;
use crate::plan::Plan;
use crate::probe::event::Event;
use crate::topology::{AgentId, AgentRole};

/// A command to the platform.
#[derive(Clone, Debug, PartialEq)]
pub enum PlatformCommand {
    /// Starts these agents, in addition to those that run. Each is answered by `AgentReady` or `AgentFailed`.
    Place(Vec<Placement>),
    /// Makes the test Services lead to these agents. Answered by `Published` or `Failed`.
    Publish(Endpoints),
    /// Sends an agent its next plan.
    SendPlan(Plan),
    /// Pauses the reading of all logs until `ResumeLogs`; an agent with something to report meanwhile is an `Alert`.
    PauseLogs,
    /// Resumes the reading of every agent's log, from where it stopped.
    ResumeLogs,
    /// Removes everything that was placed. Answered by `Removed`.
    Remove,
}

/// One agent to be started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    /// Its name and node.
    pub agent: AgentId,
    /// Its role. A platform that cannot place a host agent reports `AgentFailed` for it, which never ends a run.
    pub role: AgentRole,
    /// The plan that it is started with.
    pub plan: Plan,
}

/// The agents behind the test Services' ports.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Endpoints {
    /// Slot `k` of the Service `prober` leads to the `k`-th of these.
    pub slots: Vec<AgentId>,
    /// The port `any` is balanced over these.
    pub any: Vec<AgentId>,
    /// Each is an endpoint of its node's `prober-local`: every running server.
    pub local: Vec<AgentId>,
}

/// The addresses of the test Services.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Published {
    /// Addresses and ports of slot `k`, one per family; none if all slots are taken.
    pub slots: Vec<Vec<SocketAddr>>,
    /// Addresses and ports of `any`, one per family.
    pub any: Vec<SocketAddr>,
    /// Addresses and ports of `prober-local`, one per family.
    pub local: Vec<SocketAddr>,
    /// Slot `k`'s node port at the address of its server's node, one per family; empty where
    /// there is none.
    pub node_ports: Vec<Vec<SocketAddr>>,
    /// The contents of their EndpointSlices; `None`: not read, assumed to be as requested.
    pub slices: Option<EndpointSlices>,
    /// Whether the nodes' rules are written.
    pub rules: Rules,
}

/// Whether the nodes' rules lead to the Services' endpoints.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Rules {
    /// They do, unless there is a fault.
    #[default]
    Written,
    /// The component that writes them has been notified, and may not have written them yet. Those that lead to these addresses are
    /// written last: agents wait until they answer.
    Underway(Vec<SocketAddr>),
}

/// An event of a platform for its run.
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
        /// The reason, as a sentence without its full stop.
        reason: String,
    },
    /// The test Services lead to their endpoints.
    Published(Published),
    /// A line of an agent. The facts of a node are a host agent's `Event::Facts`.
    AgentLine {
        /// The agent.
        agent: AgentId,
        /// The event that the line holds.
        event: Event,
    },
    /// An agent with an unread log has something to report, or is no longer ready, which may mean the same.
    Alert {
        /// The agent.
        agent: AgentId,
    },
    /// A sentence for the report's notes.
    Note(String),
    /// The platform cannot continue: the reason, as a sentence without its full stop. The run ends with the evidence so far.
    Failed(String),
    /// Everything is removed.
    Removed,
    /// The user ends the run.
    Interrupted,
}
