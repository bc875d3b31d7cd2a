//! What a rule returns: a cause, a place, the groups that it explains, and how well the evidence supports it.

use std::collections::BTreeSet;

use super::catalogue::Cause;
use super::{Exclusion, PathSegment};
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

    /// Between two nodes, with the one where the fault is likeliest to be set right.
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

    /// In what the API says of the agents' namespace.
    pub(crate) fn namespace(family: Family) -> Self {
        Self {
            node: None,
            segment: PathSegment::Namespace,
            family,
        }
    }

    /// In what the API says of the Service.
    pub(crate) fn service(family: Family) -> Self {
        Self {
            node: None,
            segment: PathSegment::Service,
            family,
        }
    }
}

/// What a rule finds of a cause.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Finding {
    /// Nothing else of the catalogue gives this evidence.
    Proves(Proof),
    /// It would give this evidence, and so would others.
    Fits {
        /// Observations that would decide.
        missing: Vec<String>,
    },
    /// It is ruled out.
    Excludes {
        /// By what.
        because: String,
    },
}

/// What a proof rests on; the first kind is the stronger one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Proof {
    /// Where packets were seen and where not.
    Packets,
    /// What a node, a counter or the API says, and packets that agree.
    Facts,
}

/// One cause at one place, as one rule judges it. A rule without evidence returns none.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Hypothesis {
    pub(crate) cause: Cause,
    pub(crate) place: Place,
    /// Places in the case's groups: what it explains, or what it cannot be the cause of.
    pub(crate) groups: BTreeSet<usize>,
    pub(crate) finding: Finding,
    /// What was seen, strongest first.
    pub(crate) evidence: Vec<String>,
    /// Neighbours that the same rule rules out.
    pub(crate) excluded: Vec<Exclusion>,
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
            groups,
            finding,
            evidence: Vec::new(),
            excluded: Vec::new(),
        }
    }

    /// A cause that nothing else looks like.
    pub(crate) fn proves(
        cause: Cause,
        place: Place,
        groups: BTreeSet<usize>,
        proof: Proof,
    ) -> Self {
        Self::new(cause, place, groups, Finding::Proves(proof))
    }

    /// A cause among others.
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

    /// A cause that is ruled out for these groups.
    pub(crate) fn excludes(
        cause: Cause,
        place: Place,
        groups: BTreeSet<usize>,
        because: impl Into<String>,
    ) -> Self {
        let because = because.into();
        Self::new(cause, place, groups, Finding::Excludes { because })
    }

    /// Adds a sentence of evidence.
    #[must_use]
    pub(crate) fn because(mut self, sentence: impl Into<String>) -> Self {
        self.evidence.push(sentence.into());
        self
    }

    /// Adds sentences of evidence.
    #[must_use]
    pub(crate) fn because_all(mut self, sentences: impl IntoIterator<Item = String>) -> Self {
        self.evidence.extend(sentences);
        self
    }

    /// Adds a neighbour that is ruled out.
    #[must_use]
    pub(crate) fn not(mut self, cause: Cause, because: impl Into<String>) -> Self {
        self.excluded.push(Exclusion {
            cause,
            because: because.into(),
        });
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
