//! Samples: the interface between the exporter and the rest of the program.

use std::sync::Arc;
use std::time::Duration;

use prober_core::packet::family::Family;
use prober_core::probe::outcome::OutcomeKind;
use prober_core::report::CauseName;
use prober_core::topology::{AccessPath, NodeName, Scope};

use super::trace::Trace;

/// One sample.
#[derive(Clone, Debug, PartialEq)]
pub enum Sample {
    /// A probe of a client on `node` has ended.
    Handshake {
        /// The client's node.
        node: NodeName,
        /// Where the server is relative to the client.
        peer_scope: Scope,
        /// How the server was addressed.
        access_path: AccessPath,
        /// The IP family.
        family: Family,
        /// What the client observed.
        outcome: OutcomeKind,
        /// What explains it, once it is diagnosed; `None` for what needs no explanation.
        cause: Option<CauseName>,
        /// From the first SYN to the answer; `None` if there was none.
        duration: Option<Duration>,
    },
    /// The state of all paths of one class from `node`.
    Path {
        /// The check that reports it.
        check: Arc<str>,
        /// The clients' node.
        node: NodeName,
        /// How the servers are addressed.
        access_path: AccessPath,
        /// The IP family.
        family: Family,
        /// Where the servers are relative to the clients.
        scope: Scope,
        /// Whether all of them work.
        healthy: bool,
    },
    /// The state of a node.
    Node {
        /// The check that reports it.
        check: Arc<str>,
        /// The node.
        node: NodeName,
        /// Whether no confirmed failure involves it.
        healthy: bool,
    },
    /// A check no longer probes a node, whose metrics end if no other check does.
    NodeRemoved {
        /// The check.
        check: Arc<str>,
        /// The node.
        node: NodeName,
    },
    /// How many of all pairs were probed within the last cycle.
    Coverage {
        /// The check that reports it.
        check: Arc<str>,
        /// Pairs of nodes that were probed.
        pairs: u64,
        /// All pairs of nodes.
        total: u64,
    },
    /// The number of agents in a state.
    Agents {
        /// The check that reports it.
        check: Arc<str>,
        /// The state.
        state: AgentState,
        /// The number.
        count: u64,
    },
    /// A new agent had its first established handshake.
    FirstConnectivity {
        /// The agent's node.
        node: NodeName,
        /// From its start until then.
        duration: Duration,
    },
    /// The trace of a failure that was confirmed or has changed, or of a healthy probe.
    Trace(Box<Trace>),
}

/// The state of an agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AgentState {
    /// Its pod exists and does not run yet.
    Pending,
    /// It probes.
    Running,
    /// It runs and does not report.
    Silent,
    /// It could not be started, or ended too early.
    Failed,
}

impl AgentState {
    /// Every state.
    pub const ALL: [Self; 4] = [Self::Pending, Self::Running, Self::Silent, Self::Failed];

    /// The name used in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Silent => "silent",
            Self::Failed => "failed",
        }
    }
}
