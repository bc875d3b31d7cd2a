//! What a patrol tells: the status, Events on transitions, and conditions on nodes.

use std::collections::BTreeSet;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff;
use kube::ResourceExt as _;
use prober_core::topology::NodeName;

use super::Patrol;
use crate::canary::condition;
use crate::canary::judgement::Transition;
use crate::canary::status::{Circumstances, Readiness, status};
use crate::clock::wall;

impl Patrol {
    /// Has said aloud what has changed.
    pub(super) fn report(&mut self, transitions: &[Transition]) {
        (self.untold).take(&self.world, &self.check.name_any(), transitions);
    }

    /// Says it, once the status does.
    pub(super) async fn announce(&mut self) {
        if self.is_told {
            let (check, nodes) = (&self.check, &self.nodes);
            self.untold.tell(&self.world, check, nodes).await;
        }
    }

    /// Writes the status, if it says something else than before. What an earlier controller told holds until this one knows
    /// better.
    pub(super) async fn tell(&mut self) {
        if self.readiness == Readiness::Starting && self.told.is_some() {
            self.is_told = false;
            return;
        }
        let before = self.told.as_ref().map(|told| told.conditions.as_slice());
        let circumstances = Circumstances {
            generation: self.check.metadata.generation,
            readiness: &self.readiness,
            before: before.unwrap_or_default(),
            now: wall(),
        };
        let status = status(&self.judgement, &self.schedule, circumstances);
        self.is_told = self.told.as_ref() == Some(&status);
        if self.is_told {
            return;
        }
        match self.world.teller.status(&self.check, &status).await {
            Ok(()) => {
                self.told = Some(status);
                self.is_told = true;
            }
            // The next round tells it.
            Err(error) => tracing::warn!(%error, "the status is out of date"),
        }
    }

    /// Tells the nodes that were just looked at what is judged of them, where the check wants that.
    pub(super) async fn mark_nodes(&mut self) {
        let Some(stand) = self.stand.as_ref().filter(|_| self.marks_nodes()) else {
            return;
        };
        let looked_at: Vec<NodeName> = (self.schedule.nodes().iter())
            .filter(|node| stand.nodes.contains(node))
            .cloned()
            .collect();
        for node in looked_at {
            let now = Time(jiff::Timestamp::now());
            let now = condition::condition(&self.judgement, &node, now);
            // What an earlier controller has told is told.
            let found = || condition::of(self.nodes.get(&node)?).cloned();
            let before = self.marked.get(&node).cloned().or_else(found);
            let Some(now) = condition::changed(before.as_ref(), now) else {
                self.marked.extend(before.map(|before| (node, before)));
                continue;
            };
            match self.world.teller.mark(&node, &now).await {
                Ok(()) => {
                    self.marked.insert(node, now);
                }
                // The next round tells it, and all others.
                Err(error) => {
                    tracing::warn!(%error, "the conditions of nodes are out of date");
                    return;
                }
            }
        }
    }

    fn marks_nodes(&self) -> bool {
        self.check.spec.node_condition.enabled && !self.check.spec.paused
    }

    /// Takes back what nodes were told, where the check wants it no more or does not look at them any more.
    pub(super) async fn unmark_nodes(&mut self) {
        let keeps = self.marks_nodes();
        let probed = self.schedule.nodes().iter().filter(|_| keeps);
        let probed: BTreeSet<&NodeName> = probed.collect();
        let marked = self.marked.keys();
        let stale: Vec<NodeName> = marked
            .filter(|node| !probed.contains(node))
            .cloned()
            .collect();
        for node in stale {
            if self.nodes.contains_key(&node)
                && let Err(error) = self.world.teller.unmark(&node).await
            {
                // The next round tries it again.
                tracing::warn!(%error, "the conditions of nodes are out of date");
                return;
            }
            self.marked.remove(&node);
        }
    }

    /// No node is probed any more.
    pub(super) fn leave_nodes(&self) {
        for node in self.schedule.nodes() {
            self.world.observer.gone(node);
        }
    }
}
