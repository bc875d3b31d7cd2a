//! When and where agents are placed.

use std::sync::Arc;
use std::time::Duration;

use kube::ResourceExt as _;
use prober_core::time::Timestamp;

use super::Patrol;
use crate::canary::controller::agent_set::Stand;
use crate::canary::generation::Ask;
use crate::canary::status::Readiness;
use crate::clock::steady;
use crate::manifest::CheckRef;
use crate::one_shot::preflight::check_admission;

/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_mins(1);

impl Patrol {
    /// When the epoch of the agents that stand is over.
    pub(super) fn expiry(&self) -> Option<Timestamp> {
        let stand = self.stand.as_ref().filter(|_| self.coming.is_none())?;
        let at = stand.since + self.check.spec.agent_lifetime.duration();
        Some(at.max(self.not_before))
    }

    pub(super) fn is_placing_needed(&self) -> bool {
        if self.check.spec.paused || self.coming.is_some() || self.schedule.nodes().is_empty() {
            return false;
        }
        let Some(stand) = &self.stand else {
            return true;
        };
        let is_over = self.expiry().is_some_and(|at| at <= steady());
        is_over
            || self.is_worn
            || self.schedule.wants_to_sit(self.is_idle)
            || !self.has_agents(stand)
    }

    /// Whether all who are to have agents have those of this stand.
    pub(super) fn has_agents(&self, stand: &Stand) -> bool {
        let mut seated = self.schedule.seated();
        seated.all(|node| stand.nodes.contains(node))
    }

    /// Places the agents of the next epoch.
    pub(super) async fn place_if_needed(&mut self) {
        if !self.is_placing_needed() || steady() < self.not_before {
            return;
        }
        let world = Arc::clone(&self.world);
        let check = Arc::clone(&self.check);
        let ask = Ask {
            check: CheckRef {
                name: check.name_any(),
                uid: check.uid().unwrap_or_default(),
            },
            spec: &check.spec,
            namespace: &world.connection.namespace,
            image: &world.image,
        };
        let posture = match check_admission(&world.connection, &ask.wish(), &ask.shapes()).await {
            Ok(posture) => posture,
            Err(error) => {
                self.back_off(error.to_string());
                return;
            }
        };
        self.schedule.sit();
        let seated = self.schedule.seated();
        let nodes = seated
            .filter_map(|node| self.nodes.get(node))
            .map(AsRef::as_ref);
        let (spec, setting) = ask.epoch(&posture, nodes, world.nonce());
        tracing::info!(
            check = ask.check.name,
            run = spec.run,
            nodes = spec.nodes.len(),
            "placing agents"
        );
        let pairs = self.schedule.begin(steady());
        self.is_worn = false;
        self.coming = Some(Stand::begin(
            world.connection.clone(),
            setting,
            spec,
            pairs,
            self.ear.clone(),
        ));
    }

    /// Nothing is placed for a while, each time for longer.
    pub(super) fn rest(&mut self) {
        self.not_before = steady() + self.pause;
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
    }

    /// Agents could not be placed, which is tried again later.
    pub(super) fn back_off(&mut self, why: String) {
        tracing::warn!(
            check = self.check.name_any(),
            why,
            "agents could not be placed"
        );
        self.rest();
        if self.stand.is_none() {
            self.readiness = Readiness::Stuck(why);
        }
    }
}
