//! The samples of nodes that fail, recover, and are not measured.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use serde_json::json;
use tokio::runtime::Runtime;

use super::*;
use crate::canary::check_state::CheckState;
use crate::canary::controller::observer::Observer as _;
use crate::canary::test_cluster::{Cluster, node_name};
use crate::telemetry::metrics::{Exposition, expose};
use crate::telemetry::{Exporter, Limits, OtlpEndpoints};

/// A check of this spec.
fn check(spec: &serde_json::Value) -> CheckState {
    let check = serde_json::from_value(json!({
        "apiVersion": "prober.dev/v1beta1", "kind": "ConnectivityCheck", "metadata": {"name": "default"}, "spec": spec
    }));
    CheckState::new(&check.unwrap())
}

fn observe(state: &mut CheckState, cluster: &Cluster) {
    let (mut claimed, now) = (BTreeMap::new(), cluster.moment());
    state.observe("default", &cluster.inventory, &mut claimed, now);
}

/// The reasons in the samples of a check on this cluster.
fn not_measured(cluster: &Cluster, spec: &serde_json::Value) -> BTreeMap<String, &'static str> {
    let mut state = check(spec);
    observe(&mut state, cluster);
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

/// The time between two scrapes.
const INTERVAL: Duration = Duration::from_secs(15);

/// A cluster with its check, and the series of each scrape.
struct Scraped {
    cluster: Cluster,
    state: CheckState,
    exporter: Exporter,
    scrapes: Vec<BTreeMap<String, String>>,
    _runtime: Runtime,
}

impl Scraped {
    fn of(nodes: usize) -> Self {
        let runtime = Runtime::new().unwrap();
        let endpoints = OtlpEndpoints::default();
        let started = Exporter::start(
            "prober-controller",
            &endpoints,
            Limits::default(),
            runtime.handle(),
        );
        let exporter = started.unwrap();
        exporter.leads(true);
        Self {
            cluster: Cluster::of(nodes),
            state: check(&json!({})),
            exporter,
            scrapes: Vec::new(),
            _runtime: runtime,
        }
    }

    /// Lets scrape intervals pass.
    fn pass(&mut self, scrapes: usize) {
        for _ in 0..scrapes {
            self.cluster.pass(INTERVAL);
            observe(&mut self.state, &self.cluster);
            self.exporter.observe_states(&CheckStates {
                check: "default",
                state: &self.state,
            });
            let text = expose(self.exporter.metrics(), Exposition::Text).unwrap();
            let text = String::from_utf8(text).unwrap();
            let read = ["prober_outage", "prober_node_not_measured", "prober_leader"];
            let lines = text
                .lines()
                .filter(|line| read.iter().any(|name| line.starts_with(name)));
            let series = lines.filter_map(|line| line.rsplit_once(' '));
            self.scrapes.push(
                series
                    .map(|(key, value)| (key.to_owned(), value.to_owned()))
                    .collect(),
            );
        }
    }

    /// The scrapes as input of promtool, in which a series that is not there any more is stale.
    fn recording(&self) -> String {
        let mut text = format!("interval: {}s\ninput_series:\n", INTERVAL.as_secs());
        let keys: BTreeSet<&String> = self.scrapes.iter().flat_map(BTreeMap::keys).collect();
        for key in keys {
            let mut had = false;
            let values = self.scrapes.iter().map(|scrape| {
                let absent = if had { "stale" } else { "_" };
                had = scrape.contains_key(key);
                scrape.get(key).map_or(absent, String::as_str)
            });
            let values: Vec<&str> = values.collect();
            let runs = values.chunk_by(|one, next| one == next);
            let runs: Vec<String> = runs.map(run).collect();
            let values = runs.join(" ");
            let entry = format!("  - series: '{key}'\n    values: {values}\n");
            text.push_str(&entry);
        }
        text
    }
}

/// Equal values in a row, in the notation of promtool.
fn run(values: &[&str]) -> String {
    match (values[0], values.len()) {
        ("_", count) => format!("_x{count}"),
        (value, 1) => value.to_owned(),
        (value, count) => format!("{value}x{}", count - 1),
    }
}

/// Ten nodes at a time lose their power, are not Ready, and return; the kubelet of one of each ten takes two minutes to
/// start pods.
#[test]
fn the_recording_of_a_rolling_reboot_is_that_of_the_alerts() {
    let mut scraped = Scraped::of(200);
    scraped.pass(1);
    for first in (0..200).step_by(10) {
        let slow = first + 3;
        for node in first..first + 10 {
            scraped.cluster.lose_power(node);
            scraped.cluster.set_node_ready(node, false);
        }
        scraped.cluster.stop_kubelet(slow);
        scraped.pass(3);
        for node in first..first + 10 {
            scraped.cluster.restart_pods(node);
            scraped.cluster.set_node_ready(node, true);
        }
        scraped.pass(1);
        if let Some(earlier) = slow.checked_sub(20) {
            scraped.cluster.start_kubelet(earlier);
        }
    }
    let recorded = scraped.recording();
    assert!(recorded.contains("pod-does-not-run"), "some start late");
    assert!(!recorded.contains("prober_outage"));
    let file = "../tests/export/recordings/rolling-reboot.yaml";
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    if std::env::var_os("PROBER_WRITE_RECORDING").is_some() {
        std::fs::write(&file, &recorded).unwrap();
    }
    let known = std::fs::read_to_string(&file).unwrap();
    assert!(
        known == recorded,
        "PROBER_WRITE_RECORDING=1 writes {file:?}"
    );
}
