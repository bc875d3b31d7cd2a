//! The result of a rule: a cause, a place, the groups that it explains, and how well the evidence supports it.

use std::collections::BTreeSet;

use super::catalogue::Cause;
use super::{PathSegment, Remedy};
use crate::packet::family::Family;
use crate::topology::{AgentId, NodeName};

/// Where a cause is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) node: Option<NodeName>,
    pub(crate) segment: PathSegment,
    pub(crate) family: Family,
}

impl Place {
    /// On a node.
    pub(crate) fn node(node: &NodeName, family: Family) -> Self {
        Self {
            node: Some(node.clone()),
            segment: PathSegment::Node { node: node.clone() },
            family,
        }
    }

    /// In a pod.
    pub(crate) fn pod(pod: &AgentId, family: Family) -> Self {
        Self {
            node: Some(pod.node.clone()),
            segment: PathSegment::Pod { pod: pod.clone() },
            family,
        }
    }

    /// Between two nodes, with the one on which the fault is most likely to be repaired.
    pub(crate) fn between(
        from: &NodeName,
        to: &NodeName,
        at: Option<&NodeName>,
        family: Family,
    ) -> Self {
        Self {
            node: at.cloned(),
            segment: PathSegment::Between {
                from: from.clone(),
                to: to.clone(),
            },
            family,
        }
    }

    /// In the API: the agents' namespace.
    pub(crate) fn namespace(family: Family) -> Self {
        Self {
            node: None,
            segment: PathSegment::Namespace,
            family,
        }
    }

    /// In the API: the Service.
    pub(crate) fn service(family: Family) -> Self {
        Self {
            node: None,
            segment: PathSegment::Service,
            family,
        }
    }
}

/// The result of a rule for a cause.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Finding {
    /// Nothing else of the catalogue gives this evidence.
    Proves(Proof),
    /// Packets are dropped at its place and nowhere else: a proof where every other cause that acts there is excluded.
    Locates {
        /// The groups whose packets show it. Of the others that it explains they may be dropped elsewhere, by another cause.
        at: BTreeSet<usize>,
    },
    /// The cause is consistent with the evidence, and so are others.
    Fits {
        /// Observations that would decide.
        missing: Vec<String>,
    },
    /// It is ruled out.
    Excludes {
        /// The sentence that rules it out.
        because: String,
    },
}

/// The basis of a proof; the first kind is the stronger one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Proof {
    /// Packets that were observed in one place and not in another.
    Packets,
    /// Facts of a node, counters or objects of the API, with packets that agree.
    Facts,
}

/// One cause at one place, as one rule finds it. A rule without evidence returns none.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Hypothesis {
    pub(crate) cause: Cause,
    pub(crate) place: Place,
    /// Indices of the case's groups: those that it explains, or of which it cannot be the cause.
    pub(crate) groups: BTreeSet<usize>,
    /// How many of them are on paths for which the cause predicts nothing but failures.
    pub(crate) certain: usize,
    pub(crate) finding: Finding,
    /// The evidence, one sentence each, strongest first.
    pub(crate) evidence: Vec<String>,
    /// The steps that repair it; empty where the catalogue's general ones apply.
    pub(crate) remedy: Vec<Remedy>,
}

impl Hypothesis {
    pub(crate) fn new(
        cause: Cause,
        place: Place,
        groups: BTreeSet<usize>,
        finding: Finding,
    ) -> Self {
        Self {
            cause,
            place,
            certain: groups.len(),
            groups,
            finding,
            evidence: Vec::new(),
            remedy: Vec::new(),
        }
    }

    /// The only cause that is consistent with the evidence.
    pub(crate) fn proves(
        cause: Cause,
        place: Place,
        groups: BTreeSet<usize>,
        proof: Proof,
    ) -> Self {
        Self::new(cause, place, groups, Finding::Proves(proof))
    }

    /// The cause acts at the only place at which packets of some of its groups are dropped.
    pub(crate) fn locates(
        cause: Cause,
        place: Place,
        groups: BTreeSet<usize>,
        at: BTreeSet<usize>,
    ) -> Self {
        Self::new(cause, place, groups, Finding::Locates { at })
    }

    /// One of several causes that are consistent with the evidence.
    pub(crate) fn fits(cause: Cause, place: Place, groups: BTreeSet<usize>) -> Self {
        Self::new(
            cause,
            place,
            groups,
            Finding::Fits {
                missing: Vec::new(),
            },
        )
    }

    /// A cause that the evidence excludes for these groups.
    pub(crate) fn excludes(
        cause: Cause,
        place: Place,
        groups: BTreeSet<usize>,
        because: impl Into<String>,
    ) -> Self {
        let because = because.into();
        Self::new(cause, place, groups, Finding::Excludes { because })
    }

    /// The groups that a rival has to explain: those that show the place, where it is located, and all of them otherwise.
    pub(crate) fn contested(&self) -> &BTreeSet<usize> {
        match &self.finding {
            Finding::Locates { at } => at,
            Finding::Proves(_) | Finding::Fits { .. } | Finding::Excludes { .. } => &self.groups,
        }
    }

    /// Adds sentences of evidence.
    #[must_use]
    pub(crate) fn because_all(mut self, sentences: impl IntoIterator<Item = String>) -> Self {
        for sentence in sentences {
            if !self.evidence.contains(&sentence) {
                self.evidence.push(sentence);
            }
        }
        self
    }

    /// Sets the steps that repair it.
    #[must_use]
    pub(crate) fn repaired_by(mut self, remedy: Vec<Remedy>) -> Self {
        self.remedy = remedy;
        self
    }

    /// Adds an observation that would decide; a proof needs none.
    #[must_use]
    pub(crate) fn decided_by(mut self, observation: impl Into<String>) -> Self {
        if let Finding::Fits { missing } = &mut self.finding {
            missing.push(observation.into());
        }
        self
    }
}
