//! The nodes that a user chooses to probe.

use std::collections::BTreeSet;

/// The nodes that the user chose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodeChoice {
    /// Every node of the cluster.
    All,
    /// The nodes of these names.
    Named(BTreeSet<String>),
}
