//! Samples: the interface between the exporter and the rest of the program.

use std::collections::{BTreeMap, BTreeSet};
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
        /// Whether it is measured, and no confirmed failure involves it; `None` if that is not known.
        healthy: Option<bool>,
    },
    /// The outages of a check that last.
    Outages {
        /// The check that reports them.
        check: Arc<str>,
        /// All of them.
        open: BTreeSet<OpenOutage>,
    },
    /// The nodes of a check where nothing is measured, though the check wants it.
    NotMeasured {
        /// The check that reports them.
        check: Arc<str>,
        /// All of them, each with a slug of the reason.
        nodes: BTreeMap<NodeName, &'static str>,
    },
    /// A check no longer selects a node, whose metrics end if no other check does.
    NodeRemoved {
        /// The check.
        check: Arc<str>,
        /// The node.
        node: NodeName,
    },
    /// How many of the selected nodes are measured.
    Coverage {
        /// The check that reports it.
        check: Arc<str>,
        /// The nodes whose agents probe.
        nodes: u64,
        /// All selected nodes.
        total: u64,
    },
    /// The number of nodes whose agents are in a state.
    Agents {
        /// The check that reports it.
        check: Arc<str>,
        /// The state.
        state: AgentState,
        /// The number.
        count: u64,
    },
    /// The trace of a failure that was confirmed or has changed.
    Trace(Box<Trace>),
}

/// An outage that lasts.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct OpenOutage {
    /// The affected node; `None` where no single node is affected.
    pub node: Option<NodeName>,
    /// The slug of its cause, `unknown`, or `agent-silent`.
    pub cause: &'static str,
    /// `proven` or `consistent`.
    pub confidence: &'static str,
}

/// The state of a node's agents.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AgentState {
    /// They probe, and the last results of the node's own paths are healthy.
    Working,
    /// They probe, and one has found a failure.
    Alerting,
    /// They start.
    Starting,
    /// They measure nothing.
    NotMeasured,
}

impl AgentState {
    /// Every state.
    pub const ALL: [Self; 4] = [
        Self::Working,
        Self::Alerting,
        Self::Starting,
        Self::NotMeasured,
    ];

    /// The name used in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Working => "working",
            Self::Alerting => "alerting",
            Self::Starting => "starting",
            Self::NotMeasured => "not-measured",
        }
    }
}
