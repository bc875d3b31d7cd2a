//! Where a run stands, what it has when it ends, and what it waits for.

use crate::evidence::Matrix;
use crate::report::Completion;

/// What a run is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Reading what the nodes under test say of themselves, before anything else is placed on
    /// them; their peers' agents are started meanwhile.
    ReadingFacts,
    /// Waiting for agents.
    Placing,
    /// Waiting for the test Services, and until every agent answers.
    Publishing,
    /// Probing every path.
    Probing,
    /// Probing turn after turn, while no agent is read.
    Watching,
    /// Looking closer at the paths that fail.
    Suspecting,
    /// Waiting for the agents' last lines.
    Lingering,
    /// Everything is measured; waiting to be told to begin again.
    Idle,
    /// Waiting until everything is removed.
    Removing,
    /// Over.
    Ended,
}

/// What a run has when it ends, or one that stands when its cycle does.
#[derive(Clone, Debug)]
pub struct RunResult {
    /// What was measured.
    pub matrix: Matrix,
    /// Whether that is all that was to be measured.
    pub completion: Completion,
    /// What a person should know besides, one sentence each.
    pub notes: Vec<String>,
}

/// The timers of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunTimer {
    /// The fleet takes too long.
    Patience,
    /// Time for the closer look.
    Suspicion,
    /// A round takes longer than its probes can.
    Overdue,
    /// All turns of a round that nobody reads are over.
    Turns,
    /// Who rang was read.
    TtlStep,
    /// The agents' last lines should be in.
    Linger,
}

/// Whether there is anything to probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Layout {
    /// There is.
    Paths,
    /// No pair of agents can reach each other at all.
    Empty,
}
