//! When and where agents are placed.

use std::sync::Arc;

use kube::ResourceExt as _;
use prober_core::time::Timestamp;

use super::CheckWorker;
use crate::canary::agent_set_template::AgentSetTemplate;
use crate::canary::controller::agent_set::AgentSet;
use crate::canary::status::CheckPhase;
use crate::clock::steady;
use crate::manifest::CheckRef;
use crate::one_shot::preflight::check_admission;

impl CheckWorker {
    /// When the lifetime of the active agents ends.
    pub(super) fn expires_at(&self) -> Option<Timestamp> {
        let agent_set = self.active.as_ref().filter(|_| self.successor.is_none())?;
        let at = agent_set.since + self.check.spec.agent_lifetime.duration();
        Some(at.max(self.placement_not_before))
    }

    pub(super) fn needs_placement(&self) -> bool {
        if self.check.spec.paused || self.successor.is_some() || self.schedule.nodes().is_empty() {
            return false;
        }
        let Some(agent_set) = &self.active else {
            return true;
        };
        let is_over = self.expires_at().is_some_and(|at| at <= steady());
        is_over
            || self.must_replace
            || self.schedule.needs_reassignment(self.is_idle)
            || !self.covers_assigned_nodes(agent_set)
    }

    /// Whether this agent set has agents on all assigned nodes.
    pub(super) fn covers_assigned_nodes(&self, agent_set: &AgentSet) -> bool {
        let mut assigned = self.schedule.assigned_nodes();
        assigned.all(|node| agent_set.nodes.contains(node))
    }

    /// Places the next agent set, if it is due.
    pub(super) async fn place_if_needed(&mut self) {
        if !self.needs_placement() || steady() < self.placement_not_before {
            return;
        }
        let context = Arc::clone(&self.context);
        let check = Arc::clone(&self.check);
        let template = AgentSetTemplate {
            check: CheckRef {
                name: check.name_any(),
                uid: check.uid().unwrap_or_default(),
            },
            spec: &check.spec,
            namespace: &context.connection.namespace,
            image: &context.image,
        };
        let admission = match check_admission(
            &context.connection,
            &template.evidence_request(),
            &template.dry_run_pods(),
        )
        .await
        {
            Ok(admission) => admission,
            Err(error) => {
                self.placement_failed(error.to_string());
                return;
            }
        };
        self.schedule.assign_nodes();
        let assigned = self.schedule.assigned_nodes();
        let nodes = assigned
            .filter_map(|node| self.nodes.get(node))
            .map(AsRef::as_ref);
        let (spec, config) = template.build(&admission, nodes, context.nonce());
        tracing::info!(
            check = template.check.name,
            run = spec.run,
            nodes = spec.nodes.len(),
            "placing agents"
        );
        let pairs = self.schedule.begin_round(steady());
        self.must_replace = false;
        self.successor = Some(AgentSet::place(
            context.connection.clone(),
            config,
            spec,
            pairs,
            self.agent_set_events.clone(),
        ));
    }

    /// Delays the next placement, each time twice as long.
    pub(super) fn extend_backoff(&mut self) {
        self.placement_not_before = steady() + self.placement_backoff.pause();
    }

    /// Records that agents could not be placed; the placement is tried again later.
    pub(super) fn placement_failed(&mut self, why: String) {
        tracing::warn!(
            check = self.check.name_any(),
            why,
            "agents could not be placed"
        );
        self.extend_backoff();
        if self.active.is_none() {
            self.phase = CheckPhase::Blocked(why);
        }
    }
}
