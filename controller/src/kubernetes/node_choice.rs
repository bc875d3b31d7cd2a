//! The nodes that a user chooses to probe.

use std::collections::BTreeSet;

/// The nodes that the user chose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodeChoice {
    /// Every node of the cluster.
    All,
    /// Every node with labels that this label selector matches
    /// (<https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#label-selectors>).
    Labelled(String),
    /// The nodes of these names.
    Named(BTreeSet<String>),
}
