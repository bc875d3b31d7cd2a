//! A run on very many nodes, most of them fake: its requests and its report are bounded, and no path is missing.

use std::collections::{BTreeMap, BTreeSet};
use std::process::id;
use std::sync::Arc;
use std::time::Instant;

use libtest_mimic::{Failed, Trial};
use serde_json::Value;

use crate::harness::{Cluster, NFTABLES, Shape};
use crate::prober;

/// The number of fake nodes, beside two real ones.
const FAKE_NODES: u16 = 200;

/// The most requests for each agent: its pod is created and its log is opened, and it receives some plans. The rest is for
/// retries, and for what is shared.
///
/// Logs that are opened again are not counted: the kubelet of the fake nodes has an instance of inotify for each log that it
/// follows, of which Linux gives a user 128, and it ends the other logs at once.
const REQUESTS_PER_AGENT: usize = 5;

/// The most lines of the report as text, whatever the number of nodes.
const MAX_LINES: usize = 600;

pub(crate) fn trials() -> Vec<Trial> {
    vec![Trial::test(
        "a run on two hundred fake nodes has a bound, and leaves out no path",
        all,
    )]
}

fn all() -> Result<(), Failed> {
    let shape = Shape {
        fake_nodes: FAKE_NODES,
        ..NFTABLES
    };
    let cluster = Arc::new(Cluster::start(format!("test-large-{}", id()), shape)?);
    let folder = tempfile::tempdir()?;
    let json = folder.path().join("report.json");
    let destination = format!("json={}", json.display());
    let start = Instant::now();
    let output = prober::run(
        &cluster,
        &[
            "--all",
            "--peers",
            "1",
            "--timeout",
            "5m",
            "--probes",
            "10",
            "--report",
            &destination,
            "--count-requests",
        ],
    )?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    let requests: usize = errors
        .lines()
        .find_map(|line| {
            line.strip_prefix("note: ")?
                .strip_suffix(" requests to the API server")
        })
        .ok_or_else(|| format!("no count of requests: {errors}"))?
        .parse()?;
    let report: Value = serde_json::from_slice(&std::fs::read(&json)?)?;
    let nodes = usize::from(FAKE_NODES) + 2;
    let opened_logs = opened_logs(&cluster)?;
    println!(
        "{nodes} nodes: {requests} requests, of which {opened_logs} open a log; {} lines of text, exit status {:?}, {:.0} s",
        text.lines().count(),
        output.status.code(),
        start.elapsed().as_secs_f64()
    );
    let agents = nodes * 3;
    let (counted, most) = (
        requests - opened_logs.saturating_sub(agents),
        agents * REQUESTS_PER_AGENT,
    );
    if counted > most {
        return Err(format!("{counted} requests, of which {most} is the most").into());
    }
    if text.lines().count() > MAX_LINES {
        return Err(format!("{} lines: {text}", text.lines().count()).into());
    }
    every_node_is_reported(&report, nodes)?;
    prober::nothing_left(&cluster)
}

/// How many logs of pods were opened, from the metrics of the API server.
fn opened_logs(cluster: &Cluster) -> Result<usize, Failed> {
    let metrics = cluster.kubectl(&["get", "--raw", "/metrics"])?;
    let mut sum = 0;
    for line in metrics.lines() {
        let is_meant = line.starts_with("apiserver_request_total{")
            && line.contains("resource=\"pods\"")
            && line.contains("subresource=\"log\"");
        if let (true, Some((_, count))) = (is_meant, line.rsplit_once(' ')) {
            sum += count.parse::<usize>()?;
        }
    }
    Ok(sum)
}

/// Fails unless each node has paths of every kind, probed or not.
fn every_node_is_reported(report: &Value, nodes: usize) -> Result<(), Failed> {
    let mut reported: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for list in ["paths", "unprobed"] {
        for path in report[list].as_array().ok_or("no list of paths")? {
            let node = path["client"]["node"].as_str().unwrap_or_default();
            let access_path = path["access_path"].as_str().unwrap_or_default();
            reported.entry(node).or_default().insert(access_path);
        }
    }
    let silent: Vec<_> = reported
        .iter()
        .filter(|(_, kinds)| kinds.len() < 7)
        .collect();
    if reported.len() == nodes && silent.is_empty() {
        return Ok(());
    }
    Err(format!(
        "{} of {nodes} nodes are reported; not wholly: {silent:?}",
        reported.len()
    )
    .into())
}
