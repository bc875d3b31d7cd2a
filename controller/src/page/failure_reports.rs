//! The reports of examinations in which outages were found: the newest of each outage, and few in all.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;

use prober_core::report::{DiagnosisReport, Report};

use super::state::FailureReport;
use crate::canary::health::{FailureKind, Outage};
use crate::canary::round_result::NodePath;

/// The most reports that are kept. One of a few nodes takes a megabyte or two.
const KEPT: usize = 16;

/// The newest reports, by the id of the outage.
#[derive(Clone, Debug, Default)]
pub struct FailureReports {
    /// With the number of its report, which grows.
    by_outage: BTreeMap<String, (u64, FailureReport)>,
    count: u64,
}

impl FailureReports {
    /// Keeps the report of an examination for the outages that it has found.
    pub fn keep<'a>(
        &mut self,
        check: &str,
        report: &Arc<Report>,
        open: impl IntoIterator<Item = &'a Outage>,
    ) {
        self.count += 1;
        for outage in open {
            if let Some(diagnosis) = diagnosis_of(report, outage) {
                let kept = FailureReport {
                    report: Arc::clone(report),
                    diagnosis,
                };
                self.by_outage
                    .insert(outage_id(check, outage), (self.count, kept));
            }
        }
        let numbers = self.by_outage.values().map(|(number, _)| *number);
        let numbers: BTreeSet<u64> = numbers.collect();
        if let Some(oldest) = numbers.iter().rev().nth(KEPT - 1) {
            self.by_outage.retain(|_, (number, _)| *number >= *oldest);
        }
    }

    /// Drops the reports of all other outages.
    pub fn retain(&mut self, is_known: impl Fn(&str) -> bool) {
        self.by_outage.retain(|id, _| is_known(id));
    }

    /// The newest report of an outage.
    pub fn get(&self, id: &str) -> Option<&FailureReport> {
        self.by_outage.get(id).map(|(_, report)| report)
    }
}

/// The id of an outage, which is the same as long as its explanation, also for the controller that leads next: the status of a
/// check, from which that one restores it, has whole seconds.
pub fn outage_id(check: &str, outage: &Outage) -> String {
    let mut hasher = DefaultHasher::new();
    let node = outage.explanation.node.as_ref();
    check.hash(&mut hasher);
    (outage.start.as_nanos() / 1_000_000_000).hash(&mut hasher);
    outage.explanation.kind.as_str().hash(&mut hasher);
    node.map(prober_core::topology::NodeName::as_str)
        .hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}

/// The index of the diagnosis of an outage: the one with most of its paths, of those with the same cause.
fn diagnosis_of(report: &Report, outage: &Outage) -> Option<usize> {
    let cause = match outage.explanation.kind {
        FailureKind::Cause(cause) => cause,
        FailureKind::AgentSilent => return None,
    };
    let shared = |diagnosis: &DiagnosisReport| {
        let paths = diagnosis.paths.iter().filter_map(|id| report.path(*id));
        let paths = paths.filter_map(NodePath::of);
        paths.filter(|path| outage.paths.contains(path)).count()
    };
    let of_cause = (report.diagnoses.iter().enumerate())
        .filter(|(_, diagnosis)| diagnosis.cause == cause)
        .map(|(index, diagnosis)| (shared(diagnosis), index));
    let best = of_cause.filter(|(shared, _)| *shared > 0).max();
    best.map(|(_, index)| index)
}

#[cfg(test)]
mod tests {
    use prober_core::diagnosis::Confidence;
    use prober_core::report::CauseName;
    use prober_core::time::Timestamp;
    use prober_core::topology::NodeName;

    use super::*;
    use crate::canary::health::Explanation;

    fn outage(nanos: u64, node: &str) -> Outage {
        let explanation = Explanation {
            kind: FailureKind::Cause(CauseName(None)),
            confidence: Confidence::Consistent,
            node: Some(NodeName::new(node)),
        };
        Outage::new(explanation, Timestamp::from_nanos(nanos))
    }

    #[test]
    fn an_outage_that_was_restored_has_the_same_id() {
        let found = outage_id("default", &outage(5_000_000_123, "node-1"));
        let restored = outage_id("default", &outage(5_000_000_000, "node-1"));
        assert_eq!(found, restored);
        for other in [
            outage(6_000_000_000, "node-1"),
            outage(5_000_000_000, "node-2"),
        ] {
            assert_ne!(found, outage_id("default", &other));
        }
        assert_ne!(found, outage_id("other", &outage(5_000_000_000, "node-1")));
    }
}
