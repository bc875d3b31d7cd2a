//! One agent's pod and its plans: made, then told one plan after the other, in the order in which they came.

use k8s_openapi::api::core::v1::Pod;
use prober_core::plan::Plan;
use prober_core::run::PlatformEvent;
use prober_core::topology::AgentId;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};

use crate::platform::api_calls::ApiCalls;

/// Makes the pod, then writes each plan that comes, until their sender is gone.
pub(super) async fn keep(
    calls: ApiCalls,
    agent: AgentId,
    pod: Pod,
    mut plans: UnboundedReceiver<Plan>,
    events: UnboundedSender<PlatformEvent>,
) {
    let failed = |reason: String| {
        // A run that has stopped listening has ended: nobody is left to tell.
        drop(events.send(PlatformEvent::AgentFailed {
            agent: agent.clone(),
            reason,
        }));
    };
    if let Err(error) = calls.apply(&pod).await {
        failed(error.to_string());
        return;
    }
    while let Some(plan) = plans.recv().await {
        let written = match serde_json::to_string(&plan) {
            Ok(text) => calls.write_plan(&agent.pod, &text).await,
            Err(error) => {
                failed(format!("its plan cannot be written as JSON: {error}"));
                continue;
            }
        };
        if let Err(error) = written {
            failed(error.to_string());
        }
    }
}
