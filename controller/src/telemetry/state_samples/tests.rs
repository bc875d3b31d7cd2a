//! The samples of nodes that fail, recover, and are not measured.

use std::collections::BTreeMap;

use serde_json::json;

use super::*;
use crate::canary::check_state::CheckState;
use crate::canary::test_cluster::{Cluster, node_name};

/// The reasons in the samples of a check on this cluster.
fn not_measured(cluster: &Cluster, spec: &serde_json::Value) -> BTreeMap<String, &'static str> {
    let check = serde_json::from_value(json!({
        "apiVersion": "prober.dev/v1beta1", "kind": "ConnectivityCheck", "metadata": {"name": "default"}, "spec": spec
    }));
    let mut state = CheckState::new(&check.unwrap());
    state.observe(
        "default",
        &cluster.inventory,
        &mut BTreeMap::new(),
        cluster.moment(),
    );
    let states = CheckStates {
        check: "default",
        state: &state,
    };
    let mut found = BTreeMap::new();
    for sample in samples(&states) {
        if let Sample::NotMeasured { nodes, .. } = sample {
            found.extend(nodes.into_iter().map(|(node, why)| (node.to_string(), why)));
        }
    }
    found
}

#[test]
fn a_node_is_not_measured_for_a_reason_unless_the_check_leaves_it_out() {
    let mut cluster = Cluster::of(3);
    cluster.set_node_ready(1, false);
    let rebooting = BTreeMap::from([(node_name(1).to_string(), "node-not-ready")]);
    assert_eq!(not_measured(&cluster, &json!({})), rebooting);
    assert_eq!(
        not_measured(&cluster, &json!({"paused": true})),
        BTreeMap::new()
    );
    cluster.set_node_ready(1, true);
    assert_eq!(not_measured(&cluster, &json!({})), BTreeMap::new());
}
