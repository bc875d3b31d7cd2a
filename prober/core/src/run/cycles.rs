//! A run that stands: cycle after cycle on agents that stay, for whoever probes for ever.

use std::collections::BTreeSet;
use std::time::Duration;

use super::phase::Layout;
use super::{Phase, Round, Run, RunResult, RunSpec};
use crate::plan::LogReading;
use crate::plan::pairing::NodePair;
use crate::report::Completion;
use crate::time::Timestamp;
use crate::topology::NodeName;

/// Where the numbers of paths begin anew. Those of one cycle follow those of the last, so that what is told late of one
/// is not taken for the other; and they stay below those of the probes of other ports.
const LAST_PATH: u32 = 500_000;

/// Generations of plans in a cycle: one for each round, of which the first is 1.
const PER_CYCLE: u32 = Round::FollowUp as u32;

/// What becomes of a run when everything is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// It leaves.
    Once,
    /// It stands, and can begin again.
    Repeated,
}

/// What a cycle probes, and whether its agents are read meanwhile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CycleSpec {
    /// These pairs of nodes, once. Agents are read as they speak.
    Attended(BTreeSet<NodePair>),
    /// These pairs, then those, each for so long. Agents are read when all had their turn, or when one rings: then the cycle
    /// ends with what it has.
    Unattended {
        /// Pairs of nodes, in turns.
        periods: Vec<BTreeSet<NodePair>>,
        /// How long a turn is.
        period: Duration,
    },
}

impl CycleSpec {
    /// All pairs that it probes.
    pub fn pairs(&self) -> BTreeSet<NodePair> {
        match self {
            Self::Attended(pairs) => pairs.clone(),
            Self::Unattended { periods: turns, .. } => turns.iter().flatten().cloned().collect(),
        }
    }

    const fn log_reading(&self) -> LogReading {
        match self {
            Self::Attended(_) => LogReading::Attended,
            Self::Unattended { .. } => LogReading::Unattended,
        }
    }
}

/// One time through all rounds.
#[derive(Clone, Debug)]
pub(super) struct Cycle {
    /// Which one: plans of later ones have higher generations.
    number: u32,
    /// What is probed in it.
    pub(super) pairs: BTreeSet<NodePair>,
    /// Whether its agents are read.
    pub(super) log_reading: LogReading,
    /// The number of its first path.
    pub(super) first_path: u32,
    /// That of the next cycle's, once this one has ended.
    next_path: u32,
}

impl Cycle {
    pub(super) const fn first(pairs: BTreeSet<NodePair>) -> Self {
        Self {
            number: 0,
            pairs,
            log_reading: LogReading::Attended,
            first_path: 0,
            next_path: 0,
        }
    }

    /// The generation of this cycle's plans of a round.
    pub(super) const fn generation(&self, round: Round) -> u32 {
        self.number * PER_CYCLE + round as u32
    }

    /// The round of this cycle that a plan of this generation belongs to.
    pub(super) fn round(&self, generation: u32) -> Option<Round> {
        (Round::ALL.into_iter()).find(|round| self.generation(*round) == generation)
    }
}

impl Run {
    /// A run that has not started, that probes these pairs of nodes first, and that stands when they are measured: see
    /// [`Run::again`]. It has agents on all nodes that its spec pairs, probed or not.
    pub fn repeated(spec: RunSpec, pairs: BTreeSet<NodePair>) -> Self {
        Self {
            purpose: Purpose::Repeated,
            cycle: Cycle::first(pairs),
            ..Self::new(spec)
        }
    }

    /// What a cycle measured, once it has ended; each is told once.
    pub fn take_cycle_result(&mut self) -> Option<RunResult> {
        self.measured.take()
    }

    /// Probes pairs of nodes, on the agents that stand. Pairs of nodes without agents say nothing. Does nothing
    /// unless it stands, or when it has run out of generations after a thousand million cycles: it is to be replaced long before.
    pub fn start_cycle(&mut self, probing: &CycleSpec, now: Timestamp) {
        let Some(number) = self.cycle.number.checked_add(1) else {
            return;
        };
        if self.phase != Phase::Idle || number >= u32::MAX / PER_CYCLE - 1 {
            return;
        }
        self.cycle = Cycle {
            number,
            pairs: probing.pairs(),
            log_reading: probing.log_reading(),
            first_path: self.cycle.next_path,
            next_path: self.cycle.next_path,
        };
        self.measured = None;
        self.undone.clear();
        self.taken.clear();
        self.implicated.clear();
        match (self.lay_out(), probing) {
            (Layout::Paths, CycleSpec::Attended(_)) => self.look(Duration::ZERO, None, now),
            (
                Layout::Paths,
                CycleSpec::Unattended {
                    periods: turns,
                    period: each,
                },
            ) => {
                self.look_unread(turns, *each, now);
            }
            (Layout::Empty, _) => self.stand(),
        }
    }

    /// The port that is balanced leads to this node's servers no more: the node is about to go, or has gone. Its other
    /// ports are asked by nobody who is not told to.
    pub fn withdraw(&mut self, node: &NodeName, now: Timestamp) {
        let is_new = self.withdrawn.insert(node.clone());
        let is_behind = self.endpoints.any.iter().any(|server| server.node == *node);
        let is_leaving = matches!(self.phase, Phase::Removing | Phase::Ended);
        if is_new && is_behind && !is_leaving {
            self.publish();
        }
        self.go_without(now);
    }

    /// Tells what the cycle measured, and waits to be told to begin again.
    pub(super) fn stand(&mut self) {
        let last = self.collection.matrix.paths.keys().next_back();
        let next = last.map_or(self.cycle.next_path, |last| last.0 + 1);
        self.cycle.next_path = if next < LAST_PATH { next } else { 0 };
        let afresh = self.collection.afresh();
        let collection = std::mem::replace(&mut self.collection, afresh);
        self.measured = Some(RunResult {
            matrix: collection.join(),
            completion: match self.shortfall.take() {
                Some(reason) => Completion::CouldNotRun { reason },
                None => Completion::Complete,
            },
            notes: std::mem::take(&mut self.notes),
        });
        self.overdue = None;
        self.enter(Phase::Idle, None);
    }
}
