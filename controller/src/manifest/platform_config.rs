//! The settings of a cluster as the platform of one run: its objects, its nodes, its time limit and its cleanup.

use std::collections::BTreeMap;
use std::time::Duration;

use prober_core::topology::NodeName;

use super::{Manifest, PodPrefixes};
use crate::kubernetes::node_info::NodeInfo;

/// How much earlier than the run the platform gives up on a pod that has not started. The platform knows the reason; the
/// run knows only that the agent is missing.
pub const STARTUP_TIMEOUT_MARGIN: Duration = Duration::from_secs(1);

/// The settings of a cluster as the platform of one run.
#[derive(Debug)]
pub struct PlatformConfig {
    /// Builds the objects of the run.
    pub manifest: Manifest,
    /// The nodes that agents may be placed on.
    pub nodes: BTreeMap<NodeName, NodeInfo>,
    /// The ranges of the pods' addresses.
    pub pod_prefixes: PodPrefixes,
    /// How long pods may take to start, counted from the start of the platform.
    pub startup_timeout: Duration,
    /// Whether the objects are removed after the run.
    pub cleanup: Cleanup,
}

impl PlatformConfig {
    /// Returns the node of that name.
    ///
    /// # Errors
    ///
    /// A sentence that names the node, if the run may not use it.
    pub fn node_info(&self, node: &NodeName) -> Result<&NodeInfo, String> {
        let found = self.nodes.get(node);
        found.ok_or_else(|| format!("{node} is not among the nodes that this run may use"))
    }
}

/// Whether the objects of a run are removed after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cleanup {
    /// They are removed, and the run ends when they are gone.
    Remove,
    /// They stay for inspection until the deadline of the owner Job.
    Keep,
}
