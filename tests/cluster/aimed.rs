//! Faults of a single pod of the run, made as soon as it runs: while the run still waits for the others.

use std::process::{Child, Stdio};
use std::sync::Arc;

use libtest_mimic::{Failed, Trial};

use crate::harness::{Cluster, USUAL, on};
use crate::prober::{self, Report, nothing_left};

/// A fault of the server on node-2, and what must be named there.
const ROWS: &[(&str, &str)] = &[
    ("network-policy", "network-policy"),
    ("policy-reject-reset", "reject-reset"),
    ("endpoint-frozen", "endpoint-frozen"),
    ("pod-veth-down", "stale-endpoint"),
];

pub(crate) fn trials() -> Vec<Trial> {
    let mut trials: Vec<Trial> = ROWS
        .iter()
        .map(|(fault, cause)| {
            let name = format!("{fault} of one pod is named {cause}");
            on(USUAL, name, |cluster| {
                let arguments = ["--node", "node-1", "--peers", "1"];
                let report = broken(cluster, fault, "node-2-server", &arguments)?;
                report.names(&[(cause, "node-2")])?;
                nothing_left(cluster)
            })
        })
        .collect();
    trials.push(on(
        USUAL,
        "one bad endpoint of twelve over three nodes is pinned",
        one_of_twelve,
    ));
    trials
}

fn one_of_twelve(cluster: &Arc<Cluster>) -> Result<(), Failed> {
    let arguments = ["--node", "node-1", "--servers", "4", "--probes", "20"];
    let report = broken(cluster, "network-policy", "node-2-server-3", &arguments)?;
    report.names(&[("network-policy", "node-2")])?;
    for server in report.failing_servers() {
        if server.is_none_or(|pod| !pod.ends_with("node-2-server-3")) {
            return Err(format!("a path to {server:?} fails").into());
        }
    }
    nothing_left(cluster)
}

/// The report of a run of whose pods one is broken before it is probed.
fn broken(
    cluster: &Arc<Cluster>,
    fault: &str,
    pod: &str,
    arguments: &[&str],
) -> Result<Report, Failed> {
    let run: Child = prober::command_in(cluster)?
        .arg("run")
        .args(arguments)
        .args(["-o", "json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let aim = format!("default/{}", prober::await_running(cluster, pod)?);
    let broken = cluster.inject(fault, "node-2", &aim)?;
    let report = prober::read(&run.wait_with_output()?);
    // What it broke of the pod is gone with the pod.
    drop(broken.heal());
    report
}
