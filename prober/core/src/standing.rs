//! A standing agent: it probes by itself, round after round, what a [standing plan](crate::plan::standing) says.
//!
//! `draw` selects the paths of a round and `schedule` spreads them over its interval. Each result gets an `outcome`;
//! the recent ones of a path are its `track`, and enough failures among them raise an alert: the readiness gate closes, so
//! that the log is read. `metrics` count everything for Prometheus. `agent` holds all of this together as one state
//! machine: time and results are passed in, probes to send, lines to write and the state of the gate come out.

/// The state machine.
pub mod agent;
/// The paths of a round.
pub mod draw;
/// Counts and handshake times, as Prometheus reads them.
pub mod metrics;
/// What a result says about its path.
pub mod outcome;
/// When the probes of a round are due, and how many are sent at most.
pub mod schedule;
/// The recent results of one path.
pub mod track;

use std::net::{IpAddr, SocketAddr};

use crate::packet::family::Family;
use crate::topology::{AccessPath, AgentId, NodeName, Scope};

/// What a standing agent is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StandingRole {
    /// Probes its node's server, and its peers.
    Client,
    /// Answers probes, and probes its own slot.
    Server,
}

/// A path that a standing agent probes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StandingPath {
    /// How the server is addressed.
    pub access_path: AccessPath,
    /// The server that is expected to answer; `None` where any may, or any on the client's node.
    pub server: Option<AgentId>,
    /// The address and port.
    pub target: SocketAddr,
}

impl StandingPath {
    /// Its family.
    pub fn family(&self) -> Family {
        Family::of(self.target.ip())
    }

    /// Where its ends are, for a client on this node.
    pub fn scope(&self, node: &NodeName) -> Scope {
        match &self.server {
            None if self.access_path == AccessPath::ClusterIpLocal => Scope::SameNode,
            None => Scope::Any,
            Some(server) if server.node == *node => Scope::SameNode,
            Some(_) => Scope::CrossNode,
        }
    }
}

/// The server on a client's own node, learned from the one that answered there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnServer {
    /// The server.
    pub agent: AgentId,
    /// The addresses of its pod.
    pub addresses: Vec<IpAddr>,
}
