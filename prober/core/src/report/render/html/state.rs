//! The symbol, word and colour of each state: never a colour alone.

use std::collections::BTreeMap;

use crate::report::{Health, PathReport, Report};
use crate::topology::AccessPath;

/// A state's class in the style sheet, its symbol, and its word after a number of paths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct State {
    pub class: &'static str,
    pub symbol: &'static str,
    pub word: &'static str,
}

/// The state of one path or of several.
pub(super) const fn of(health: Health, is_one: bool) -> State {
    let (class, symbol, one, several) = match health {
        Health::Healthy => ("works", "✓", "works", "work"),
        Health::Late => ("late", "◔", "late", "late"),
        Health::Opened => ("late", "◔", "opened late", "opened late"),
        Health::Failing => ("failing", "✕", "fails", "fail"),
        Health::NotProbed => ("not-probed", "○", "not probed", "not probed"),
    };
    let word = if is_one { one } else { several };
    State {
        class,
        symbol,
        word,
    }
}

/// The health values, worst first.
const HEALTHS: [Health; 5] = [
    Health::Failing,
    Health::Late,
    Health::Opened,
    Health::NotProbed,
    Health::Healthy,
];

/// The severity of a health, for the choice of a cell's worst path; `NotProbed` is the least.
pub(super) const fn severity(health: Health) -> u8 {
    match health {
        Health::NotProbed => 0,
        Health::Healthy => 1,
        Health::Opened => 2,
        Health::Late => 3,
        Health::Failing => 4,
    }
}

/// The number of the report's paths in each state that occurs, worst first.
pub(super) fn counts(report: &Report) -> Vec<(State, usize)> {
    let count = |health| {
        let unprobed = match health {
            Health::NotProbed => report.unprobed.len(),
            Health::Healthy | Health::Late | Health::Opened | Health::Failing => 0,
        };
        unprobed
            + report
                .paths
                .iter()
                .filter(|path| path.health == health)
                .count()
    };
    HEALTHS
        .into_iter()
        .map(|health| (health, count(health)))
        .filter(|(_, count)| *count > 0)
        .map(|(health, count)| (of(health, count == 1), count))
        .collect()
}

/// A number of paths in words, such as `1 path`.
pub(super) fn paths(count: usize) -> String {
    if count == 1 {
        "1 path".to_owned()
    } else {
        format!("{count} paths")
    }
}

/// The most informative outcome of a failing path; `no outcome` for a path that only a diagnosis explains.
pub(super) fn outcome(path: &PathReport) -> String {
    if path.outcomes.total() > 0 {
        return super::text::first_outcome(path).to_owned();
    }
    "no outcome".to_owned()
}

/// The index of an access path in [`AccessPath::ALL`], the order of display.
pub(super) fn order(access_path: AccessPath) -> usize {
    let mut all = AccessPath::ALL.iter();
    all.position(|one| *one == access_path)
        .unwrap_or(AccessPath::ALL.len())
}

/// The lowest and the highest median of the report, in microseconds, for the scale of colours.
#[derive(Clone, Copy, Debug)]
pub(super) struct Range {
    low: f64,
    high: f64,
}

/// The classes of colours, from the fastest to the slowest.
const HEAT: [&str; 6] = ["heat-0", "heat-1", "heat-2", "heat-3", "heat-4", "heat-5"];

/// The ratio of slowest to fastest below which differences are noise and all medians get one colour.
const NOISE: f64 = 1.5;

impl Range {
    /// The range of the medians of `report`.
    pub(super) fn of(report: &Report) -> Self {
        let medians = || report.paths.iter().filter_map(|path| path.rtt_us.p50);
        Self {
            low: medians().fold(f64::INFINITY, f64::min).max(1.0),
            high: medians().fold(1.0, f64::max),
        }
    }

    /// The class of the colour of `median` (microseconds), on a logarithmic scale from the fastest.
    pub(super) fn class(self, median: f64) -> &'static str {
        if self.high < self.low * NOISE || median <= self.low {
            return HEAT[0];
        }
        let share = (median / self.low).ln() / (self.high / self.low).ln();
        let edges = [0.1, 0.3, 0.5, 0.7, 0.9];
        let step = edges.iter().filter(|edge| share > **edge).count();
        HEAT.get(step).copied().unwrap_or(HEAT[5])
    }
}

/// Paths grouped by a key, in the order of the keys.
pub(super) type Grouped<'a, K> = BTreeMap<K, Vec<&'a PathReport>>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slower_is_a_stronger_colour_and_noise_is_none() {
        let range = Range {
            low: 40.0,
            high: 160_000.0,
        };
        assert_eq!(range.class(40.0), "heat-0");
        assert_eq!(range.class(160_000.0), "heat-5");
        assert!(range.class(2_000.0) > range.class(200.0));
        let noise = Range {
            low: 40.0,
            high: 50.0,
        };
        assert_eq!(noise.class(50.0), "heat-0");
    }
}
