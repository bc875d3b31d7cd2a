//! How a check's results are reported: its status, Events on transitions, and node conditions.

use std::collections::BTreeSet;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff;
use kube::ResourceExt as _;
use prober_core::topology::NodeName;

use super::CheckWorker;
use crate::canary::health::Transition;
use crate::canary::node_condition;
use crate::canary::status::{CheckPhase, StatusContext, status};
use crate::clock::{steady, wall};
use crate::kubernetes::api_error::ApiError;

/// The pause after a failed write.
const RETRY_PAUSE: Duration = Duration::from_secs(2);

impl CheckWorker {
    /// Queues the Events of these transitions.
    pub(super) fn queue_events(&mut self, transitions: &[Transition]) {
        (self.event_queue).push(&self.context, &self.check.name_any(), transitions);
    }

    /// Writes what has changed. After a failure it waits before it tries again.
    pub(super) async fn write_reports(&mut self) {
        if self.report_not_before.is_some_and(|at| steady() < at) {
            return;
        }
        self.report_not_before = None;
        if let Err(error) = self.write_all().await {
            tracing::warn!(check = self.check.name_any(), %error, "reporting failed and is tried again");
            self.report_not_before = Some(steady() + RETRY_PAUSE);
        }
    }

    async fn write_all(&mut self) -> Result<(), ApiError> {
        // The status is written before the Events that refer to it.
        if self.write_status().await? {
            let (check, nodes) = (&self.check, &self.nodes);
            self.event_queue.send(&self.context, check, nodes).await?;
        }
        self.clear_node_conditions().await?;
        self.write_node_conditions().await
    }

    /// Writes the status if it has changed. Returns whether it is current: the status of an earlier controller stays
    /// until the first round has ended.
    async fn write_status(&mut self) -> Result<bool, ApiError> {
        if self.phase == CheckPhase::Starting && self.written_status.is_some() {
            return Ok(false);
        }
        let before = self
            .written_status
            .as_ref()
            .map(|status| status.conditions.as_slice());
        let status_context = StatusContext {
            generation: self.check.metadata.generation,
            phase: &self.phase,
            before: before.unwrap_or_default(),
            now: wall(),
        };
        let status = status(&self.health, &self.schedule, status_context);
        if self.written_status.as_ref() != Some(&status) {
            self.context
                .status_writer
                .write_status(&self.check, &status)
                .await?;
            self.written_status = Some(status);
        }
        Ok(true)
    }

    /// Writes the conditions of the nodes of the active agents, if the check enables them.
    async fn write_node_conditions(&mut self) -> Result<(), ApiError> {
        let Some(agent_set) = self
            .active
            .as_ref()
            .filter(|_| self.writes_node_conditions())
        else {
            return Ok(());
        };
        for node in agent_set.nodes.clone() {
            let now = Time(jiff::Timestamp::now());
            let now = node_condition::condition(&self.health, &node, now);
            // An earlier controller may have written it.
            let found = || node_condition::of(self.nodes.get(&node)?).cloned();
            let before = self.written_conditions.get(&node).cloned().or_else(found);
            let Some(now) = node_condition::changed(before.as_ref(), now) else {
                self.written_conditions
                    .extend(before.map(|before| (node, before)));
                continue;
            };
            self.context
                .status_writer
                .write_condition(&node, &now)
                .await?;
            self.written_conditions.insert(node, now);
        }
        Ok(())
    }

    fn writes_node_conditions(&self) -> bool {
        self.check.spec.node_condition.enabled && !self.check.spec.paused
    }

    /// Clears the conditions of nodes that are not probed any more, or of all if the check disables them.
    pub(super) async fn clear_node_conditions(&mut self) -> Result<(), ApiError> {
        let keeps = self.writes_node_conditions();
        let probed = self.schedule.nodes().iter().filter(|_| keeps);
        let probed: BTreeSet<&NodeName> = probed.collect();
        let written_conditions = self.written_conditions.keys();
        let stale: Vec<NodeName> = written_conditions
            .filter(|node| !probed.contains(node))
            .cloned()
            .collect();
        for node in stale {
            if self.nodes.contains_key(&node) {
                self.context.status_writer.clear_condition(&node).await?;
            }
            self.written_conditions.remove(&node);
        }
        Ok(())
    }

    /// Removes all nodes of the check from telemetry.
    pub(super) fn stop_observing_nodes(&self) {
        for node in self.schedule.nodes() {
            (self.context.observer).node_removed(&self.check.name_any(), node);
        }
    }
}
