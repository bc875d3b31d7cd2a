//! Cycles, which a canary runs one after the other on the same agents, and the rounds of a cycle.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::plan::LogReading;
use crate::plan::pairing::NodePair;

/// The numbers of paths restart here. Those of one cycle follow those of the last, so that a late event of one does not count
/// for the other; and they stay below those of the probes of other ports.
const LAST_PATH: u32 = 500_000;

/// Generations of plans in a cycle: one for each round, of which the first is 1.
const GENERATIONS: u32 = Round::FollowUp as u32;

/// The rounds of a cycle: the purpose of an agent's plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Round {
    /// Answers other agents.
    Listen = 1,
    /// Probes every path.
    Initial = 2,
    /// Probes the failing paths again.
    FollowUp = 3,
}

impl Round {
    const ALL: [Self; 3] = [Self::Listen, Self::Initial, Self::FollowUp];
}

/// Whether a run ends when everything is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// The run removes its agents and ends.
    Once,
    /// The agents stay, and more cycles may follow.
    Repeated,
}

/// The pairs that a cycle probes, and whether its agents' logs are read meanwhile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CycleSpec {
    /// These pairs of nodes, once. Logs are read as they are written.
    Attended(BTreeSet<NodePair>),
    /// The pairs of one period after the other. Logs are read when all periods have ended, or when an agent raises an alert:
    /// then the cycle ends with the evidence so far.
    Unattended {
        /// Pairs of nodes, for each period.
        periods: Vec<BTreeSet<NodePair>>,
        /// The duration of a period.
        period: Duration,
    },
}

impl CycleSpec {
    /// All pairs of the cycle.
    pub fn pairs(&self) -> BTreeSet<NodePair> {
        match self {
            Self::Attended(pairs) => pairs.clone(),
            Self::Unattended { periods, .. } => periods.iter().flatten().cloned().collect(),
        }
    }

    const fn log_reading(&self) -> LogReading {
        match self {
            Self::Attended(_) => LogReading::Attended,
            Self::Unattended { .. } => LogReading::Unattended,
        }
    }
}

/// One pass through the rounds.
#[derive(Clone, Debug)]
pub(super) struct Cycle {
    /// Its number: plans of later cycles have higher generations.
    number: u32,
    /// The pairs that it probes.
    pub(super) pairs: BTreeSet<NodePair>,
    /// Whether its agents' logs are read.
    pub(super) log_reading: LogReading,
    /// The number of its first path.
    pub(super) first_path: u32,
}

impl Cycle {
    pub(super) const fn first(pairs: BTreeSet<NodePair>) -> Self {
        Self {
            number: 0,
            pairs,
            log_reading: LogReading::Attended,
            first_path: 0,
        }
    }

    /// The number of the first path of the next cycle; `last_path` is that of the last path of this one.
    pub(super) fn next_path(&self, last_path: Option<u32>) -> u32 {
        let next = last_path.map_or(self.first_path, |last| last + 1);
        if next < LAST_PATH { next } else { 0 }
    }

    /// The next cycle; none when generations have run out, after a thousand million cycles.
    pub(super) fn next(&self, spec: &CycleSpec, first_path: u32) -> Option<Self> {
        let number = self.number.checked_add(1)?;
        (number < u32::MAX / GENERATIONS - 1).then(|| Self {
            number,
            pairs: spec.pairs(),
            log_reading: spec.log_reading(),
            first_path,
        })
    }

    /// The generation of this cycle's plans of a round.
    pub(super) const fn generation(&self, round: Round) -> u32 {
        self.number * GENERATIONS + round as u32
    }

    /// The round of this cycle that a plan of this generation belongs to.
    pub(super) fn round(&self, generation: u32) -> Option<Round> {
        (Round::ALL.into_iter()).find(|round| self.generation(*round) == generation)
    }
}
