//! Faults of a single pod of a run, injected as soon as the pod is running, while the run waits for the others.

use std::process::{Child, Stdio};
use std::sync::Arc;

use libtest_mimic::{Failed, Trial};

use crate::harness::{Cluster, Injected, USUAL, on};
use crate::prober::{self, Report, nothing_left};

/// A fault of the server on node-2, and the cause that the report must name there.
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
                let report = report_with_fault(cluster, fault, "node-2-server", &arguments)?;
                report.names(&[(cause, "node-2")])?;
                nothing_left(cluster)
            })
        })
        .collect();
    trials.push(on(
        USUAL,
        "one broken endpoint of twelve on three nodes is named",
        one_of_twelve,
    ));
    trials
}

fn one_of_twelve(cluster: &Arc<Cluster>) -> Result<(), Failed> {
    let arguments = ["--node", "node-1", "--servers", "4", "--probes", "20"];
    let report = report_with_fault(cluster, "network-policy", "node-2-server-3", &arguments)?;
    report.names(&[("network-policy", "node-2")])?;
    for server in report.failing_servers() {
        if server.is_none_or(|pod| !pod.ends_with("node-2-server-3")) {
            return Err(format!("a path to {server:?} fails").into());
        }
    }
    nothing_left(cluster)
}

/// Runs with a fault of one pod of node-2, injected before the pod is probed, and returns the report.
fn report_with_fault(
    cluster: &Arc<Cluster>,
    fault: &str,
    pod: &str,
    arguments: &[&str],
) -> Result<Report, Failed> {
    report_from(cluster, pod, arguments, |pod| {
        cluster.inject(fault, "node-2", &format!("default/{pod}"))
    })
}

/// Runs with a fault that is injected as soon as a pod with this end of its name is running, and returns the report.
pub(crate) fn report_from<'a>(
    cluster: &Arc<Cluster>,
    pod: &str,
    arguments: &[&str],
    inject: impl FnOnce(&str) -> Result<Injected<'a>, Failed>,
) -> Result<Report, Failed> {
    let run: Child = prober::command_in(cluster)?
        .arg("run")
        .args(arguments)
        .args(["-o", "json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let broken = inject(&prober::await_running(cluster, pod)?)?;
    let report = prober::read(&run.wait_with_output()?);
    // Healing fails if the pod is gone, and the fault with it.
    drop(broken.heal());
    report
}
