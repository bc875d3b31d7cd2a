//! The generated definition and the example match the types.

mod v1alpha1;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt as _;
use kube::core::DeserializeGuard;
use kube::core::crd::merge_crds;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

/// The generated definition.
const FILE: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../deploy/kustomize/crd/connectivitychecks.yaml"
);

/// The definition with both versions, of which `v1beta1` is stored. They need no conversion: their fields are the same, but for
/// those that have left.
fn crd() -> CustomResourceDefinition {
    let versions = vec![ConnectivityCheck::crd(), v1alpha1::ConnectivityCheck::crd()];
    let mut crd = merge_crds(versions, "v1beta1").unwrap();
    let old = crd
        .spec
        .versions
        .iter_mut()
        .find(|version| version.name == "v1alpha1");
    let old = old.unwrap();
    old.deprecated = Some(true);
    old.deprecation_warning = Some(
        "prober.dev/v1alpha1 ConnectivityCheck is deprecated; use prober.dev/v1beta1, which has no tolerations and maxPairs"
            .to_owned(),
    );
    crd
}

fn schema() -> Value {
    serde_json::to_value(ConnectivityCheck::crd()).unwrap()
}

fn of_spec(field: &str) -> Value {
    schema()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
        [field]
        .clone()
}

fn definition() -> String {
    let yaml = serde_saphyr::to_string(&crd()).unwrap();
    format!("# Generated from controller/src/canary/crd.rs; a test compares the two.\n{yaml}")
}

#[test]
fn the_definition_in_the_repository_matches_the_types() {
    let written = std::fs::read_to_string(FILE).unwrap_or_default();
    let generated = definition();
    if std::env::var_os("PROBER_WRITE_CRD").is_some() {
        std::fs::write(FILE, &generated).unwrap();
        return;
    }
    assert!(
        written == generated,
        "{FILE} is not what the code says: PROBER_WRITE_CRD=1 cargo test -p controller the_definition writes it anew"
    );
}

#[test]
fn an_empty_spec_is_complete() {
    let spec: ConnectivityCheckSpec = serde_json::from_value(json!({})).unwrap();
    assert_eq!(spec, ConnectivityCheckSpec::default());
    assert_eq!(spec.peers_per_node, 3);
    assert_eq!(spec.interval, GoDuration::from_secs(10));
}

#[test]
fn the_example_shows_every_default() {
    let file = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../deploy/examples/connectivitycheck.yaml"
    );
    let text = std::fs::read_to_string(file).unwrap();
    let value: Value = serde_saphyr::from_str(&text).unwrap();
    let default = serde_json::to_value(ConnectivityCheckSpec::default()).unwrap();
    assert_eq!(value["spec"], default);
    assert_eq!(value["apiVersion"], format!("{GROUP}/v1beta1"));
}

#[test]
fn every_field_of_the_spec_has_its_default_in_the_schema() {
    let spec = schema();
    let properties = &spec["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
        ["properties"];
    for (field, schema) in properties.as_object().unwrap() {
        assert!(schema.get("default").is_some(), "{field}: {schema}");
    }
    assert_eq!(of_spec("interval")["default"], "10s");
    assert_eq!(
        of_spec("confirm")["default"],
        json!({"failures": 2, "of": 3})
    );
}

#[test]
fn every_rule_has_a_message() {
    let text = schema().to_string();
    let count = |field: &str| text.matches(&format!("\"{field}\":")).count();
    assert_eq!(count("rule"), 8);
    // The schema of a condition has a field of this name.
    assert_eq!(count("message"), 8 + 1);
}

#[test]
fn kubectl_get_prints_these_columns() {
    let crd = schema();
    let columns = crd["spec"]["versions"][0]["additionalPrinterColumns"]
        .as_array()
        .unwrap()
        .iter()
        .map(|column| column["name"].as_str().unwrap().to_owned())
        .collect::<Vec<_>>();
    assert_eq!(columns, ["Healthy", "Failing", "Coverage", "Age"]);
    assert_eq!(crd["spec"]["scope"], "Cluster");
    assert_eq!(crd["spec"]["names"]["shortNames"], json!(["cc"]));
}

#[test]
fn no_number_has_a_format_that_the_api_server_warns_about() {
    let text = schema().to_string();
    assert!(!text.contains("uint"), "{text}");
}

#[test]
fn one_version_is_stored_and_the_older_one_is_deprecated() {
    let versions: Vec<_> = (crd().spec.versions.into_iter())
        .map(|version| {
            (
                version.name,
                version.served,
                version.storage,
                version.deprecated,
            )
        })
        .collect();
    let version = |name: &str, storage, deprecated| (name.to_owned(), true, storage, deprecated);
    assert_eq!(
        versions,
        [
            version("v1beta1", true, None),
            version("v1alpha1", false, Some(true))
        ]
    );
    assert_eq!(crd().spec.conversion, None);
}

/// A check as version 0.1 wrote it, with its status.
fn object_of_v1alpha1() -> Value {
    json!({
        "apiVersion": "prober.dev/v1alpha1",
        "kind": "ConnectivityCheck",
        "metadata": {"name": "default"},
        "spec": {
            "nodeSelector": {"pool": "a"},
            "tolerations": [{"key": "dedicated", "operator": "Exists", "effect": "NoSchedule"}],
            "peersPerNode": 2,
            "interval": "5s",
            "maxPairs": 100,
            "ipFamilies": ["IPv4"],
            "accessPaths": ["pod-ip", "host-network"],
            "probeDeadline": "2s",
            "confirm": {"failures": 3, "of": 4},
            "agentLifetime": "2h",
            "nodeFacts": "Always",
            "nodeCondition": {"enabled": true},
            "paused": true
        },
        "status": {
            "conditions": [],
            "observedGeneration": 4,
            "headline": "node-1: bridge-netfilter-off (proven)",
            "coverage": {"pairs": 5, "total": 9, "share": "5/9", "cycle": "20s"},
            "failing": [{
                "node": "node-1", "cause": "bridge-netfilter-off", "confidence": "proven", "paths": 2,
                "place": "ClusterIPs of node-1", "since": "2026-11-30T20:00:00Z"
            }],
            "outages": [{"start": "2026-11-30T20:00:00Z", "cause": "bridge-netfilter-off", "node": "node-1"}],
            "skippedNodes": [{"node": "node-2", "reason": "it is cordoned"}]
        }
    })
}

#[test]
fn an_object_of_v1alpha1_parses_and_keeps_every_field_that_has_stayed() {
    let old = object_of_v1alpha1();
    let check: ConnectivityCheck = serde_json::from_value(old.clone()).unwrap();
    let written = serde_json::to_value(&check).unwrap();
    let mut kept = old["spec"].clone();
    for left in ["tolerations", "maxPairs"] {
        kept.as_object_mut().unwrap().remove(left);
    }
    assert_eq!(written["spec"], kept);
    let status = check.status.unwrap();
    assert_eq!(status.outages.len(), 1);
    assert_eq!(status.failing[0].node.as_deref(), Some("node-1"));
    // What is written again parses as the old version too, whose missing fields have defaults.
    let read_back: v1alpha1::ConnectivityCheckSpec =
        serde_json::from_value(written["spec"].clone()).unwrap();
    assert_eq!(read_back.max_pairs, 400);
    assert_eq!(read_back.confirm, check.spec.confirm);
}

#[test]
fn a_check_that_does_not_parse_is_kept_apart_with_its_name() {
    let mut wrong = object_of_v1alpha1();
    wrong["spec"]["interval"] = json!("soon");
    let list = json!([wrong, object_of_v1alpha1()]);
    let checks: Vec<DeserializeGuard<ConnectivityCheck>> = serde_json::from_value(list).unwrap();
    let error = checks[0].0.as_ref().unwrap_err();
    assert_eq!(error.metadata.name.as_deref(), Some("default"));
    assert!(error.error.contains("soon"), "{}", error.error);
    assert!(checks[1].0.is_ok());
}

proptest! {
    #[test]
    fn a_spec_of_v1alpha1_survives_as_v1beta1(
        peers in 0_i32..=16,
        seconds in 1_u64..3_600,
        failures in 1_i32..=10,
        lifetime in 60_u64..604_800,
        paused: bool,
        enabled: bool,
    ) {
        let old = v1alpha1::ConnectivityCheckSpec {
            peers_per_node: peers,
            interval: GoDuration::from_secs(seconds),
            confirm: Confirm { failures, of: 10 },
            agent_lifetime: GoDuration::from_secs(lifetime),
            node_condition: NodeConditionSpec { enabled },
            paused,
            ..serde_json::from_value(json!({})).unwrap()
        };
        let text = serde_json::to_string(&old).unwrap();
        let new: ConnectivityCheckSpec = serde_json::from_str(&text).unwrap();
        let back: v1alpha1::ConnectivityCheckSpec =
            serde_json::from_value(serde_json::to_value(&new).unwrap()).unwrap();
        prop_assert_eq!(back, old);
    }
}
