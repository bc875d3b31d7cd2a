//! What a check tells back: conditions, what fails and since when, what was wrong before, and what is not probed.
//!
//! Every list has a bound, so that the worst day of the largest cluster still fits into one small object.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Span;

/// Failures that are listed; the headline counts the others.
pub const MAX_FAILING: usize = 20;

/// Outages that are remembered, the newest first.
pub const MAX_OUTAGES: usize = 20;

/// Nodes that are listed as skipped.
pub const MAX_SKIPPED: usize = 50;

/// What a check tells back.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ConnectivityCheckStatus {
    /// `Ready`: it probes as asked. `Healthy`: no failure is confirmed.
    pub conditions: Vec<Condition>,
    /// The generation of the spec that all of this is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// What fails, in one line; empty where nothing does.
    pub headline: String,
    /// How much of what there is to probe was probed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub coverage: Option<CoverageStatus>,
    /// What fails now: at most 20, by node.
    #[schemars(length(max = 20))]
    pub failing: Vec<FailingStatus>,
    /// What failed: at most 20, the newest first. One without an end lasts.
    #[schemars(length(max = 20))]
    pub outages: Vec<OutageStatus>,
    /// Nodes that are not probed, and why: at most 50.
    #[schemars(length(max = 50))]
    pub skipped_nodes: Vec<SkippedStatus>,
}

/// How much of what there is to probe was probed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CoverageStatus {
    /// Ordered pairs of nodes, each node with itself among them, whose probes had a result the last time that it was their
    /// turn: within the last cycle.
    pub pairs: i64,
    /// All that there are.
    pub total: i64,
    /// Both as one word, such as `6/6`.
    pub share: String,
    /// How long it takes until each had its turn.
    pub cycle: Span,
}

/// One failure.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FailingStatus {
    /// The node where it is; absent where it is on no single one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// Its cause, as `prober explain` names it; `unknown`; or `agent-silent`.
    pub cause: String,
    /// `proven` or `consistent`.
    pub confidence: String,
    /// How many paths it breaks.
    pub paths: i64,
    /// Which kind of paths, and whose: in words.
    pub place: String,
    /// Since when.
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
    /// What its cause was, at the last.
    pub cause: String,
    /// The node where it was; absent where it was on no single one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
}

/// A node that is not probed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SkippedStatus {
    /// Its name.
    pub node: String,
    /// Why, in words.
    pub reason: String,
}
