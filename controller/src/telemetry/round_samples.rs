//! The samples of an examination.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher as _};
use std::iter::repeat_n;
use std::sync::Arc;
use std::time::Duration;

use prober_core::evidence::PathEvidence;
use prober_core::probe::outcome::OutcomeKind;
use prober_core::report::{CauseName, DiagnosisReport};
use prober_core::topology::PathId;

use super::sample::Sample;
use super::trace::{Trace, TraceSource};
use crate::canary::controller::observer::CheckRound;
use crate::canary::health::{FailureKind, Outage, Transition};
use crate::canary::round_result::NodePath;

/// All samples of an examination.
pub(super) fn samples(round: &CheckRound<'_>) -> Vec<Sample> {
    let check: Arc<str> = round.check.into();
    let mut samples = handshakes(round);
    samples.extend(paths(round, &check));
    samples.extend(failures(round));
    samples
}

fn handshakes(round: &CheckRound<'_>) -> Vec<Sample> {
    let causes: BTreeMap<PathId, CauseName> = (round.report.diagnoses.iter())
        .flat_map(|diagnosis| diagnosis.paths.iter().map(|path| (*path, diagnosis.cause)))
        .collect();
    let mut samples = Vec::new();
    for (id, evidence) in round.matrix.planned_paths() {
        let cause = causes.get(&id).copied();
        for tally in evidence.tallies.values() {
            for (duration, count) in tally.rtt.iter() {
                let sample = handshake(evidence, OutcomeKind::Established, cause, Some(duration));
                samples.extend(repeat_n(
                    sample,
                    usize::try_from(count).unwrap_or(usize::MAX),
                ));
            }
            for outcome in OutcomeKind::ALL {
                let timed = match outcome {
                    OutcomeKind::Established => tally.rtt.count(),
                    OutcomeKind::Reset
                    | OutcomeKind::Timeout
                    | OutcomeKind::Unreachable
                    | OutcomeKind::RefusedLocally
                    | OutcomeKind::Mismatched => 0,
                };
                let sample = handshake(evidence, outcome, cause, None);
                let count = tally.outcomes.of(outcome).saturating_sub(timed);
                samples.extend(repeat_n(
                    sample,
                    usize::try_from(count).unwrap_or(usize::MAX),
                ));
            }
        }
    }
    samples
}

fn handshake(
    evidence: &PathEvidence,
    outcome: OutcomeKind,
    cause: Option<CauseName>,
    duration: Option<Duration>,
) -> Sample {
    Sample::Handshake {
        node: evidence.path.client.node.clone(),
        peer_scope: evidence.path.scope(),
        access_path: evidence.path.access_path,
        family: evidence.path.family,
        outcome,
        cause: cause.filter(|_| outcome != OutcomeKind::Established),
        duration,
    }
}

/// Paths of one class from one node are one sample; those without an outcome are none.
fn paths(round: &CheckRound<'_>, check: &Arc<str>) -> impl Iterator<Item = Sample> {
    let kind = |path: &NodePath| {
        (
            path.client.clone(),
            path.access_path,
            path.family,
            path.scope(),
        )
    };
    let failing: BTreeSet<_> = (round.state.health().open().iter())
        .flat_map(|outage| outage.paths.iter().map(kind))
        .collect();
    let probed: BTreeSet<_> = (round.matrix.paths.values())
        .filter(|evidence| evidence.total().outcomes.total() > 0)
        .map(|evidence| {
            let path = &evidence.path;
            let client = path.client.node.clone();
            (client, path.access_path, path.family, path.scope())
        })
        .collect();
    probed.into_iter().map(move |kind| {
        let healthy = !failing.contains(&kind);
        let (node, access_path, family, scope) = kind;
        Sample::Path {
            check: Arc::clone(check),
            node,
            access_path,
            family,
            scope,
            healthy,
        }
    })
}

/// A trace for each failure that was confirmed or has changed, if this round has a probe of it.
fn failures(round: &CheckRound<'_>) -> impl Iterator<Item = Sample> {
    let outages = round
        .transitions
        .iter()
        .filter_map(|transition| match transition {
            Transition::Opened(outage) | Transition::Changed { outage, .. } => Some(outage),
            Transition::Closed(_) => None,
        });
    outages.filter_map(|outage| {
        let diagnosis = (round.report.diagnoses.iter()).find(|found| explains(found, outage))?;
        let source = TraceSource::by(round.report, diagnosis)?;
        let explanation = (&outage.explanation.node, outage.explanation.sureness());
        // The same outage with the same explanation has the same trace id, also after a restart.
        let seed = seed(&(
            round.check,
            outage.start,
            outage.explanation.kind.as_str(),
            explanation,
        ));
        let trace = Trace::of(source, seed);
        Some(Sample::Trace(Box::new(trace)))
    })
}

fn explains(found: &DiagnosisReport, outage: &Outage) -> bool {
    outage.explanation.kind == FailureKind::Cause(found.cause)
        && outage.explanation.node == found.node
}

/// The seed of a trace's ids.
pub(super) fn seed(of: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    of.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests;
