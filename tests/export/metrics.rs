//! Metrics, sent to a real Collector.

use std::path::{Path, PathBuf};
use std::time::Duration;

use controller::telemetry::otlp_endpoint::{Protocol, Signal};
use controller::telemetry::sample::Sample;
use controller::telemetry::{Exporter, OtlpEndpoints};
use libtest_mimic::{Failed, Trial};
use prober_core::topology::NodeName;
use serde_json::Value;
use tokio::runtime::Runtime;

use crate::collector::{Collector, attribute, until};
use crate::samples::{CHECK, record, record_node};
use crate::traces::{LIMITS, same, target};

pub(crate) fn trials(program: &Path) -> Vec<Trial> {
    let trial = |name: &str, test: fn(&Path) -> Result<(), Failed>| {
        let program: PathBuf = program.to_owned();
        Trial::test(name, move || test(&program))
    };
    vec![
        trial("metrics arrive by gRPC", |program| {
            arrive(program, Protocol::Grpc)
        }),
        trial("metrics arrive by HTTP", |program| {
            arrive(program, Protocol::Http)
        }),
        trial("removed nodes are not exported any more", removed),
    ]
}

fn arrive(program: &Path, protocol: Protocol) -> Result<(), Failed> {
    let mut collector = Collector::new(program)?;
    collector.start()?;
    let runtime = Runtime::new()?;
    let targets = OtlpEndpoints {
        traces: None,
        metrics: Some(target(&collector, Signal::Metrics, protocol)),
    };
    let exporter = Exporter::start("prober-controller", &targets, LIMITS, runtime.handle())?;
    record(&exporter);
    runtime.block_on(exporter.flush(Duration::from_secs(30)));
    let got = until("nine metrics arrive", || {
        let got = collector.metrics();
        (got.len() >= 9).then_some(got)
    })?;
    let mut names: Vec<&str> = got
        .iter()
        .filter_map(|metric| metric["name"].as_str())
        .collect();
    names.sort_unstable();
    same(
        &names,
        &vec![
            "prober.agents",
            "prober.coverage",
            "prober.export.dropped",
            "prober.handshake.duration",
            "prober.handshakes",
            "prober.node.healthy",
            "prober.node.not_measured",
            "prober.outage",
            "prober.path.healthy",
        ],
    )?;
    let outage = got.iter().find(|metric| metric["name"] == "prober.outage");
    let outage = outage.map(|metric| &metric["gauge"]["dataPoints"][0]["attributes"]);
    for (key, value) in [
        ("k8s.node.name", "node-1"),
        ("prober.cause", "bridge-netfilter-off"),
        ("prober.confidence", "proven"),
    ] {
        let found = outage.and_then(|attributes| attribute(attributes, key));
        same(&found, &Some(&value.into()))?;
    }
    let durations = got
        .iter()
        .find(|metric| metric["name"] == "prober.handshake.duration");
    let points = durations.map(|metric| &metric["exponentialHistogram"]["dataPoints"][0]);
    same(&points.map(|point| &point["count"]), &Some(&"3".into()))
}

/// The nodes in a metric.
fn nodes(metric: &Value, kind: &str) -> Vec<String> {
    let points = metric[kind]["dataPoints"].as_array();
    let mut nodes: Vec<String> = points
        .into_iter()
        .flatten()
        .filter_map(|point| attribute(&point["attributes"], "k8s.node.name"))
        .filter_map(|name| name.as_str().map(str::to_owned))
        .collect();
    nodes.sort_unstable();
    nodes.dedup();
    nodes
}

fn removed(program: &Path) -> Result<(), Failed> {
    let mut collector = Collector::new(program)?;
    collector.start()?;
    let runtime = Runtime::new()?;
    let targets = OtlpEndpoints {
        traces: None,
        metrics: Some(target(&collector, Signal::Metrics, Protocol::Grpc)),
    };
    let exporter = Exporter::start("prober-controller", &targets, LIMITS, runtime.handle())?;
    let old: Vec<NodeName> = (0..40)
        .map(|place| NodeName::new(format!("old-{place}")))
        .collect();
    for node in &old {
        record_node(&exporter, node);
    }
    for node in &old {
        exporter.record(Sample::NodeRemoved {
            check: CHECK.into(),
            node: node.clone(),
        });
    }
    record_node(&exporter, &NodeName::new("new"));
    runtime.block_on(exporter.flush(Duration::from_secs(30)));
    // The histograms of removed nodes are sent in the background.
    until("the histograms of both arrive", || {
        let durations = |metric: &&Value| metric["name"] == "prober.handshake.duration";
        (collector.metrics().iter().filter(durations).count() == 2).then_some(())
    })?;
    collector.end()?;
    let got = collector.metrics();
    let nodes_in = |name: &'static str, kind: &'static str| {
        (got.iter().filter(move |metric| metric["name"] == name))
            .map(move |metric| nodes(metric, kind))
    };
    let only_new = vec!["new".to_owned()];
    for (name, kind) in [
        ("prober.handshakes", "sum"),
        ("prober.node.healthy", "gauge"),
        ("prober.path.healthy", "gauge"),
    ] {
        same(
            &nodes_in(name, kind).collect::<Vec<_>>(),
            &vec![only_new.clone()],
        )?;
    }
    // The replaced histogram was sent once more.
    let name = "prober.handshake.duration";
    let both: Vec<Vec<String>> = nodes_in(name, "exponentialHistogram").collect();
    same(&both.len(), &2)?;
    if !both.iter().any(|nodes| nodes.len() == old.len()) || !both.contains(&only_new) {
        return Err(format!("{name} has {both:?}").into());
    }
    Ok(())
}
