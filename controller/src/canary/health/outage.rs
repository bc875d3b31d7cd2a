//! Outages: confirmed failures from their beginning to their end, and their explanations.

use std::collections::BTreeSet;
use std::fmt;

use prober_core::diagnosis::Confidence;
use prober_core::report::CauseName;
use prober_core::time::Timestamp;
use prober_core::topology::NodeName;

use super::fault_location::Place;
use crate::canary::round_result::NodePath;

/// The kind of a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FailureKind {
    /// A cause of the catalogue, or one without a name.
    Cause(CauseName),
    /// An agent that runs and does not report.
    AgentSilent,
}

/// The explanation of a failure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// The kind.
    pub kind: FailureKind,
    /// How certain it is.
    pub confidence: Confidence,
    /// The affected node; `None` where no single node is affected.
    pub node: Option<NodeName>,
}

/// One outage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outage {
    /// Its current explanation.
    pub explanation: Explanation,
    /// What its failing paths have in common; `None` if no path fails.
    pub place: Option<Place>,
    /// The paths that fail.
    pub paths: BTreeSet<NodePath>,
    /// The nodes at the ends of its paths, as an earlier controller has recorded them.
    pub recorded_nodes: BTreeSet<NodeName>,
    /// The time of the first failed result.
    pub start: Timestamp,
    /// When it ended, and why.
    pub end: Option<(Timestamp, EndReason)>,
}

/// Why an outage ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndReason {
    /// Its paths work again.
    Recovered,
    /// Its node left or is skipped.
    NoLongerProbed,
}

/// A change that is reported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transition {
    /// A failure was confirmed.
    Opened(Outage),
    /// Its explanation has changed.
    Changed {
        /// The explanation before.
        before: Explanation,
        /// The outage, with its new explanation.
        outage: Outage,
    },
    /// It ended.
    Closed(Outage),
}

impl FailureKind {
    /// The slug in status, Events and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cause(cause) => cause.as_str(),
            Self::AgentSilent => "agent-silent",
        }
    }
}

impl Explanation {
    /// Whether both have the same kind and node, regardless of the confidence.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.kind == other.kind && self.node == other.node
    }

    /// The quality of the explanation.
    pub(super) const fn rank(&self) -> u8 {
        match (self.kind, self.confidence) {
            (FailureKind::Cause(CauseName(None)), _) => 0,
            (FailureKind::Cause(_) | FailureKind::AgentSilent, Confidence::Consistent) => 1,
            (FailureKind::Cause(_) | FailureKind::AgentSilent, Confidence::Proven) => 2,
        }
    }

    /// The word for the confidence.
    pub const fn sureness(&self) -> &'static str {
        match self.confidence {
            Confidence::Proven => "proven",
            Confidence::Consistent => "consistent",
        }
    }
}

impl Outage {
    /// A new outage without paths.
    pub const fn new(explanation: Explanation, start: Timestamp) -> Self {
        Self {
            explanation,
            place: None,
            paths: BTreeSet::new(),
            recorded_nodes: BTreeSet::new(),
            start,
            end: None,
        }
    }

    /// The outage of a silent agent. Silence is observed, so it is proven.
    pub(super) fn agent_silent(node: &NodeName, start: Timestamp) -> Self {
        let explanation = Explanation {
            kind: FailureKind::AgentSilent,
            confidence: Confidence::Proven,
            node: Some(node.clone()),
        };
        Self::new(explanation, start)
    }

    /// The key that distinguishes it from other outages at the same time.
    pub(super) fn key(&self) -> (FailureKind, Option<NodeName>) {
        (self.explanation.kind, self.explanation.node.clone())
    }

    /// Whether `current` is the same outage with another explanation.
    pub(super) fn shares_paths_with(&self, current: &Self) -> bool {
        !self.paths.is_disjoint(&current.paths)
    }

    /// Applies the current paths and explanation; keeps the start, and a proof once found.
    pub(super) fn update(&mut self, current: Self) -> Option<Transition> {
        let before = self.explanation.clone();
        let same = before.is_same(&current.explanation);
        self.paths = current.paths;
        self.recorded_nodes.clear();
        self.place = current.place;
        self.explanation = if same && before.rank() > current.explanation.rank() {
            before.clone()
        } else {
            current.explanation
        };
        (self.explanation != before).then(|| Transition::Changed {
            before,
            outage: self.clone(),
        })
    }

    /// Whether it is known only from the status of an earlier controller, which holds no paths.
    pub(super) fn is_restored(&self) -> bool {
        match self.explanation.kind {
            FailureKind::Cause(_) => self.paths.is_empty(),
            FailureKind::AgentSilent => false,
        }
    }

    /// The nodes that it involves: the affected node; or, where no single node is affected, the ends of its paths.
    pub fn nodes(&self) -> BTreeSet<NodeName> {
        match &self.explanation.node {
            Some(affected) => [affected.clone()].into(),
            None => (self.paths.iter())
                .flat_map(|path| std::iter::once(&path.client).chain(&path.server))
                .chain(&self.recorded_nodes)
                .cloned()
                .collect(),
        }
    }

    /// Whether it involves a node, see [`Self::nodes`].
    pub fn involves(&self, node: &NodeName) -> bool {
        match &self.explanation.node {
            Some(affected) => affected == node,
            None => {
                self.recorded_nodes.contains(node)
                    || (self.paths.iter())
                        .any(|path| path.client == *node || path.server.as_ref() == Some(node))
            }
        }
    }

    /// Removes a node from those that an earlier controller has recorded. Returns whether none is left of those that it
    /// involved.
    pub(super) fn forget_node(&mut self, node: &NodeName) -> bool {
        let was_recorded = self.recorded_nodes.remove(node);
        match &self.explanation.node {
            Some(affected) => affected == node,
            None => was_recorded && self.recorded_nodes.is_empty(),
        }
    }
}

impl fmt::Display for Outage {
    /// In short: `node-1: bridge-netfilter-off (proven)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.explanation.node, &self.place) {
            (None, Some(place)) => write!(f, "{place}: {}", self.explanation),
            (Some(_), _) | (None, None) => self.explanation.fmt(f),
        }
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(node) = &self.node {
            write!(f, "{node}: ")?;
        }
        write!(f, "{} ({})", self.kind.as_str(), self.sureness())
    }
}
