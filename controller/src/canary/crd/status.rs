//! The status of a ConnectivityCheck: conditions, failures and outages, and the nodes that are skipped.
//!
//! Every list is bounded, so that the status of the largest cluster in its worst state is a small object.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::GoDuration;

/// The most failures in the list; the headline counts the others.
pub const MAX_FAILING: usize = 20;

/// The most outages in the list, the newest first.
pub const MAX_OUTAGES: usize = 20;

/// The most skipped nodes in the list.
pub const MAX_SKIPPED: usize = 50;

/// The status of a check.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ConnectivityCheckStatus {
    /// `Ready`: it probes as specified. `Healthy`: no failure is confirmed.
    pub conditions: Vec<Condition>,
    /// The `metadata.generation` that the status refers to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The failures in one line; empty if there is none.
    pub headline: String,
    /// How many of all pairs were probed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub coverage: Option<CoverageStatus>,
    /// The failures that last: at most 20, by node.
    #[schemars(length(max = 20))]
    pub failing: Vec<FailingStatus>,
    /// The last outages: at most 20, the newest first. One that lasts has no end.
    #[schemars(length(max = 20))]
    pub outages: Vec<OutageStatus>,
    /// The nodes that are skipped, and why: at most 50.
    #[schemars(length(max = 50))]
    pub skipped_nodes: Vec<SkippedStatus>,
}

/// How many of all pairs were probed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CoverageStatus {
    /// Ordered pairs of nodes, including each node with itself, whose probes had a result in the last round that
    /// included them: within the last cycle.
    pub pairs: i64,
    /// All pairs.
    pub total: i64,
    /// Both numbers, such as `6/6`.
    pub share: String,
    /// The duration of a full rotation over all pairs.
    pub cycle: GoDuration,
}

/// One failure.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FailingStatus {
    /// The affected node; absent where no single node is affected.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// Its cause, as `prober explain` names it; `unknown`; or `agent-silent`.
    pub cause: String,
    /// `proven` or `consistent`.
    pub confidence: String,
    /// The number of failing paths.
    pub paths: i64,
    /// What the failing paths have in common, in words.
    pub place: String,
    /// When it began.
    pub since: Time,
}

/// One outage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OutageStatus {
    /// When it began.
    pub start: Time,
    /// When it ended; absent while it lasts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end: Option<Time>,
    /// Its last known cause.
    pub cause: String,
    /// The affected node; absent where no single node is affected.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
}

/// A node that is skipped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SkippedStatus {
    /// Its name.
    pub node: String,
    /// Why, in words.
    pub reason: String,
}
