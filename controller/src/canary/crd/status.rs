//! The status of a ConnectivityCheck: conditions, failures and outages, and the nodes that are not measured.
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

/// The most nodes in the list of those that are not measured; the counts include the others.
pub const MAX_SKIPPED: usize = 50;

/// The most nodes in the list of those that a failure involves.
pub const MAX_INVOLVED: usize = 16;

/// The status of a check.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ConnectivityCheckStatus {
    /// `Ready`: it probes as specified. `Healthy`: no failure is confirmed; `Unknown` while no node is measured.
    pub conditions: Vec<Condition>,
    /// The `metadata.generation` that the status refers to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The failures in one line; empty if there is none.
    pub headline: String,
    /// When the status was computed last from agents that probe: refreshed with every other change, and every five
    /// minutes; absent before the first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_probed: Option<Time>,
    /// The selected nodes, by the state of their agents.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nodes: Option<NodesStatus>,
    /// How many of the selected nodes are measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub coverage: Option<CoverageStatus>,
    /// The failures that last: at most 20, by node.
    #[schemars(length(max = 20))]
    pub failing: Vec<FailingStatus>,
    /// The last outages: at most 20, the newest first. One that lasts has no end.
    #[schemars(length(max = 20))]
    pub outages: Vec<OutageStatus>,
    /// The nodes that are not measured, and why: at most 50.
    #[schemars(length(max = 50))]
    pub skipped_nodes: Vec<SkippedStatus>,
}

/// The selected nodes, by the state of their agents.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct NodesStatus {
    /// Their agents probe, and the last results of the node's own paths are healthy.
    pub working: i64,
    /// An agent probes and has found a failure, which is examined.
    pub alerting: i64,
    /// Their agents start, and have not finished a round.
    pub starting: i64,
    /// Nothing is measured there: `skippedNodes` says why.
    pub not_measured: i64,
}

/// How many of the selected nodes are measured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CoverageStatus {
    /// The nodes whose agents probe.
    #[serde(default)]
    pub nodes: i64,
    /// All selected nodes.
    pub total: i64,
    /// Both numbers, such as `3/3`.
    pub share: String,
    /// Ordered pairs of nodes that are probed: each measured node with itself, and with each server that has a slot.
    pub pairs: i64,
    /// The time in which each node meets every server that has a slot now.
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
    /// The nodes that it involves: at most 16.
    #[schemars(length(max = 16))]
    #[serde(default)]
    pub nodes: Vec<String>,
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

/// A node that is not measured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SkippedStatus {
    /// Its name.
    pub node: String,
    /// Why, in words.
    pub reason: String,
}
