//! `prober run` on a real Kubernetes from start to end: healthy, with the br_netfilter fault, and ended in every way.

use std::process::{Child, Stdio};
use std::sync::Arc;

use libtest_mimic::{Failed, Trial};

use crate::cpu_load::CpuLoad;
use crate::harness::{Cluster, NFTABLES, Shape, USUAL, on, wait_until};
use crate::prober::{self, LABEL, nothing_left, signal};

/// Probes of a run that lasts until the test ends it.
const MANY: &str = "5000";

/// The tests that run with every `make test`: the br_netfilter fault of each family under both modes of kube-proxy, no diagnosis on
/// a healthy cluster, and complete removal.
pub(crate) fn essential() -> Vec<Trial> {
    let mut trials = Vec::new();
    for shape in [USUAL, NFTABLES] {
        trials.push(on(
            shape,
            "a healthy cluster has no diagnosis and nothing left",
            healthy,
        ));
        trials.push(bridge_netfilter_off(shape, "bridge-netfilter-off", "ipv4"));
        trials.push(bridge_netfilter_off(
            shape,
            "bridge-netfilter-off-v6",
            "ipv6",
        ));
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
        on(
            USUAL,
            "a second Ctrl-C leaves the removal to the cluster",
            left,
        ),
        on(
            USUAL,
            "the objects of a killed run are gone after the deadline",
            killed,
        ),
        on(
            USUAL,
            "two simultaneous runs do not affect each other",
            two_at_once,
        ),
        on(USUAL, "kubectl runs the program as its plugin", plugin),
        on(
            USUAL,
            "an interrupted log is read again and nothing is lost",
            resumed,
        ),
        on(USUAL, "a run on busy CPUs has no diagnosis", starved),
    ]
}

/// The fault of one family is proven on its node, and after healing the same run has no diagnosis.
fn bridge_netfilter_off(shape: Shape, fault: &'static str, family: &'static str) -> Trial {
    let name = format!("br_netfilter off for {family} alone is proven, and healed");
    on(shape, name, move |cluster| {
        let broken = cluster.inject(fault, "node-1", "")?;
        let report = prober::report(cluster, &["--node", "node-1"])?;
        broken.heal()?;
        report.names(&[("bridge-netfilter-off", "node-1")])?;
        if !report
            .confidences()
            .all(|confidence| confidence == "proven")
        {
            return Err("the cause is named but not proven".into());
        }
        report.shows_unreplied_entry("node-1")?;
        report.fails_only_on(family)?;
        prober::report(cluster, &["--node", "node-1"])?.names(&[])?;
        expect_no_objects(cluster)
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
    expect_no_objects(cluster)
}

/// Agents with too little CPU time are late and lose captured packets, which is no fault of the network.
fn starved(cluster: &Arc<Cluster>) -> Result<(), Failed> {
    let load = CpuLoad::on_all_cpus()?;
    for _ in 0..3 {
        let report = prober::report(cluster, &["--node", "node-1"])?;
        report.names(&[])?;
        report.fails_nowhere()?;
    }
    drop(load);
    expect_no_objects(cluster)
}

fn one_family(cluster: &Arc<Cluster>) -> Result<(), Failed> {
    let report = prober::report(cluster, &["--node", "node-1", "--family", "ipv6"])?;
    report.names(&[])?;
    report.probes("cluster-ip", "ipv6")?;
    if report.probes("cluster-ip", "ipv4").is_ok() {
        return Err("IPv4 was probed without being requested".into());
    }
    expect_no_objects(cluster)
}

/// Starts a run that lasts until it is ended, and waits for its pods.
fn start_long_run(cluster: &Arc<Cluster>, arguments: &[&str]) -> Result<Child, Failed> {
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
    let mut run = start_long_run(cluster, &[])?;
    signal(run.id(), "INT")?;
    run.wait()?;
    expect_no_objects(cluster)
}

fn left(cluster: &Arc<Cluster>) -> Result<(), Failed> {
    let mut run = start_long_run(cluster, &["--timeout", "20s"])?;
    // A finalizer on a pod blocks the removal.
    let add_finalizer = r#"{"metadata":{"finalizers":["prober.test/held"]}}"#;
    let pod = prober::await_running(cluster, "node-1-client")?;
    let patch = |what| cluster.kubectl(&["patch", "pod", &pod, "--type=merge", "-p", what]);
    patch(add_finalizer)?;
    let ended = signal(run.id(), "INT")
        .and_then(|()| {
            wait_until("the owner Job is being deleted", || {
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
    let mut run = start_long_run(cluster, &["--timeout", "20s"])?;
    run.kill()?;
    run.wait()?;
    if cluster.objects(LABEL)?.is_empty() {
        return Err("the run had created no objects".into());
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
    expect_no_objects(cluster)
}

/// A program of this name in PATH is a plugin of kubectl.
///
/// <https://kubernetes.io/docs/tasks/extend-kubectl/kubectl-plugins/>
fn plugin(cluster: &Arc<Cluster>) -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let program = prober::command().get_program().to_owned();
    std::os::unix::fs::symlink(program, folder.path().join("kubectl-prober"))?;
    let path = std::env::var("PATH").unwrap_or_default();
    let output = cluster
        .command("kubectl")
        .env("PATH", format!("{}:{path}", folder.path().display()))
        .args(["prober", "run", "--node", "node-9"])
        .output()?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    if output.status.code() == Some(2) && stderr.contains("node-9") {
        return Ok(());
    }
    Err(format!("{}: {stderr}", output.status).into())
}

/// When a kubelet ends, every followed log ends without an error.
fn resumed(cluster: &Arc<Cluster>) -> Result<(), Failed> {
    let run = prober::command_in(cluster)?
        .args(["run", "--node", "node-1", "--peers", "1"])
        // The run lasts until the kubelet has restarted.
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
    expect_no_objects(cluster)
}

/// Fails if an object of a run exists. After the end of a run none does, not even for a moment.
fn expect_no_objects(cluster: &Arc<Cluster>) -> Result<(), Failed> {
    let left = cluster.objects(LABEL)?;
    if left.is_empty() {
        return Ok(());
    }
    Err(format!("left behind: {left:?}").into())
}
