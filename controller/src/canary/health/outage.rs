//! What is broken from one time to another, and what is said of it.

use std::collections::BTreeSet;
use std::fmt;

use prober_core::diagnosis::Confidence;
use prober_core::plan::pairing::NodePair;
use prober_core::report::CauseName;
use prober_core::time::Timestamp;
use prober_core::topology::NodeName;

use super::voting::Place;
use crate::canary::round_result::NodePath;

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum What {
    /// A cause of the catalogue, or one without a name.
    Cause(CauseName),
    /// An agent that should have reported and did not.
    AgentSilent,
}

/// What explains a failure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blame {
    /// What is wrong.
    pub what: What,
    /// How sure that is.
    pub confidence: Confidence,
    /// The node where it is; `None` where it is on no single one.
    pub node: Option<NodeName>,
}

/// One outage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outage {
    /// What explains it, as of now.
    pub blame: Blame,
    /// Whose fault it is by counting which paths fail; `None` where no path does.
    pub place: Option<Place>,
    /// The paths that fail.
    pub paths: BTreeSet<NodePath>,
    /// When the first look at it failed.
    pub start: Timestamp,
    /// When it ended, and how.
    pub end: Option<(Timestamp, Ending)>,
}

/// How an outage ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Its paths work again.
    Recovered,
    /// Its node left, or is not probed any more.
    NoLongerProbed,
}

/// A change that is worth telling.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transition {
    /// A failure was confirmed.
    Opened(Outage),
    /// What explains it has changed.
    Changed {
        /// What was said before.
        before: Blame,
        /// The outage, as it is now.
        outage: Outage,
    },
    /// It ended.
    Closed(Outage),
}

impl What {
    /// Its name in status, events and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cause(cause) => cause.as_str(),
            Self::AgentSilent => "agent-silent",
        }
    }
}

impl Blame {
    /// Whether both say the same, however sure they are.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.what == other.what && self.node == other.node
    }

    /// How good an explanation it is.
    pub(super) const fn rank(&self) -> u8 {
        match (self.what, self.confidence) {
            (What::Cause(CauseName(None)), _) => 0,
            (What::Cause(_) | What::AgentSilent, Confidence::Consistent) => 1,
            (What::Cause(_) | What::AgentSilent, Confidence::Proven) => 2,
        }
    }

    /// The word for how sure it is.
    pub const fn sureness(&self) -> &'static str {
        match self.confidence {
            Confidence::Proven => "proven",
            Confidence::Consistent => "consistent",
        }
    }
}

impl Outage {
    /// One that has begun, and of which nothing else is known.
    pub const fn new(blame: Blame, start: Timestamp) -> Self {
        Self {
            blame,
            place: None,
            paths: BTreeSet::new(),
            start,
            end: None,
        }
    }

    /// An agent's silence is seen, not concluded.
    pub(super) fn silent(node: &NodeName, start: Timestamp) -> Self {
        let blame = Blame {
            what: What::AgentSilent,
            confidence: Confidence::Proven,
            node: Some(node.clone()),
        };
        Self::new(blame, start)
    }

    /// What tells it from others that last at the same time.
    pub(super) fn key(&self) -> (What, Option<NodeName>) {
        (self.blame.what, self.blame.node.clone())
    }

    /// Whether this is what `now` is, under another name.
    pub(super) fn is_of(&self, now: &Self) -> bool {
        !self.paths.is_disjoint(&now.paths)
    }

    /// Takes what is known now; when it began is known already, and a proof stays one.
    pub(super) fn go_on(&mut self, now: Self) -> Option<Transition> {
        let before = self.blame.clone();
        let same = before.is_same(&now.blame);
        self.paths = now.paths;
        self.place = now.place;
        self.blame = if same && before.rank() > now.blame.rank() {
            before.clone()
        } else {
            now.blame
        };
        (self.blame != before).then(|| Transition::Changed {
            before,
            outage: self.clone(),
        })
    }

    /// A pair whose probes tell whether it lasts; `None` where nothing is known of where it is.
    pub fn example(&self) -> Option<NodePair> {
        let own = |node: &NodeName| (node.clone(), node.clone());
        match self.paths.first() {
            Some(path) => Some(path.pair()),
            None => self.blame.node.as_ref().map(own),
        }
    }

    /// Whether it is known from an earlier controller alone, which told no paths.
    pub(super) fn is_resumed(&self) -> bool {
        match self.blame.what {
            What::Cause(_) => self.paths.is_empty(),
            What::AgentSilent => false,
        }
    }

    /// Whether a node has part in it: the node where it is; or, where it is on no single one, each end of its paths.
    pub fn touches(&self, node: &NodeName) -> bool {
        match &self.blame.node {
            Some(blamed) => blamed == node,
            None => (self.paths.iter())
                .any(|path| path.client == *node || path.server.as_ref() == Some(node)),
        }
    }
}

impl fmt::Display for Outage {
    /// In a few words: `node-1: bridge-netfilter-off (proven)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.blame.node, &self.place) {
            (None, Some(place)) => write!(f, "{place}: {}", self.blame),
            (Some(_), _) | (None, None) => self.blame.fmt(f),
        }
    }
}

impl fmt::Display for Blame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(node) = &self.node {
            write!(f, "{node}: ")?;
        }
        write!(f, "{} ({})", self.what.as_str(), self.sureness())
    }
}
