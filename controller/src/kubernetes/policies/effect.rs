//! What one policy does to connections of the agents' pods, by its spec. Fields that are not known are ignored, and what cannot
//! be evaluated counts as "may".

use prober_core::evidence::policies::PolicyKind;
use serde_json::Value;

use super::selector::{AgentPods, Label, both, is_everything, selects};
use super::{calico_selector, rules};

/// A direction of connections as seen from the pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    /// To the pod.
    Ingress,
    /// From the pod.
    Egress,
}

impl Direction {
    /// The field of its rules.
    pub(super) const fn field(self) -> &'static str {
        match self {
            Self::Ingress => "ingress",
            Self::Egress => "egress",
        }
    }

    /// Its name in lists of policy types.
    pub(super) const fn policy_type(self) -> &'static str {
        match self {
            Self::Ingress => "Ingress",
            Self::Egress => "Egress",
        }
    }
}

/// A share of all connections of a direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Share {
    /// None.
    #[default]
    Nothing,
    /// A part, or an unknown one.
    Some,
    /// Each.
    Everything,
}

/// What a policy does in one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Effect {
    /// What no rule allows is denied.
    pub(super) isolates: bool,
    /// What its rules allow, or pass on to other policies.
    pub(super) allows: Share,
    /// What its rules deny.
    pub(super) denies: Share,
    /// What its rules deny no other policy can allow.
    pub(super) is_final: bool,
}

/// Whether a policy selects the agents' pods; `None` where that is not known.
pub(super) fn selects_pods(kind: PolicyKind, spec: &Value, pods: &AgentPods<'_>) -> Option<bool> {
    match kind {
        PolicyKind::NetworkPolicy => selects(&spec["podSelector"], |key| pods.label(key)),
        PolicyKind::CiliumNetworkPolicy | PolicyKind::CiliumClusterwideNetworkPolicy => {
            // Without a selector of endpoints it is for nodes.
            if spec["endpointSelector"].is_null() {
                return Some(false);
            }
            selects(&spec["endpointSelector"], |key| cilium_label(pods, key))
        }
        PolicyKind::CalicoNetworkPolicy | PolicyKind::CalicoGlobalNetworkPolicy => {
            let is_for_hosts = ["applyOnForward", "doNotTrack", "preDNAT"]
                .iter()
                .any(|field| spec[field] == Value::Bool(true));
            if is_for_hosts {
                return Some(false);
            }
            let text = |field: &str| spec[field].as_str().unwrap_or_default();
            let by_pods = calico_selector::selects(text("selector"), |key| calico_label(pods, key));
            let by_namespace = calico_selector::selects(text("namespaceSelector"), |key| {
                if key == "projectcalico.org/name" {
                    Label::Value(pods.namespace)
                } else {
                    pods.namespace_label(key)
                }
            });
            let by_account = text("serviceAccountSelector").trim();
            let by_account = matches!(by_account, "" | "all()").then_some(true);
            both(both(by_pods, by_namespace), by_account)
        }
        PolicyKind::AdminNetworkPolicy
        | PolicyKind::BaselineAdminNetworkPolicy
        | PolicyKind::ClusterNetworkPolicy => {
            let subject = &spec["subject"];
            let of_namespace =
                |selector: &Value| selects(selector, |key| pods.namespace_label(key));
            if subject["namespaces"].is_object() {
                of_namespace(&subject["namespaces"])
            } else if subject["pods"].is_object() {
                let pod = selects(&subject["pods"]["podSelector"], |key| pods.label(key));
                both(of_namespace(&subject["pods"]["namespaceSelector"]), pod)
            } else {
                None
            }
        }
    }
}

/// What a policy that selects the pods does in a direction.
pub(super) fn of(kind: PolicyKind, spec: &Value, direction: Direction) -> Effect {
    match kind {
        PolicyKind::NetworkPolicy => rules::kubernetes(spec, direction),
        PolicyKind::CiliumNetworkPolicy | PolicyKind::CiliumClusterwideNetworkPolicy => {
            rules::cilium(spec, direction)
        }
        PolicyKind::CalicoNetworkPolicy | PolicyKind::CalicoGlobalNetworkPolicy => {
            rules::calico(spec, direction)
        }
        PolicyKind::AdminNetworkPolicy
        | PolicyKind::BaselineAdminNetworkPolicy
        | PolicyKind::ClusterNetworkPolicy => rules::admin(spec, direction),
    }
}

/// A label of an endpoint of Cilium: those of its pod, and of its namespace. A source may precede the key.
///
/// <https://docs.cilium.io/en/stable/security/policy/kubernetes/>
fn cilium_label<'a>(pods: &AgentPods<'a>, key: &str) -> Label<'a> {
    let key = key
        .split_once(':')
        .map_or(key, |(source, rest)| match source {
            "k8s" | "any" => rest,
            _ => key,
        });
    if key == "io.kubernetes.pod.namespace" {
        return Label::Value(pods.namespace);
    }
    if let Some(key) = key.strip_prefix("io.cilium.k8s.namespace.labels.") {
        return pods.namespace_label(key);
    }
    let is_of_cilium = key.starts_with("io.cilium.") || key.starts_with("reserved:");
    match pods.label(key) {
        Label::Absent if is_of_cilium => Label::Unknown,
        label @ (Label::Value(_) | Label::Absent | Label::Unknown) => label,
    }
}

/// A label of a workload of Calico: those of its pod, of its namespace (`pcns.`), and a few of its own.
fn calico_label<'a>(pods: &AgentPods<'a>, key: &str) -> Label<'a> {
    match key {
        "projectcalico.org/namespace" => return Label::Value(pods.namespace),
        "projectcalico.org/orchestrator" => return Label::Value("k8s"),
        _ => {}
    }
    if let Some(key) = key.strip_prefix("pcns.") {
        return pods.namespace_label(key);
    }
    let is_of_calico = key.starts_with("projectcalico.org/") || key.starts_with("pcsa.");
    match pods.label(key) {
        Label::Absent if is_of_calico => Label::Unknown,
        label @ (Label::Value(_) | Label::Absent | Label::Unknown) => label,
    }
}

/// Whether a rule's peers are everything: there are none named, or a selector without a requirement is among them.
pub(super) fn has_empty_selector(peers: &Value, key: Option<&str>) -> bool {
    let mut peers = peers.as_array().into_iter().flatten();
    peers.any(|peer| match key {
        Some(key) => peer.get(key).is_some_and(is_everything),
        None => peer.is_object() && is_everything(peer),
    })
}
