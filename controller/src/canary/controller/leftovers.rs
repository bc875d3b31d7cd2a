//! Deletes what versions without DaemonSets left behind: their owner Jobs, with which the garbage collector removes their
//! agents.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::batch::v1::Job;
use kube::Api;
use kube::api::{DeleteParams, ListParams};

use super::shared::Shared;
use crate::backoff::Backoff;
use crate::kubernetes::labels::{AGENT_NAME, CHECK, MANAGED_BY, NAME, PROBER};

/// The pauses between attempts.
const PAUSES: (Duration, Duration) = (Duration::from_secs(2), Duration::from_mins(1));

/// The number of attempts. What is left then is deleted by the cluster when the deadline of its owner Job passes.
const MAX_ATTEMPTS: usize = 10;

/// Deletes every owner Job of a check.
pub(super) async fn delete(shared: &Arc<Shared>) {
    let client = &shared.client;
    let jobs: Api<Job> = Api::namespaced(client.kube.clone(), &client.namespace);
    let selector = format!("{NAME}={AGENT_NAME},{MANAGED_BY}={PROBER},{CHECK}");
    let of_checks = ListParams::default().labels(&selector);
    let mut backoff = Backoff::new(PAUSES.0, PAUSES.1);
    for _ in 0..MAX_ATTEMPTS {
        let listed = client.request("list the Jobs of earlier versions", jobs.list(&of_checks));
        let attempt = async {
            if listed.await?.items.is_empty() {
                return Ok(());
            }
            let params = DeleteParams::background();
            let request = jobs.delete_collection(&params, &of_checks);
            let task = "delete the agents of earlier versions";
            client.request(task, request).await.map(drop)
        };
        match attempt.await {
            Ok(()) => return,
            Err(error) => {
                tracing::warn!(%error, "agents of an earlier version were not deleted");
            }
        }
        tokio::time::sleep(backoff.pause()).await;
    }
}
