//! The state of a node, from its Node object and the pods of its agents: whether its own paths are measured, and
//! whether they work.
//!
//! Agents probe by themselves and report by the readiness of their pods: a pod that runs and is Ready has measured its
//! node's own paths within the last interval, and found them healthy.

use std::fmt;
use std::time::Duration;

use prober_core::time::Timestamp;
use prober_core::topology::NodeName;

use super::inventory::{AgentPod, Component, Inventory, NodeRecord, PodPhase, Readiness};

/// How long a pod may run before it is Ready: an agent becomes Ready after its first healthy round.
pub const FIRST_ROUND: Duration = Duration::from_secs(5);

/// How long a pod that was Ready without a plan may not be Ready when it is given one: it stays so for at least three seconds.
pub const FIRST_ROUND_BY_PLAN: Duration = Duration::from_secs(8);

/// How long a plan takes to reach every agent: a kubelet shows a changed ConfigMap at its next synchronisation of the pod, at
/// most a minute and a half later (`syncFrequency`, <https://kubernetes.io/docs/concepts/configuration/configmap/#mounted-configmaps-are-updated-automatically>).
pub const PLAN_DELAY: Duration = Duration::from_secs(150);

/// How long the pods of a new node may take to run.
pub const START_UP: Duration = Duration::from_mins(1);

/// The state of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodeState {
    /// Its agents probe, and the last results of its own paths are healthy.
    Working,
    /// An agent probes, and is not Ready since then.
    Alerting(Timestamp),
    /// Its agents start.
    Starting,
    /// Nothing is measured there.
    NotMeasured(NotMeasured),
}

/// Why nothing is measured on a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotMeasured {
    /// It is being deleted.
    Deleted,
    /// Its kubelet reports that it is not ready, or nothing.
    NodeNotReady(String),
    /// It has no pod of this component.
    NoPod(Component),
    /// The pod of this component does not run.
    PodDoesNotRun(Component, String),
    /// The check is paused.
    Paused,
    /// Another check, which comes first by name, selects it as well.
    OfOtherCheck(String),
}

impl NodeState {
    /// The state of a node now, by the wall clock. The clocks of nodes and of the API server may differ from it by a
    /// few seconds.
    pub fn of(inventory: &Inventory, name: &NodeName, node: &NodeRecord, now: Timestamp) -> Self {
        match &node.readiness {
            Readiness::Deleted => return Self::NotMeasured(NotMeasured::Deleted),
            // Its pods are reported as not Ready as well, though nothing measures there.
            Readiness::NotReady(why) => {
                return Self::NotMeasured(NotMeasured::NodeNotReady(why.clone()));
            }
            Readiness::Ready => {}
        }
        let probing_since = inventory.probing_since();
        let mut states = [Component::Client, Component::Server].map(|component| {
            match inventory.agent(name, component) {
                Some(pod) => of_pod(pod, probing_since, now),
                None if now.since(node.created) < START_UP => Self::Starting,
                None => Self::NotMeasured(NotMeasured::NoPod(component)),
            }
        });
        states.sort_by_key(Self::rank);
        let [worst, _] = states;
        worst
    }

    /// The order in which the state of one agent decides that of its node: a node whose server does not run has a client
    /// that alerts.
    const fn rank(&self) -> u8 {
        match self {
            Self::NotMeasured(_) => 0,
            Self::Starting => 1,
            Self::Alerting(_) => 2,
            Self::Working => 3,
        }
    }

    /// Whether agents probe there.
    pub const fn is_measured(&self) -> bool {
        match self {
            Self::Working | Self::Alerting(_) => true,
            Self::Starting | Self::NotMeasured(_) => false,
        }
    }
}

/// The state of one agent. An agent without a plan is Ready, and measures nothing: that it has the plan shows where it has
/// become Ready since, and is certain after a while.
fn of_pod(pod: &AgentPod, probing_since: Option<Timestamp>, now: Timestamp) -> NodeState {
    if let Some(deleted) = pod.deleted {
        return if now.since(deleted) < START_UP {
            NodeState::Starting
        } else {
            let why = "it is being deleted".to_owned();
            NodeState::NotMeasured(NotMeasured::PodDoesNotRun(pod.component, why))
        };
    }
    match &pod.phase {
        PodPhase::Running(started) => {
            let Some(probing_since) = probing_since else {
                return NodeState::Starting;
            };
            let has_plan = now.since(probing_since) >= PLAN_DELAY;
            match pod.unready_since() {
                None if has_plan || pod.ready.1 >= probing_since => NodeState::Working,
                None => NodeState::Starting,
                // It is not Ready before its first round has ended, either after its start or after it was given the plan.
                Some(_) if now.since(*started) < FIRST_ROUND => NodeState::Starting,
                Some(since) if !has_plan && now.since(since) < FIRST_ROUND_BY_PLAN => {
                    NodeState::Starting
                }
                Some(since) => NodeState::Alerting(since.min(now)),
            }
        }
        PodPhase::Waiting(_) if now.since(pod.created) < START_UP => NodeState::Starting,
        PodPhase::Waiting(why) | PodPhase::Failed(why) => {
            NodeState::NotMeasured(NotMeasured::PodDoesNotRun(pod.component, why.clone()))
        }
    }
}

impl fmt::Display for NotMeasured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Deleted => f.write_str("it is being deleted"),
            Self::NodeNotReady(why) => write!(f, "it is not Ready: {why}"),
            Self::NoPod(component) => write!(
                f,
                "the DaemonSet prober-{} has no pod there: does it tolerate the node's taints, and select it?",
                component.as_str()
            ),
            Self::PodDoesNotRun(component, why) => {
                write!(
                    f,
                    "its pod of prober-{} does not run: {why}",
                    component.as_str()
                )
            }
            Self::Paused => f.write_str("spec.paused is set"),
            Self::OfOtherCheck(check) => write!(
                f,
                "the ConnectivityCheck {check} selects it as well, and reports it"
            ),
        }
    }
}

#[cfg(test)]
mod tests;
