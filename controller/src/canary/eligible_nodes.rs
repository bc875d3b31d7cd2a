//! Which nodes a check means, and which of them cannot be probed now: decided from what the API server says of each.

use k8s_openapi::api::core::v1::{Node, Taint, Toleration};

use super::schedule::{Candidate, Skip};
use crate::canary::crd::ConnectivityCheckSpec;
use crate::kubernetes::node_info;
use crate::kubernetes::node_summary::{Cordon, NodeReadiness, NodeSummary};

/// The label that names a node's zone.
///
/// <https://kubernetes.io/docs/reference/labels-annotations-taints/#topologykubernetesiozone>
const ZONE: &str = "topology.kubernetes.io/zone";

/// Taints of this prefix say again what a node's conditions and its cordon say.
const OF_KUBERNETES: &str = "node.kubernetes.io/";

/// The nodes that the spec means. Nodes of other systems than Linux are never meant: no agent runs there.
pub fn candidates<'a>(
    nodes: impl IntoIterator<Item = &'a Node>,
    spec: &ConnectivityCheckSpec,
) -> Vec<Candidate> {
    nodes
        .into_iter()
        .filter(|node| is_meant(node, spec))
        .map(|node| Candidate {
            node: node_info::node_name(node),
            zone: label(node, ZONE).unwrap_or_default().to_owned(),
            skipped: skip(node, spec),
        })
        .collect()
}

fn is_meant(node: &Node, spec: &ConnectivityCheckSpec) -> bool {
    let system = NodeSummary::from_node(node).operating_system;
    let has_labels = spec
        .node_selector
        .iter()
        .all(|(key, value)| label(node, key) == Some(value));
    has_labels && (system.is_empty() || system == "linux")
}

fn label<'a>(node: &'a Node, key: &str) -> Option<&'a str> {
    node.metadata.labels.as_ref()?.get(key).map(String::as_str)
}

/// Why the node is not probed now; what explains most comes first.
fn skip(node: &Node, spec: &ConnectivityCheckSpec) -> Option<Skip> {
    if node.metadata.deletion_timestamp.is_some() {
        return Some(Skip::Deleted);
    }
    let seen = NodeSummary::from_node(node);
    match (seen.readiness, seen.cordon) {
        (NodeReadiness::NotReady { .. }, Cordon::Open | Cordon::Cordoned) => Some(Skip::NotReady),
        (NodeReadiness::Ready, Cordon::Cordoned) => Some(Skip::Cordoned),
        (NodeReadiness::Ready, Cordon::Open) => {
            let taints = node.spec.as_ref()?.taints.as_ref()?;
            taints
                .iter()
                .find(|taint| keeps_away(taint, &spec.tolerations))
                .map(|taint| Skip::Tainted(taint.key.clone()))
        }
    }
}

fn keeps_away(taint: &Taint, tolerations: &[Toleration]) -> bool {
    let is_hard = taint.effect != "PreferNoSchedule";
    let is_known = taint.key.starts_with(OF_KUBERNETES);
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

    fn skipped(rest: serde_json::Value, spec: serde_json::Value) -> Option<Skip> {
        let spec = serde_json::from_value(spec).unwrap();
        let [candidate] = &candidates([&node("node-1", rest)], &spec)[..] else {
            panic!("one node is meant");
        };
        candidate.skipped.clone()
    }

    #[test]
    fn a_ready_node_is_probed_in_its_zone() {
        let found = candidates(
            [&node("node-1", json!({}))],
            &ConnectivityCheckSpec::default(),
        );
        assert_eq!(found[0].zone, "west");
        assert_eq!(found[0].skipped, None);
    }

    #[test]
    fn only_nodes_with_all_labels_are_meant() {
        let spec =
            |pool: &str| serde_json::from_value(json!({"nodeSelector": {"pool": pool}})).unwrap();
        assert_eq!(
            candidates([&node("node-1", json!({}))], &spec("a")).len(),
            1
        );
        assert_eq!(
            candidates([&node("node-1", json!({}))], &spec("b")).len(),
            0
        );
    }

    #[test]
    fn nodes_that_kubernetes_gives_nothing_to_are_skipped() {
        let cordoned = json!({"spec": {"unschedulable": true}});
        assert_eq!(skipped(cordoned, json!({})), Some(Skip::Cordoned));
        let silent = json!({"status": {"conditions": [{"type": "Ready", "status": "Unknown"}]}});
        assert_eq!(skipped(silent, json!({})), Some(Skip::NotReady));
        let deleted = json!({"metadata": {"deletionTimestamp": "2026-11-24T10:00:00Z"}});
        assert_eq!(skipped(deleted, json!({})), Some(Skip::Deleted));
    }

    #[test]
    fn a_taint_keeps_a_check_away_until_it_is_tolerated() {
        let tainted = || json!({"spec": {"taints": [{"key": "dedicated", "value": "gpu", "effect": "NoSchedule"}]}});
        let kept = Some(Skip::Tainted("dedicated".to_owned()));
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
