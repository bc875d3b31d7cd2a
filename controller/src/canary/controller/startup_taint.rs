//! Removes the start-up taint of nodes whose data path works: an optional component of the installation, whose nodes register
//! with the taint `prober.dev/unverified`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Node;
use kube::Api;
use kube::api::{ListParams, Patch, PatchParams};
use prober_core::time::Timestamp;
use prober_core::topology::NodeName;
use serde_json::json;
use tokio::time::sleep;

use super::shared::{Shared, State};
use crate::canary::inventory::{NodeRecord, STARTUP_TAINT};
use crate::canary::node_state::NodeState;
use crate::clock::wall;
use crate::kubernetes::api_error::ApiError;

/// The time from one decision to the next.
const PERIOD: Duration = Duration::from_millis(500);

/// How long a node waits after a request that failed: without the component, the controller may not change nodes.
const RETRY: Duration = Duration::from_secs(30);

/// Removes taints; never ends.
pub(super) async fn run(shared: Arc<Shared>) {
    let mut tried: BTreeMap<NodeName, Timestamp> = BTreeMap::new();
    loop {
        sleep(PERIOD).await;
        let now = wall();
        tried.retain(|_, at| now.since(*at) < RETRY);
        let proven = proven(&shared.state(), now);
        for node in proven {
            if tried.contains_key(&node) {
                continue;
            }
            tried.insert(node.clone(), now);
            match remove(&shared, &node).await {
                Ok(()) => {
                    tracing::info!(%node, "its data path works: its start-up taint is removed");
                }
                Err(error) => tracing::warn!(%error, "a start-up taint was not removed"),
            }
        }
    }
}

/// The nodes that work and carry the taint.
fn proven(state: &State, now: Timestamp) -> Vec<NodeName> {
    let tainted = (state.inventory.nodes()).filter(|(_, record)| record.has_startup_taint());
    let works = |(node, record): &(&NodeName, &NodeRecord)| {
        NodeState::of(&state.inventory, node, record, now) == NodeState::Working
    };
    tainted
        .filter(works)
        .map(|(node, _)| node.clone())
        .collect()
}

/// Removes the taint, unless the node changes meanwhile: then it is tried again.
async fn remove(shared: &Shared, name: &NodeName) -> Result<(), ApiError> {
    let nodes: Api<Node> = Api::all(shared.client.kube.clone());
    let of_name = ListParams::default().fields(&format!("metadata.name={name}"));
    let task = format!("read the Node {name}");
    let found = shared.client.request(&task, nodes.list(&of_name)).await?;
    let Some(node) = found.items.into_iter().next() else {
        return Ok(());
    };
    let taints = node.spec.and_then(|spec| spec.taints).unwrap_or_default();
    let others: Vec<_> = (taints.into_iter())
        .filter(|taint| taint.key != STARTUP_TAINT)
        .collect();
    let patch = Patch::Merge(json!({
        "metadata": {"resourceVersion": node.metadata.resource_version},
        "spec": {"taints": others}
    }));
    let task = format!("remove the taint {STARTUP_TAINT} of the Node {name}");
    let params = PatchParams::default();
    let request = nodes.patch(name.as_str(), &params, &patch);
    shared.client.request(&task, request).await.map(drop)
}
