//! What goes wrong on the side of the fleet: agents that fail, answers that do not come.
//!
//! None of it is a network fault. What can still be measured is measured.

use super::paths::pick;
use super::{Phase, Run};
use crate::probe::tier::Tier;
use crate::report::Completion;
use crate::time::Timestamp;
use crate::topology::AgentId;

impl Run {
    pub(super) fn handle_failed(&mut self, agent: &AgentId, reason: String, now: Timestamp) {
        if matches!(self.phase, Phase::Removing | Phase::Ended) {
            return;
        }
        let never_came = self.unplaced.contains(agent);
        let agents = &mut self.collection.matrix.agents;
        let known = agents.entry(agent.clone()).or_default();
        known.failed.get_or_insert_with(|| reason.clone());
        self.undone.retain(|(waiting, _)| waiting != agent);
        self.addresses.remove(agent);
        if self.spec.is_host(agent) {
            if self.spec.tier >= Tier::T2 {
                let nodes = &mut self.collection.matrix.nodes;
                let node = nodes.entry(agent.node.clone()).or_default();
                node.unread.get_or_insert(reason);
            }
            self.settle_facts(&agent.node, now);
        } else if self.spec.selected.contains(&agent.node) {
            let reason = format!("agent {agent} on {}: {reason}", agent.node);
            let reason = self.shortfall.get_or_insert(reason).clone();
            let is_early = never_came
                || matches!(
                    self.phase,
                    Phase::ReadingFacts | Phase::Placing | Phase::Publishing
                );
            if is_early && !self.can_probe_a_node_under_test() {
                self.end(Completion::CouldNotRun { reason }, now);
            }
        }
        if never_came && self.phase == Phase::Probing {
            self.forget_paths_of(agent);
        }
        self.settle(agent, now);
        if self.is_probing() && self.undone.is_empty() {
            self.suspect_or_linger(now);
        }
        self.go_without(now);
    }

    /// Whether some node under test still has, or may get, a client and a server.
    fn can_probe_a_node_under_test(&self) -> bool {
        let agents = &self.collection.matrix.agents;
        let lives = |agent: &AgentId| agents.get(agent).is_none_or(|known| known.failed.is_none());
        self.spec.selected.iter().any(|node| {
            lives(&self.spec.client_of(node))
                && self.spec.servers_of(node).any(|agent| lives(&agent))
        })
    }

    /// Who was to ask and could not be started asks nobody.
    fn forget_paths_of(&mut self, agent: &AgentId) {
        let matrix = &mut self.collection.matrix;
        matrix.paths.retain(|_, path| path.path.client != *agent);
        matrix.unprobed = self.spec.unprobed(&self.cycle, &matrix.agents);
    }

    /// Who has no address of a family asks nobody in it.
    pub(super) fn forget_foreign_paths(&mut self, agent: &AgentId) {
        let own = self.addresses.get(agent);
        let paths = &mut self.collection.matrix.paths;
        paths.retain(|_, path| path.path.client != *agent || pick(own, path.path.family).is_some());
    }

    pub(super) fn lose_patience(&mut self, now: Timestamp) {
        match self.phase {
            // A node that says nothing of itself lowers the tier; it does not end the run.
            Phase::ReadingFacts => {
                for node in std::mem::take(&mut self.unread) {
                    let known = self.collection.matrix.nodes.entry(node).or_default();
                    known.unread = Some("it did not answer in time".to_owned());
                }
                self.place_the_rest_if_read(now);
            }
            Phase::Placing => self.give_up_on_the_unplaced(now),
            Phase::Publishing if self.awaited().next().is_none() && self.published.is_some() => {
                self.undone.retain(|(agent, _)| self.spec.only_asks(agent));
                self.probe_if_ready(now);
            }
            Phase::Publishing | Phase::Probing if !self.unplaced.is_empty() => {
                self.give_up_on_the_unplaced(now);
            }
            Phase::Publishing => {
                let reason = format!(
                    "the test Services were not published within {} s",
                    self.spec.patience.as_secs()
                );
                self.end(Completion::CouldNotRun { reason }, now);
            }
            Phase::Removing => self.enter(Phase::Ended, None),
            Phase::Probing
            | Phase::Watching
            | Phase::Suspecting
            | Phase::Lingering
            | Phase::Idle
            | Phase::Ended => {}
        }
    }

    fn give_up_on_the_unplaced(&mut self, now: Timestamp) {
        let reason = format!("not ready after {} s", self.spec.patience.as_secs());
        for agent in self.unplaced.clone() {
            self.handle_failed(&agent, reason.clone(), now);
        }
    }
}
