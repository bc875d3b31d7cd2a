//! Creates the pod of one agent, and writes its plans in their order.

use k8s_openapi::api::core::v1::Pod;
use prober_core::plan::Plan;
use prober_core::run::PlatformEvent;
use prober_core::topology::AgentId;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};

use crate::platform::api_calls::{ApiCalls, PlanTarget};

/// Creates the pod, then writes each plan that it receives, until the sender of the plans is dropped. Failures are sent as
/// events.
pub(super) async fn create_and_update(
    calls: ApiCalls,
    agent: AgentId,
    pod: Pod,
    plans: UnboundedReceiver<Plan>,
    events: UnboundedSender<PlatformEvent>,
) {
    if let Err(error) = calls.apply(&pod).await {
        // Sending fails only after the run has ended.
        drop(events.send(PlatformEvent::AgentFailed {
            agent,
            reason: error.to_string(),
        }));
        return;
    }
    let target = PlanTarget {
        pod: agent.pod.clone(),
        uid: None,
    };
    write_plans(calls, agent, target, plans, events).await;
}

/// Writes each plan that it receives, until the sender of the plans is dropped. Failures are sent as events.
pub(super) async fn write_plans(
    calls: ApiCalls,
    agent: AgentId,
    target: PlanTarget,
    mut plans: UnboundedReceiver<Plan>,
    events: UnboundedSender<PlatformEvent>,
) {
    let send_failure = |reason: String| {
        // Sending fails only after the run has ended.
        drop(events.send(PlatformEvent::AgentFailed {
            agent: agent.clone(),
            reason,
        }));
    };
    while let Some(plan) = plans.recv().await {
        let written = match serde_json::to_string(&plan) {
            Ok(text) => calls.write_plan(&target, &text).await,
            Err(error) => {
                send_failure(format!("its plan cannot be written as JSON: {error}"));
                continue;
            }
        };
        if let Err(error) = written {
            send_failure(error.to_string());
        }
    }
}
