//! Handles the events of the pod watch: pods that run, fail, are deleted, or become unready.

use k8s_openapi::api::core::v1::Pod;
use kube::runtime::watcher;
use prober_core::run::PlatformEvent;
use prober_core::topology::AgentId;

use super::{Agent, AgentState, CommandLoop, WatchResult};
use crate::kubernetes::pod_status::{PodState, is_ready, pod_state, with_architecture};
use crate::platform::log_reader::LogStart;

impl CommandLoop {
    pub(super) fn handle_watch_event(&mut self, event: WatchResult) {
        match &event {
            // A watch begins with this event before it has sent a request.
            Ok(watcher::Event::Init) | Err(_) => {}
            Ok(
                watcher::Event::Apply(_)
                | watcher::Event::Delete(_)
                | watcher::Event::InitApply(_)
                | watcher::Event::InitDone,
            ) => self.apiserver_health.record_event(),
        }
        match event {
            Ok(watcher::Event::Apply(pod)) => self.update_pod(&pod),
            Ok(watcher::Event::Delete(pod)) => {
                self.fail_deleted_pod(pod.metadata.name.as_deref().unwrap_or_default());
            }
            Ok(watcher::Event::Init) => self.listed_pods.clear(),
            Ok(watcher::Event::InitApply(pod)) => {
                self.listed_pods.extend(pod.metadata.name.clone());
                self.update_pod(&pod);
            }
            Ok(watcher::Event::InitDone) => self.fail_unlisted_pods(),
            Err(error) => {
                let failure = self.apiserver_health.record_failure(&error);
                self.report_failure(failure);
            }
        }
    }

    fn update_pod(&mut self, pod: &Pod) {
        let Some(agent) = pod
            .metadata
            .name
            .as_ref()
            .and_then(|name| self.agents.get_mut(name))
        else {
            return;
        };
        agent.is_ready = is_ready(pod);
        match (pod_state(pod, &agent.id.node), &mut agent.state) {
            (PodState::Waiting(reason), AgentState::Starting(_, pending)) => *pending = reason,
            (PodState::Running(current), AgentState::Running(addresses)) => *addresses = current,
            (PodState::Running(addresses), state @ AgentState::Starting(..)) => {
                *state = AgentState::Running(addresses.clone());
                let (calls, events) = (self.calls.clone(), self.events.clone());
                let start = LogStart::Beginning { pod_ips: addresses };
                self.log_readers
                    .start(calls, agent.id.clone(), start, events);
            }
            (
                PodState::Failed(reason),
                state @ (AgentState::Starting(..) | AgentState::Running(_)),
            ) => {
                *state = AgentState::Failed;
                let agent = agent.id.clone();
                let reason = with_architecture(reason, self.architecture_of(&agent));
                self.send(PlatformEvent::AgentFailed { agent, reason });
            }
            (PodState::Waiting(_), AgentState::Running(_) | AgentState::Failed)
            | (PodState::Running(_) | PodState::Failed(_), AgentState::Failed) => {}
        }
        self.report_alerts();
    }

    /// The architecture of an agent's node; empty if it is unknown.
    pub(super) fn architecture_of(&self, agent: &AgentId) -> &str {
        let node = self.config.nodes.get(&agent.node);
        node.map_or("", |node| node.architecture.as_str())
    }

    /// Stops reading logs until the run resumes it, and reports alerts instead.
    pub(super) fn pause_logs(&mut self) {
        self.log_readers.set_enabled(false);
        self.report_alerts();
    }

    /// While logs are not read, reports each running agent whose pod is not ready.
    fn report_alerts(&self) {
        if self.log_readers.are_enabled() {
            return;
        }
        let has_alert = |agent: &&Agent| match agent.state {
            AgentState::Running(_) => !agent.is_ready,
            AgentState::Starting(..) | AgentState::Failed => false,
        };
        for agent in self.agents.values().filter(has_alert) {
            let agent = agent.id.clone();
            self.send(PlatformEvent::Alert { agent });
        }
    }

    fn fail_deleted_pod(&mut self, pod: &str) {
        let Some(agent) = self.agents.get_mut(pod) else {
            return;
        };
        match agent.state {
            AgentState::Starting(..) | AgentState::Running(_) => {
                agent.state = AgentState::Failed;
                let agent = agent.id.clone();
                let reason = "its pod was deleted while the run needed it".to_owned();
                self.send(PlatformEvent::AgentFailed { agent, reason });
            }
            AgentState::Failed => {}
        }
    }

    /// After the watch restarted, fails each running agent whose pod is not in the list.
    fn fail_unlisted_pods(&mut self) {
        let deleted: Vec<String> = self
            .agents
            .iter()
            .filter(|(name, agent)| {
                matches!(agent.state, AgentState::Running(_)) && !self.listed_pods.contains(*name)
            })
            .map(|(name, _)| name.clone())
            .collect();
        for pod in deleted {
            self.fail_deleted_pod(&pod);
        }
    }
}
