//! The nodes that a check selects, and why some of them are skipped: decided from their Node objects.

use k8s_openapi::api::core::v1::{Node, Taint, Toleration};

use super::schedule::{SelectedNode, SkipReason};
use crate::canary::crd::ConnectivityCheckSpec;
use crate::kubernetes::node_info;
use crate::kubernetes::node_summary::{Cordon, NodeReadiness, NodeSummary};

/// The label that names a node's zone.
///
/// <https:
///
/// kubernetes.io/docs/reference/labels-annotations-taints/#topologykubernetesiozone>
const ZONE: &str = "topology.kubernetes.io/zone";

/// Taints with this prefix repeat what a node's conditions and `spec.unschedulable` say.
const KUBERNETES_PREFIX: &str = "node.kubernetes.io/";

/// The nodes that the spec selects. Nodes whose operating system is not Linux are never selected: no agent runs there.
pub fn selected_nodes<'a>(
    nodes: impl IntoIterator<Item = &'a Node>,
    spec: &ConnectivityCheckSpec,
) -> Vec<SelectedNode> {
    nodes
        .into_iter()
        .filter(|node| is_selected(node, spec))
        .map(|node| SelectedNode {
            name: node_info::node_name(node),
            zone: label(node, ZONE).unwrap_or_default().to_owned(),
            skipped: skip(node, spec),
        })
        .collect()
}

fn is_selected(node: &Node, spec: &ConnectivityCheckSpec) -> bool {
    let operating_system = NodeSummary::from_node(node).operating_system;
    let has_labels = spec
        .node_selector
        .iter()
        .all(|(key, value)| label(node, key) == Some(value));
    has_labels && (operating_system.is_empty() || operating_system == "linux")
}

fn label<'a>(node: &'a Node, key: &str) -> Option<&'a str> {
    node.metadata.labels.as_ref()?.get(key).map(String::as_str)
}

/// Why the node is not probed now; the reason that implies the others comes first.
fn skip(node: &Node, spec: &ConnectivityCheckSpec) -> Option<SkipReason> {
    if node.metadata.deletion_timestamp.is_some() {
        return Some(SkipReason::Deleted);
    }
    let status = NodeSummary::from_node(node);
    match (status.readiness, status.cordon) {
        (NodeReadiness::NotReady { .. }, Cordon::Open | Cordon::Cordoned) => {
            Some(SkipReason::NotReady)
        }
        (NodeReadiness::Ready, Cordon::Cordoned) => Some(SkipReason::Cordoned),
        (NodeReadiness::Ready, Cordon::Open) => {
            let taints = node.spec.as_ref()?.taints.as_ref()?;
            taints
                .iter()
                .find(|taint| is_repelling(taint, &spec.tolerations))
                .map(|taint| SkipReason::Tainted(taint.key.clone()))
        }
    }
}

fn is_repelling(taint: &Taint, tolerations: &[Toleration]) -> bool {
    let is_hard = taint.effect != "PreferNoSchedule";
    let is_known = taint.key.starts_with(KUBERNETES_PREFIX);
    is_hard
        && !is_known
        && !tolerations
            .iter()
            .any(|toleration| tolerates(toleration, taint))
}

/// As the scheduler decides it (k8s.io/api/core/v1/toleration.go, `ToleratesTaint`).
fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let of = |field: &Option<String>| field.clone().unwrap_or_default();
    let (effect, key) = (of(&toleration.effect), of(&toleration.key));
    if !effect.is_empty() && effect != taint.effect || !key.is_empty() && key != taint.key {
        return false;
    }
    match of(&toleration.operator).as_str() {
        "Exists" => true,
        "" | "Equal" => !key.is_empty() && of(&toleration.value) == of(&taint.value),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn node(name: &str, rest: serde_json::Value) -> Node {
        let mut node = json!({
            "metadata": {"name": name, "labels": {"pool": "a", ZONE: "west"}},
            "status": {"conditions": [{"type": "Ready", "status": "True"}]}
        });
        merge(&mut node, rest);
        serde_json::from_value(node).unwrap()
    }

    fn merge(into: &mut serde_json::Value, from: serde_json::Value) {
        match (into, from) {
            (serde_json::Value::Object(into), serde_json::Value::Object(from)) => {
                for (key, value) in from {
                    merge(into.entry(key).or_insert(json!(null)), value);
                }
            }
            (into, from) => *into = from,
        }
    }

    fn skipped(rest: serde_json::Value, spec: serde_json::Value) -> Option<SkipReason> {
        let spec = serde_json::from_value(spec).unwrap();
        let [selected] = &selected_nodes([&node("node-1", rest)], &spec)[..] else {
            panic!("one node is meant");
        };
        selected.skipped.clone()
    }

    #[test]
    fn a_ready_node_is_probed_in_its_zone() {
        let found = selected_nodes(
            [&node("node-1", json!({}))],
            &ConnectivityCheckSpec::default(),
        );
        assert_eq!(found[0].zone, "west");
        assert_eq!(found[0].skipped, None);
    }

    #[test]
    fn only_nodes_with_all_labels_are_selected() {
        let spec =
            |pool: &str| serde_json::from_value(json!({"nodeSelector": {"pool": pool}})).unwrap();
        assert_eq!(
            selected_nodes([&node("node-1", json!({}))], &spec("a")).len(),
            1
        );
        assert_eq!(
            selected_nodes([&node("node-1", json!({}))], &spec("b")).len(),
            0
        );
    }

    #[test]
    fn unschedulable_nodes_are_skipped() {
        let cordoned = json!({"spec": {"unschedulable": true}});
        assert_eq!(skipped(cordoned, json!({})), Some(SkipReason::Cordoned));
        let silent = json!({"status": {"conditions": [{"type": "Ready", "status": "Unknown"}]}});
        assert_eq!(skipped(silent, json!({})), Some(SkipReason::NotReady));
        let deleted = json!({"metadata": {"deletionTimestamp": "2026-11-24T10:00:00Z"}});
        assert_eq!(skipped(deleted, json!({})), Some(SkipReason::Deleted));
    }

    #[test]
    fn a_tainted_node_is_skipped_unless_the_check_tolerates_it() {
        let tainted = || json!({"spec": {"taints": [{"key": "dedicated", "value": "gpu", "effect": "NoSchedule"}]}});
        let kept = Some(SkipReason::Tainted("dedicated".to_owned()));
        for (tolerations, expected) in [
            (json!([]), kept.clone()),
            (json!([{"operator": "Exists"}]), None),
            (json!([{"key": "dedicated", "operator": "Exists"}]), None),
            (json!([{"key": "dedicated", "value": "gpu"}]), None),
            (json!([{"key": "dedicated", "value": "cpu"}]), kept.clone()),
            (
                json!([{"key": "dedicated", "operator": "Exists", "effect": "NoExecute"}]),
                kept.clone(),
            ),
        ] {
            let spec = json!({"tolerations": tolerations});
            assert_eq!(skipped(tainted(), spec), expected, "{tolerations}");
        }
    }
}
