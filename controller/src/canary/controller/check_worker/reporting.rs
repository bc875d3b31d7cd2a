//! What a patrol tells: the status, Events on transitions, and conditions on nodes.

use std::collections::BTreeSet;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff;
use kube::ResourceExt as _;
use prober_core::topology::NodeName;

use super::Patrol;
use crate::canary::health::Transition;
use crate::canary::node_condition;
use crate::canary::status::{Circumstances, Readiness, status};
use crate::clock::{steady, wall};
use crate::kubernetes::api_error::ApiError;

/// When it is tried again to tell what could not be told.
const AGAIN: Duration = Duration::from_secs(2);

impl Patrol {
    /// Has said aloud what has changed.
    pub(super) fn report(&mut self, transitions: &[Transition]) {
        (self.untold).take(&self.world, &self.check.name_any(), transitions);
    }

    /// Tells whatever has changed. What could not be told is tried again, and not at once.
    pub(super) async fn tell(&mut self) {
        if self.untold_until.is_some_and(|at| steady() < at) {
            return;
        }
        self.untold_until = None;
        if let Err(error) = self.tell_all().await {
            tracing::warn!(check = self.check.name_any(), %error, "what has changed is told later");
            self.untold_until = Some(steady() + AGAIN);
        }
    }

    async fn tell_all(&mut self) -> Result<(), ApiError> {
        // Nothing is said aloud before the status holds it.
        if self.tell_status().await? {
            let (check, nodes) = (&self.check, &self.nodes);
            self.untold.tell(&self.world, check, nodes).await?;
        }
        self.unmark_nodes().await?;
        self.mark_nodes().await
    }

    /// Writes the status, if it says something else than before, and says whether it is true now. What an earlier controller
    /// told holds until this one knows better.
    async fn tell_status(&mut self) -> Result<bool, ApiError> {
        if self.readiness == Readiness::Starting && self.told.is_some() {
            return Ok(false);
        }
        let before = self.told.as_ref().map(|told| told.conditions.as_slice());
        let circumstances = Circumstances {
            generation: self.check.metadata.generation,
            readiness: &self.readiness,
            before: before.unwrap_or_default(),
            now: wall(),
        };
        let status = status(&self.judgement, &self.schedule, circumstances);
        if self.told.as_ref() != Some(&status) {
            self.world.teller.status(&self.check, &status).await?;
            self.told = Some(status);
        }
        Ok(true)
    }

    /// Tells the nodes that were just looked at what is judged of them, where the check wants that.
    async fn mark_nodes(&mut self) -> Result<(), ApiError> {
        let Some(stand) = self.stand.as_ref().filter(|_| self.marks_nodes()) else {
            return Ok(());
        };
        for node in stand.nodes.clone() {
            let now = Time(jiff::Timestamp::now());
            let now = node_condition::condition(&self.judgement, &node, now);
            // What an earlier controller has told is told.
            let found = || node_condition::of(self.nodes.get(&node)?).cloned();
            let before = self.marked.get(&node).cloned().or_else(found);
            let Some(now) = node_condition::changed(before.as_ref(), now) else {
                self.marked.extend(before.map(|before| (node, before)));
                continue;
            };
            self.world.teller.mark(&node, &now).await?;
            self.marked.insert(node, now);
        }
        Ok(())
    }

    fn marks_nodes(&self) -> bool {
        self.check.spec.node_condition.enabled && !self.check.spec.paused
    }

    /// Takes back what nodes were told, where the check wants it no more or does not look at them any more.
    pub(super) async fn unmark_nodes(&mut self) -> Result<(), ApiError> {
        let keeps = self.marks_nodes();
        let probed = self.schedule.nodes().iter().filter(|_| keeps);
        let probed: BTreeSet<&NodeName> = probed.collect();
        let marked = self.marked.keys();
        let stale: Vec<NodeName> = marked
            .filter(|node| !probed.contains(node))
            .cloned()
            .collect();
        for node in stale {
            if self.nodes.contains_key(&node) {
                self.world.teller.unmark(&node).await?;
            }
            self.marked.remove(&node);
        }
        Ok(())
    }

    /// No node is probed any more.
    pub(super) fn leave_nodes(&self) {
        for node in self.schedule.nodes() {
            (self.world.observer).gone(&self.check.name_any(), node);
        }
    }
}
