//! A fault and its node, as typed: `FAULT[@NODE]`.

use std::fmt;
use std::str::FromStr;

use prober_core::suggestion::{closest, did_you_mean};

use super::{Fault, RefusedFault};
use crate::topology::{LabSpec, Node, NodeNameError};

/// A fault and its node: the value of `--fault`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FaultAt {
    /// The fault.
    pub fault: Fault,
    /// The node, if the user named one.
    pub node: Option<Node>,
}

impl FaultAt {
    /// Returns the node on which it is injected in this lab.
    ///
    /// # Errors
    ///
    /// [`RefusedFault`] if the lab lacks that node, or what the fault breaks.
    pub fn node_in(self, spec: &LabSpec) -> Result<Node, RefusedFault> {
        self.fault.check_applies(spec)?;
        let node = self.node.unwrap_or_else(|| self.fault.default_node(spec));
        Ok(spec.node(&node.name())?)
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
    #[error("there is no fault '{requested}'{}; `prober lab faults` lists them", did_you_mean(*.closest))]
    Unknown {
        /// The unknown name.
        requested: String,
        /// The most similar name of a fault, if one is similar.
        closest: Option<&'static str>,
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
            .find(|fault| fault.slug().eq_ignore_ascii_case(slug))
            .ok_or_else(|| FaultError::Unknown {
                requested: slug.to_owned(),
                closest: closest(slug, Fault::ALL.iter().map(|fault| fault.slug())),
            })?;
        Ok(Self { fault, node })
    }
}
