//! What a controller has to tell, one value a time: the whole of what the export knows of the rest of the house.

use std::sync::Arc;
use std::time::Duration;

use prober_core::packet::family::Family;
use prober_core::probe::outcome::OutcomeKind;
use prober_core::report::CauseName;
use prober_core::topology::{NodeName, Route, Scope};

use super::trace::Trace;

/// One thing to tell.
#[derive(Clone, Debug, PartialEq)]
pub enum Sample {
    /// A probe of a client on `node` has ended.
    Handshake {
        /// The client's node.
        node: NodeName,
        /// Where the server stands.
        peer_scope: Scope,
        /// How the server was addressed.
        route: Route,
        /// The IP family.
        family: Family,
        /// What the client saw.
        outcome: OutcomeKind,
        /// What explains it, once something does; `None` for what needs no explanation.
        cause: Option<CauseName>,
        /// From the first SYN to the answer; `None` where none came.
        duration: Option<Duration>,
    },
    /// How all paths of that kind from `node` stand together: one broken path of them is enough.
    Path {
        /// The check that says so.
        check: Arc<str>,
        /// The clients' node.
        node: NodeName,
        /// How the servers are addressed.
        route: Route,
        /// The IP family.
        family: Family,
        /// Where the servers stand.
        scope: Scope,
        /// Whether all of them work.
        healthy: bool,
    },
    /// How a node stands.
    Node {
        /// The check that says so.
        check: Arc<str>,
        /// The node.
        node: NodeName,
        /// Whether no failure is confirmed there.
        healthy: bool,
    },
    /// A check looks at a node no more: what was told of it ends, once no other does.
    Gone {
        /// The check that says so.
        check: Arc<str>,
        /// The node.
        node: NodeName,
    },
    /// How much of what there is to probe was probed within the last cycle.
    Coverage {
        /// The check that says so.
        check: Arc<str>,
        /// Pairs of nodes that were probed.
        pairs: u64,
        /// Pairs of nodes that there are.
        total: u64,
    },
    /// How many agents are in a state.
    Agents {
        /// The check that says so.
        check: Arc<str>,
        /// The state.
        state: AgentState,
        /// How many.
        count: u64,
    },
    /// A new agent had its first established handshake.
    FirstConnectivity {
        /// The agent's node.
        node: NodeName,
        /// From its start until then.
        duration: Duration,
    },
    /// A failure was confirmed or has changed; or a healthy probe that stands for the others.
    Failure(Box<Trace>),
}

/// How an agent stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AgentState {
    /// Its pod was made and does not run yet.
    Pending,
    /// It probes.
    Running,
    /// It runs and says nothing.
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
