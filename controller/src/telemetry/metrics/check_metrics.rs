//! What the checks report at present: each check replaces its own states, and readers get those of all checks.

use std::collections::{BTreeMap, BTreeSet};

use prober_core::topology::NodeName;

use super::{MetricTable, PathClass};
use crate::telemetry::sample::{AgentState, OpenOutage};

/// The current state of what one check probes.
#[derive(Clone, Debug, Default)]
pub(super) struct CheckMetrics {
    pub(super) paths: BTreeMap<NodeName, BTreeMap<PathClass, bool>>,
    /// `None`: not known.
    pub(super) nodes: BTreeMap<NodeName, Option<bool>>,
    pub(super) outages: BTreeSet<OpenOutage>,
    /// Why nothing is measured on a node.
    pub(super) not_measured: BTreeMap<NodeName, &'static str>,
    pub(super) transient_alerts: u64,
    pub(super) coverage: Option<(u64, u64)>,
    pub(super) agents: BTreeMap<AgentState, u64>,
}

impl MetricTable {
    pub(super) fn paths(&self) -> BTreeMap<(NodeName, PathClass), bool> {
        let paths = self
            .checks
            .values()
            .flat_map(|check_metrics| &check_metrics.paths);
        all_healthy(paths.flat_map(|(node, paths)| {
            (paths.iter()).map(|(path, healthy)| ((node.clone(), *path), *healthy))
        }))
    }

    pub(super) fn healths(&self) -> BTreeMap<NodeName, bool> {
        let nodes = self
            .checks
            .values()
            .flat_map(|check_metrics| &check_metrics.nodes);
        all_healthy(nodes.filter_map(|(node, healthy)| Some((node.clone(), (*healthy)?))))
    }

    /// What two checks report alike is one outage.
    pub(super) fn outages(&self) -> BTreeSet<OpenOutage> {
        let outages = self.checks.values().flat_map(|check| &check.outages);
        outages.cloned().collect()
    }

    pub(super) fn not_measured(&self) -> BTreeMap<NodeName, &'static str> {
        let nodes = self.checks.values().flat_map(|check| &check.not_measured);
        nodes.map(|(node, why)| (node.clone(), *why)).collect()
    }

    pub(super) fn states(&self) -> BTreeMap<AgentState, u64> {
        let mut sums = BTreeMap::new();
        for (state, count) in self
            .checks
            .values()
            .flat_map(|check_metrics| &check_metrics.agents)
        {
            *sums.entry(*state).or_default() += count;
        }
        sums
    }

    #[expect(
        clippy::cast_precision_loss,
        reason = "a share of more than 2^52 nodes is exact enough"
    )]
    pub(super) fn covered(&self) -> Option<f64> {
        let coverages = self
            .checks
            .values()
            .filter_map(|check_metrics| check_metrics.coverage);
        let (nodes, total) =
            coverages.reduce(|(nodes, total), (more, of)| (nodes + more, total + of))?;
        (total > 0).then(|| nodes as f64 / total as f64)
    }
}

/// What several checks report is healthy if it is for all of them.
fn all_healthy<K: Ord>(states: impl Iterator<Item = (K, bool)>) -> BTreeMap<K, bool> {
    let mut all = BTreeMap::new();
    for (of, healthy) in states {
        *all.entry(of).or_insert(true) &= healthy;
    }
    all
}
