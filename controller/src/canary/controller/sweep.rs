//! What controllers that died have left: removed before anything is placed anew, or told.

use std::time::Duration;

use k8s_openapi::api::batch::v1::Job;
use kube::Api;
use kube::api::{DeleteParams, ListParams};
use tokio::time::sleep;

use crate::canary::controller::node_watch::Nodes;
use crate::canary::controller::status_writer::Teller;
use crate::canary::node_condition;
use crate::kubernetes::api_client::ApiClient;
use crate::kubernetes::labels;

/// The pause before an API server that failed is asked again.
const PAUSE: Duration = Duration::from_secs(2);

/// How often it is asked. What is not swept the cluster removes by itself when its anchor's time is over.
const TRIES: usize = 5;

/// Deletes every anchor that was placed for a check; the garbage collector takes what they own.
pub(super) async fn sweep(connection: &ApiClient, check: &str) {
    let api: Api<Job> = Api::namespaced(connection.kube.clone(), &connection.namespace);
    let ours = ListParams::default().labels(&labels::check_selector(check));
    let task = format!("delete what earlier controllers placed for the ConnectivityCheck {check}");
    for _ in 0..TRIES {
        let params = DeleteParams::background();
        let request = api.delete_collection(&params, &ours);
        match connection.request(&task, request).await {
            Ok(_) => return,
            Err(error) => tracing::warn!(%error, "earlier agents are still there"),
        }
        sleep(PAUSE).await;
    }
}

/// Takes back the conditions of nodes, where no check wants any.
pub(super) async fn sweep_conditions(teller: Teller, nodes: Nodes) {
    let marked = nodes
        .iter()
        .filter(|(_, node)| node_condition::of(node).is_some());
    for (node, _) in marked {
        if let Err(error) = teller.unmark(node).await {
            tracing::warn!(%error, "a condition that nobody keeps up is still there");
        }
    }
}
