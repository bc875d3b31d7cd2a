//! Only what the canary reads counts as a change, and a list that ends removes what it did not name.

use serde_json::json;

use super::super::test_cluster::{Cluster, node_name};
use super::WatchEvent as Event;
use super::*;

#[expect(
    clippy::needless_pass_by_value,
    reason = "a literal is the usual argument"
)]
fn node(rest: serde_json::Value) -> Node {
    let mut node = json!({
        "metadata": {"name": "node-1", "labels": {"pool": "a"}},
        "status": {"conditions": [{"type": "Ready", "status": "True"}]}
    });
    for (key, value) in rest.as_object().unwrap() {
        node[key] = value.clone();
    }
    serde_json::from_value(node).unwrap()
}

#[test]
fn a_heartbeat_is_no_change() {
    let mut inventory = Inventory::default();
    assert!(inventory.apply_node(Event::Applied(node(json!({})))));
    let heartbeat = json!({"status": {
        "conditions": [{"type": "Ready", "status": "True", "lastHeartbeatTime": "2026-11-24T10:00:00Z"}],
        "images": [{"names": ["a"], "sizeBytes": 1}]
    }});
    assert!(!inventory.apply_node(Event::Applied(node(heartbeat))));
    let cordoned = json!({"spec": {"taints": [{"key": "a", "effect": "NoSchedule"}]}});
    assert!(inventory.apply_node(Event::Applied(node(cordoned))));
}

#[test]
fn the_inventory_is_complete_once_both_lists_and_the_plan_are_known() {
    let mut inventory = Inventory::default();
    for event in [
        Event::ListBegins,
        Event::Listed(node(json!({}))),
        Event::ListEnds,
    ] {
        assert!(!inventory.is_listed());
        inventory.apply_node(event);
    }
    inventory.apply_pod(Event::ListBegins);
    assert!(!inventory.is_listed());
    assert!(
        inventory.apply_pod(Event::ListEnds),
        "the first list, though empty"
    );
    assert!(inventory.is_listed() && !inventory.is_complete());
    assert!(inventory.set_probing_since(None));
    assert!(inventory.is_complete());
}

#[test]
fn what_left_while_the_watch_was_interrupted_is_removed() {
    let mut cluster = Cluster::of(3);
    cluster.is_connected = false;
    cluster.remove_node(1);
    assert!(cluster.inventory.node(&node_name(1)).is_some());
    cluster.relist();
    assert!(cluster.inventory.node(&node_name(1)).is_none());
    assert!(
        cluster
            .inventory
            .agent(&node_name(1), Component::Client)
            .is_none()
    );
    assert_eq!(cluster.inventory.agents(Component::Server).count(), 2);
}

#[test]
fn of_two_pods_the_newer_one_is_the_current() {
    let mut inventory = Inventory::default();
    let pod = |name: &str, created: &str, deleted: Option<&str>| -> Pod {
        serde_json::from_value(json!({
            "metadata": {
                "name": name, "creationTimestamp": created, "deletionTimestamp": deleted,
                "labels": {"app.kubernetes.io/component": "client"}
            },
            "spec": {"nodeName": "node-1", "containers": []}
        }))
        .unwrap()
    };
    let (early, late) = ("2026-11-24T10:00:00Z", "2026-11-24T11:00:00Z");
    let current = |inventory: &Inventory| {
        let pod = inventory.agent(&NodeName::new("node-1"), Component::Client);
        pod.map(|pod| pod.name.clone()).unwrap_or_default()
    };
    inventory.apply_pod(Event::Applied(pod("old", early, None)));
    inventory.apply_pod(Event::Applied(pod("new", late, None)));
    assert_eq!(current(&inventory), "new");
    inventory.apply_pod(Event::Applied(pod("new", late, Some(late))));
    assert_eq!(current(&inventory), "old", "the newer one is being deleted");
    inventory.apply_pod(Event::Deleted(pod("old", early, None)));
    assert_eq!(current(&inventory), "new");
}

#[test]
fn a_pod_that_is_not_scheduled_belongs_to_the_node_of_its_affinity() {
    let pod: Pod = serde_json::from_value(json!({
        "metadata": {"name": "a", "labels": {"app.kubernetes.io/component": "server"}},
        "spec": {"containers": [], "affinity": {"nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
                {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["node-7"]}]}
            ]}
        }}},
        "status": {"conditions": [{
            "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/9 nodes are available: 1 Insufficient cpu."
        }]}
    }))
    .unwrap();
    let pod = AgentPod::of(&pod).unwrap();
    assert_eq!(pod.node.as_str(), "node-7");
    match pod.phase {
        PodPhase::Failed(why) | PodPhase::Waiting(why) => {
            assert!(why.contains("Insufficient cpu"), "{why}");
        }
        PodPhase::Running(_) => panic!("it does not run"),
    }
}

#[test]
fn pods_that_are_no_agents_are_left_out() {
    let mut inventory = Inventory::default();
    let pod = json!({"metadata": {"name": "a", "labels": {}}, "spec": {"nodeName": "node-1", "containers": []}});
    assert!(!inventory.apply_pod(Event::Applied(serde_json::from_value(pod).unwrap())));
}
