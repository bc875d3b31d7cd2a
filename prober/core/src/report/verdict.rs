//! The verdict of a report: whether everything that was requested works, a path fails, or neither can be said.

use super::{Completion, Health, Report, Verdict};
use crate::evidence::{Matrix, PathEvidence, Source};
use crate::topology::AgentId;

/// The verdict over all paths of a report, whose evidence is in `matrix`.
pub(super) fn verdict(matrix: &Matrix, report: &Report) -> Verdict {
    let has = |health| report.paths.iter().any(|path| path.health == health);
    let is_faulty = !report.diagnoses.is_empty() || has(Health::Failing);
    let is_complete = !(report.paths.is_empty()
        || has(Health::NotProbed)
        || !report.unprobed.is_empty()
        || report.sparsely_probed().next().is_some()
        || lacks_a_complete_client(matrix));
    match report.completion {
        Completion::Interrupted | Completion::Complete if is_faulty => Verdict::Faulty,
        Completion::CouldNotRun { .. } if fails_between_running_agents(matrix, report) => {
            Verdict::Faulty
        }
        Completion::Complete if is_complete => Verdict::Healthy,
        Completion::Complete | Completion::Interrupted | Completion::CouldNotRun { .. } => {
            Verdict::Inconclusive
        }
    }
}

/// Whether a path fails although all agents on it ran to the end: an agent that did not may itself be why a path to it fails.
fn fails_between_running_agents(matrix: &Matrix, report: &Report) -> bool {
    let has_failed = |agent: &AgentId| {
        let known = matrix.agents.get(agent);
        known.is_some_and(|known| known.failed.is_some())
    };
    let is_between_running = |path: &PathEvidence| {
        let backends = path.backends.iter().flat_map(|backend| &backend.agent);
        let mut agents = std::iter::once(&path.path.client)
            .chain(&path.path.server)
            .chain(backends);
        !agents.any(has_failed)
    };
    let mut failing = (report.paths.iter()).filter(|path| path.health == Health::Failing);
    failing.any(|path| {
        let evidence = matrix.paths.get(&path.id);
        evidence.is_some_and(is_between_running)
    })
}

/// Whether a client did not report to the end, so that the outcomes of its last probes are unknown.
fn lacks_a_complete_client(matrix: &Matrix) -> bool {
    let ended = |evidence: &PathEvidence| {
        let client = matrix.agents.get(&evidence.path.client);
        client.is_none_or(|client| client.has_reported)
    };
    matrix.source == Source::Run && !matrix.paths.values().all(ended)
}
