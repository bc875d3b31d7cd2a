//! Clusters for tests: made once for each shape, reached from the control plane's network, and asked what they leave behind.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use libtest_mimic::{Failed, Trial};

use crate::boxes::Boxes;

/// How long anything may take before a test calls it broken: the machine may be busy with other work.
const PATIENCE: Duration = Duration::from_mins(2);

/// How a cluster is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Shape {
    pub(crate) nodes: u8,
    pub(crate) proxy: Proxy,
    pub(crate) policies: Policies,
    /// Nodes besides that only the API server knows.
    pub(crate) fakes: u16,
}

/// What turns Services into rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Proxy {
    Iptables,
    Nftables,
}

impl Proxy {
    /// The word of kube-proxy's configuration.
    pub(crate) fn mode(self) -> &'static str {
        match self {
            Self::Iptables => "iptables",
            Self::Nftables => "nftables",
        }
    }
}

/// What becomes of NetworkPolicies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Policies {
    Ignored,
    Enforced,
}

impl Policies {
    /// The word of `bin/up`.
    fn word(self) -> &'static str {
        match self {
            Self::Ignored => "ignored",
            Self::Enforced => "enforced",
        }
    }
}

/// Three nodes and kube-proxy's usual mode: what a test takes unless it needs something else.
pub(crate) const USUAL: Shape = Shape {
    nodes: 3,
    proxy: Proxy::Iptables,
    policies: Policies::Ignored,
    fakes: 0,
};

/// The other mode of kube-proxy, on two nodes.
pub(crate) const NFTABLES: Shape = Shape {
    nodes: 2,
    proxy: Proxy::Nftables,
    policies: Policies::Ignored,
    fakes: 0,
};

/// Two nodes that do what NetworkPolicies say: for one test alone.
pub(crate) const ENFORCED: Shape = Shape {
    nodes: 2,
    policies: Policies::Enforced,
    ..USUAL
};

/// The clusters that are up, by what they look like.
static SHARED: Mutex<BTreeMap<Shape, Arc<Cluster>>> = Mutex::new(BTreeMap::new());

/// A cluster, as long as this value lives.
pub(crate) struct Cluster {
    pub(crate) name: String,
    pub(crate) shape: Shape,
    process: Child,
    /// Pods on every node, placed when a test first wants them.
    boxes: Mutex<Option<Arc<Boxes>>>,
}

/// Why this machine can hold no cluster, if it cannot.
pub(crate) fn can_run() -> Result<(), String> {
    if std::env::var_os("PROBER_SKIP_PRIVILEGED").is_some() {
        return Err("PROBER_SKIP_PRIVILEGED is set".to_owned());
    }
    let asked = Command::new(folder().join("lib/can")).output();
    let asked = asked.map_err(|error| format!("run lib/can: {error}"))?;
    if asked.status.success() {
        return Ok(());
    }
    Err(String::from_utf8_lossy(&asked.stderr)
        .trim()
        .trim_start_matches("cluster: ")
        .to_owned())
}

/// A test on the shared cluster of a shape; when it fails, what the cluster looks like goes with it.
pub(crate) fn on(
    shape: Shape,
    name: impl Into<String>,
    test: impl FnOnce(&Arc<Cluster>) -> Result<(), Failed> + Send + 'static,
) -> Trial {
    let name = format!("{} ({})", name.into(), shape.proxy.mode());
    Trial::test(name, move || {
        let cluster = Cluster::shared(shape)?;
        test(&cluster).map_err(|failed| {
            let message = failed.message().unwrap_or("it failed");
            // All failures are told at the end, which may be far.
            eprintln!("{message}");
            Failed::from(format!("{message}\n\n{}", cluster.story()))
        })
    })
}

/// Ends every shared cluster, and waits for it.
pub(crate) fn end_all() {
    SHARED
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .clear();
}

/// Where the scripts of the clusters lie.
pub(crate) fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("cluster")
}

impl Cluster {
    /// The cluster of this shape that tests share, started by the first of them.
    pub(crate) fn shared(shape: Shape) -> Result<Arc<Self>, Failed> {
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(cluster) = shared.get(&shape) {
            return Ok(Arc::clone(cluster));
        }
        let name = format!("test-{}-{}", shape.proxy.mode(), std::process::id());
        let cluster = Arc::new(Self::start(name, shape)?);
        shared.insert(shape, Arc::clone(&cluster));
        Ok(cluster)
    }

    /// A cluster of its own for one test.
    pub(crate) fn start(name: String, shape: Shape) -> Result<Self, Failed> {
        let mut up = Command::new(folder().join("bin/up"));
        up.args(["--name", &name, "--proxy", shape.proxy.mode()])
            .args(["--nodes", &shape.nodes.to_string()])
            .args(["--policies", shape.policies.word()])
            .args(["--fake-nodes", &shape.fakes.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut cluster = Self {
            name,
            shape,
            process: up.spawn()?,
            boxes: Mutex::new(None),
        };
        let mut output = cluster.process.stdout.take().ok_or("no output")?;
        let mut said = [0; 6];
        std::io::Read::read_exact(&mut output, &mut said)
            .map_err(|error| format!("cluster {} did not come up: {error}", cluster.name))?;
        Ok(cluster)
    }

    /// One of the scripts in tests/cluster/bin, for this cluster.
    fn script(&self, name: &str) -> Command {
        let mut command = Command::new(folder().join("bin").join(name));
        command.env("PROBER_CLUSTER", &self.name);
        command
    }

    /// A program of this machine in the control plane's network, with `KUBECONFIG` set: signals reach it.
    pub(crate) fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = self.script("enter");
        command.arg("control-plane").arg(program);
        command
    }

    /// What kubectl prints.
    pub(crate) fn kubectl(&self, arguments: &[&str]) -> Result<String, Failed> {
        finished(self.command("kubectl").args(arguments))
    }

    /// What a node says of its readiness and when it last said so: `True 2026-01-02T03:04:05Z`; nothing of one that is not there.
    pub(crate) fn readiness(&self, node: &str) -> Result<String, Failed> {
        let ready = "jsonpath={range .status.conditions[?(@.type==\"Ready\")]}{.status} {.lastHeartbeatTime}{end}";
        self.kubectl(&["get", "node", node, "--ignore-not-found", "-o", ready])
    }

    /// Applies YAML.
    pub(crate) fn apply(&self, manifest: &str) -> Result<(), Failed> {
        let mut kubectl = self.command("kubectl");
        kubectl.args(["apply", "--server-side", "-f", "-"]);
        kubectl
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = kubectl.spawn()?;
        let mut input = child.stdin.take().ok_or("no input")?;
        std::io::Write::write_all(&mut input, manifest.as_bytes())?;
        drop(input);
        output("kubectl apply", &child.wait_with_output()?).map(drop)
    }

    /// What a command prints in all the namespaces of a node.
    pub(crate) fn on_node(&self, node: &str, command: &[&str]) -> Result<String, Failed> {
        finished(self.script("enter").arg(node).args(command))
    }

    /// Puts an image on every node.
    pub(crate) fn import(&self, image: &Path) -> Result<(), Failed> {
        finished(self.script("import").arg(image)).map(drop)
    }

    /// `node stop|boot|pause|resume NODE`.
    pub(crate) fn node(&self, arguments: &[&str]) -> Result<(), Failed> {
        finished(self.script("node").args(arguments)).map(drop)
    }

    /// `control-plane kill|pause|resume PROGRAM`.
    pub(crate) fn control_plane(&self, arguments: &[&str]) -> Result<(), Failed> {
        finished(self.script("control-plane").args(arguments)).map(drop)
    }

    /// What service accounts asked of the API server, one request a line.
    pub(crate) fn audit(&self) -> Result<String, Failed> {
        Ok(std::fs::read_to_string(
            self.state().join("log/audit.jsonl"),
        )?)
    }

    /// A kubeconfig for who has this token.
    pub(crate) fn kubeconfig(&self, token: &str) -> Result<String, Failed> {
        let admin = std::fs::read_to_string(self.state().join("kubeconfig/admin"))?;
        let (before, rest) = admin.split_once("token: ").ok_or("no token")?;
        let (_, after) = rest.split_once('}').ok_or("no end of the token")?;
        Ok(format!("{before}token: {token}}}{after}"))
    }

    /// Breaks a node until the answer is dropped. `aim` is a pod or a Service port, empty for most faults.
    pub(crate) fn inject(
        &self,
        fault: &str,
        node: &str,
        aim: &str,
    ) -> Result<Injected<'_>, Failed> {
        let fault = format!("{fault}@{node}");
        finished(self.script("fault").args(["inject", &fault, aim]))?;
        Ok(Injected {
            cluster: self,
            fault,
        })
    }

    /// Every fault that can be injected.
    pub(crate) fn faults(&self) -> Result<Vec<Fault>, Failed> {
        let list = finished(self.script("fault").arg("list"))?;
        let faults = list.lines().filter_map(|line| line.split_once(' '));
        let faults = faults.map(|(name, does)| Fault {
            name: name.to_owned(),
            does: does.trim().to_owned(),
        });
        Ok(faults.collect())
    }

    /// Where a node's programs write their logs and PIDs.
    pub(crate) fn logs_of(&self, node: &str) -> PathBuf {
        self.state().join(node)
    }

    /// The pods of the tests, one client and one server on each node.
    pub(crate) fn boxes(&self) -> Result<Arc<Boxes>, Failed> {
        let mut boxes = self.boxes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(boxes) = &*boxes {
            return Ok(Arc::clone(boxes));
        }
        let placed = Arc::new(Boxes::place(self)?);
        *boxes = Some(Arc::clone(&placed));
        Ok(placed)
    }

    /// Those pods again, after some of them were lost with their node.
    pub(crate) fn replace_boxes(&self, node: &str) -> Result<Arc<Boxes>, Failed> {
        let lost = format!("node={node}");
        self.kubectl(&[
            "delete",
            "pod",
            "-n",
            "boxes",
            "-l",
            &lost,
            "--force",
            "--grace-period=0",
        ])?;
        *self.boxes.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.boxes()
    }

    /// The folders of what it is made of.
    pub(crate) fn parts(&self) -> Result<Vec<PathBuf>, Failed> {
        let parts = std::fs::read_to_string(self.state().join("parts"))?;
        Ok(parts.trim().split(':').map(PathBuf::from).collect())
    }

    /// The names of its nodes.
    pub(crate) fn nodes(&self) -> impl Iterator<Item = String> + use<> {
        (1..=self.shape.nodes).map(|number| format!("node-{number}"))
    }

    /// What is wrong, for a person: pods, events, and the last words of what runs the cluster.
    pub(crate) fn story(&self) -> String {
        let ask = |arguments: &[&str]| {
            self.kubectl(arguments)
                .unwrap_or_else(|failed| failed.message().unwrap_or_default().to_owned())
        };
        let logs = Command::new("sh")
            .arg("-c")
            .arg(format!(
                "tail -n 5 {0}/log/*.log {0}/node-*/*.log",
                self.state().display()
            ))
            .output();
        let logs = logs.map(|logs| String::from_utf8_lossy(&logs.stdout).into_owned());
        format!(
            "{}\n{}\n{}\n{}",
            ask(&[
                "get",
                "nodes,pods,jobs,services,endpointslices",
                "-A",
                "-o",
                "wide"
            ]),
            ask(&["get", "events", "-A", "--sort-by=.lastTimestamp"]),
            self.pod_logs().unwrap_or_default(),
            logs.unwrap_or_default()
        )
    }

    /// The end of every pod's log.
    fn pod_logs(&self) -> Result<String, Failed> {
        let names =
            "jsonpath={range .items[*]}{.metadata.namespace} {.metadata.name}{\"\\n\"}{end}";
        let pods = self.kubectl(&["get", "pods", "-A", "-o", names])?;
        let mut logs = String::new();
        for (namespace, pod) in pods.lines().filter_map(|line| line.split_once(' ')) {
            let tail = [
                "logs",
                "--all-containers",
                "--prefix",
                "--tail=20",
                "-n",
                namespace,
                pod,
            ];
            let log = self.kubectl(&tail);
            logs += &log.unwrap_or_else(|failed| failed.message().unwrap_or_default().to_owned());
        }
        Ok(logs)
    }

    fn state(&self) -> PathBuf {
        Path::new("/run/prober-cluster").join(&self.name)
    }

    /// Objects with this label, one `kind/name` each; nothing is left when there is none.
    pub(crate) fn objects(&self, label: &str) -> Result<Vec<String>, Failed> {
        let kinds = "pods,jobs,services,endpointslices,configmaps";
        let found = self.kubectl(&["get", kinds, "-A", "-o", "name", "-l", label])?;
        Ok(found.lines().map(str::to_owned).collect())
    }

    /// The process that made it.
    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Kills what made it, as the kernel does when memory is short.
    pub(crate) fn kill(&mut self) -> Result<(), Failed> {
        self.process.kill()?;
        self.process.wait()?;
        Ok(())
    }
}

impl Drop for Cluster {
    /// It ends with its input. Its sweep runs on a little after that, outside of it.
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        if let Err(error) = self.process.wait() {
            eprintln!("cluster {}: {error}", self.name);
        }
        let state = self.state();
        if let Err(failed) = wait_until("the cluster is swept", || Ok(!state.exists())) {
            eprintln!(
                "cluster {}: {}",
                self.name,
                failed.message().unwrap_or_default()
            );
        }
    }
}

/// A fault of the list.
pub(crate) struct Fault {
    pub(crate) name: String,
    /// What it does, and what it is aimed at.
    pub(crate) does: String,
}

/// A fault that is in effect.
pub(crate) struct Injected<'a> {
    cluster: &'a Cluster,
    fault: String,
}

impl Injected<'_> {
    /// Mends the node, and fails if that cannot be done.
    pub(crate) fn heal(self) -> Result<(), Failed> {
        let healed = finished(self.cluster.script("fault").args(["heal", &self.fault]));
        std::mem::forget(self);
        healed.map(drop)
    }
}

impl Drop for Injected<'_> {
    fn drop(&mut self) {
        if let Err(failed) = finished(self.cluster.script("fault").args(["heal", &self.fault])) {
            eprintln!("{}: {}", self.fault, failed.message().unwrap_or_default());
        }
    }
}

/// Asks again and again until it is so.
pub(crate) fn wait_until(
    what: &str,
    mut is_so: impl FnMut() -> Result<bool, Failed>,
) -> Result<(), Failed> {
    let start = Instant::now();
    while !is_so()? {
        if start.elapsed() > PATIENCE {
            return Err(format!("not after {} s: {what}", PATIENCE.as_secs()).into());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// Runs a command, and gives what it printed.
fn finished(command: &mut Command) -> Result<String, Failed> {
    let called = format!("{command:?}");
    output(&called, &command.stdin(Stdio::null()).output()?)
}

fn output(called: &str, output: &Output) -> Result<String, Failed> {
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(said);
    }
    let complaint = String::from_utf8_lossy(&output.stderr);
    Err(format!("{called}: {}\n{said}{complaint}", output.status).into())
}
