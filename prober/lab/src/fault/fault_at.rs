//! A fault and its node, as typed: `FAULT[@NODE]`, or `FAULT:DURATION[@NODE]` for one that ends with start-up.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use prober_core::suggestion::{closest, did_you_mean};

use super::{Fault, RefusedFault};
use crate::topology::{LabSpec, Node, NodeNameError};

/// A fault and its node: the value of `--fault`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FaultAt {
    /// The fault.
    pub fault: Fault,
    /// How long it lasts, if the user said so.
    pub lasts: Option<Duration>,
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
        write!(out, "{}", self.fault)?;
        if let Some(lasts) = self.lasts {
            write!(out, ":{}s", lasts.as_secs_f64())?;
        }
        match self.node {
            Some(node) => write!(out, "@{node}"),
            None => Ok(()),
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
    /// The text after the `:` is no duration, or the fault has none.
    #[error(
        "cannot read '{requested}': a fault that ends with the start-up of pods takes seconds, such as late-policy:0.5s"
    )]
    Duration {
        /// What was typed.
        requested: String,
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
        let (slug, seconds) = match slug.split_once(':') {
            Some((slug, seconds)) => (slug, Some(seconds)),
            None => (slug, None),
        };
        let fault = Fault::ALL
            .iter()
            .copied()
            .find(|fault| fault.slug().eq_ignore_ascii_case(slug))
            .ok_or_else(|| FaultError::Unknown {
                requested: slug.to_owned(),
                closest: closest(slug, Fault::ALL.iter().map(|fault| fault.slug())),
            })?;
        let read = |seconds: &str| {
            let seconds = seconds.strip_suffix('s')?.parse().ok()?;
            (Duration::try_from_secs_f64(seconds).ok()).filter(|_| fault.ends_with_start_up())
        };
        let lasts = seconds.map(|seconds| {
            read(seconds).ok_or_else(|| FaultError::Duration {
                requested: text.to_owned(),
            })
        });
        Ok(Self {
            fault,
            lasts: lasts.transpose()?,
            node,
        })
    }
}
