//! Who is told what the controller sees, for metrics and traces. Nothing here waits for telemetry.

use prober_core::evidence::Matrix;
use prober_core::report::Report;
use prober_core::topology::NodeName;

use crate::canary::health::{Judgement, Transition};
use crate::canary::schedule::Coverage;

/// One cycle of one check.
#[derive(Clone, Copy, Debug)]
pub struct Round<'a> {
    /// The check's name.
    pub check: &'a str,
    /// What was measured.
    pub matrix: &'a Matrix,
    /// What is made of it.
    pub report: &'a Report,
    /// What fails over time.
    pub judgement: &'a Judgement,
    /// What has changed by this cycle.
    pub transitions: &'a [Transition],
    /// How much was probed of what there is.
    pub coverage: Coverage,
}

/// Is told each cycle, and who leaves. Must return at once.
pub trait Observer: Send + Sync {
    /// A cycle has been judged.
    fn observe(&self, round: &Round<'_>);

    /// A check probes a node no more: it was deleted, is not meant any more, or cannot be probed.
    fn gone(&self, check: &str, node: &NodeName);
}
