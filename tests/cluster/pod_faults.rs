//! Faults of a single pod of a run, injected as soon as the pod is running, while the run waits for the others.

use std::process::{Child, Stdio};
use std::sync::Arc;
use std::time::Duration;

use libtest_mimic::{Failed, Trial};

use crate::harness::{Cluster, Injected, PTP, USUAL, on};
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
        "a kube-proxy that is late by 2 s for the pods of a run is no fault",
        |cluster| late_kube_proxy(cluster, Duration::from_secs(2), &[], &[]),
    ));
    trials.push(on(
        USUAL,
        "a kube-proxy that is late by 30 s for the pods of a run is named",
        |cluster| late_kube_proxy(cluster, Duration::from_secs(30), &PATIENT, &LATE),
    ));
    for shape in [USUAL, PTP] {
        for late in [500, 2_000, 5_000].map(Duration::from_millis) {
            trials.push(on(
                shape,
                format!(
                    "a policy engine that is late by {late:?} for the pods of a run is no fault"
                ),
                move |cluster| late_policy_engine(cluster, late, &[], &[]),
            ));
        }
        trials.push(on(
            shape,
            "a policy engine that is late by 30 s for the pods of a run is named",
            |cluster| late_policy_engine(cluster, Duration::from_secs(30), &PATIENT, &LATE),
        ));
    }
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

/// The arguments of a run that waits for what is late by 30 s.
const PATIENT: [&str; 2] = ["--wait-for-paths", "60s"];

/// What such a run names.
const LATE: [(&str, &str); 1] = [("endpoint-not-programmed", "node-1")];

/// Runs while node-1 forwards nothing, until its client has run for as long as this: a policy engine that lets nothing through
/// before it knows a pod is late like that.
fn late_policy_engine(
    cluster: &Arc<Cluster>,
    late: Duration,
    arguments: &[&str],
    named: &[(&str, &str)],
) -> Result<(), Failed> {
    let closed = cluster.inject("forward-drop", "node-1", "")?;
    let run = spawn_run(cluster, &["--node", "node-1", "--peers", "1"], arguments)?;
    prober::await_running(cluster, "node-1-client")?;
    std::thread::sleep(late);
    closed.heal()?;
    let report = prober::read(&run.wait_with_output()?)?;
    report.names(named)?;
    nothing_left(cluster)
}

/// Runs while the kube-proxy of node-1 is stopped, from the start of a server until it is as late as this.
fn late_kube_proxy(
    cluster: &Arc<Cluster>,
    late: Duration,
    arguments: &[&str],
    named: &[(&str, &str)],
) -> Result<(), Failed> {
    let run = spawn_run(cluster, &["--node", "node-1", "--peers", "1"], arguments)?;
    prober::await_running(cluster, "node-2-server")?;
    let stopped = cluster.inject("stale-rules", "node-1", "")?;
    std::thread::sleep(late);
    stopped.heal()?;
    let report = prober::read(&run.wait_with_output()?)?;
    report.names(named)?;
    nothing_left(cluster)
}

/// Starts a run with a report in JSON.
fn spawn_run(cluster: &Arc<Cluster>, nodes: &[&str], arguments: &[&str]) -> Result<Child, Failed> {
    let mut command = prober::command_in(cluster)?;
    let command = command.arg("run").args(nodes).args(arguments);
    let piped = command
        .args(["-o", "json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    Ok(piped.spawn()?)
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
    let run = spawn_run(cluster, arguments, &[])?;
    let broken = inject(&prober::await_running(cluster, pod)?)?;
    let report = prober::read(&run.wait_with_output()?);
    // Healing fails if the pod is gone, and the fault with it.
    drop(broken.heal());
    report
}
