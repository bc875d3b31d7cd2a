//! The status of a check, built from its health and its schedule: bounded in size, and unchanged while nothing changes.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use prober_core::time::Timestamp;

use super::schedule::Schedule;
use crate::canary::crd::GoDuration;
use crate::canary::crd::status::{
    ConnectivityCheckStatus, CoverageStatus, FailingStatus, MAX_FAILING, MAX_OUTAGES, MAX_SKIPPED,
    OutageStatus, SkippedStatus,
};
use crate::canary::health::{HealthTracker, Outage};
use crate::kubernetes::api_time::time;

/// The type of the condition that says whether the check probes.
pub const READY: &str = "Ready";

/// The type of the condition that says whether no failure is confirmed.
pub const HEALTHY: &str = "Healthy";

/// The phase of a check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CheckPhase {
    /// It probes.
    Probing,
    /// `spec.paused` is set.
    Paused,
    /// Its first round has not ended.
    Starting,
    /// It cannot probe, and why.
    Blocked(String),
}

/// What the status depends on besides health and schedule.
#[derive(Clone, Copy, Debug)]
pub struct StatusContext<'a> {
    /// `metadata.generation` of the check.
    pub generation: Option<i64>,
    /// Its phase.
    pub phase: &'a CheckPhase,
    /// The conditions of the status before: a condition keeps its transition time while its status is the same.
    pub before: &'a [Condition],
    /// The current time.
    pub now: Timestamp,
}

/// Builds the status.
pub fn status(
    health: &HealthTracker,
    schedule: &Schedule,
    context: StatusContext<'_>,
) -> ConnectivityCheckStatus {
    let coverage = schedule.coverage();
    let outages = health.open().iter().chain(health.ended());
    ConnectivityCheckStatus {
        conditions: vec![ready(context), healthy(health, context)],
        observed_generation: context.generation,
        headline: headline(health.open()),
        coverage: Some(CoverageStatus {
            pairs: number(coverage.pairs),
            total: number(coverage.total),
            share: format!("{}/{}", coverage.pairs, coverage.total),
            cycle: whole_seconds(coverage.cycle),
        }),
        failing: health
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

/// The first outage in a few words, and how many more there are.
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

fn ready(context: StatusContext<'_>) -> Condition {
    let (word, reason, message) = match context.phase {
        CheckPhase::Probing => (
            "True",
            "Probing",
            "rounds are probed as specified".to_owned(),
        ),
        CheckPhase::Starting => (
            "False",
            "Starting",
            "the first round has not ended".to_owned(),
        ),
        CheckPhase::Paused => ("False", "Paused", "spec.paused is set".to_owned()),
        CheckPhase::Blocked(why) => ("False", "CannotProbe", why.clone()),
    };
    condition(READY, word, reason, message, context)
}

fn healthy(health: &HealthTracker, context: StatusContext<'_>) -> Condition {
    let (word, reason, message) = match (health.open(), context.phase) {
        (open @ [_, ..], _) => ("False", "PathsFailing", headline(open)),
        ([], CheckPhase::Probing) => ("True", "NoFailure", "no failure is confirmed".to_owned()),
        ([], CheckPhase::Paused | CheckPhase::Starting | CheckPhase::Blocked(_)) => {
            ("Unknown", "NotProbed", "nothing is being probed".to_owned())
        }
    };
    condition(HEALTHY, word, reason, message, context)
}

fn condition(
    kind: &str,
    word: &str,
    reason: &str,
    message: String,
    context: StatusContext<'_>,
) -> Condition {
    let before = context
        .before
        .iter()
        .find(|before| before.type_ == kind && before.status == word);
    Condition {
        type_: kind.to_owned(),
        status: word.to_owned(),
        reason: reason.to_owned(),
        message,
        observed_generation: context.generation,
        last_transition_time: before.map_or_else(
            || time(context.now),
            |before| before.last_transition_time.clone(),
        ),
    }
}

fn failing(outage: &Outage) -> FailingStatus {
    let place = outage.place.as_ref().map(ToString::to_string);
    FailingStatus {
        node: outage.explanation.node.as_ref().map(ToString::to_string),
        cause: outage.explanation.kind.as_str().to_owned(),
        confidence: outage.explanation.sureness().to_owned(),
        paths: number(outage.paths.len()),
        place: place.unwrap_or_default(),
        since: time(outage.start),
    }
}

fn outage(outage: &Outage) -> OutageStatus {
    OutageStatus {
        start: time(outage.start),
        end: outage.end.map(|(at, _)| time(at)),
        cause: outage.explanation.kind.as_str().to_owned(),
        node: outage.explanation.node.as_ref().map(ToString::to_string),
    }
}

fn number(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn whole_seconds(length: Duration) -> GoDuration {
    let seconds = length
        .as_secs()
        .saturating_add(u64::from(length.subsec_nanos() > 0));
    GoDuration::from_secs(seconds).min(GoDuration::LONGEST)
}

#[cfg(test)]
mod tests;
