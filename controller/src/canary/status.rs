//! What a check tells back, out of what is judged: bounded, and the same words as long as nothing changes.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff;
use prober_core::time::Timestamp;

use super::schedule::Schedule;
use crate::canary::crd::Span;
use crate::canary::crd::status::{
    ConnectivityCheckStatus, CoverageStatus, FailingStatus, MAX_FAILING, MAX_OUTAGES, MAX_SKIPPED,
    OutageStatus, SkippedStatus,
};
use crate::canary::health::{Judgement, Outage};

/// The condition that says whether the check probes.
pub const READY: &str = "Ready";

/// The condition that says whether all is well.
pub const HEALTHY: &str = "Healthy";

/// How far a check is in doing what it was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// It probes.
    Probing,
    /// It was told to pause.
    Paused,
    /// Its first round has not ended.
    Starting,
    /// It cannot probe, and why.
    Stuck(String),
}

/// What is told besides what was judged.
#[derive(Clone, Copy, Debug)]
pub struct Circumstances<'a> {
    /// The spec's generation.
    pub generation: Option<i64>,
    /// How far it is.
    pub readiness: &'a Readiness,
    /// The conditions that were told before: their times hold while their word does.
    pub before: &'a [Condition],
    /// Now.
    pub now: Timestamp,
}

/// What is told.
pub fn status(
    judgement: &Judgement,
    schedule: &Schedule,
    circumstances: Circumstances<'_>,
) -> ConnectivityCheckStatus {
    let coverage = schedule.coverage();
    let outages = judgement.open().iter().chain(judgement.ended());
    ConnectivityCheckStatus {
        conditions: vec![ready(circumstances), healthy(judgement, circumstances)],
        observed_generation: circumstances.generation,
        headline: headline(judgement.open()),
        coverage: Some(CoverageStatus {
            pairs: number(coverage.pairs),
            total: number(coverage.total),
            share: format!("{}/{}", coverage.pairs, coverage.total),
            cycle: whole_seconds(coverage.cycle),
        }),
        failing: judgement
            .open()
            .iter()
            .take(MAX_FAILING)
            .map(failing)
            .collect(),
        outages: outages.take(MAX_OUTAGES).map(outage).collect(),
        skipped_nodes: schedule
            .skipped()
            .iter()
            .take(MAX_SKIPPED)
            .map(|(node, why)| SkippedStatus {
                node: node.to_string(),
                reason: why.to_string(),
            })
            .collect(),
    }
}

/// One outage in a few words, and how many more there are.
pub fn headline(open: &[Outage]) -> String {
    let Some(first) = open.first() else {
        return String::new();
    };
    let more = match open.len() - 1 {
        0 => String::new(),
        more => format!(", and {more} more"),
    };
    format!("{first}{more}")
}

fn ready(circumstances: Circumstances<'_>) -> Condition {
    let (word, reason, message) = match circumstances.readiness {
        Readiness::Probing => ("True", "Probing", "rounds are probed as asked".to_owned()),
        Readiness::Starting => (
            "False",
            "Starting",
            "the first round has not ended".to_owned(),
        ),
        Readiness::Paused => ("False", "Paused", "spec.paused is set".to_owned()),
        Readiness::Stuck(why) => ("False", "CannotProbe", why.clone()),
    };
    condition(READY, word, reason, message, circumstances)
}

fn healthy(judgement: &Judgement, circumstances: Circumstances<'_>) -> Condition {
    let (word, reason, message) = match (judgement.open(), circumstances.readiness) {
        (open @ [_, ..], _) => ("False", "PathsFailing", headline(open)),
        ([], Readiness::Probing) => ("True", "NoFailure", "no failure is confirmed".to_owned()),
        ([], Readiness::Paused | Readiness::Starting | Readiness::Stuck(_)) => {
            ("Unknown", "NotProbed", "nothing is being probed".to_owned())
        }
    };
    condition(HEALTHY, word, reason, message, circumstances)
}

fn condition(
    kind: &str,
    word: &str,
    reason: &str,
    message: String,
    circumstances: Circumstances<'_>,
) -> Condition {
    let before = circumstances
        .before
        .iter()
        .find(|before| before.type_ == kind && before.status == word);
    Condition {
        type_: kind.to_owned(),
        status: word.to_owned(),
        reason: reason.to_owned(),
        message,
        observed_generation: circumstances.generation,
        last_transition_time: before.map_or_else(
            || time(circumstances.now),
            |before| before.last_transition_time.clone(),
        ),
    }
}

fn failing(outage: &Outage) -> FailingStatus {
    let place = outage.place.as_ref().map(ToString::to_string);
    FailingStatus {
        node: outage.blame.node.as_ref().map(ToString::to_string),
        cause: outage.blame.what.as_str().to_owned(),
        confidence: outage.blame.sureness().to_owned(),
        paths: number(outage.paths.len()),
        place: place.unwrap_or_default(),
        since: time(outage.start),
    }
}

fn outage(outage: &Outage) -> OutageStatus {
    OutageStatus {
        start: time(outage.start),
        end: outage.end.map(|(at, _)| time(at)),
        cause: outage.blame.what.as_str().to_owned(),
        node: outage.blame.node.as_ref().map(ToString::to_string),
    }
}

fn number(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn whole_seconds(length: Duration) -> Span {
    let seconds = length
        .as_secs()
        .saturating_add(u64::from(length.subsec_nanos() > 0));
    Span::from_secs(seconds).min(Span::LONGEST)
}

/// Whole seconds, as the API keeps them.
fn time(at: Timestamp) -> Time {
    let seconds = i64::try_from(at.as_nanos() / 1_000_000_000).unwrap_or(i64::MAX);
    Time(jiff::Timestamp::from_second(seconds).unwrap_or(jiff::Timestamp::MAX))
}

#[cfg(test)]
mod tests;
