//! What controllers that died have left: removed before anything is placed anew.

use std::time::Duration;

use k8s_openapi::api::batch::v1::Job;
use kube::Api;
use kube::api::{DeleteParams, ListParams};
use tokio::time::sleep;

use crate::connection::Connection;
use crate::labels;

/// The pause before an API server that failed is asked again.
const PAUSE: Duration = Duration::from_secs(2);

/// How often it is asked. What is not swept the cluster removes by itself when its anchor's time is over.
const TRIES: usize = 5;

/// Deletes every anchor that was placed for a check; the garbage collector takes what they own.
pub(super) async fn sweep(connection: &Connection, check: &str) {
    let api: Api<Job> = Api::namespaced(connection.client.clone(), &connection.namespace);
    let ours = ListParams::default().labels(&labels::of_check(check));
    let task = format!("delete what earlier controllers placed for the ConnectivityCheck {check}");
    for _ in 0..TRIES {
        let params = DeleteParams::background();
        let request = api.delete_collection(&params, &ours);
        match connection.ask(&task, request).await {
            Ok(_) => return,
            Err(error) => tracing::warn!(%error, "earlier agents are still there"),
        }
        sleep(PAUSE).await;
    }
}
