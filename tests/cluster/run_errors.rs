//! Runs that are impossible, incomplete or interrupted: each reports its reason, and none reports a fault of the network.

use std::process::{Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use libtest_mimic::{Failed, Trial};

use crate::harness::{Cluster, ENFORCED, Shape, USUAL, on, wait_until};
use crate::prober::{self, LABEL};

/// Probes of a run that lasts until the test interrupts it.
const MANY: &str = "5000";

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        Trial::test("an unreachable API server is named", unreachable),
        on(
            USUAL,
            "a similar name is suggested for a node that does not exist",
            missing_node,
        ),
        on(USUAL, "a cordoned node is probed with a note", cordoned),
        on(USUAL, "a tainted node is probed with a note", tainted),
        on(USUAL, "an image that cannot be pulled is named", no_image),
        on(USUAL, "an exceeded quota is named", quota),
        on(USUAL, "a restricted namespace admits tier T0", restricted),
        on(USUAL, "a baseline namespace admits no node facts", baseline),
        on(
            USUAL,
            "a NetworkPolicy that isolates agents is named",
            closed,
        ),
        Trial::test("an enforced NetworkPolicy is named as the cause", enforced),
        on(
            USUAL,
            "a user without permissions receives a list and the YAML that grants them",
            no_rights,
        ),
        on(
            USUAL,
            "a node without resources is no fault of the network",
            no_room,
        ),
        on(USUAL, "the deletion of a pod ends the run", deleted),
        on(USUAL, "the drain of a node ends the run", drained),
        on(USUAL, "a kubelet that hangs is named", no_kubelet),
        on(USUAL, "a node that is NotReady is not probed", not_ready),
        on(
            USUAL,
            "an API server that stops responding ends the run",
            no_server,
        ),
        on(
            USUAL,
            "an API server that is away for some seconds is waited for",
            server_away,
        ),
        on(
            USUAL,
            "node ports that a quota refuses are named, and left out on request",
            no_node_ports,
        ),
        on(
            USUAL,
            "pods are placed with the options that the user chooses",
            pod_options,
        ),
        Trial::test(
            "pods of a global range and of 198.18.0.0/15 are probed",
            unusual_ranges,
        ),
        on(
            USUAL,
            "a kept run is removed only by a clean that names it",
            kept,
        ),
        on(
            USUAL,
            "objects without their owner Job are cleaned",
            orphaned,
        ),
    ]
}

/// Runs, and fails unless the exit status is this and the output or the errors contain all the phrases.
fn expect_output(
    cluster: &Arc<Cluster>,
    arguments: &[&str],
    status: i32,
    phrases: &[&str],
) -> Result<Output, Failed> {
    let output = prober::run(cluster, arguments)?;
    let text = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    // The output may be wrapped.
    let unwrapped = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if output.status.code() == Some(status)
        && phrases.iter().all(|phrase| unwrapped.contains(phrase))
    {
        return Ok(output);
    }
    Err(format!(
        "{arguments:?} ended with {:?}, expected {status} and the phrases {phrases:?}:\n{text}",
        output.status.code()
    )
    .into())
}

/// As [`expect_output`]; fails as well if objects of the run are left.
fn expect_output_and_nothing_left(
    cluster: &Arc<Cluster>,
    arguments: &[&str],
    status: i32,
    phrases: &[&str],
) -> Result<(), Failed> {
    expect_output(cluster, arguments, status, phrases)?;
    prober::nothing_left(cluster)
}

/// A namespace that is deleted when this value is dropped.
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

/// An action that is executed when this value is dropped.
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
    // No process listens on the discard port of the loopback address.
    std::fs::write(
        &kubeconfig,
        prober::kubeconfig("https://127.0.0.1:9", "x", None),
    )?;
    let kubeconfig = kubeconfig.to_string_lossy().into_owned();
    let output = prober::command()
        .args(["run", "--node", "node-1", "--kubeconfig", &kubeconfig])
        .output()?;
    let text = String::from_utf8_lossy(&output.stderr);
    let is_named =
        text.contains("https://127.0.0.1:9 could not be reached") && text.contains("refused");
    if output.status.code() == Some(2) && is_named {
        return Ok(());
    }
    Err(format!("{:?}: {text}", output.status).into())
}

fn missing_node(cluster: &Arc<Cluster>) -> Result<(), Failed> {
    let phrases = ["there is no node \"nod-2\"", "did you mean node-2?"];
    expect_output_and_nothing_left(cluster, &["--node", "nod-2"], 2, &phrases)
}

fn cordoned(cluster: &Arc<Cluster>) -> Result<(), Failed> {
    cluster.kubectl(&["cordon", "node-2"])?;
    let _undo = Undo(|| cluster.kubectl(&["uncordon", "node-2"]).map(drop));
    let phrases = ["node-2 is cordoned: probed nevertheless"];
    expect_output_and_nothing_left(cluster, &["--node", "node-2"], 0, &phrases)
}

fn tainted(cluster: &Arc<Cluster>) -> Result<(), Failed> {
    cluster.kubectl(&["taint", "node", "node-2", "dedicated=gpu:NoSchedule"])?;
    let _undo = Undo(|| {
        let untaint = ["taint", "node", "node-2", "dedicated=gpu:NoSchedule-"];
        cluster.kubectl(&untaint).map(drop)
    });
    let phrases = ["node-2 is tainted dedicated=gpu:NoSchedule: probed nevertheless"];
    expect_output_and_nothing_left(cluster, &["--node", "node-2"], 0, &phrases)
}

fn no_image(cluster: &Arc<Cluster>) -> Result<(), Failed> {
    let arguments = [
        "--node",
        "node-1",
        "--image",
        "registry.invalid/prober-agent:0",
    ];
    let phrases = ["registry.invalid/prober-agent:0", "cannot pull the image"];
    expect_output_and_nothing_left(cluster, &arguments, 2, &phrases)
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
    let phrases = ["not admitted in namespace quota", "exceeded quota: few"];
    expect_output_and_nothing_left(cluster, &arguments, 2, &phrases)
}

fn restricted(cluster: &Arc<Cluster>) -> Result<(), Failed> {
    let enforced = "pod-security.kubernetes.io/enforce: restricted";
    let namespace = Namespace::new(cluster, "restricted", enforced)?;
    let arguments = ["--node", "node-1", "-n", &namespace.name];
    let phrases = [
        "tier T0: agents capture no packets",
        "Pod Security restricted",
    ];
    expect_output_and_nothing_left(cluster, &arguments, 0, &phrases)?;
    let required = [&arguments[..], &["--require-tier", "T1"]].concat();
    expect_output_and_nothing_left(cluster, &required, 2, &["evidence of tier T1 was required"])
}

fn baseline(cluster: &Arc<Cluster>) -> Result<(), Failed> {
    let enforced = "pod-security.kubernetes.io/enforce: baseline";
    let namespace = Namespace::new(cluster, "baseline", enforced)?;
    let arguments = ["--node", "node-1", "-n", &namespace.name];
    let phrases = ["no node facts", "host namespaces (hostNetwork=true)"];
    let required = [&arguments[..], &["--require-tier", "T1"]].concat();
    expect_output_and_nothing_left(cluster, &required, 0, &phrases)?;
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
    expect_output_and_nothing_left(cluster, &always, 2, &["node facts were required"])
}

/// For the namespace `closed`.
const DEFAULT_DENY: &str = "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\n\
    metadata: {name: default-deny, namespace: closed}\nspec: {podSelector: {}, policyTypes: [Ingress, Egress]}\n";

fn closed(cluster: &Arc<Cluster>) -> Result<(), Failed> {
    let namespace = Namespace::new(cluster, "closed", "")?;
    cluster.apply(DEFAULT_DENY)?;
    let arguments = ["--node", "node-1", "-n", &namespace.name];
    // Flannel does not enforce policies, so the run is healthy.
    let phrases =
        ["NetworkPolicy default-deny in namespace closed restricts the agents' ingress and egress"];
    expect_output_and_nothing_left(cluster, &arguments, 0, &phrases)
}

fn enforced() -> Result<(), Failed> {
    let name = format!("test-enforced-{}", std::process::id());
    let cluster = &Arc::new(Cluster::start(name, ENFORCED)?);
    let open = Namespace::new(cluster, "open", "")?;
    expect_output_and_nothing_left(cluster, &["--node", "node-1", "-n", &open.name], 0, &[])?;
    let closed = Namespace::new(cluster, "closed", "")?;
    cluster.apply(DEFAULT_DENY)?;
    let report = prober::report(cluster, &["--node", "node-1", "-n", &closed.name])?;
    report.names(&[("network-policy", "")])?;
    if let Some(one) = (report.diagnoses.iter()).find(|one| one.node.is_some()) {
        return Err(format!("the cause is not on a node: {one:?}").into());
    }
    if report.confidences().any(|one| one != "consistent") {
        return Err("the cause is proven without evidence that policies are enforced".into());
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
    let phrases = [
        "system:serviceaccount:rights:default lacks permissions",
        "create, delete, list, patch, watch jobs.batch",
        "get pods/log",
        "get, list nodes (of the whole cluster)",
    ];
    let refused = expect_output(cluster, &arguments, 2, &phrases)?;
    let text = String::from_utf8_lossy(&refused.stderr).into_owned();
    let from = text.find("apiVersion:").ok_or("no YAML")?;
    let grant = &text[from..];
    let _undo = Undo(|| {
        let roles = [
            "delete",
            "clusterrole,clusterrolebinding",
            "prober-run-rights",
        ];
        cluster.kubectl(&roles).map(drop)
    });
    cluster.apply(grant)?;
    wait_until("the granted permissions are in effect", || {
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
    expect_output_and_nothing_left(cluster, &arguments, 0, &[])
}

fn no_room(cluster: &Arc<Cluster>) -> Result<(), Failed> {
    let free = "jsonpath={.status.allocatable.cpu}";
    let cpus = cluster.kubectl(&["get", "node", "node-2", "-o", free])?;
    let namespace = Namespace::new(cluster, "full", "")?;
    // A pod that requests all but 10 millicores of the node. Other pods request more than the rest.
    let cpus: u32 = cpus.parse()?;
    let _undo = Undo(|| {
        cluster
            .kubectl(&["delete", "pod", "hog", "-n", "full", "--now"])
            .map(drop)
    });
    cluster.apply(&format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: hog, namespace: full}}\nspec:\n  nodeSelector: \
         {{kubernetes.io/hostname: node-2}}\n  containers:\n  - {{name: hog, image: 'prober.dev/test/box:1', \
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
    expect_output_and_nothing_left(cluster, &arguments, 2, &["node-2", "Insufficient cpu"])
}

fn deleted(cluster: &Arc<Cluster>) -> Result<(), Failed> {
    let phrases = ["deleted"];
    expect_interrupted(
        cluster,
        &["--node", "node-1", "--probes", MANY],
        &phrases,
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
    expect_interrupted(
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
    let arguments = ["--node", "node-2", "--timeout", "30s"];
    let result = expect_output(
        cluster,
        &arguments,
        2,
        &["the kubelet of node-2 has not started it"],
    );
    drop(undo);
    result?;
    // The pods are removed when the kubelet runs again.
    prober::nothing_left(cluster)
}

fn not_ready(cluster: &Arc<Cluster>) -> Result<(), Failed> {
    cluster.node(&["pause", "node-2"])?;
    let undo = Undo(|| cluster.node(&["resume", "node-2"]));
    let ready = r#"jsonpath={.status.conditions[?(@.type=="Ready")].status}"#;
    let is = |status: &str| Ok(cluster.kubectl(&["get", "node", "node-2", "-o", ready])? == status);
    wait_until("node-2 is Unknown", || is("Unknown"))?;
    let phrases = ["node node-2 is NotReady (Kubelet stopped posting node status)"];
    let result = expect_output_and_nothing_left(cluster, &["--node", "node-2"], 2, &phrases);
    drop(undo);
    wait_until("node-2 is Ready", || is("True"))?;
    result
}

fn no_server(cluster: &Arc<Cluster>) -> Result<(), Failed> {
    let server = prober::api_server(cluster)?;
    let arguments = ["--node", "node-1", "--probes", MANY, "--timeout", "60s"];
    let resume = || prober::signal(server, "CONT");
    let mut undo = None;
    expect_interrupted(cluster, &arguments, &["API server"], || {
        prober::signal(server, "STOP")?;
        undo = Some(Undo(resume));
        Ok(())
    })?;
    drop(undo);
    // The run could not remove its objects. The deadline of the owner Job does.
    prober::nothing_left(cluster)
}

/// Runs, interrupts the run once its agents are running, and fails unless the exit status is 2 and the output contains all
/// the phrases.
fn expect_interrupted(
    cluster: &Arc<Cluster>,
    arguments: &[&str],
    phrases: &[&str],
    interrupt: impl FnOnce() -> Result<(), Failed>,
) -> Result<(), Failed> {
    let mut command = prober::command_in(cluster)?;
    command.arg("run").args(arguments);
    let child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    prober::await_running(cluster, "node-1-client")?;
    interrupt()?;
    let output = child.wait_with_output()?;
    let text = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    let unwrapped = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if output.status.code() == Some(2) && phrases.iter().all(|phrase| unwrapped.contains(phrase)) {
        return Ok(());
    }
    Err(format!("{:?}, expected 2 and {phrases:?}: {text}", output.status).into())
}

fn server_away(cluster: &Arc<Cluster>) -> Result<(), Failed> {
    let server = prober::api_server(cluster)?;
    let mut command = prober::command_in(cluster)?;
    command.args(["run", "--node", "node-1"]);
    let child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    prober::await_running(cluster, "node-1-client")?;
    prober::signal(server, "STOP")?;
    let undo = Undo(|| prober::signal(server, "CONT"));
    // Longer than the time limit of a request.
    std::thread::sleep(Duration::from_secs(8));
    drop(undo);
    let output = child.wait_with_output()?;
    if output.status.code() != Some(0) {
        let text = String::from_utf8_lossy(&output.stdout);
        let errors = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{:?}: {text}{errors}", output.status).into());
    }
    prober::nothing_left(cluster)
}

fn no_node_ports(cluster: &Arc<Cluster>) -> Result<(), Failed> {
    let namespace = Namespace::new(cluster, "portless", "")?;
    cluster.apply(
        "apiVersion: v1\nkind: ResourceQuota\nmetadata: {name: none, namespace: portless}\n\
         spec: {hard: {services.nodeports: 0}}\n",
    )?;
    wait_until("the quota is in force", || {
        let hard = "jsonpath={.status.hard.services\\.nodeports}";
        let quota = ["get", "quota", "none", "-n", "portless", "-o", hard];
        Ok(cluster.kubectl(&quota)? == "0")
    })?;
    let arguments = ["--node", "node-1", "-n", &namespace.name];
    let phrases = [
        "node-port paths were not probed",
        "exceeded quota: none",
        "(node-port ",
    ];
    expect_output_and_nothing_left(cluster, &arguments, 2, &phrases)?;
    let others = "pod-ip,cluster-ip,cluster-ip-any,cluster-ip-local,hairpin,host-network";
    let without = [&arguments[..], &["--access-paths", others]].concat();
    expect_output_and_nothing_left(cluster, &without, 0, &[])
}

fn pod_options(cluster: &Arc<Cluster>) -> Result<(), Failed> {
    let unknown = ["--node", "node-1", "--priority-class", "nowhere"];
    let phrases = ["no PriorityClass with name nowhere was found"];
    expect_output_and_nothing_left(cluster, &unknown, 2, &phrases)?;
    let arguments = [
        "--node-selector",
        "kubernetes.io/hostname in (node-1,node-2)",
        "--priority-class",
        "system-node-critical",
        "--image-pull-secret",
        "registry",
        "--requests",
        "cpu=5m",
        "--limits",
        "memory=64Mi",
        "--toleration",
        "dedicated=gpu:NoSchedule",
        "--keep",
        "--timeout",
        "10m",
    ];
    expect_output(cluster, &arguments, 0, &[])?;
    let fields = "jsonpath={range .items[*]}{.spec.nodeName} {.spec.priorityClassName} \
         {.spec.imagePullSecrets[0].name} {.spec.containers[0].resources.requests.cpu} \
         {.spec.containers[0].resources.limits.memory} {.spec.tolerations[?(@.value==\"gpu\")].effect}{\"\\n\"}{end}";
    let pods = cluster.kubectl(&["get", "pods", "-l", LABEL, "-o", fields])?;
    let expected = |node: &str| format!("{node} system-node-critical registry 5m 64Mi NoSchedule");
    let placed = pods.lines().filter(|line| !line.is_empty());
    let placed: Vec<&str> = placed.collect();
    let is_expected =
        |line: &&str| [expected("node-1"), expected("node-2")].contains(&(*line).to_owned());
    if placed.len() != 6 || !placed.iter().all(is_expected) {
        return Err(format!("placed otherwise: {pods}").into());
    }
    let kept = prober::clean(cluster, &["--dry-run"])?;
    let (run, _) = kept.split_once(" in default: ").ok_or("nothing is kept")?;
    prober::clean(cluster, &["--run", run])?;
    prober::nothing_left(cluster)
}

fn unusual_ranges() -> Result<(), Failed> {
    let name = format!("test-ranges-{}", std::process::id());
    // The plugin of kube-router takes addresses from podCIDRs, which only flannel's nodes say of theirs.
    let shape = Shape {
        data_plane: "kube-router",
        nodes: 2,
        options: &["--pods", "198.18.0.0/15,2001:db8:244::/56"],
        ..USUAL
    };
    let cluster = &Arc::new(Cluster::start(name, shape)?);
    for arguments in [
        ["--all", "--family", "dual"].as_slice(),
        &[
            "--all",
            "--family",
            "dual",
            "--pod-cidrs",
            "198.18.0.0/15,2001:db8:244::/56",
        ],
    ] {
        expect_output_and_nothing_left(cluster, arguments, 0, &["HEALTHY"])?;
    }
    Ok(())
}

fn kept(cluster: &Arc<Cluster>) -> Result<(), Failed> {
    let arguments = ["--node", "node-1", "--keep", "--timeout", "10m"];
    expect_output(cluster, &arguments, 0, &[])?;
    let output = prober::clean(cluster, &[])?;
    let run = output
        .split_once(" in default: still active, left alone")
        .map(|(run, _)| run.to_owned())
        .ok_or_else(|| format!("nothing was kept: {output}"))?;
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
