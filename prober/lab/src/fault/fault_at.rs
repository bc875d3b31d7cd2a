//! A fault and its node, as typed: `FAULT[@NODE]`.

use std::fmt;
use std::str::FromStr;

use super::Fault;
use crate::topology::{LabSpec, Node, NodeNameError, UnknownName};

/// A fault and its node: the value of `--fault`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FaultAt {
    /// The fault.
    pub fault: Fault,
    /// The node, if the user named one.
    pub node: Option<Node>,
}

impl FaultAt {
    /// Returns the node on which it is injected in this lab, or an error if the lab lacks that node.
    pub fn node_in(self, spec: &LabSpec) -> Result<Node, UnknownName> {
        let node = self.node.unwrap_or_else(|| self.fault.default_node(spec));
        spec.node(&node.name())
    }
}

impl fmt::Display for FaultAt {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.node {
            Some(node) => write!(out, "{}@{node}", self.fault),
            None => write!(out, "{}", self.fault),
        }
    }
}

/// A text that is no `FAULT[@NODE]`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FaultError {
    /// There is no such fault.
    #[error(
        "cannot find the fault {requested:?}; did you mean {nearest}? `prober lab faults` lists them"
    )]
    Unknown {
        /// The unknown name.
        requested: String,
        /// The most similar name of a fault.
        nearest: &'static str,
    },
    /// The text after the `@` is not the name of a node.
    #[error(transparent)]
    Node(#[from] NodeNameError),
}

impl FromStr for FaultAt {
    type Err = FaultError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (slug, node) = match text.split_once('@') {
            Some((slug, node)) => (slug, Some(node.parse()?)),
            None => (text, None),
        };
        let fault = Fault::ALL
            .iter()
            .copied()
            .find(|fault| fault.slug() == slug)
            .ok_or_else(|| FaultError::Unknown {
                requested: slug.to_owned(),
                nearest: nearest(slug),
            })?;
        Ok(Self { fault, node })
    }
}

fn nearest(requested: &str) -> &'static str {
    Fault::ALL
        .iter()
        .map(|fault| fault.slug())
        .min_by_key(|slug| distance(requested, slug))
        .unwrap_or_default()
}

/// Returns the Levenshtein distance: the number of letters to insert, remove or replace.
fn distance(one: &str, other: &str) -> usize {
    let mut row: Vec<usize> = (0..=other.chars().count()).collect();
    for (line, letter) in one.chars().enumerate() {
        let mut diagonal = line;
        let mut left = line + 1;
        let mut next = vec![left];
        for (above, candidate) in row.iter().skip(1).zip(other.chars()) {
            let cost = (*above + 1)
                .min(left + 1)
                .min(diagonal + usize::from(letter != candidate));
            diagonal = *above;
            left = cost;
            next.push(cost);
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}
