//! The generated definition and the example match the types.

use kube::CustomResourceExt as _;
use serde_json::{Value, json};

use super::*;

/// The generated definition.
const FILE: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../deploy/kustomize/crd/connectivitychecks.yaml"
);

fn schema() -> Value {
    serde_json::to_value(ConnectivityCheck::crd()).unwrap()
}

fn of_spec(field: &str) -> Value {
    schema()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
        [field]
        .clone()
}

fn definition() -> String {
    let yaml = serde_saphyr::to_string(&ConnectivityCheck::crd()).unwrap();
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
    assert_eq!(value["apiVersion"], format!("{GROUP}/v1alpha1"));
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
    assert_eq!(columns, ["Healthy", "Failing", "Coverage", "Cycle", "Age"]);
    assert_eq!(crd["spec"]["scope"], "Cluster");
    assert_eq!(crd["spec"]["names"]["shortNames"], json!(["cc"]));
}

#[test]
fn no_number_has_a_format_that_the_api_server_warns_about() {
    let text = schema().to_string();
    assert!(!text.contains("uint"), "{text}");
}
