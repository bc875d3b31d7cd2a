//! What the watch of pods tells: who runs, who has failed, who is gone, and who rings.

use k8s_openapi::api::core::v1::Pod;
use kube::runtime::watcher;
use prober_core::run::PlatformEvent;

use super::{Agent, CommandLoop, Seen, Stage};
use crate::kubernetes::pod_status::{PodState, is_ready, pod_state};

impl CommandLoop {
    pub(super) fn see(&mut self, seen: Seen) {
        if seen.is_ok() {
            self.pulse.beat();
        }
        match seen {
            Ok(watcher::Event::Apply(pod)) => self.see_pod(&pod),
            Ok(watcher::Event::Delete(pod)) => {
                self.see_gone(pod.metadata.name.as_deref().unwrap_or_default());
            }
            Ok(watcher::Event::Init) => self.listed.clear(),
            Ok(watcher::Event::InitApply(pod)) => {
                self.listed.extend(pod.metadata.name.clone());
                self.see_pod(&pod);
            }
            Ok(watcher::Event::InitDone) => self.see_unlisted(),
            Err(error) => {
                let given_up = self.pulse.fail(&error);
                self.fail(given_up);
            }
        }
    }

    fn see_pod(&mut self, pod: &Pod) {
        let Some(agent) = pod
            .metadata
            .name
            .as_ref()
            .and_then(|name| self.agents.get_mut(name))
        else {
            return;
        };
        agent.is_still = is_ready(pod);
        match (pod_state(pod, &agent.id.node), &mut agent.stage) {
            (PodState::Waiting(what), Stage::Waiting(_, waits_for)) => *waits_for = what,
            (PodState::Running(now), Stage::Running(addresses)) => *addresses = now,
            (PodState::Running(now), stage @ Stage::Waiting(..)) => {
                *stage = Stage::Running(now);
                let (calls, events) = (self.calls.clone(), self.events.clone());
                self.ears.follow(calls, agent.id.clone(), events);
            }
            (PodState::Failed(reason), stage @ (Stage::Waiting(..) | Stage::Running(_))) => {
                *stage = Stage::Failed;
                let agent = agent.id.clone();
                self.tell(PlatformEvent::AgentFailed { agent, reason });
            }
            (PodState::Waiting(_), Stage::Running(_) | Stage::Failed)
            | (PodState::Running(_) | PodState::Failed(_), Stage::Failed) => {}
        }
        self.hear_bells();
    }

    /// Reads nobody until somebody rings.
    pub(super) fn hush(&mut self) {
        self.ears.listen(false);
        self.hear_bells();
    }

    /// While nobody is read: who rings.
    fn hear_bells(&self) {
        if self.ears.are_listening() {
            return;
        }
        let rings = |agent: &&Agent| match agent.stage {
            Stage::Running(_) => !agent.is_still,
            Stage::Waiting(..) | Stage::Failed => false,
        };
        for agent in self.agents.values().filter(rings) {
            let agent = agent.id.clone();
            self.tell(PlatformEvent::Alert { agent });
        }
    }

    fn see_gone(&mut self, pod: &str) {
        let Some(agent) = self.agents.get_mut(pod) else {
            return;
        };
        match agent.stage {
            Stage::Waiting(..) | Stage::Running(_) => {
                agent.stage = Stage::Failed;
                let agent = agent.id.clone();
                let reason = "its pod was deleted by somebody while the run needed it".to_owned();
                self.tell(PlatformEvent::AgentFailed { agent, reason });
            }
            Stage::Failed => {}
        }
    }

    /// After the watch began anew: who ran and is not in the list is gone.
    fn see_unlisted(&mut self) {
        let gone: Vec<String> = self
            .agents
            .iter()
            .filter(|(name, agent)| {
                matches!(agent.stage, Stage::Running(_)) && !self.listed.contains(*name)
            })
            .map(|(name, _)| name.clone())
            .collect();
        for pod in gone {
            self.see_gone(&pod);
        }
    }
}
