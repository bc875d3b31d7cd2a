//! The metrics: one table of all samples, which is read as OTLP and by Prometheus.
//!
//! # Budget
//!
//! The number of series grows with nodes, never with pairs: a node has the same series however many peers it has, and none
//! once it is removed. Only nodes that were examined have handshakes and paths: agents answer scrapers themselves. In the
//! text format a histogram is nine lines, so the text has one histogram for each scope, not for each access path and family.
//!
//! | a node | series | lines of text |
//! | --- | --- | --- |
//! | that works, and was examined on every path in both families | 46: 22 durations, 22 paths, one count, itself | 51: 27 of durations, 22 paths, one count, itself |
//! | that works, and was never examined | 1: itself | 1 |
//! | with an outage, or where nothing is measured | one more for each cause, one for the reason | the same |
//! | with every outcome and every cause on every path | `SERIES_PER_NODE`, which is less than `BUDGET` | `LINES_PER_NODE`, which is less than `BUDGET_OF_LINES` |

/// What checks report at present.
mod check_metrics;
/// The table in the formats of Prometheus.
mod prometheus;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prober_core::diagnosis::catalogue::Cause;
use prober_core::packet::family::Family;
use prober_core::probe::outcome::OutcomeKind;
use prober_core::report::CauseName;
use prober_core::topology::{AccessPath, NodeName, Scope};
use prometheus_client::metrics::histogram::{Histogram, NativeHistogramConfig};

use super::sample::{AgentState, OpenOutage};
use crate::kubernetes::request_count::RequestCount;
use check_metrics::CheckMetrics;
pub use prometheus::{Exposition, expose};

/// The pairs of an access path and a scope: two for each, except for those three that have only one scope.
const PATH_CLASSES: usize = 2 * AccessPath::ALL.len() - 3;

/// The path classes of a node, in both families.
const PATHS: usize = 2 * PATH_CLASSES;

/// The most series of a node about its present: itself, an outage for each cause, `unknown` and silent agents, and why it
/// is not measured.
const PRESENT: usize = 1 + Cause::ALL.len() + 2 + 1;

/// The most series (a histogram is one) of a node: durations by outcome, paths, its present, and counts by outcome and
/// cause, including `unknown` and none.
pub const SERIES_PER_NODE: usize = PATHS * OutcomeKind::ALL.len()
    + PATHS
    + PRESENT
    + OutcomeKind::ALL.len() * (Cause::ALL.len() + 2);

/// The limit of series per node. The build fails if new outcomes or causes exceed it.
pub const BUDGET: usize = 450;

const _: () = assert!(SERIES_PER_NODE < BUDGET, "a node has too many series");

/// The bounds of classic histograms, seconds: a handshake takes about 0.1 ms within a zone and 1 ms across zones, and
/// the kernel repeats a lost SYN after 1 s, 3 s and 7 s. Each bound is a line of text per node, scope and outcome.
const SECONDS: [f64; 6] = [0.000_5, 0.005, 0.1, 1.5, 3.5, 7.5];

/// The scopes of a path.
const SCOPES: [Scope; 3] = [Scope::SameNode, Scope::CrossNode, Scope::Any];

/// The lines of a classic histogram: its bounds, `+Inf`, count and sum.
const LINES: usize = SECONDS.len() + 3;

/// The most lines of text of a node.
pub const LINES_PER_NODE: usize = SCOPES.len() * OutcomeKind::ALL.len() * LINES
    + PATHS
    + PRESENT
    + OutcomeKind::ALL.len() * (Cause::ALL.len() + 2);

/// The limit of lines of text per node.
pub const BUDGET_OF_LINES: usize = 480;

const _: () = assert!(
    LINES_PER_NODE < BUDGET_OF_LINES,
    "a node has too many lines"
);

/// The most buckets of a native histogram; with more values it becomes coarser.
const NATIVE_BUCKETS: usize = 40;

/// The key of a histogram of a node's handshakes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct HandshakeClass {
    pub(super) path: PathClass,
    pub(super) outcome: OutcomeKind,
}

/// The paths from a node with the same access path, scope and family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct PathClass {
    pub(super) access_path: AccessPath,
    pub(super) scope: Scope,
    pub(super) family: Family,
}

/// The handshakes of one node, from all checks.
#[derive(Clone, Debug, Default)]
struct Node {
    /// Native histograms.
    durations: BTreeMap<HandshakeClass, Histogram>,
    /// Classic histograms.
    classic_durations: BTreeMap<(Scope, OutcomeKind), Histogram>,
    handshakes: BTreeMap<(OutcomeKind, Option<CauseName>), u64>,
}

/// All metrics.
#[derive(Clone, Debug, Default)]
struct MetricTable {
    nodes: BTreeMap<NodeName, Node>,
    /// By the check's name. What several checks probe is healthy if it is for all of them.
    checks: BTreeMap<String, CheckMetrics>,
    dropped: u64,
    controller: ControllerMetrics,
}

/// What a controller does.
#[derive(Clone, Debug, Default)]
struct ControllerMetrics {
    is_leading: bool,
    examinations: u64,
    reconcile_errors: u64,
    /// A classic histogram.
    reconciliations: Option<Histogram>,
    /// A classic histogram.
    evaluations: Option<Histogram>,
    requests: Option<RequestCount>,
}

/// The table of all metrics. Writers wait for other writers, and for a scrape: writing the lines of 5,000 nodes takes some
/// milliseconds, a copy of them as long and as much memory again.
#[derive(Debug, Default)]
pub struct Metrics {
    table: Mutex<MetricTable>,
}

impl Metrics {
    /// A writer that panicked leaves whole numbers.
    fn table(&self) -> MutexGuard<'_, MetricTable> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn handshake(
        &self,
        node: &NodeName,
        kind: HandshakeClass,
        cause: Option<CauseName>,
        duration: Option<Duration>,
    ) {
        let mut table = self.table();
        let node = table.node_mut(node);
        *node.handshakes.entry((kind.outcome, cause)).or_default() += 1;
        if let Some(duration) = duration {
            let seconds = duration.as_secs_f64();
            let classic_durations = (kind.path.scope, kind.outcome);
            let classic = node
                .classic_durations
                .entry(classic_durations)
                .or_insert_with(classic);
            classic.observe(seconds);
            let native = node.durations.entry(kind).or_insert_with(native);
            native.observe(seconds);
        }
    }

    pub(super) fn path(&self, check: &str, node: &NodeName, path: PathClass, healthy: bool) {
        let mut table = self.table();
        let paths = &mut table.check_metrics(check).paths;
        paths.entry(node.clone()).or_default().insert(path, healthy);
    }

    /// Sets the state of a node. The paths of one that is healthy work: a series that ended instead would still be read as its
    /// last value for minutes, where metrics arrive by OTLP.
    pub(super) fn node(&self, check: &str, node: &NodeName, healthy: Option<bool>) {
        let mut table = self.table();
        let check_metrics = table.check_metrics(check);
        match check_metrics.nodes.get_mut(node) {
            Some(known) => *known = healthy,
            None => {
                check_metrics.nodes.insert(node.clone(), healthy);
            }
        }
        if healthy == Some(true) {
            let paths = check_metrics.paths.get_mut(node);
            paths
                .into_iter()
                .flatten()
                .for_each(|(_, works)| *works = true);
        }
    }

    /// Sets the open outages of a check.
    pub(super) fn set_outages(&self, check: &str, open: BTreeSet<OpenOutage>) {
        self.table().check_metrics(check).outages = open;
    }

    /// Sets the nodes of a check where nothing is measured, and why.
    pub(super) fn set_not_measured(&self, check: &str, nodes: BTreeMap<NodeName, &'static str>) {
        self.table().check_metrics(check).not_measured = nodes;
    }

    /// Removes a check.
    pub(super) fn remove_check(&self, check: &str) {
        self.table().checks.remove(check);
    }

    /// Sets how many alerts of a check's nodes ended without an outage.
    pub(super) fn transient_alerts(&self, check: &str, count: u64) {
        self.table().check_metrics(check).transient_alerts = count;
    }

    /// Sets whether the controller leads.
    pub(super) fn leads(&self, is_leading: bool) {
        self.table().controller.is_leading = is_leading;
    }

    /// Counts an examination.
    pub(super) fn examined(&self) {
        self.table().controller.examinations += 1;
    }

    /// Counts a reconciliation of a check.
    pub(super) fn reconciled(&self, has_failed: bool, took: Duration) {
        let mut table = self.table();
        table.controller.reconcile_errors += u64::from(has_failed);
        let durations = table.controller.reconciliations.get_or_insert_with(classic);
        durations.observe(took.as_secs_f64());
    }

    /// Counts an evaluation of all checks.
    pub(super) fn evaluated(&self, took: Duration) {
        let mut table = self.table();
        let durations = table.controller.evaluations.get_or_insert_with(classic);
        durations.observe(took.as_secs_f64());
    }

    /// Sets what counts the requests to the API server.
    pub(super) fn set_requests(&self, count: RequestCount) {
        self.table().controller.requests = Some(count);
    }

    /// Removes a node of a check, and its metrics if no other check probes it. Returns the number of nodes that are
    /// left.
    pub(super) fn remove_node(&self, check: &str, node: &NodeName) -> usize {
        let mut table = self.table();
        let check_metrics = table.check_metrics(check);
        check_metrics.paths.remove(node);
        check_metrics.nodes.remove(node);
        check_metrics.not_measured.remove(node);
        (check_metrics.outages).retain(|outage| outage.node.as_ref() != Some(node));
        let mut checks = table.checks.values();
        if !checks.any(|check_metrics| check_metrics.nodes.contains_key(node)) {
            table.nodes.remove(node);
        }
        table.nodes.len()
    }

    pub(super) fn coverage(&self, check: &str, nodes: u64, total: u64) {
        self.table().check_metrics(check).coverage = Some((nodes, total));
    }

    pub(super) fn agents(&self, check: &str, state: AgentState, count: u64) {
        let mut table = self.table();
        table.check_metrics(check).agents.insert(state, count);
    }

    /// Counts dropped spans.
    pub(super) fn drop_spans(&self, spans: usize) {
        let mut table = self.table();
        table.dropped = table
            .dropped
            .saturating_add(spans.try_into().unwrap_or(u64::MAX));
    }

    /// The number of dropped spans.
    pub fn dropped(&self) -> u64 {
        self.table().dropped
    }

    /// The share of the selected nodes that are measured, 0 to 1; `None` if there are none.
    pub(super) fn covered(&self) -> Option<f64> {
        self.table().covered()
    }

    /// The number of agents in each state.
    pub(super) fn states(&self) -> BTreeMap<AgentState, u64> {
        self.table().states()
    }

    /// The number of handshakes of each node, by outcome and cause.
    pub(super) fn handshakes(&self) -> Vec<(NodeName, OutcomeKind, Option<CauseName>, u64)> {
        let table = self.table();
        let counts = table.nodes.iter();
        counts
            .flat_map(|(name, node)| {
                (node.handshakes.iter())
                    .map(|((outcome, cause), count)| (name.clone(), *outcome, *cause, *count))
            })
            .collect()
    }

    /// The nodes, and whether they are healthy.
    pub(super) fn healths(&self) -> BTreeMap<NodeName, bool> {
        self.table().healths()
    }

    /// The open outages.
    pub(super) fn outages(&self) -> BTreeSet<OpenOutage> {
        self.table().outages()
    }

    /// The nodes where nothing is measured, and why.
    pub(super) fn not_measured(&self) -> BTreeMap<NodeName, &'static str> {
        self.table().not_measured()
    }

    /// The path classes of the nodes, and whether they are healthy.
    pub(super) fn paths(&self) -> BTreeMap<(NodeName, PathClass), bool> {
        self.table().paths()
    }

    /// The number of series.
    #[cfg(test)]
    fn series(&self) -> usize {
        let table = self.table();
        let of = |node: &Node| node.durations.len() + node.handshakes.len();
        let counted: usize = table.nodes.values().map(of).sum();
        let present = table.healths().len() + table.outages().len() + table.not_measured().len();
        counted + table.paths().len() + present
    }
}

impl MetricTable {
    fn node_mut(&mut self, node: &NodeName) -> &mut Node {
        self.nodes.entry(node.clone()).or_default()
    }

    fn check_metrics(&mut self, check: &str) -> &mut CheckMetrics {
        self.checks.entry(check.to_owned()).or_default()
    }
}

fn native() -> Histogram {
    Histogram::new_native(NativeHistogramConfig::new(1.2).max_buckets(NATIVE_BUCKETS))
}

fn classic() -> Histogram {
    Histogram::new(SECONDS)
}

#[cfg(test)]
mod tests;
