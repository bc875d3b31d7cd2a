//! Deletes what earlier controllers left behind, before new agents are placed.

use std::time::Duration;

use k8s_openapi::api::batch::v1::Job;
use kube::Api;
use kube::api::{DeleteParams, ListParams};
use tokio::time::sleep;

use crate::canary::controller::node_watch::Nodes;
use crate::canary::controller::status_writer::StatusWriter;
use crate::canary::node_condition;
use crate::kubernetes::api_client::ApiClient;
use crate::kubernetes::labels;

/// The pause between attempts.
const PAUSE: Duration = Duration::from_secs(2);

/// The number of attempts. What is left then is deleted by the cluster when the deadline of its owner Job passes.
const MAX_ATTEMPTS: usize = 5;

/// Deletes every owner Job of a check; the garbage collector deletes what they own.
pub(super) async fn delete_agents(connection: &ApiClient, check: &str) {
    let api: Api<Job> = Api::namespaced(connection.kube.clone(), &connection.namespace);
    let of_check = ListParams::default().labels(&labels::check_selector(check));
    let task =
        format!("delete the agents of earlier controllers for the ConnectivityCheck {check}");
    for _ in 0..MAX_ATTEMPTS {
        let params = DeleteParams::background();
        let request = api.delete_collection(&params, &of_check);
        match connection.request(&task, request).await {
            Ok(_) => return,
            Err(error) => {
                tracing::warn!(%error, "agents of an earlier controller were not deleted");
            }
        }
        sleep(PAUSE).await;
    }
}

/// Clears the condition of all nodes; for a cluster in which no check enables it.
pub(super) async fn clear_conditions(status_writer: StatusWriter, nodes: Nodes) {
    let marked = nodes
        .iter()
        .filter(|(_, node)| node_condition::of(node).is_some());
    for (node, _) in marked {
        if let Err(error) = status_writer.clear_condition(node).await {
            tracing::warn!(%error, "an unused condition of a node was not cleared");
        }
    }
}
