//! Deletes a client now and then, so that its DaemonSet makes a fresh one.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{DeleteParams, Preconditions};
use prober_core::time::Timestamp;
use tokio::time::sleep;

use super::shared::Shared;
use crate::canary::fresh_pods::next_to_replace;
use crate::clock::wall;

/// The time from one decision to the next.
const PERIOD: Duration = Duration::from_secs(2);

/// Deletes clients; never ends.
pub(super) async fn run(shared: Arc<Shared>) {
    let client = &shared.client;
    let pods: Api<Pod> = Api::namespaced(client.kube.clone(), &client.namespace);
    // A new controller does not know when the last one was deleted.
    let mut last = wall();
    loop {
        sleep(PERIOD).await;
        let Some((name, uid)) = next(&shared, last) else {
            continue;
        };
        last = wall();
        let params = DeleteParams {
            preconditions: Some(Preconditions {
                uid: Some(uid),
                resource_version: None,
            }),
            ..DeleteParams::default()
        };
        let task = format!("delete the Pod {name}, which is to be replaced by a fresh one");
        match client.request(&task, pods.delete(&name, &params)).await {
            Ok(_) => tracing::debug!(pod = name, "a client is replaced by a fresh pod"),
            Err(error) => tracing::warn!(%error, "a client was not replaced by a fresh pod"),
        }
    }
}

/// The name and the uid of the pod that is to be deleted now. The shortest lifetime of all checks that probe holds.
fn next(shared: &Shared, last: Timestamp) -> Option<(String, String)> {
    let state = shared.state();
    let probing = state.checks.values().map(|check| check.state.spec());
    let lifetime = probing
        .filter(|spec| !spec.paused)
        .map(|spec| spec.agent_lifetime.duration())
        .min()?;
    let pod = next_to_replace(&state.inventory, lifetime, last, wall())?;
    Some((pod.name.clone(), pod.uid.clone()))
}
