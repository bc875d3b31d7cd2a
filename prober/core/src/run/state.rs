//! The states of a run, with the data of each, and the timers that run in it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::Placement;
use super::cycle::Round;
use crate::report::Completion;
use crate::time::Timestamp;
use crate::topology::{AgentId, AgentRole, NodeName};

/// The phase of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Reading the facts of the nodes under test, before any other agent is placed on them; agents of their peers are started
    /// meanwhile.
    ReadingFacts,
    /// Waiting until agents run.
    Placing,
    /// Waiting until the test Services are published and every agent has accepted its first plan.
    Publishing,
    /// Probing every path.
    Probing,
    /// Probing one period after the other, while no agent's log is read.
    Unattended,
    /// Probing the failing paths again, and reading the facts of their nodes.
    FollowUp,
    /// Waiting for the agents' last lines.
    Lingering,
    /// A cycle has ended; waiting for the next to be started.
    Idle,
    /// Waiting until everything is removed.
    Removing,
    /// Ended.
    Ended,
}

/// The state of a run.
#[derive(Debug, Default)]
pub(super) enum State {
    /// Before [`super::Run::start`].
    #[default]
    NotStarted,
    /// See [`Phase::ReadingFacts`].
    ReadingFacts(ReadingFacts),
    /// See [`Phase::Placing`].
    Placing(Waiting),
    /// See [`Phase::Publishing`].
    Publishing(Waiting),
    /// See [`Phase::Probing`].
    Probing(Probing),
    /// See [`Phase::Unattended`].
    Unattended(Unattended),
    /// See [`Phase::FollowUp`].
    FollowUp(RoundDeadlines),
    /// See [`Phase::Lingering`].
    Lingering {
        /// The deadline of the last lines.
        until: Timestamp,
    },
    /// See [`Phase::Idle`].
    Idle {
        /// The number of the first path of the next cycle.
        next_path: u32,
    },
    /// See [`Phase::Removing`].
    Removing {
        /// The deadline of the removal.
        until: Timestamp,
        /// How the run ended.
        completion: Completion,
    },
    /// See [`Phase::Ended`].
    Ended {
        /// How the run ended.
        completion: Completion,
    },
}

/// Agents that only probe: they start when there is something to probe, with their first probes. A plan takes long to reach
/// an agent that has just started.
pub(super) type ProbeOnly = BTreeMap<AgentId, AgentRole>;

/// The missing facts, and the agents that wait for them.
#[derive(Debug)]
pub(super) struct ReadingFacts {
    /// The deadline of the reading.
    pub(super) until: Timestamp,
    /// Nodes with missing facts; at least one.
    pub(super) nodes: BTreeSet<NodeName>,
    /// Agents that wait until the facts of their nodes are read.
    pub(super) held_back: Vec<Placement>,
    /// Agents that wait until there is something to probe.
    pub(super) probe_only: ProbeOnly,
}

/// The data of the states between the placing of agents and their first probes.
#[derive(Debug)]
pub(super) struct Waiting {
    /// The deadline of the platform.
    pub(super) until: Timestamp,
    /// Agents that wait until there is something to probe.
    pub(super) probe_only: ProbeOnly,
}

/// The progress of the initial round.
#[derive(Debug)]
pub(super) enum Probing {
    /// Agents that probe are still being started.
    Starting(Starting),
    /// All agents have their plans.
    Running {
        /// When the follow-up starts, if it is due.
        follow_up_at: Option<Timestamp>,
        /// When waiting for the round ends.
        deadlines: RoundDeadlines,
    },
}

/// An initial round with agents that are still being started.
#[derive(Debug)]
pub(super) struct Starting {
    /// The deadline of their start.
    pub(super) until: Timestamp,
    /// Maximum time that agents wait for their targets to become ready.
    pub(super) readiness: Duration,
    /// Maximum duration of the probes of the round.
    pub(super) longest: Duration,
}

/// The progress of a round with unread logs.
#[derive(Debug)]
pub(super) enum Unattended {
    /// Periods remain.
    Probing {
        /// When the last period has ended.
        until: Timestamp,
    },
    /// All periods have ended: logs are read to the end of the round.
    Reading(RoundDeadlines),
    /// An agent raised an alert, or is gone: the cycle ends with the lines that are read in time.
    CutShort {
        /// When it ends.
        until: Timestamp,
        /// When waiting for the round ends, if its periods had ended before.
        deadlines: Option<RoundDeadlines>,
    },
}

/// When waiting for a round ends.
#[derive(Clone, Copy, Debug)]
pub(super) struct RoundDeadlines {
    /// When all outcomes are expected to be known.
    pub(super) outcomes: Timestamp,
    /// When running agents are expected to have accepted their plans.
    pub(super) acceptance: Timestamp,
}

/// The timers of a state.
pub(super) struct Timers<'a> {
    /// The timer of the state itself.
    pub(super) state: Option<Timestamp>,
    /// The timers of a round.
    pub(super) round: Option<&'a RoundDeadlines>,
}

impl State {
    pub(super) const fn phase(&self) -> Phase {
        match self {
            Self::NotStarted | Self::ReadingFacts(_) => Phase::ReadingFacts,
            Self::Placing(_) => Phase::Placing,
            Self::Publishing(_) => Phase::Publishing,
            Self::Probing(_) => Phase::Probing,
            Self::Unattended(_) => Phase::Unattended,
            Self::FollowUp(_) => Phase::FollowUp,
            Self::Lingering { .. } => Phase::Lingering,
            Self::Idle { .. } => Phase::Idle,
            Self::Removing { .. } => Phase::Removing,
            Self::Ended { .. } => Phase::Ended,
        }
    }

    /// The last round that plans were sent for.
    pub(super) const fn round(&self) -> Round {
        match self {
            Self::NotStarted | Self::ReadingFacts(_) | Self::Placing(_) | Self::Publishing(_) => {
                Round::Listen
            }
            Self::Probing(_) | Self::Unattended(_) => Round::Initial,
            Self::FollowUp(_)
            | Self::Lingering { .. }
            | Self::Idle { .. }
            | Self::Removing { .. }
            | Self::Ended { .. } => Round::FollowUp,
        }
    }

    /// How the run ended; before its end, `Complete`.
    pub(super) fn into_completion(self) -> Completion {
        match self {
            Self::Removing { completion, .. } | Self::Ended { completion } => completion,
            Self::NotStarted
            | Self::ReadingFacts(_)
            | Self::Placing(_)
            | Self::Publishing(_)
            | Self::Probing(_)
            | Self::Unattended(_)
            | Self::FollowUp(_)
            | Self::Lingering { .. }
            | Self::Idle { .. } => Completion::Complete,
        }
    }

    pub(super) const fn timers(&self) -> Timers<'_> {
        let (state, round) = match self {
            Self::NotStarted | Self::Idle { .. } | Self::Ended { .. } => (None, None),
            Self::ReadingFacts(reading) => (Some(reading.until), None),
            Self::Placing(waiting) | Self::Publishing(waiting) => (Some(waiting.until), None),
            Self::Probing(Probing::Starting(starting)) => (Some(starting.until), None),
            Self::Probing(Probing::Running {
                follow_up_at,
                deadlines,
            }) => (*follow_up_at, Some(deadlines)),
            Self::Unattended(Unattended::CutShort { until, deadlines }) => {
                (Some(*until), deadlines.as_ref())
            }
            Self::Unattended(Unattended::Reading(deadlines)) | Self::FollowUp(deadlines) => {
                (None, Some(deadlines))
            }
            Self::Unattended(Unattended::Probing { until })
            | Self::Lingering { until }
            | Self::Removing { until, .. } => (Some(*until), None),
        };
        Timers { state, round }
    }
}
