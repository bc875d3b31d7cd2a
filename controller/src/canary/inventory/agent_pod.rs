//! The pod of an agent: its component, its node, and whether it runs and is Ready.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::Pod;
use prober_core::time::Timestamp;
use prober_core::topology::NodeName;

use crate::kubernetes::api_time::timestamp;
use crate::kubernetes::pod_status::{PodState, pod_state};
use crate::manifest::PLAN_ANNOTATION;

/// The label with the component of an agent.
const COMPONENT_LABEL: &str = "app.kubernetes.io/component";

/// What an agent does: each is a DaemonSet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Component {
    /// It probes.
    Client,
    /// It answers, and probes its own Service.
    Server,
    /// It reads the facts of its node; an optional component of the installation.
    Node,
}

/// The pod of an agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentPod {
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// Its node; before it is scheduled, the one that its DaemonSet has made it for.
    pub node: NodeName,
    /// Its component.
    pub component: Component,
    /// Whether it runs.
    pub phase: PodPhase,
    /// Its addresses, from `status.podIPs`.
    pub addresses: Vec<IpAddr>,
    /// Whether it is Ready, and since when it is or is not, by the clock of its node.
    pub ready: (bool, Timestamp),
    /// When it was created, by the clock of the API server.
    pub created: Timestamp,
    /// Whether it has the annotation for the plans of runs, which may be empty.
    pub has_plan_annotation: bool,
    /// When its deletion was requested, or is due.
    pub deleted: Option<Timestamp>,
}

/// Whether a pod runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PodPhase {
    /// It has not started; the reason is the end of a sentence.
    Waiting(String),
    /// Its container runs since then, by the clock of its node.
    Running(Timestamp),
    /// It does not run, and its kubelet or its scheduler says why: a sentence.
    Failed(String),
}

impl Component {
    /// Every component.
    pub const ALL: [Self; 3] = [Self::Client, Self::Server, Self::Node];

    /// The value of the label, and the word in messages.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Server => "server",
            Self::Node => "node",
        }
    }
}

impl AgentPod {
    /// Reads a pod; `None` if it is not of a component, or of no node yet.
    pub fn of(pod: &Pod) -> Option<Self> {
        let label = pod.metadata.labels.as_ref()?.get(COMPONENT_LABEL)?;
        let component = (Component::ALL.into_iter()).find(|one| one.as_str() == label)?;
        let node = NodeName::new(assigned_node(pod)?);
        let phase = match pod_state(pod, &node) {
            PodState::Waiting(why) => PodPhase::Waiting(why),
            PodState::Failed(why) => PodPhase::Failed(why),
            PodState::Running(_) => PodPhase::Running(running_since(pod).unwrap_or_default()),
        };
        let created = pod.metadata.creation_timestamp.as_ref();
        let created = created.map(timestamp).unwrap_or_default();
        Some(Self {
            name: pod.metadata.name.clone()?,
            uid: pod.metadata.uid.clone().unwrap_or_default(),
            node,
            component,
            phase,
            addresses: addresses(pod),
            ready: readiness(pod).unwrap_or((false, created)),
            created,
            has_plan_annotation: (pod.metadata.annotations.as_ref())
                .is_some_and(|annotations| annotations.contains_key(PLAN_ANNOTATION)),
            deleted: pod.metadata.deletion_timestamp.as_ref().map(timestamp),
        })
    }

    /// Since when it runs without being Ready; `None` if it is Ready or does not run.
    pub fn unready_since(&self) -> Option<Timestamp> {
        let (is_ready, since) = self.ready;
        match self.phase {
            PodPhase::Running(started) if !is_ready => Some(since.max(started)),
            PodPhase::Running(_) | PodPhase::Waiting(_) | PodPhase::Failed(_) => None,
        }
    }

    /// Whether it runs and stays.
    pub const fn runs(&self) -> bool {
        matches!((&self.phase, self.deleted), (PodPhase::Running(_), None))
    }

    /// Whether it runs and is Ready.
    pub const fn works(&self) -> bool {
        matches!((&self.phase, self.ready), (PodPhase::Running(_), (true, _)))
    }
}

/// The node of a pod. A DaemonSet's pod is made for one node, which its affinity names until it is scheduled
/// (pkg/controller/daemon/util/daemonset_util.go, `ReplaceDaemonSetPodNodeNameNodeAffinity`).
fn assigned_node(pod: &Pod) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    if let Some(node) = &spec.node_name {
        return Some(node.clone());
    }
    let affinity = spec.affinity.as_ref()?.node_affinity.as_ref()?;
    let required = affinity
        .required_during_scheduling_ignored_during_execution
        .as_ref()?;
    let mut fields =
        (required.node_selector_terms.iter()).flat_map(|term| term.match_fields.iter().flatten());
    let by_name = fields.find(|field| field.key == "metadata.name")?;
    by_name.values.as_ref()?.first().cloned()
}

fn addresses(pod: &Pod) -> Vec<IpAddr> {
    let ips = pod
        .status
        .iter()
        .flat_map(|status| status.pod_ips.iter().flatten());
    ips.filter_map(|ip| ip.ip.parse().ok()).collect()
}

fn readiness(pod: &Pod) -> Option<(bool, Timestamp)> {
    let mut conditions = pod.status.as_ref()?.conditions.iter().flatten();
    let ready = conditions.find(|condition| condition.type_ == "Ready")?;
    let since = ready.last_transition_time.as_ref().map(timestamp);
    Some((ready.status == "True", since.unwrap_or_default()))
}

fn running_since(pod: &Pod) -> Option<Timestamp> {
    let mut containers = pod.status.as_ref()?.container_statuses.iter().flatten();
    let running = containers.find_map(|one| one.state.as_ref()?.running.as_ref())?;
    running.started_at.as_ref().map(timestamp)
}
