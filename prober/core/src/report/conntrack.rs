//! The conntrack entries that a diagnosis shows: those of its sample.

use serde::{Deserialize, Serialize};

use super::DiagnosisReport;
use crate::evidence::conntrack::ProbeEntries;
use crate::node_facts::ConntrackEntry;
use crate::topology::NodeName;

/// The conntrack entries of a probe on one node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConntrackReport {
    /// The node.
    pub node: NodeName,
    /// The entries, as the kernel writes them.
    pub entries: Vec<ConntrackEntry>,
    /// Whether the reading had all entries of the run without a complete handshake. Only then does the absence of an entry say that the probe was dropped
    /// before it had passed netfilter on this node, or never came.
    pub is_complete: bool,
}

impl ConntrackReport {
    pub(super) fn new(found: &ProbeEntries<'_>) -> Self {
        Self {
            node: found.node.clone(),
            entries: found.entries.iter().copied().cloned().collect(),
            is_complete: found.is_complete,
        }
    }

    /// The sentence that there is no entry, if there is none.
    pub(super) fn absence(&self) -> Option<String> {
        let node = &self.node;
        self.entries.is_empty().then(|| {
            if self.is_complete {
                format!("conntrack on {node}: no entry of this probe")
            } else {
                format!(
                    "conntrack on {node}: no entry of this probe in the part of the table that was read"
                )
            }
        })
    }
}

impl DiagnosisReport {
    /// The conntrack entries of the sample, a line for each, and one for each node without an entry.
    pub fn conntrack_lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for found in &self.conntrack {
            let entries = found.entries.iter();
            lines.extend(entries.map(|entry| format!("conntrack on {}: {entry}", found.node)));
            lines.extend(found.absence());
        }
        lines
    }
}
