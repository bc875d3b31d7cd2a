//! The state of a node that decides whether pods run there: readiness, cordon, taints, operating system and kind.

use k8s_openapi::api::core::v1::{Node, Taint};

/// The state of one node, read from its Node object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeSummary {
    /// Its name.
    pub name: String,
    /// Its condition `Ready`.
    pub readiness: NodeReadiness,
    /// Whether it is cordoned.
    pub cordon: Cordon,
    /// Its taints as kubectl writes them (`key=value:effect`), without those that repeat `readiness` or `cordon`.
    pub taints: Vec<String>,
    /// Its operating system, `linux` or `windows`; empty before its kubelet has reported it.
    pub operating_system: String,
    /// Whether it is a machine.
    pub kind: NodeKind,
}

/// Whether a node is a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeKind {
    /// It is: a kubelet starts its pods, which share the node's network.
    Machine,
    /// It represents a service that runs its pods elsewhere: there is no node whose rules a pod would use.
    Virtual,
}

/// A node's condition `Ready`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodeReadiness {
    /// `True`.
    Ready,
    /// `False`, `Unknown` or absent.
    NotReady {
        /// The message or reason of the condition, without a final full stop.
        why: String,
    },
}

/// Whether a node accepts new pods (`spec.unschedulable`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cordon {
    /// It accepts them.
    Open,
    /// It accepts only pods that tolerate the taint of `kubectl cordon`.
    Cordoned,
}

impl NodeSummary {
    /// Reads a Node object.
    pub fn from_node(node: &Node) -> Self {
        let spec = node.spec.as_ref();
        let status = node.status.as_ref();
        let ready = status
            .and_then(|status| status.conditions.as_ref())
            .and_then(|conditions| conditions.iter().find(|one| one.type_ == "Ready"));
        let readiness = match ready {
            Some(condition) if condition.status == "True" => NodeReadiness::Ready,
            Some(condition) => NodeReadiness::NotReady {
                why: condition
                    .message
                    .clone()
                    .or_else(|| condition.reason.clone())
                    .unwrap_or_else(|| format!("Ready={}", condition.status))
                    .trim_end_matches('.')
                    .to_owned(),
            },
            None => NodeReadiness::NotReady {
                why: "its kubelet has not reported a status yet".to_owned(),
            },
        };
        let cordon = match spec.and_then(|spec| spec.unschedulable) {
            Some(true) => Cordon::Cordoned,
            Some(false) | None => Cordon::Open,
        };
        Self {
            name: node.metadata.name.clone().unwrap_or_default(),
            readiness,
            cordon,
            taints: spec
                .and_then(|spec| spec.taints.as_ref())
                .into_iter()
                .flatten()
                .filter(|taint| is_restriction(taint))
                .map(taint_text)
                .collect(),
            operating_system: status
                .and_then(|status| status.node_info.as_ref())
                .map(|info| info.operating_system.clone())
                .unwrap_or_default(),
            kind: kind_of(node),
        }
    }

    /// The cordon and the taints that repel pods without a toleration, as the end of a sentence; `None` where there are none.
    pub fn scheduling_restriction(&self) -> Option<String> {
        let cordoned = match self.cordon {
            Cordon::Open => None,
            Cordon::Cordoned => Some("cordoned".to_owned()),
        };
        let restrictions: Vec<String> = cordoned
            .into_iter()
            .chain(self.taints.iter().map(|taint| format!("tainted {taint}")))
            .collect();
        (!restrictions.is_empty()).then(|| restrictions.join(", "))
    }
}

/// Recognises the nodes of Virtual Kubelet and of AWS Fargate.
///
/// <https://github.com/virtual-kubelet/virtual-kubelet/blob/master/node/nodeutil/controller.go> and
/// <https://docs.aws.amazon.com/eks/latest/userguide/fargate.html>
fn kind_of(node: &Node) -> NodeKind {
    let labels = node.metadata.labels.as_ref();
    let has_label = |key: &str, value: &str| {
        labels.is_some_and(|labels| labels.get(key).is_some_and(|found| found == value))
    };
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_ref());
    let mut taints = taints.into_iter().flatten();
    let is_virtual = has_label("type", "virtual-kubelet")
        || has_label("eks.amazonaws.com/compute-type", "fargate")
        || taints.any(|taint| taint.key == "virtual-kubelet.io/provider");
    if is_virtual {
        NodeKind::Virtual
    } else {
        NodeKind::Machine
    }
}

/// Whether a taint repels pods and does not repeat the readiness or the cordon.
///
/// <https://kubernetes.io/docs/reference/labels-annotations-taints/#node-kubernetes-io-not-ready>
fn is_restriction(taint: &Taint) -> bool {
    let is_repeated = matches!(
        taint.key.as_str(),
        "node.kubernetes.io/not-ready"
            | "node.kubernetes.io/unreachable"
            | "node.kubernetes.io/unschedulable"
    );
    taint.effect != "PreferNoSchedule" && !is_repeated
}

fn taint_text(taint: &Taint) -> String {
    let value = taint.value.as_deref().unwrap_or_default();
    let equals = if value.is_empty() { "" } else { "=" };
    format!("{}{equals}{value}:{}", taint.key, taint.effect)
}
