//! Where a run stands, how it ended, and what it waits for.

/// What a run is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Reading what the nodes say of themselves, before anything is placed on them.
    ReadingFacts,
    /// Waiting for agents.
    Placing,
    /// Waiting for the test Services.
    Publishing,
    /// Probing every path.
    Probing,
    /// Looking closer at the paths that fail.
    Suspecting,
    /// Waiting for the agents' last lines.
    Lingering,
    /// Reading what changed on the nodes.
    ReadingChanges,
    /// Waiting until everything is removed.
    Removing,
    /// Over.
    Ended,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Every path was probed.
    Complete,
    /// The user ended it; the matrix holds what was measured until then.
    Interrupted,
    /// It could not be done; the matrix holds what was measured until then.
    CouldNotRun(String),
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
    /// The agents' last lines should be in.
    Linger,
}
