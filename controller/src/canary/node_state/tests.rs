//! What the objects say of a node is what is reported of it, and nothing more.

use super::super::test_cluster::{Cluster, node_name};
use super::*;

fn state(cluster: &Cluster, number: usize) -> NodeState {
    let name = node_name(number);
    let record = cluster.inventory.node(&name).unwrap();
    NodeState::of(&cluster.inventory, &name, record, cluster.now)
}

fn why(cluster: &Cluster, number: usize) -> String {
    match state(cluster, number) {
        NodeState::NotMeasured(why) => why.to_string(),
        other @ (NodeState::Working | NodeState::Alerting(_) | NodeState::Starting) => {
            panic!("{other:?}")
        }
    }
}

#[test]
fn a_node_whose_agents_are_ready_works() {
    let cluster = Cluster::of(2);
    assert_eq!(state(&cluster, 0), NodeState::Working);
}

#[test]
fn an_agent_that_is_not_ready_alerts_since_its_transition() {
    let mut cluster = Cluster::of(2);
    cluster.pass(Duration::from_mins(1));
    let since = cluster.now;
    cluster.set_works(0, false);
    cluster.pass(Duration::from_secs(20));
    assert_eq!(state(&cluster, 0), NodeState::Alerting(since));
    assert_eq!(state(&cluster, 1), NodeState::Working);
}

#[test]
fn an_agent_that_has_just_started_does_not_alert() {
    let mut cluster = Cluster::of(1);
    cluster.set_works(0, false);
    cluster.restart_pods(0);
    assert!(
        !state(&cluster, 0).is_measured(),
        "its container does not run"
    );
    cluster.pass(Duration::from_secs(1));
    let started = cluster.now;
    assert_eq!(state(&cluster, 0), NodeState::Starting);
    cluster.pass(Duration::from_secs(4));
    assert_eq!(state(&cluster, 0), NodeState::Starting);
    cluster.pass(Duration::from_secs(1));
    assert_eq!(
        state(&cluster, 0),
        NodeState::Alerting(started),
        "it began no earlier than its agent"
    );
}

#[test]
fn a_node_that_is_not_ready_is_not_measured_though_its_pods_are_not_ready() {
    let mut cluster = Cluster::of(1);
    cluster.set_node_ready(0, false);
    cluster.pass(Duration::from_secs(30));
    assert_eq!(
        why(&cluster, 0),
        "it is not Ready: Kubelet stopped posting node status"
    );
}

#[test]
fn agents_that_may_not_have_the_plan_yet_measure_nothing() {
    let mut cluster = Cluster::of(2);
    cluster.inventory.set_probing_since(None);
    assert_eq!(state(&cluster, 0), NodeState::Starting, "there is no plan");
    cluster.inventory.set_probing_since(Some(cluster.now));
    cluster.pass(Duration::from_secs(40));
    assert_eq!(
        state(&cluster, 0),
        NodeState::Starting,
        "it is Ready since before the plan"
    );
    // The plan arrives: the gates close for the first round.
    cluster.close_gates(0);
    assert_eq!(state(&cluster, 0), NodeState::Starting);
    cluster.pass(Duration::from_secs(2));
    assert_eq!(state(&cluster, 0), NodeState::Working);
    cluster.set_works(1, false);
    cluster.close_gates(1);
    let since = cluster.now;
    cluster.pass(FIRST_ROUND_BY_PLAN);
    assert_eq!(
        state(&cluster, 1),
        NodeState::Alerting(since),
        "its first round failed"
    );
    cluster.inventory.set_probing_since(Some(cluster.now));
    cluster.pass(PLAN_DELAY);
    assert_eq!(
        state(&cluster, 0),
        NodeState::Working,
        "every agent has the plan by now"
    );
}

#[test]
fn a_new_node_starts_and_one_that_gets_no_pod_says_so() {
    let mut cluster = Cluster::of(0);
    cluster.is_connected = false;
    cluster.add_node();
    let node = cluster.node_object(0);
    (cluster.inventory).apply_node(super::super::inventory::WatchEvent::Applied(node));
    assert_eq!(state(&cluster, 0), NodeState::Starting);
    cluster.pass(START_UP);
    let why = why(&cluster, 0);
    assert!(
        why.contains("the DaemonSet prober-client has no pod there"),
        "{why}"
    );
}

#[test]
fn a_pod_that_does_not_start_says_why_after_a_minute() {
    let mut cluster = Cluster::of(1);
    cluster.stop_kubelet(0);
    let server = cluster.inventory.agent(&node_name(0), Component::Server);
    let pod = server.unwrap().name.clone();
    cluster.replace_pod(&pod);
    cluster.pass(Duration::from_secs(30));
    assert_eq!(state(&cluster, 0), NodeState::Starting);
    cluster.pass(Duration::from_secs(30));
    let why = why(&cluster, 0);
    assert!(
        why.starts_with("its pod of prober-server does not run: "),
        "{why}"
    );
}
