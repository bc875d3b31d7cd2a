//! Cycles, of which a canary runs one after the other on the same agents, and the rounds of a cycle.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::plan::LogReading;
use crate::plan::pairing::NodePair;

/// Where the numbers of paths begin anew. Those of one cycle follow those of the last, so that a late event of one is not taken
/// for the other's; and they stay below those of the probes of other ports.
const LAST_PATH: u32 = 500_000;

/// Generations of plans in a cycle: one for each round, of which the first is 1.
const GENERATIONS: u32 = Round::FollowUp as u32;

/// The rounds of a cycle: what an agent's plan is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Round {
    /// Answer other agents.
    Listen = 1,
    /// Probe every path.
    Initial = 2,
    /// Probe the paths that fail once more.
    FollowUp = 3,
}

impl Round {
    const ALL: [Self; 3] = [Self::Listen, Self::Initial, Self::FollowUp];
}

/// Whether a run ends when everything is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// It removes its agents and ends.
    Once,
    /// Its agents stay, and more cycles may follow.
    Repeated,
}

/// What a cycle probes, and whether its agents' logs are read meanwhile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CycleSpec {
    /// These pairs of nodes, once. Logs are read as they are written.
    Attended(BTreeSet<NodePair>),
    /// The pairs of one period after the other. Logs are read when all periods have ended, or when an agent raises an alert:
    /// then the cycle ends with what it has.
    Unattended {
        /// Pairs of nodes, for each period.
        periods: Vec<BTreeSet<NodePair>>,
        /// How long a period is.
        period: Duration,
    },
}

impl CycleSpec {
    /// All pairs that it probes.
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
    /// What is probed in it.
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

    /// The number of the first path of the cycle after this one, whose last path has number `last_path`.
    pub(super) fn next_path(&self, last_path: Option<u32>) -> u32 {
        let next = last_path.map_or(self.first_path, |last| last + 1);
        if next < LAST_PATH { next } else { 0 }
    }

    /// The cycle after this one; none when generations have run out, after a thousand million cycles.
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
