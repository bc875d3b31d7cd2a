//! The metrics: one table that every sample goes into, and whose figures are read in two ways.
//!
//! # Budget
//!
//! Series grow with nodes, never with pairs: a node has the same however many peers it has, and none any more once it is
//! gone. A scraper of text cannot have a histogram whole and gets nine lines for one: so text has one for each place where
//! servers stand, and not for each route and family; and one of first connectivity, of all nodes together.
//!
//! | a node | series | lines of text |
//! | --- | --- | --- |
//! | whose network works, probed on every way in both families | 47: 22 durations, 22 paths, one count, itself, its first connectivity | 51: 27 of durations, 22 paths, one count, itself |
//! | that has seen every outcome with every cause on every way | `SERIES_PER_NODE`, which is less than `BUDGET` | `LINES_PER_NODE`, which is less than `BUDGET_OF_LINES` |
//!
//! With the routes of a default check and one family 5,000 nodes are 36 lines each: 180,000 samples, some 30 MB a scrape.

/// The table in the words of Prometheus.
mod prometheus;

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prober_core::diagnosis::catalogue::Cause;
use prober_core::packet::family::Family;
use prober_core::probe::outcome::OutcomeKind;
use prober_core::report::CauseName;
use prober_core::topology::{NodeName, Route, Scope};
use prometheus_client::metrics::histogram::{Histogram, NativeHistogramConfig};

use super::sample::AgentState;
pub use prometheus::{Exposition, expose};

/// Pairs of a route and where the server may stand on it: two each, but one for those routes whose server is given by
/// the route.
const WAYS: usize = 2 * Route::ALL.len() - 3;

/// Paths of a node: its ways, in both families.
const PATHS: usize = 2 * WAYS;

/// The most series (a histogram is one) that a node can have: durations by outcome, paths, itself, its first
/// connectivity, and counts by outcome and cause, `unknown` and none included.
pub const SERIES_PER_NODE: usize =
    PATHS * OutcomeKind::ALL.len() + PATHS + 2 + OutcomeKind::ALL.len() * (Cause::ALL.len() + 2);

/// The series that a node may cost. An outcome or cause too many does not compile: raise this, or tell less.
pub const BUDGET: usize = 320;

const _: () = assert!(SERIES_PER_NODE < BUDGET, "a node has too many series");

/// The bounds of classic histograms, seconds: a handshake takes some 0.1 ms within a zone and some 1 ms across, and the
/// kernel repeats a lost SYN after 1 s, 3 s and 7 s. Each is a line of text for each node, scope and outcome.
const SECONDS: [f64; 6] = [0.000_5, 0.005, 0.1, 1.5, 3.5, 7.5];

/// Where servers stand.
const SCOPES: [Scope; 3] = [Scope::SameNode, Scope::CrossNode, Scope::Any];

/// The lines of a classic histogram: its bounds, the one that has all, count and sum.
const LINES: usize = SECONDS.len() + 3;

/// The most lines of text that a node can have.
pub const LINES_PER_NODE: usize = SCOPES.len() * OutcomeKind::ALL.len() * LINES
    + PATHS
    + 1
    + OutcomeKind::ALL.len() * (Cause::ALL.len() + 2);

/// The lines of text that a node may cost.
pub const BUDGET_OF_LINES: usize = 350;

const _: () = assert!(
    LINES_PER_NODE < BUDGET_OF_LINES,
    "a node has too many lines"
);

/// The buckets that a native histogram may have; beyond that it becomes coarser.
const NATIVE_BUCKETS: usize = 40;

/// What tells one histogram of a node's handshakes from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Kind {
    pub(super) way: Way,
    pub(super) outcome: OutcomeKind,
}

/// All paths from a node that are alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Way {
    pub(super) route: Route,
    pub(super) scope: Scope,
    pub(super) family: Family,
}

/// What has happened to one node, whichever check has seen it.
#[derive(Clone, Debug, Default)]
struct Node {
    /// Native ones.
    durations: BTreeMap<Kind, Histogram>,
    /// Classic ones.
    coarse: BTreeMap<(Scope, OutcomeKind), Histogram>,
    handshakes: BTreeMap<(OutcomeKind, Option<CauseName>), u64>,
    /// A native one.
    first_connectivity: Option<Histogram>,
}

/// How all stands that one check looks at.
#[derive(Clone, Debug, Default)]
struct Standing {
    ways: BTreeMap<NodeName, BTreeMap<Way, bool>>,
    nodes: BTreeMap<NodeName, bool>,
    coverage: Option<(u64, u64)>,
    agents: BTreeMap<AgentState, u64>,
}

/// Everything that is told.
#[derive(Clone, Debug, Default)]
struct Figures {
    nodes: BTreeMap<NodeName, Node>,
    /// A classic one of all nodes, of those that have gone as well.
    first_connectivity: Option<Histogram>,
    /// By the name of the check. What several look at is well when it is for all of them.
    standings: BTreeMap<String, Standing>,
    dropped: u64,
}

/// The table. Whoever writes waits for another writer or for a copy to be made, never for what is done with the copy.
#[derive(Debug, Default)]
pub struct Metrics {
    figures: Mutex<Figures>,
}

impl Metrics {
    /// A writer that panicked left whole numbers behind.
    fn figures(&self) -> MutexGuard<'_, Figures> {
        self.figures.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn handshake(
        &self,
        node: &NodeName,
        kind: Kind,
        cause: Option<CauseName>,
        duration: Option<Duration>,
    ) {
        let mut figures = self.figures();
        let node = figures.of(node);
        *node.handshakes.entry((kind.outcome, cause)).or_default() += 1;
        if let Some(duration) = duration {
            let seconds = duration.as_secs_f64();
            let coarse = (kind.way.scope, kind.outcome);
            let classic = node.coarse.entry(coarse).or_insert_with(classic);
            classic.observe(seconds);
            let native = node.durations.entry(kind).or_insert_with(native);
            native.observe(seconds);
        }
    }

    pub(super) fn path(&self, check: &str, node: &NodeName, way: Way, healthy: bool) {
        let mut figures = self.figures();
        let ways = &mut figures.standing(check).ways;
        ways.entry(node.clone()).or_default().insert(way, healthy);
    }

    pub(super) fn node(&self, check: &str, node: &NodeName, healthy: bool) {
        let mut figures = self.figures();
        figures.standing(check).nodes.insert(node.clone(), healthy);
    }

    /// A check looks at a node no more. One that none looks at is forgotten; says how many are left.
    pub(super) fn gone(&self, check: &str, node: &NodeName) -> usize {
        let mut figures = self.figures();
        let standing = figures.standing(check);
        standing.ways.remove(node);
        standing.nodes.remove(node);
        if standing.nodes.is_empty() {
            figures.standings.remove(check);
        }
        let mut standings = figures.standings.values();
        if !standings.any(|standing| standing.nodes.contains_key(node)) {
            figures.nodes.remove(node);
        }
        figures.nodes.len()
    }

    pub(super) fn coverage(&self, check: &str, pairs: u64, total: u64) {
        self.figures().standing(check).coverage = Some((pairs, total));
    }

    pub(super) fn agents(&self, check: &str, state: AgentState, count: u64) {
        let mut figures = self.figures();
        figures.standing(check).agents.insert(state, count);
    }

    pub(super) fn first_connectivity(&self, node: &NodeName, duration: Duration) {
        let mut figures = self.figures();
        let seconds = duration.as_secs_f64();
        let of_all = figures.first_connectivity.get_or_insert_with(classic);
        of_all.observe(seconds);
        let own = figures
            .of(node)
            .first_connectivity
            .get_or_insert_with(native);
        own.observe(seconds);
    }

    /// Counts spans that were dropped.
    pub(super) fn drop_spans(&self, spans: usize) {
        let mut figures = self.figures();
        figures.dropped = figures
            .dropped
            .saturating_add(spans.try_into().unwrap_or(u64::MAX));
    }

    /// Spans that were dropped so far.
    pub fn dropped(&self) -> u64 {
        self.figures().dropped
    }

    /// The share of pairs that were probed within the last cycle, 0 to 1; of no pairs that is all.
    pub(super) fn covered(&self) -> Option<f64> {
        self.figures().covered()
    }

    /// The agents by state.
    pub(super) fn states(&self) -> BTreeMap<AgentState, u64> {
        self.figures().states()
    }

    /// The handshakes of the nodes, by what was seen and what explains it.
    pub(super) fn handshakes(&self) -> Vec<(NodeName, OutcomeKind, Option<CauseName>, u64)> {
        let figures = self.figures();
        let counts = figures.nodes.iter();
        counts
            .flat_map(|(name, node)| {
                (node.handshakes.iter())
                    .map(|((outcome, cause), count)| (name.clone(), *outcome, *cause, *count))
            })
            .collect()
    }

    /// The nodes, and whether they are healthy.
    pub(super) fn healths(&self) -> BTreeMap<NodeName, bool> {
        self.figures().healths()
    }

    /// The ways of the nodes, and whether they are healthy.
    pub(super) fn ways(&self) -> BTreeMap<(NodeName, Way), bool> {
        self.figures().ways()
    }

    /// How many series there are.
    #[cfg(test)]
    fn series(&self) -> usize {
        let figures = self.figures();
        let of = |node: &Node| {
            node.durations.len()
                + node.handshakes.len()
                + usize::from(node.first_connectivity.is_some())
        };
        let counted: usize = figures.nodes.values().map(of).sum();
        counted + figures.ways().len() + figures.healths().len()
    }
}

impl Figures {
    fn of(&mut self, node: &NodeName) -> &mut Node {
        self.nodes.entry(node.clone()).or_default()
    }

    fn standing(&mut self, check: &str) -> &mut Standing {
        self.standings.entry(check.to_owned()).or_default()
    }

    fn ways(&self) -> BTreeMap<(NodeName, Way), bool> {
        let ways = self.standings.values().flat_map(|standing| &standing.ways);
        all_well(ways.flat_map(|(node, ways)| {
            (ways.iter()).map(|(way, healthy)| ((node.clone(), *way), *healthy))
        }))
    }

    fn healths(&self) -> BTreeMap<NodeName, bool> {
        let nodes = self.standings.values().flat_map(|standing| &standing.nodes);
        all_well(nodes.map(|(node, healthy)| (node.clone(), *healthy)))
    }

    fn states(&self) -> BTreeMap<AgentState, u64> {
        let mut sums = BTreeMap::new();
        for (state, count) in self
            .standings
            .values()
            .flat_map(|standing| &standing.agents)
        {
            *sums.entry(*state).or_default() += count;
        }
        sums
    }

    #[expect(
        clippy::cast_precision_loss,
        reason = "a share of more than 2^52 pairs is exact enough"
    )]
    fn covered(&self) -> Option<f64> {
        let coverages = self
            .standings
            .values()
            .filter_map(|standing| standing.coverage);
        let sum = coverages.reduce(|(pairs, total), (more, of)| (pairs + more, total + of));
        sum.map(|(pairs, total)| match total {
            0 => 1.0,
            total => pairs as f64 / total as f64,
        })
    }
}

/// What is told of a thing more than once is well when it is each time.
fn all_well<K: Ord>(told: impl Iterator<Item = (K, bool)>) -> BTreeMap<K, bool> {
    let mut all = BTreeMap::new();
    for (of, healthy) in told {
        *all.entry(of).or_insert(true) &= healthy;
    }
    all
}

fn native() -> Histogram {
    Histogram::new_native(NativeHistogramConfig::new(1.2).max_buckets(NATIVE_BUCKETS))
}

fn classic() -> Histogram {
    Histogram::new(SECONDS)
}

#[cfg(test)]
mod tests;
