//! What a run says where it cannot be done, or not wholly: each in its own words, and never as a fault of the network.

use std::process::{Output, Stdio};
use std::sync::Arc;

use libtest_mimic::{Failed, Trial};

use crate::harness::{Cluster, ENFORCED, USUAL, on, wait_until};
use crate::prober::{self, LABEL};

/// Probes of a run that is to last until somebody has stepped in.
const MANY: &str = "5000";

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        Trial::test("an API server that is not there is named", unreachable),
        on(USUAL, "a node that does not exist is guessed", missing_node),
        on(USUAL, "a cordoned node is probed, and it is said", cordoned),
        on(USUAL, "a tainted node is probed, and it is said", tainted),
        on(USUAL, "an image that cannot be had is named", no_image),
        on(USUAL, "a quota that is used up is named", quota),
        on(USUAL, "a restricted namespace admits tier T0", restricted),
        on(USUAL, "a baseline namespace admits no node facts", baseline),
        on(USUAL, "a NetworkPolicy that closes is named", closed),
        Trial::test(
            "what an enforced NetworkPolicy holds up is its doing",
            enforced,
        ),
        on(
            USUAL,
            "a user without rights is told which, and what grants them",
            no_rights,
        ),
        on(
            USUAL,
            "a node without room is no fault of the network",
            no_room,
        ),
        on(
            USUAL,
            "a pod that is deleted in the middle ends the run",
            deleted,
        ),
        on(
            USUAL,
            "a node that is drained in the middle ends the run",
            drained,
        ),
        on(
            USUAL,
            "a kubelet that hangs starts no pod, and it is said",
            no_kubelet,
        ),
        on(USUAL, "a node that is NotReady is not probed", not_ready),
        on(
            USUAL,
            "an API server that goes away in the middle ends the run",
            no_server,
        ),
        on(
            USUAL,
            "what was kept is left alone by a clean that does not name it",
            kept,
        ),
        on(USUAL, "what has lost its anchor is cleaned", orphaned),
    ]
}

/// Runs, and fails unless the status is this and all the words are said on either output.
fn says(
    cluster: &Arc<Cluster>,
    arguments: &[&str],
    status: i32,
    words: &[&str],
) -> Result<Output, Failed> {
    let output = prober::run(cluster, arguments)?;
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    // What is wrapped for reading is still the same sentence.
    let said_in_one = said.split_whitespace().collect::<Vec<_>>().join(" ");
    if output.status.code() == Some(status) && words.iter().all(|word| said_in_one.contains(word)) {
        return Ok(output);
    }
    Err(format!(
        "{arguments:?} ended with {:?}, expected {status} and the words {words:?}:\n{said}",
        output.status.code()
    )
    .into())
}

/// The same, and nothing of a run is there afterwards.
fn says_and_leaves_nothing(
    cluster: &Arc<Cluster>,
    arguments: &[&str],
    status: i32,
    words: &[&str],
) -> Result<(), Failed> {
    says(cluster, arguments, status, words)?;
    prober::nothing_left(cluster)
}

/// A namespace for one test.
struct Namespace<'a> {
    cluster: &'a Cluster,
    name: String,
}

impl<'a> Namespace<'a> {
    fn new(cluster: &'a Cluster, name: &str, labels: &str) -> Result<Self, Failed> {
        cluster.apply(&format!(
            "apiVersion: v1\nkind: Namespace\nmetadata: {{name: {name}, labels: {{{labels}}}}}\n"
        ))?;
        wait_until("the namespace has its service account", || {
            let account = ["get", "serviceaccount", "default", "-n", name];
            Ok(cluster.kubectl(&account).is_ok())
        })?;
        Ok(Self {
            cluster,
            name: name.to_owned(),
        })
    }
}

impl Drop for Namespace<'_> {
    fn drop(&mut self) {
        if let Err(failed) = self.cluster.kubectl(&["delete", "namespace", &self.name]) {
            eprintln!("{}: {}", self.name, failed.message().unwrap_or_default());
        }
    }
}

/// Something that is undone at the end of a test, however that ends.
struct Undo<F: FnMut() -> Result<(), Failed>>(F);

impl<F: FnMut() -> Result<(), Failed>> Drop for Undo<F> {
    fn drop(&mut self) {
        if let Err(failed) = (self.0)() {
            eprintln!("undo: {}", failed.message().unwrap_or_default());
        }
    }
}

fn unreachable() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let kubeconfig = folder.path().join("kubeconfig");
    // Nobody listens on the discard port of loopback.
    std::fs::write(
        &kubeconfig,
        prober::kubeconfig("https://127.0.0.1:9", "x", None),
    )?;
    let kubeconfig = kubeconfig.to_string_lossy().into_owned();
    let output = prober::command()
        .args(["run", "--node", "node-1", "--kubeconfig", &kubeconfig])
        .output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    let is_told =
        said.contains("https://127.0.0.1:9 could not be reached") && said.contains("refused");
    if output.status.code() == Some(2) && is_told {
        return Ok(());
    }
    Err(format!("{:?}: {said}", output.status).into())
}

fn missing_node(cluster: &Arc<Cluster>) -> Result<(), Failed> {
    let words = ["there is no node \"nod-2\"", "did you mean node-2?"];
    says_and_leaves_nothing(cluster, &["--node", "nod-2"], 2, &words)
}

fn cordoned(cluster: &Arc<Cluster>) -> Result<(), Failed> {
    cluster.kubectl(&["cordon", "node-2"])?;
    let _undo = Undo(|| cluster.kubectl(&["uncordon", "node-2"]).map(drop));
    let words = ["node-2 is cordoned: probed all the same"];
    says_and_leaves_nothing(cluster, &["--node", "node-2"], 0, &words)
}

fn tainted(cluster: &Arc<Cluster>) -> Result<(), Failed> {
    cluster.kubectl(&["taint", "node", "node-2", "dedicated=gpu:NoSchedule"])?;
    let _undo = Undo(|| {
        let untaint = ["taint", "node", "node-2", "dedicated=gpu:NoSchedule-"];
        cluster.kubectl(&untaint).map(drop)
    });
    let words = ["node-2 is tainted dedicated=gpu:NoSchedule: probed all the same"];
    says_and_leaves_nothing(cluster, &["--node", "node-2"], 0, &words)
}

fn no_image(cluster: &Arc<Cluster>) -> Result<(), Failed> {
    let arguments = [
        "--node",
        "node-1",
        "--image",
        "registry.invalid/prober-agent:0",
    ];
    let words = ["registry.invalid/prober-agent:0", "cannot get the image"];
    says_and_leaves_nothing(cluster, &arguments, 2, &words)
}

fn quota(cluster: &Arc<Cluster>) -> Result<(), Failed> {
    let namespace = Namespace::new(cluster, "quota", "")?;
    cluster.apply(
        "apiVersion: v1\nkind: ResourceQuota\nmetadata: {name: few, namespace: quota}\nspec: {hard: {pods: 0}}\n",
    )?;
    wait_until("the quota is in force", || {
        let hard = [
            "get",
            "quota",
            "few",
            "-n",
            "quota",
            "-o",
            "jsonpath={.status.hard.pods}",
        ];
        Ok(cluster.kubectl(&hard)? == "0")
    })?;
    let arguments = ["--node", "node-1", "-n", &namespace.name];
    let words = ["not admitted in namespace quota", "exceeded quota: few"];
    says_and_leaves_nothing(cluster, &arguments, 2, &words)
}

fn restricted(cluster: &Arc<Cluster>) -> Result<(), Failed> {
    let enforced = "pod-security.kubernetes.io/enforce: restricted";
    let namespace = Namespace::new(cluster, "restricted", enforced)?;
    let arguments = ["--node", "node-1", "-n", &namespace.name];
    let words = ["tier T0: no agent sees packets", "Pod Security restricted"];
    says_and_leaves_nothing(cluster, &arguments, 0, &words)?;
    let required = [&arguments[..], &["--require-tier", "T1"]].concat();
    says_and_leaves_nothing(cluster, &required, 2, &["evidence of tier T1 was required"])
}

fn baseline(cluster: &Arc<Cluster>) -> Result<(), Failed> {
    let enforced = "pod-security.kubernetes.io/enforce: baseline";
    let namespace = Namespace::new(cluster, "baseline", enforced)?;
    let arguments = ["--node", "node-1", "-n", &namespace.name];
    let words = ["no node facts", "host namespaces (hostNetwork=true)"];
    let required = [&arguments[..], &["--require-tier", "T1"]].concat();
    says_and_leaves_nothing(cluster, &required, 0, &words)?;
    let fault = cluster.inject("bridge-netfilter-off", "node-1", "")?;
    let broken = prober::report(cluster, &arguments)?;
    fault.heal()?;
    broken.names(&[("bridge-netfilter-off", "node-1")])?;
    if broken
        .confidences()
        .any(|confidence| confidence != "consistent")
    {
        return Err(format!("proven without node facts: {broken:?}").into());
    }
    let always = [&arguments[..], &["--node-facts", "always"]].concat();
    says_and_leaves_nothing(cluster, &always, 2, &["node facts were required"])
}

/// For the namespace `closed`.
const DEFAULT_DENY: &str = "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\n\
    metadata: {name: default-deny, namespace: closed}\nspec: {podSelector: {}, policyTypes: [Ingress, Egress]}\n";

fn closed(cluster: &Arc<Cluster>) -> Result<(), Failed> {
    let namespace = Namespace::new(cluster, "closed", "")?;
    cluster.apply(DEFAULT_DENY)?;
    let arguments = ["--node", "node-1", "-n", &namespace.name];
    // Flannel enforces none: the run is healthy all the same.
    let words =
        ["NetworkPolicy default-deny in namespace closed closes the agents' ingress and egress"];
    says_and_leaves_nothing(cluster, &arguments, 0, &words)
}

fn enforced() -> Result<(), Failed> {
    let name = format!("test-enforced-{}", std::process::id());
    let cluster = &Arc::new(Cluster::start(name, ENFORCED)?);
    let open = Namespace::new(cluster, "open", "")?;
    says_and_leaves_nothing(cluster, &["--node", "node-1", "-n", &open.name], 0, &[])?;
    let closed = Namespace::new(cluster, "closed", "")?;
    cluster.apply(DEFAULT_DENY)?;
    let report = prober::report(cluster, &["--node", "node-1", "-n", &closed.name])?;
    report.names(&[("network-policy", "")])?;
    if let Some(one) = (report.diagnoses.iter()).find(|one| one.node.is_some()) {
        return Err(format!("it is no node's doing: {one:?}").into());
    }
    if report.confidences().any(|one| one != "consistent") {
        return Err("nobody says that policies are enforced, and yet it is proven".into());
    }
    prober::nothing_left(cluster)
}

fn no_rights(cluster: &Arc<Cluster>) -> Result<(), Failed> {
    let namespace = Namespace::new(cluster, "rights", "")?;
    let token = cluster.kubectl(&["create", "token", "default", "-n", "rights"])?;
    let server = "jsonpath={.clusters[0].cluster.server}";
    let server = cluster.kubectl(&["config", "view", "--minify", "-o", server])?;
    let ca = "jsonpath={.clusters[0].cluster.certificate-authority-data}";
    let ca = cluster.kubectl(&["config", "view", "--raw", "--flatten", "--minify", "-o", ca])?;
    let folder = tempfile::tempdir()?;
    let kubeconfig = folder.path().join("kubeconfig");
    std::fs::write(
        &kubeconfig,
        prober::kubeconfig(&server, token.trim(), Some(&ca)),
    )?;
    let kubeconfig = kubeconfig.to_string_lossy().into_owned();
    let arguments = [
        "--node",
        "node-1",
        "-n",
        &namespace.name,
        "--kubeconfig",
        &kubeconfig,
    ];
    let words = [
        "system:serviceaccount:rights:default may not do all",
        "create, delete, list, patch, watch jobs.batch",
        "get pods/log",
        "get, list nodes (of the whole cluster)",
    ];
    let refused = says(cluster, &arguments, 2, &words)?;
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    let from = said.find("apiVersion:").ok_or("no YAML")?;
    let to = said.rfind("\nhint:").unwrap_or(said.len());
    let grant = &said[from..to];
    let _undo = Undo(|| {
        let roles = [
            "delete",
            "clusterrole,clusterrolebinding",
            "prober-run-rights",
        ];
        cluster.kubectl(&roles).map(drop)
    });
    cluster.apply(grant)?;
    wait_until("what was granted is known", || {
        let may = [
            "auth",
            "can-i",
            "list",
            "nodes",
            "--as",
            "system:serviceaccount:rights:default",
        ];
        Ok(cluster.kubectl(&may).is_ok())
    })?;
    says_and_leaves_nothing(cluster, &arguments, 0, &[])
}

fn no_room(cluster: &Arc<Cluster>) -> Result<(), Failed> {
    let free = "jsonpath={.status.allocatable.cpu}";
    let cpus = cluster.kubectl(&["get", "node", "node-2", "-o", free])?;
    let namespace = Namespace::new(cluster, "full", "")?;
    // A pod that may take all but a hundredth of what the node has; what is there already makes up the rest.
    let cpus: u32 = cpus.parse()?;
    let _undo = Undo(|| {
        cluster
            .kubectl(&["delete", "pod", "hog", "-n", "full", "--now"])
            .map(drop)
    });
    cluster.apply(&format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: hog, namespace: full}}\nspec:\n  nodeSelector: \
         {{kubernetes.io/hostname: node-2}}\n  containers:\n  - {{name: hog, image: 'prober.dev/bench/box:1', \
         imagePullPolicy: Never, command: [/box, serve, '8080', hog], resources: {{requests: {{cpu: {}m}}}}}}\n",
        cpus * 1000 - 10
    ))?;
    cluster.kubectl(&[
        "wait",
        "pod/hog",
        "-n",
        "full",
        "--for=condition=Ready",
        "--timeout=60s",
    ])?;
    let arguments = ["--node", "node-2", "-n", &namespace.name];
    says_and_leaves_nothing(cluster, &arguments, 2, &["node-2", "Insufficient cpu"])
}

fn deleted(cluster: &Arc<Cluster>) -> Result<(), Failed> {
    let words = ["deleted"];
    interrupted(
        cluster,
        &["--node", "node-1", "--probes", MANY],
        &words,
        || {
            let pods = cluster.kubectl(&["get", "pods", "-l", LABEL, "-o", "name"])?;
            let server = pods.lines().find(|pod| pod.contains("node-1-server"));
            let server = server.ok_or("the server of node-1 is not there")?;
            cluster
                .kubectl(&["delete", server, "--wait=false"])
                .map(drop)
        },
    )?;
    prober::nothing_left(cluster)
}

fn drained(cluster: &Arc<Cluster>) -> Result<(), Failed> {
    let mut undo = None;
    interrupted(
        cluster,
        &["--node", "node-1", "--probes", MANY],
        &["EvictionByEvictionAPI"],
        || {
            undo = Some(Undo(|| cluster.kubectl(&["uncordon", "node-1"]).map(drop)));
            let drain = ["drain", "node-1", "--force", "--pod-selector", LABEL];
            cluster.kubectl(&drain).map(drop)
        },
    )?;
    drop(undo);
    prober::nothing_left(cluster)
}

fn no_kubelet(cluster: &Arc<Cluster>) -> Result<(), Failed> {
    cluster.node(&["pause", "node-2"])?;
    let undo = Undo(|| cluster.node(&["resume", "node-2"]));
    let arguments = ["--node", "node-2", "--timeout", "15s"];
    let told = says(
        cluster,
        &arguments,
        2,
        &["the kubelet of node-2 has not begun with it"],
    );
    drop(undo);
    told?;
    // The pods of a kubelet that hung go when it is back.
    prober::nothing_left(cluster)
}

fn not_ready(cluster: &Arc<Cluster>) -> Result<(), Failed> {
    cluster.node(&["pause", "node-2"])?;
    let undo = Undo(|| cluster.node(&["resume", "node-2"]));
    let ready = r#"jsonpath={.status.conditions[?(@.type=="Ready")].status}"#;
    let is = |status: &str| Ok(cluster.kubectl(&["get", "node", "node-2", "-o", ready])? == status);
    wait_until("node-2 is missed", || is("Unknown"))?;
    let words = ["node node-2 is NotReady (Kubelet stopped posting node status)"];
    let told = says_and_leaves_nothing(cluster, &["--node", "node-2"], 2, &words);
    drop(undo);
    wait_until("node-2 is back", || is("True"))?;
    told
}

fn no_server(cluster: &Arc<Cluster>) -> Result<(), Failed> {
    let server = prober::api_server(cluster)?;
    let arguments = ["--node", "node-1", "--probes", MANY, "--timeout", "20s"];
    let resume = || prober::signal(server, "CONT");
    let mut undo = None;
    interrupted(cluster, &arguments, &["API server"], || {
        prober::signal(server, "STOP")?;
        undo = Some(Undo(resume));
        Ok(())
    })?;
    drop(undo);
    // Nobody could tell it to remove anything: the anchor's deadline does.
    prober::nothing_left(cluster)
}

/// Runs, steps in once the agents are at work, and fails unless that ends it with exit status 2 and these words.
fn interrupted(
    cluster: &Arc<Cluster>,
    arguments: &[&str],
    words: &[&str],
    step_in: impl FnOnce() -> Result<(), Failed>,
) -> Result<(), Failed> {
    let mut command = prober::command_in(cluster)?;
    command.arg("run").args(arguments);
    let child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    prober::await_running(cluster, "node-1-client")?;
    step_in()?;
    let output = child.wait_with_output()?;
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    let in_one = said.split_whitespace().collect::<Vec<_>>().join(" ");
    if output.status.code() == Some(2) && words.iter().all(|word| in_one.contains(word)) {
        return Ok(());
    }
    Err(format!("{:?}, expected 2 and {words:?}: {said}", output.status).into())
}

fn kept(cluster: &Arc<Cluster>) -> Result<(), Failed> {
    let arguments = ["--node", "node-1", "--keep", "--timeout", "10m"];
    says(cluster, &arguments, 0, &[])?;
    let alone = prober::clean(cluster, &[])?;
    let run = alone
        .split_once(" in default: alive and left alone")
        .map(|(run, _)| run.to_owned())
        .ok_or_else(|| format!("nothing was kept: {alone}"))?;
    let removed = prober::clean(cluster, &["--run", &run])?;
    if !removed.starts_with(&format!("{run} in default: removed 1 Job, ")) {
        return Err(format!("not removed: {removed}").into());
    }
    prober::nothing_left(cluster)
}

fn orphaned(cluster: &Arc<Cluster>) -> Result<(), Failed> {
    let namespace = Namespace::new(cluster, "orphans", "")?;
    cluster.apply(
        "apiVersion: v1\nkind: Service\nmetadata:\n  name: prober-orphan\n  namespace: orphans\n  labels: \
         {app.kubernetes.io/name: prober-agent, app.kubernetes.io/managed-by: prober, prober.dev/run: prober-orphan}\n\
         spec: {ports: [{port: 9000}]}\n",
    )?;
    let would = prober::clean(cluster, &["--all-namespaces", "--dry-run"])?;
    let removed = prober::clean(cluster, &["-n", &namespace.name])?;
    let again = prober::clean(cluster, &["-A"])?;
    let expected = [
        "prober-orphan in orphans: would remove 1 Service\n",
        "prober-orphan in orphans: removed 1 Service\n",
        "Nothing is left of any run.\n",
    ];
    if [would.as_str(), &removed, &again] == expected {
        return Ok(());
    }
    Err(format!("{would}{removed}{again}").into())
}
