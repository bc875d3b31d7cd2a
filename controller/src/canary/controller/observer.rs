//! The interface between the controller and telemetry, which never blocks the controller.

use std::time::Duration;

use prober_core::evidence::Matrix;
use prober_core::report::Report;
use prober_core::topology::NodeName;

use crate::canary::check_state::CheckState;
use crate::canary::health::Transition;

/// The results of an examination for one check.
#[derive(Clone, Copy, Debug)]
pub struct CheckRound<'a> {
    /// The check's name.
    pub check: &'a str,
    /// The measurements.
    pub matrix: &'a Matrix,
    /// Their diagnosis.
    pub report: &'a Report,
    /// The state of the check, with these results.
    pub state: &'a CheckState,
    /// What they have changed.
    pub transitions: &'a [Transition],
}

/// The states of the nodes of one check.
#[derive(Clone, Copy, Debug)]
pub struct CheckStates<'a> {
    /// The check's name.
    pub check: &'a str,
    /// Its state.
    pub state: &'a CheckState,
}

/// How a reconciliation of a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reconciled {
    /// Everything is written that was to be.
    Written,
    /// Something could not be written, and is tried again.
    Failed,
}

/// Receives what the controller finds and does. Its methods must return at once.
pub trait Observer: Send + Sync {
    /// An examination has ended.
    fn observe(&self, round: &CheckRound<'_>);

    /// The states of nodes may have changed.
    fn observe_states(&self, states: &CheckStates<'_>);

    /// A check no longer selects a node, or the node was deleted.
    fn node_removed(&self, check: &str, node: &NodeName);

    /// A check was deleted.
    fn check_removed(&self, check: &str);

    /// Whether this controller leads.
    fn leads(&self, is_leading: bool);

    /// A check was reconciled.
    fn reconciled(&self, how: Reconciled, took: Duration);

    /// The states of all checks were evaluated.
    fn evaluated(&self, took: Duration);
}
