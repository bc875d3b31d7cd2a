//! The status of a check, built from its state: bounded in size, and written only where it says something new.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use prober_core::time::Timestamp;

use super::check_state::{CheckState, NodeCounts};
use super::node_state::NodeState;
use crate::canary::crd::GoDuration;
use crate::canary::crd::status::{
    ConnectivityCheckStatus, CoverageStatus, FailingStatus, MAX_FAILING, MAX_INVOLVED, MAX_OUTAGES,
    MAX_SKIPPED, NodesStatus, OutageStatus, SkippedStatus,
};
use crate::canary::health::Outage;
use crate::kubernetes::api_time::time;

/// The type of the condition that says whether the check probes.
pub const READY: &str = "Ready";

/// The type of the condition that says whether no failure is confirmed.
pub const HEALTHY: &str = "Healthy";

/// What the status depends on besides the state of the check.
#[derive(Clone, Copy, Debug)]
pub struct StatusContext<'a> {
    /// The status before: a condition keeps its transition time while its status is the same.
    pub before: Option<&'a ConnectivityCheckStatus>,
    /// The number of servers that have a slot of the test Service.
    pub slots: usize,
    /// How many of them each node meets in a round.
    pub peers: usize,
    /// The current time.
    pub now: Timestamp,
}

/// How long `lastProbed` may be older than it could be: writing it each interval would be a request for every check and
/// interval.
const LAST_PROBED_AGE: Duration = Duration::from_mins(5);

/// How long changed counts of nodes may wait until they are written, if nothing else has changed.
const COUNTS_AGE: Duration = Duration::from_secs(30);

/// Builds the status.
pub fn status(check: &CheckState, context: StatusContext<'_>) -> ConnectivityCheckStatus {
    let counts = check.counts();
    let health = check.health();
    let outages = health.open().iter().chain(health.ended());
    let before = context.before.map(|before| before.conditions.as_slice());
    let conditions = Conditions {
        before: before.unwrap_or_else(|| check.conditions_before()),
        generation: check.generation(),
        now: context.now,
    };
    let not_measured = check
        .nodes()
        .iter()
        .filter_map(|(node, state)| match state {
            NodeState::NotMeasured(why) => Some((node, why)),
            NodeState::Working | NodeState::Alerting(_) | NodeState::Starting => None,
        });
    ConnectivityCheckStatus {
        conditions: vec![
            ready(check, counts, conditions),
            healthy(check, counts, conditions),
        ],
        observed_generation: check.generation(),
        headline: headline(health.open()),
        last_probed: if counts.measured() > 0 {
            Some(time(context.now))
        } else {
            context.before.and_then(|before| before.last_probed.clone())
        },
        nodes: Some(NodesStatus {
            working: number(counts.working),
            alerting: number(counts.alerting),
            starting: number(counts.starting),
            not_measured: number(counts.not_measured),
        }),
        coverage: Some(coverage(check, counts, context)),
        failing: (health.open().iter().take(MAX_FAILING))
            .map(failing)
            .collect(),
        outages: outages.take(MAX_OUTAGES).map(outage).collect(),
        skipped_nodes: not_measured
            .take(MAX_SKIPPED)
            .map(|(node, why)| SkippedStatus {
                node: node.to_string(),
                reason: why.to_string(),
            })
            .collect(),
    }
}

/// The status of a check whose object does not parse.
pub fn invalid(error: &str, generation: Option<i64>, now: Timestamp) -> ConnectivityCheckStatus {
    let conditions = Conditions {
        before: &[],
        generation,
        now,
    };
    let why = format!("the check does not parse, and nothing of it is probed: {error}");
    let unknown = "the check does not parse".to_owned();
    ConnectivityCheckStatus {
        conditions: vec![
            conditions.condition(READY, "False", "Invalid", why),
            conditions.condition(HEALTHY, "Unknown", "NotProbed", unknown),
        ],
        observed_generation: generation,
        ..ConnectivityCheckStatus::default()
    }
}

/// Whether `status` differs from the status that was written `age` ago by more than what may wait.
pub fn is_worth_writing(
    written: Option<(&ConnectivityCheckStatus, Duration)>,
    status: &ConnectivityCheckStatus,
) -> bool {
    let Some((written, age)) = written else {
        return true;
    };
    let without_times = |status: &ConnectivityCheckStatus| ConnectivityCheckStatus {
        last_probed: None,
        ..status.clone()
    };
    let without_counts = |status: &ConnectivityCheckStatus| {
        let mut status = ConnectivityCheckStatus {
            nodes: None,
            coverage: None,
            skipped_nodes: Vec::new(),
            ..without_times(status)
        };
        for condition in &mut status.conditions {
            condition.message.clear();
        }
        status
    };
    without_counts(written) != without_counts(status)
        || (age >= COUNTS_AGE && without_times(written) != without_times(status))
        || (age >= LAST_PROBED_AGE && written != status)
}

fn coverage(check: &CheckState, counts: NodeCounts, context: StatusContext<'_>) -> CoverageStatus {
    let (nodes, total) = (counts.measured(), counts.total());
    let rounds = match context.peers {
        0 => 1,
        peers => context.slots.div_ceil(peers).max(1),
    };
    let interval = check.spec().interval.duration();
    let cycle = interval.saturating_mul(u32::try_from(rounds).unwrap_or(u32::MAX));
    let others = if context.peers == 0 { 0 } else { context.slots };
    CoverageStatus {
        nodes: number(nodes),
        total: number(total),
        share: format!("{nodes}/{total}"),
        pairs: number(nodes.saturating_mul(others.max(1))),
        cycle: whole_seconds(cycle),
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

/// What the conditions have in common.
#[derive(Clone, Copy)]
struct Conditions<'a> {
    before: &'a [Condition],
    generation: Option<i64>,
    now: Timestamp,
}

fn ready(check: &CheckState, counts: NodeCounts, conditions: Conditions<'_>) -> Condition {
    let (word, reason, message) = if check.spec().paused {
        ("False", "Paused", "spec.paused is set".to_owned())
    } else if counts.total() == 0 {
        (
            "False",
            "NoNodes",
            "spec.nodeSelector selects no Linux node".to_owned(),
        )
    } else if counts.measured() == 0 {
        ("False", "NotProbed", describe(counts))
    } else {
        ("True", "Probing", describe(counts))
    };
    conditions.condition(READY, word, reason, message)
}

/// How many nodes are in each state that is not the usual one.
fn describe(counts: NodeCounts) -> String {
    let parts = [
        (counts.alerting, "alert"),
        (counts.starting, "start"),
        (counts.not_measured, "are not measured"),
    ];
    let others = parts.into_iter().filter(|(count, _)| *count > 0);
    let first = format!("{} of {} nodes work", counts.working, counts.total());
    let parts = others.map(|(count, what)| format!("{count} {what}"));
    let parts: Vec<String> = std::iter::once(first).chain(parts).collect();
    parts.join(", ")
}

fn healthy(check: &CheckState, counts: NodeCounts, conditions: Conditions<'_>) -> Condition {
    let (word, reason, message) = match check.health().open() {
        open @ [_, ..] => ("False", "PathsFailing", headline(open)),
        [] if counts.measured() == 0 => (
            "Unknown",
            "NotProbed",
            "nothing is measured on any node".to_owned(),
        ),
        [] => (
            "True",
            "NoFailure",
            format!("no failure is confirmed: {}", describe(counts)),
        ),
    };
    conditions.condition(HEALTHY, word, reason, message)
}

impl Conditions<'_> {
    fn condition(self, kind: &str, word: &str, reason: &str, message: String) -> Condition {
        let before =
            (self.before.iter()).find(|before| before.type_ == kind && before.status == word);
        Condition {
            type_: kind.to_owned(),
            status: word.to_owned(),
            reason: reason.to_owned(),
            message,
            observed_generation: self.generation,
            last_transition_time: before.map_or_else(
                || time(self.now),
                |before| before.last_transition_time.clone(),
            ),
        }
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
        nodes: (outage.nodes().iter().take(MAX_INVOLVED))
            .map(ToString::to_string)
            .collect(),
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
