//! Paths that distinguish a fault of one pod from one of its node: another pod of the node takes the place of one end.

use serde::{Deserialize, Serialize};

use super::{Matrix, PathEvidence};
use crate::topology::PathId;

/// The end of a failing path that another pod of the same node replaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Comparison {
    /// The client.
    SecondClient,
    /// The server.
    SecondServer,
}

impl Comparison {
    /// The role of the other pod, in words.
    pub const fn words(self) -> &'static str {
        match self {
            Self::SecondClient => "second client",
            Self::SecondServer => "second server",
        }
    }
}

impl Matrix {
    /// The paths that were meant to be probed, without those that a follow-up added for comparison.
    pub fn planned_paths(&self) -> impl Iterator<Item = (PathId, &PathEvidence)> {
        let paths = self.paths.iter().map(|(id, evidence)| (*id, evidence));
        paths.filter(|(id, _)| !self.comparisons.contains_key(id))
    }

    /// The paths that a follow-up added for comparison.
    pub fn compared_paths(&self) -> impl Iterator<Item = (PathId, Comparison, &PathEvidence)> {
        let comparisons = self.comparisons.iter();
        comparisons.filter_map(|(id, kind)| Some((*id, *kind, self.paths.get(id)?)))
    }
}
