//! Paths on which the probes of one engine pass and those of the other fail.

use crate::evidence::{PathEvidence, PathTally};
use crate::probe::outcome::EngineKind;

/// Whether every crafted SYN of a path is answered at once, and connect() never: what drops packets by their addresses,
/// ports or route does not distinguish the two.
pub(crate) fn is_crafted_alone(evidence: &PathEvidence) -> bool {
    let engines = evidence.engines();
    let tally =
        |engine: EngineKind| (evidence.tallies.get(&engine)).filter(|_| engines.contains(&engine));
    let is_answered = |tally: &PathTally| {
        let total = tally.outcomes.total();
        total > 1 && tally.first_syn_success == total
    };
    let is_silent = |tally: &PathTally| {
        let total = tally.outcomes.total();
        total > 1 && tally.outcomes.timeout == total
    };
    tally(EngineKind::Raw).is_some_and(is_answered)
        && tally(EngineKind::Kernel).is_some_and(is_silent)
}
