//! Which checks are healthy, and what is said of those that are not.

use serde_json::{Value, json};

use super::*;

fn check(name: &str, status: &Value) -> ConnectivityCheck {
    serde_json::from_value(json!({
        "apiVersion": "prober.dev/v1beta1", "kind": "ConnectivityCheck",
        "metadata": {"name": name, "generation": 2}, "spec": {}, "status": status
    }))
    .unwrap()
}

fn status(healthy: &str, starting: i64) -> Value {
    json!({
        "observedGeneration": 2,
        "conditions": [{
            "type": "Healthy", "status": healthy, "reason": "R", "message": "node-1: hairpin-off (proven)",
            "lastTransitionTime": "2026-01-01T00:00:00Z"
        }],
        "nodes": {"working": 2, "starting": starting},
        "coverage": {"nodes": 2, "total": 3, "share": "2/3", "pairs": 4, "cycle": "10s"},
    })
}

fn of(checks: &[ConnectivityCheck]) -> Result<Vec<String>, String> {
    verdict(checks).map_err(|error| error.to_string())
}

#[test]
fn all_checks_must_be_healthy_and_there_must_be_one() {
    let fine = check("default", &status("True", 0));
    let lines = vec!["default: healthy, 2/3 nodes are measured".to_owned()];
    assert_eq!(of(std::slice::from_ref(&fine)), Ok(lines));
    let failing = check("other", &status("False", 0));
    let reason = "other: Healthy=False: node-1: hairpin-off (proven)".to_owned();
    assert_eq!(of(&[fine, failing]), Err(reason));
    assert!(of(&[]).unwrap_err().starts_with("there is no"));
}

#[test]
fn a_check_is_not_healthy_before_it_is_measured() {
    for (status, reason) in [
        (
            Value::Null,
            "default: it has no status: does a controller lead?",
        ),
        (
            json!({"observedGeneration": 1}),
            "default: its status is not of its current spec: does a controller lead?",
        ),
        (
            json!({"observedGeneration": 2}),
            "default: it has no condition Healthy",
        ),
        (
            status("True", 1),
            "default: agents of 1 nodes start, and those of 0 alert",
        ),
    ] {
        assert_eq!(of(&[check("default", &status)]), Err(reason.to_owned()));
    }
}
