//! `prober run` on a real Kubernetes, from start to end: healthy, broken as in the founding incident, and left in every way.

use std::process::{Child, Stdio};
use std::sync::Arc;

use libtest_mimic::{Failed, Trial};

use crate::busy::Busy;
use crate::harness::{Cluster, NFTABLES, Shape, USUAL, on, wait_until};
use crate::prober::{self, LABEL, nothing_left, signal};

/// Probes of a run that is to last until somebody steps in.
const MANY: &str = "5000";

/// What no change may break: the founding fault of each family under both modes of kube-proxy, silence while nothing is
/// broken, and nothing left behind.
pub(crate) fn essential() -> Vec<Trial> {
    let mut trials = Vec::new();
    for shape in [USUAL, NFTABLES] {
        trials.push(on(
            shape,
            "a healthy cluster has nothing named and nothing left",
            healthy,
        ));
        trials.push(founding(shape, "bridge-netfilter-off", "ipv4"));
        trials.push(founding(shape, "bridge-netfilter-off-v6", "ipv6"));
    }
    trials.push(on(
        USUAL,
        "Ctrl-C removes everything before it ends",
        interrupted,
    ));
    trials
}

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        on(
            USUAL,
            "a run of one family probes that family alone",
            one_family,
        ),
        on(USUAL, "a second Ctrl-C leaves it to the cluster", left),
        on(
            USUAL,
            "what a killed run leaves is gone by the deadline",
            killed,
        ),
        on(USUAL, "two runs at once do not see each other", two_at_once),
        on(USUAL, "kubectl runs the program as its plugin", plugin),
        on(
            USUAL,
            "a log that breaks is read again and nothing is lost",
            resumed,
        ),
        on(
            USUAL,
            "where every processor is wanted nothing is named",
            starved,
        ),
    ]
}

/// The fault of one family is named on its node, proven, and after the fix the same run is clean.
fn founding(shape: Shape, fault: &'static str, family: &'static str) -> Trial {
    let name = format!("the founding fault on {family} alone is proven, and mended");
    on(shape, name, move |cluster| {
        let broken = cluster.inject(fault, "node-1", "")?;
        let report = prober::report(cluster, &["--node", "node-1"])?;
        broken.heal()?;
        report.names(&[("bridge-netfilter-off", "node-1")])?;
        if !report
            .confidences()
            .all(|confidence| confidence == "proven")
        {
            return Err("it is named and not proven".into());
        }
        report.fails_only_on(family)?;
        prober::report(cluster, &["--node", "node-1"])?.names(&[])?;
        left_nothing(cluster)
    })
}

fn healthy(cluster: &Arc<Cluster>) -> Result<(), Failed> {
    let report = prober::report(cluster, &["--all"])?;
    report.names(&[])?;
    for family in ["ipv4", "ipv6"] {
        for access_path in [
            "pod-ip",
            "cluster-ip",
            "cluster-ip-any",
            "cluster-ip-local",
            "hairpin",
            "node-port",
            "host-network",
        ] {
            report.probes(access_path, family)?;
        }
    }
    left_nothing(cluster)
}

/// Agents that get too little of their processors are late and lose packets of their captures: no fault of the network.
fn starved(cluster: &Arc<Cluster>) -> Result<(), Failed> {
    let busy = Busy::everywhere()?;
    for _ in 0..3 {
        let report = prober::report(cluster, &["--node", "node-1"])?;
        report.names(&[])?;
        report.fails_nowhere()?;
    }
    drop(busy);
    left_nothing(cluster)
}

fn one_family(cluster: &Arc<Cluster>) -> Result<(), Failed> {
    let report = prober::report(cluster, &["--node", "node-1", "--family", "ipv6"])?;
    report.names(&[])?;
    report.probes("cluster-ip", "ipv6")?;
    if report.probes("cluster-ip", "ipv4").is_ok() {
        return Err("IPv4 was probed unasked".into());
    }
    left_nothing(cluster)
}

/// A run that goes on until it is ended, once its pods are there.
fn long(cluster: &Arc<Cluster>, arguments: &[&str]) -> Result<Child, Failed> {
    let child = prober::command_in(cluster)?
        .args(["run", "--node", "node-1", "--probes", MANY])
        .args(arguments)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    prober::await_running(cluster, "node-1-client")?;
    Ok(child)
}

fn interrupted(cluster: &Arc<Cluster>) -> Result<(), Failed> {
    let mut run = long(cluster, &[])?;
    signal(run.id(), "INT")?;
    run.wait()?;
    left_nothing(cluster)
}

fn left(cluster: &Arc<Cluster>) -> Result<(), Failed> {
    let mut run = long(cluster, &["--timeout", "10s"])?;
    // Nothing can go while somebody holds a pod.
    let held = r#"{"metadata":{"finalizers":["prober.test/held"]}}"#;
    let pod = prober::await_running(cluster, "node-1-client")?;
    let patch = |what| cluster.kubectl(&["patch", "pod", &pod, "--type=merge", "-p", what]);
    patch(held)?;
    let ended = signal(run.id(), "INT")
        .and_then(|()| {
            wait_until("the anchor is being deleted", || {
                let jobs = [
                    "get",
                    "jobs",
                    "-A",
                    "-l",
                    LABEL,
                    "-o",
                    "jsonpath={.items[*].metadata.deletionTimestamp}",
                ];
                Ok(!cluster.kubectl(&jobs)?.is_empty())
            })
        })
        .and_then(|()| signal(run.id(), "INT"));
    let ended = ended.and_then(|()| Ok(run.wait()?));
    patch(r#"{"metadata":{"finalizers":null}}"#)?;
    ended?;
    nothing_left(cluster)
}

fn killed(cluster: &Arc<Cluster>) -> Result<(), Failed> {
    let mut run = long(cluster, &["--timeout", "10s"])?;
    run.kill()?;
    run.wait()?;
    if cluster.objects(LABEL)?.is_empty() {
        return Err("nothing was there to be left behind".into());
    }
    nothing_left(cluster)
}

fn two_at_once(cluster: &Arc<Cluster>) -> Result<(), Failed> {
    let other = Arc::clone(cluster);
    let other = std::thread::spawn(move || {
        prober::report(&other, &["--node", "node-2"]).and_then(|report| report.names(&[]))
    });
    let own = prober::report(cluster, &["--node", "node-1"]).and_then(|report| report.names(&[]));
    other.join().map_err(|_| "the other run panicked")??;
    own?;
    left_nothing(cluster)
}

/// A file of the plugin's name in PATH is all that kubectl wants.
///
/// <https://kubernetes.io/docs/tasks/extend-kubectl/kubectl-plugins/>
fn plugin(cluster: &Arc<Cluster>) -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let program = prober::command().get_program().to_owned();
    std::os::unix::fs::symlink(program, folder.path().join("kubectl-prober"))?;
    let usual = std::env::var("PATH").unwrap_or_default();
    let output = cluster
        .command("kubectl")
        .env("PATH", format!("{}:{usual}", folder.path().display()))
        .args(["prober", "run", "--node", "node-9"])
        .output()?;
    let told = String::from_utf8_lossy(&output.stderr);
    if output.status.code() == Some(2) && told.contains("node-9") {
        return Ok(());
    }
    Err(format!("{}: {told}", output.status).into())
}

/// A kubelet that ends takes every followed log along, without an error.
fn resumed(cluster: &Arc<Cluster>) -> Result<(), Failed> {
    let run = prober::command_in(cluster)?
        .args(["run", "--node", "node-1", "--peers", "1"])
        // Long enough for a kubelet to be back.
        .args(["--probes", "2000", "-o", "json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    prober::await_running(cluster, "node-1-client")?;
    cluster.on_node("node-1", &["sh", "-c", "kill $(pidof kubelet)"])?;
    let output = run.wait_with_output()?;
    let report: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    if report["completion"] != "complete" || output.status.code() != Some(0) {
        return Err(format!(
            "{}, {}: {} {} {}",
            output.status,
            report["completion"],
            report["notes"],
            report["diagnoses"],
            report["agents"]
        )
        .into());
    }
    left_nothing(cluster)
}

/// Not even for a moment after the end of a run is anything there.
fn left_nothing(cluster: &Arc<Cluster>) -> Result<(), Failed> {
    let left = cluster.objects(LABEL)?;
    if left.is_empty() {
        return Ok(());
    }
    Err(format!("left behind: {left:?}").into())
}
