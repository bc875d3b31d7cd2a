//! Writes the condition of each node that a check with `nodeCondition` selects, and clears it on the others.
//!
//! What a node has is read from the node: a condition that an earlier controller wrote, or that somehow was removed, is
//! seen.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::NodeCondition;
use prober_core::topology::NodeName;
use tokio::time::sleep;

use super::shared::{Shared, State};
use crate::canary::node_condition::{changed, condition};
use crate::canary::node_state::{NodeState, NotMeasured};
use crate::clock::wall;
use crate::kubernetes::api_error::ApiError;
use crate::kubernetes::api_time::time;

/// How long changes are collected before conditions are written, and the pause after a failure.
const PAUSE: Duration = Duration::from_secs(2);

/// The most conditions that are written in that time: in a large cluster, the first take minutes.
const MAX_WRITES: usize = 20;

/// A condition that is to be written; `None` clears it.
type Change = (NodeName, Option<NodeCondition>);

/// Writes conditions; never ends.
pub(super) async fn run(shared: Arc<Shared>) {
    shared.evaluated().await;
    let mut reports = shared.reports();
    // What was written and is not seen in the nodes yet.
    let mut written: BTreeMap<NodeName, Option<NodeCondition>> = BTreeMap::new();
    loop {
        let changes = changes(&mut shared.state(), &mut written);
        let is_incomplete = changes.len() > MAX_WRITES;
        for (node, condition) in changes.into_iter().take(MAX_WRITES) {
            match write(&shared, &node, condition.as_ref()).await {
                Ok(()) => {}
                Err(error) => {
                    // Tried again once the node or its state changes.
                    tracing::warn!(%error, "a node's condition was not written");
                    if !error.is_final() {
                        continue;
                    }
                }
            }
            written.insert(node, condition);
        }
        if !is_incomplete {
            // Without a change, what failed is tried again after a while.
            let changed = tokio::time::timeout(30 * PAUSE, reports.changed());
            drop(changed.await);
        }
        sleep(PAUSE).await;
    }
}

async fn write(
    shared: &Shared,
    node: &NodeName,
    condition: Option<&NodeCondition>,
) -> Result<(), ApiError> {
    match condition {
        Some(condition) => shared.status_writer.write_condition(node, condition).await,
        None => shared.status_writer.clear_condition(node).await,
    }
}

/// The conditions that differ from those that the nodes have.
fn changes(
    state: &mut State,
    written: &mut BTreeMap<NodeName, Option<NodeCondition>>,
) -> Vec<Change> {
    let State { inventory, checks } = state;
    if checks.values().any(|check| !check.state.has_begun()) || !inventory.is_complete() {
        return Vec::new();
    }
    written.retain(|node, condition| {
        let record = inventory.node(node);
        record.is_some_and(|record| record.condition != *condition)
    });
    // As the API server keeps it, in whole seconds.
    let now = time(wall());
    let mut changes = Vec::new();
    for (node, record) in inventory.nodes() {
        let has = written.get(node).unwrap_or(&record.condition).as_ref();
        let mut writing = (checks.values()).filter(|check| {
            let spec = check.state.spec();
            let is_own = match check.state.nodes().get(node) {
                None | Some(NodeState::NotMeasured(NotMeasured::OfOtherCheck(_))) => false,
                Some(_) => true,
            };
            spec.node_condition.enabled && !spec.paused && is_own
        });
        match (writing.next(), has) {
            (Some(check), _) => {
                let wanted = condition(&check.state, node, now.clone());
                let new = wanted.and_then(|wanted| changed(has, wanted));
                changes.extend(new.map(|new| (node.clone(), Some(new))));
            }
            (None, Some(_)) => changes.push((node.clone(), None)),
            (None, None) => {}
        }
    }
    changes
}
