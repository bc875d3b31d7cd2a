//! Clusters for tests: started once for each shape, used through the scripts in `bin`, and shared by the tests.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use libtest_mimic::{Failed, Trial};

use crate::test_pods::TestPods;

/// How long a test waits for a condition. The machine may be busy with other work.
const WAIT_TIMEOUT: Duration = Duration::from_mins(2);

/// The options of a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Shape {
    /// A file of the folder `data-planes`.
    pub(crate) data_plane: &'static str,
    pub(crate) nodes: u8,
    pub(crate) proxy: Proxy,
    pub(crate) policies: Policies,
    /// The families, the first one first: `46`, `64`, `4` or `6`.
    pub(crate) families: &'static str,
    /// Further options of `bin/up`.
    pub(crate) options: &'static [&'static str],
    /// Further nodes that exist only in the API server.
    pub(crate) fake_nodes: u16,
}

/// The mode of kube-proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Proxy {
    Iptables,
    Nftables,
    /// Nodes of odd number have iptables, others nftables.
    Mixed,
    /// No kube-proxy: the data plane translates Services itself.
    None,
}

impl Proxy {
    /// The value of the option of `bin/up`.
    pub(crate) fn mode(self) -> &'static str {
        match self {
            Self::Iptables => "iptables",
            Self::Nftables => "nftables",
            Self::Mixed => "mixed",
            Self::None => "none",
        }
    }
}

/// Whether NetworkPolicies are enforced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Policies {
    Ignored,
    Enforced,
}

impl Policies {
    /// The value of the option of `bin/up`.
    fn as_str(self) -> &'static str {
        match self {
            Self::Ignored => "ignored",
            Self::Enforced => "enforced",
        }
    }
}

/// Three nodes and the default mode of kube-proxy, for tests without special needs.
pub(crate) const USUAL: Shape = Shape {
    data_plane: "flannel-vxlan",
    nodes: 3,
    proxy: Proxy::Iptables,
    policies: Policies::Ignored,
    families: "46",
    options: &[],
    fake_nodes: 0,
};

/// Two nodes and the mode nftables of kube-proxy.
pub(crate) const NFTABLES: Shape = Shape {
    nodes: 2,
    proxy: Proxy::Nftables,
    ..USUAL
};

/// Two nodes that enforce NetworkPolicies.
pub(crate) const ENFORCED: Shape = Shape {
    nodes: 2,
    policies: Policies::Enforced,
    ..USUAL
};

/// Two nodes whose pods are on routed veths, without a bridge, as in kind.
pub(crate) const PTP: Shape = Shape {
    data_plane: "ptp-host-gw",
    nodes: 2,
    ..USUAL
};

impl Shape {
    /// What distinguishes it, in words: `ptp-host-gw, iptables`; of the usual data plane only the mode of kube-proxy.
    pub(crate) fn label(self) -> String {
        if self.data_plane == USUAL.data_plane && self.column() == self.proxy.mode() {
            return self.proxy.mode().to_owned();
        }
        format!("{}, {}", self.data_plane, self.column())
    }

    /// What distinguishes it from other clusters of its data plane.
    pub(crate) fn column(self) -> String {
        let mut words = vec![self.proxy.mode().to_owned()];
        if self.policies == Policies::Enforced {
            words.push("policies enforced".to_owned());
        }
        match self.families {
            "64" => words.push("IPv6 first".to_owned()),
            "4" => words.push("IPv4 alone".to_owned()),
            "6" => words.push("IPv6 alone".to_owned()),
            _ => {}
        }
        if !self.options.is_empty() {
            words.push(self.options.join(" ").replace("--", ""));
        }
        words.join(", ")
    }
}

/// The clusters that tests share, by their options.
static SHARED: Mutex<BTreeMap<Shape, Arc<Cluster>>> = Mutex::new(BTreeMap::new());

/// The number of shared clusters that were started: one may still be up when another replaces it.
static STARTED: AtomicU32 = AtomicU32::new(1);

/// A cluster that ends when this value is dropped.
pub(crate) struct Cluster {
    pub(crate) name: String,
    pub(crate) shape: Shape,
    process: Child,
    /// The pods that [`Self::test_pods`] creates.
    test_pods: Mutex<Option<Arc<TestPods>>>,
}

/// Checks whether this machine can run a cluster.
pub(crate) fn can_run() -> Result<(), String> {
    if std::env::var_os("PROBER_SKIP_PRIVILEGED").is_some() {
        return Err("PROBER_SKIP_PRIVILEGED is set".to_owned());
    }
    let check = Command::new(folder().join("lib/check")).output();
    let check = check.map_err(|error| format!("run lib/check: {error}"))?;
    if check.status.success() {
        return Ok(());
    }
    Err(String::from_utf8_lossy(&check.stderr)
        .trim()
        .trim_start_matches("cluster: ")
        .to_owned())
}

/// A test on the shared cluster of a shape. Its failure includes the state of the cluster.
pub(crate) fn on(
    shape: Shape,
    name: impl Into<String>,
    test: impl FnOnce(&Arc<Cluster>) -> Result<(), Failed> + Send + 'static,
) -> Trial {
    let name = format!("{} ({})", name.into(), shape.label());
    Trial::test(name, move || {
        let cluster = Cluster::shared(shape)?;
        test(&cluster).map_err(|failed| {
            let message = failed.message().unwrap_or("it failed");
            // The test harness prints failures only after all tests.
            eprintln!("{message}");
            Failed::from(format!("{message}\n\n{}", cluster.describe_state()))
        })
    })
}

/// Ends the shared clusters of other shapes, which would only keep the machine busy.
pub(crate) fn end_others(shape: Shape) {
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    shared.retain(|other, _| *other == shape);
}

/// Ends all shared clusters, and waits until they are gone.
pub(crate) fn end_all() {
    SHARED
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .clear();
}

/// The folder with the scripts of the clusters.
pub(crate) fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("cluster")
}

impl Cluster {
    /// Returns the shared cluster of this shape; the first call starts it.
    pub(crate) fn shared(shape: Shape) -> Result<Arc<Self>, Failed> {
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(cluster) = shared.get(&shape) {
            return Ok(Arc::clone(cluster));
        }
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let name = format!("test-{number}-{}", std::process::id());
        let cluster = Arc::new(Self::start(name, shape)?);
        shared.insert(shape, Arc::clone(&cluster));
        Ok(cluster)
    }

    /// Starts a cluster.
    pub(crate) fn start(name: String, shape: Shape) -> Result<Self, Failed> {
        let mut up = Command::new(folder().join("bin/up"));
        up.args(["--name", &name, "--data-plane", shape.data_plane])
            .args(["--proxy", shape.proxy.mode()])
            .args(["--families", shape.families])
            .args(shape.options)
            .args(["--nodes", &shape.nodes.to_string()])
            .args(["--policies", shape.policies.as_str()])
            .args(["--fake-nodes", &shape.fake_nodes.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut cluster = Self {
            name,
            shape,
            process: up.spawn()?,
            test_pods: Mutex::new(None),
        };
        let mut output = cluster.process.stdout.take().ok_or("no output")?;
        let mut ready = [0; 6];
        std::io::Read::read_exact(&mut output, &mut ready)
            .map_err(|error| format!("cluster {} did not come up: {error}", cluster.name))?;
        Ok(cluster)
    }

    /// A command that runs a script of tests/cluster/bin for this cluster.
    fn script(&self, name: &str) -> Command {
        let mut command = Command::new(folder().join("bin").join(name));
        command.env("PROBER_CLUSTER", &self.name);
        command
    }

    /// A command that runs a program in the control plane's network with `KUBECONFIG` set. Signals reach the program.
    pub(crate) fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = self.script("enter");
        command.arg("control-plane").arg(program);
        command
    }

    /// Runs kubectl and returns its output.
    pub(crate) fn kubectl(&self, arguments: &[&str]) -> Result<String, Failed> {
        run_command(self.command("kubectl").args(arguments))
    }

    /// The condition `Ready` of a node and its last heartbeat: `True 2026-01-02T03:04:05Z`; empty if there is no such node.
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

    /// Runs a command in all namespaces of a node and returns its output.
    pub(crate) fn on_node(&self, node: &str, command: &[&str]) -> Result<String, Failed> {
        run_command(self.script("enter").arg(node).args(command))
    }

    /// Imports an image on every node.
    pub(crate) fn import(&self, image: &Path) -> Result<(), Failed> {
        run_command(self.script("import").arg(image)).map(drop)
    }

    /// `node stop|boot|pause|resume NODE`.
    pub(crate) fn node(&self, arguments: &[&str]) -> Result<(), Failed> {
        run_command(self.script("node").args(arguments)).map(drop)
    }

    /// `control-plane kill|pause|resume PROGRAM`.
    pub(crate) fn control_plane(&self, arguments: &[&str]) -> Result<(), Failed> {
        run_command(self.script("control-plane").args(arguments)).map(drop)
    }

    /// The audit log of the API server: one request of a service account a line.
    pub(crate) fn audit(&self) -> Result<String, Failed> {
        Ok(std::fs::read_to_string(
            self.state().join("log/audit.jsonl"),
        )?)
    }

    /// A kubeconfig with this token.
    pub(crate) fn kubeconfig(&self, token: &str) -> Result<String, Failed> {
        let admin = std::fs::read_to_string(self.state().join("kubeconfig/admin"))?;
        let (before, rest) = admin.split_once("token: ").ok_or("no token")?;
        let (_, after) = rest.split_once('}').ok_or("no end of the token")?;
        Ok(format!("{before}token: {token}}}{after}"))
    }

    /// Injects a fault on a node until the returned value is dropped. `target` is a pod or a Service port, empty for most faults.
    pub(crate) fn inject(
        &self,
        fault: &str,
        node: &str,
        target: &str,
    ) -> Result<Injected<'_>, Failed> {
        let fault = format!("{fault}@{node}");
        run_command(self.script("fault").args(["inject", &fault, target]))?;
        Ok(Injected {
            cluster: self,
            fault,
        })
    }

    /// Lists the faults that can be injected.
    pub(crate) fn faults(&self) -> Result<Vec<Fault>, Failed> {
        let list = run_command(self.script("fault").arg("list"))?;
        let faults = list.lines().filter_map(|line| line.split_once(' '));
        let faults = faults.map(|(name, description)| Fault {
            name: name.to_owned(),
            description: description.trim().to_owned(),
        });
        Ok(faults.collect())
    }

    /// The folder in which a node's programs write their logs and PIDs.
    pub(crate) fn logs_of(&self, node: &str) -> PathBuf {
        self.state().join(node)
    }

    /// Returns the test pods, one client and one server on each node; the first call creates them.
    pub(crate) fn test_pods(&self) -> Result<Arc<TestPods>, Failed> {
        let mut test_pods = self
            .test_pods
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(test_pods) = &*test_pods {
            return Ok(Arc::clone(test_pods));
        }
        let placed = Arc::new(TestPods::create(self)?);
        *test_pods = Some(Arc::clone(&placed));
        Ok(placed)
    }

    /// Creates the test pods of a node again after a reboot of the node.
    pub(crate) fn replace_test_pods(&self, node: &str) -> Result<Arc<TestPods>, Failed> {
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
        *self
            .test_pods
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = None;
        self.test_pods()
    }

    /// The folders of the programs that the cluster consists of.
    pub(crate) fn parts(&self) -> Result<Vec<PathBuf>, Failed> {
        let parts = std::fs::read_to_string(self.state().join("parts"))?;
        Ok(parts.trim().split(':').map(PathBuf::from).collect())
    }

    /// The names of its nodes.
    pub(crate) fn nodes(&self) -> impl Iterator<Item = String> + use<> {
        (1..=self.shape.nodes).map(|number| format!("node-{number}"))
    }

    /// The objects, the events and the last log lines of the cluster, for the message of a failed test.
    pub(crate) fn describe_state(&self) -> String {
        let kubectl = |arguments: &[&str]| {
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
            kubectl(&[
                "get",
                "nodes,pods,jobs,services,endpointslices",
                "-A",
                "-o",
                "wide"
            ]),
            kubectl(&["get", "events", "-A", "--sort-by=.lastTimestamp"]),
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

    /// The objects with this label, as `kind/name`.
    pub(crate) fn objects(&self, label: &str) -> Result<Vec<String>, Failed> {
        let kinds = "pods,jobs,services,endpointslices,configmaps";
        let found = self.kubectl(&["get", kinds, "-A", "-o", "name", "-l", label])?;
        Ok(found.lines().map(str::to_owned).collect())
    }

    /// The PID of `bin/up`.
    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Kills `bin/up`, as the kernel does when memory is short.
    pub(crate) fn kill(&mut self) -> Result<(), Failed> {
        self.process.kill()?;
        self.process.wait()?;
        Ok(())
    }
}

impl Drop for Cluster {
    /// Closes the input of `bin/up`, which ends the cluster, and waits until `lib/sweep` has removed its files.
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

/// A fault that can be injected.
pub(crate) struct Fault {
    pub(crate) name: String,
    /// Its effect and its kind of target.
    pub(crate) description: String,
}

/// A fault that is in effect until this value is dropped.
pub(crate) struct Injected<'a> {
    cluster: &'a Cluster,
    fault: String,
}

impl Injected<'_> {
    /// Heals the node, and fails if that is not possible.
    pub(crate) fn heal(self) -> Result<(), Failed> {
        let healed = run_command(self.cluster.script("fault").args(["heal", &self.fault]));
        std::mem::forget(self);
        healed.map(drop)
    }
}

impl Drop for Injected<'_> {
    fn drop(&mut self) {
        if let Err(failed) = run_command(self.cluster.script("fault").args(["heal", &self.fault])) {
            eprintln!("{}: {}", self.fault, failed.message().unwrap_or_default());
        }
    }
}

/// Waits until a condition holds.
pub(crate) fn wait_until(
    what: &str,
    mut condition: impl FnMut() -> Result<bool, Failed>,
) -> Result<(), Failed> {
    let start = Instant::now();
    while !condition()? {
        if start.elapsed() > WAIT_TIMEOUT {
            return Err(format!("not after {} s: {what}", WAIT_TIMEOUT.as_secs()).into());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// Runs a command and returns its output.
fn run_command(command: &mut Command) -> Result<String, Failed> {
    let command_line = format!("{command:?}");
    output(&command_line, &command.stdin(Stdio::null()).output()?)
}

fn output(command_line: &str, output: &Output) -> Result<String, Failed> {
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(stdout);
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    Err(format!("{command_line}: {}\n{stdout}{stderr}", output.status).into())
}
