//! Where the objects of a run are placed, how long they may take, and whether they stay: plain data for a platform.

use std::collections::BTreeMap;
use std::time::Duration;

use prober_core::topology::NodeName;

use super::Manifest;
use crate::kubernetes::node_info::Site;

/// How much earlier than its run a fleet loses patience with a pod: it knows why, the run only that.
pub const HEAD_START: Duration = Duration::from_secs(1);

/// What a cluster is to be for a run.
#[derive(Debug)]
pub struct Setting {
    /// The objects that it places.
    pub manifest: Manifest,
    /// Every node that agents may be placed on.
    pub sites: BTreeMap<NodeName, Site>,
    /// How long pods may be on their way, counted from the start.
    pub patience: Duration,
    /// What becomes of it all when the run is over.
    pub afterwards: Afterwards,
}

impl Setting {
    /// The node of that name, if the run may use it; else a sentence that names it.
    pub fn site(&self, node: &NodeName) -> Result<&Site, String> {
        let found = self.sites.get(node);
        found.ok_or_else(|| format!("{node} is none of the nodes that this run may use"))
    }
}

/// What becomes of what was placed when the run is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Afterwards {
    /// It is removed, and the run ends when it is gone.
    Remove,
    /// It stays, to be looked at, until the anchor's deadline.
    Keep,
}
