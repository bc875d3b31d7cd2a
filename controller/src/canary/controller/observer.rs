//! The interface between the controller and telemetry, which never blocks the controller.

use prober_core::evidence::Matrix;
use prober_core::report::Report;
use prober_core::topology::NodeName;

use crate::canary::health::{HealthTracker, Transition};
use crate::canary::schedule::Coverage;

/// The results of a round of one check.
#[derive(Clone, Copy, Debug)]
pub struct CheckRound<'a> {
    /// The check's name.
    pub check: &'a str,
    /// The measurements.
    pub matrix: &'a Matrix,
    /// Their diagnosis.
    pub report: &'a Report,
    /// The health of all paths and agents.
    pub health: &'a HealthTracker,
    /// What this round has changed.
    pub transitions: &'a [Transition],
    /// How many of all pairs were probed.
    pub coverage: Coverage,
}

/// Receives the results of each round. Its methods must return at once.
pub trait RoundObserver: Send + Sync {
    /// A round was evaluated.
    fn observe(&self, round: &CheckRound<'_>);

    /// A check no longer probes a node: it was deleted, is no longer selected, or is skipped.
    fn node_removed(&self, check: &str, node: &NodeName);
}
