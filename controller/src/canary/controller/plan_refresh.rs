//! Makes kubelets show agents a standing plan at once, where there are few of them.
//!
//! A kubelet shows a changed ConfigMap when it next synchronises a pod: a minute later on average. A changed annotation of
//! the pod makes it do so now. In a large cluster that would be thousands of requests, so its agents wait.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use super::shared::Shared;
use crate::canary::inventory::{Component, Inventory};
use crate::kubernetes::labels::PROBER;
use crate::manifest::PLAN_ANNOTATION;

/// The most agents that are refreshed: two on each of 64 nodes.
const MAX_AGENTS: usize = 128;

/// Refreshes the plan of every agent that may probe, if they are few. An agent that is not reached waits as in a large cluster.
pub(super) async fn refresh(shared: &Arc<Shared>) {
    let agents = agents(&shared.state().inventory);
    if agents.len() > MAX_AGENTS {
        return;
    }
    let client = &shared.client;
    let pods: Api<Pod> = Api::namespaced(client.kube.clone(), &client.namespace);
    for (name, has_annotation) in agents {
        // No run uses the agents yet. An empty plan is none, as no annotation is.
        let plan = (!has_annotation).then_some("");
        let patch = Patch::Merge(json!({"metadata": {"annotations": {PLAN_ANNOTATION: plan}}}));
        let params = PatchParams {
            field_manager: Some(PROBER.to_owned()),
            ..PatchParams::default()
        };
        let task = format!("refresh the standing plan of the Pod {name}");
        let request = pods.patch(&name, &params, &patch);
        if let Err(error) = client.request(&task, request).await {
            tracing::debug!(%error, "an agent sees its plan later");
        }
    }
}

/// The pods that probe, and whether they have the annotation.
fn agents(inventory: &Inventory) -> Vec<(String, bool)> {
    let probing = [Component::Client, Component::Server];
    let pods = probing.map(|component| inventory.agents(component));
    let pods = pods.into_iter().flatten().filter(|pod| pod.runs());
    pods.map(|pod| (pod.name.clone(), pod.has_plan_annotation))
        .collect()
}
