//! Runs the program on a cluster as users run it, and checks its report and what it leaves behind.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use libtest_mimic::Failed;
use serde::Deserialize;

use crate::harness::{Cluster, wait_until};
use crate::program::PROBER;

/// The label of every object of a run.
pub(crate) const LABEL: &str = "prober.dev/run";

/// The agent's image, built once.
static IMAGE: LazyLock<PathBuf> = LazyLock::new(|| {
    let checkout = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
    let built = Command::new(checkout.join("scripts/image"))
        .arg("prober-agent")
        .output()
        .expect("run scripts/image");
    let stderr = String::from_utf8_lossy(&built.stderr);
    assert!(built.status.success(), "the image was not built: {stderr}");
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| checkout.join("target"), PathBuf::from);
    target.join("image/prober-agent.tar")
});

/// The clusters whose nodes have the image.
static WITH_IMAGE: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// The published schema of reports. Every report of these tests is validated against it.
static SCHEMA: LazyLock<jsonschema::Validator> = LazyLock::new(|| {
    let text = include_str!("../../deploy/schema/report.v1.json");
    let schema = serde_json::from_str(text).expect("the schema is JSON");
    jsonschema::validator_for(&schema).expect("the schema is a schema")
});

/// The parts of a report that the tests check.
#[derive(Debug, Deserialize)]
pub(crate) struct Report {
    pub(crate) exit_status: i32,
    pub(crate) diagnoses: Vec<Diagnosis>,
    notes: Vec<String>,
    paths: Vec<serde_json::Value>,
}

/// Whether a note, or the notes of a run that could not end, say that agents had too little CPU time.
pub(crate) fn names_starvation(notes: &str) -> bool {
    notes.contains(" starved of CPU") || notes.contains(" did not report to the end")
}

/// One diagnosis of a report.
#[derive(Debug, Deserialize)]
pub(crate) struct Diagnosis {
    pub(crate) cause: String,
    pub(crate) node: Option<String>,
    pub(crate) confidence: String,
    segment: Segment,
    evidence: serde_json::Value,
    would_decide: Vec<String>,
    /// The conntrack entries of the sample, by node.
    #[serde(default)]
    conntrack: Vec<Conntrack>,
}

/// The part of a path that a diagnosis is about.
#[derive(Debug, Deserialize)]
struct Segment {
    kind: String,
    from: Option<String>,
    to: Option<String>,
}

impl Diagnosis {
    /// The other causes that have the same symptoms.
    pub(crate) fn rivals(&self) -> impl Iterator<Item = &str> {
        let sentences = self.would_decide.iter();
        sentences.filter_map(|one| Some(one.split_once(" has the same symptoms")?.0))
    }

    /// Its place: a node, `node-1->node-2` between two nodes, or the kind of another place.
    pub(crate) fn place(&self) -> String {
        match (&self.node, &self.segment.from, &self.segment.to) {
            (Some(node), ..) => node.clone(),
            (None, Some(from), Some(to)) => format!("{from}->{to}"),
            (None, Some(_), None) | (None, None, Some(_) | None) => self.segment.kind.clone(),
        }
    }
}

/// The conntrack entries of a diagnosis on one node.
#[derive(Debug, Deserialize)]
struct Conntrack {
    node: String,
    entries: Vec<String>,
}

impl Report {
    /// Fails unless the report names exactly these causes on these nodes. An empty node matches any.
    pub(crate) fn names(&self, expected: &[(&str, &str)]) -> Result<(), Failed> {
        let named: BTreeSet<(&str, &str)> = self
            .diagnoses
            .iter()
            .map(|one| (one.cause.as_str(), one.node.as_deref().unwrap_or_default()))
            .collect();
        let is_expected = |(cause, node): &(&str, &str)| {
            expected.iter().any(|(expected_cause, expected_node)| {
                cause == expected_cause && (expected_node.is_empty() || node == expected_node)
            })
        };
        let is_named = |(expected_cause, _): &(&str, &str)| {
            named.iter().any(|(cause, _)| cause == expected_cause)
        };
        if named.iter().all(is_expected) && expected.iter().all(is_named) {
            return Ok(());
        }
        Err(format!(
            "named {named:?}, expected {expected:?}\n{}",
            self.describe()
        )
        .into())
    }

    /// Whether agents had too little CPU time to see or to report everything.
    pub(crate) fn was_starved(&self) -> bool {
        self.notes.iter().any(|note| names_starvation(note))
    }

    /// The diagnoses with their evidence, and the paths that are not healthy.
    pub(crate) fn describe(&self) -> String {
        // This includes late paths, all of whose probes are established.
        let poor = self.paths.iter().filter(|path| path["health"] != "healthy");
        let paths: Vec<String> = poor
            .map(|path| {
                format!(
                    "{} -> {} {} {} {} {}, first SYN {}",
                    path["client"]["pod"],
                    path["server"]["pod"],
                    path["access_path"],
                    path["family"],
                    path["health"],
                    path["outcomes"],
                    path["first_syn_success"]
                )
            })
            .collect();
        let diagnoses: Vec<String> = (self.diagnoses.iter())
            .map(|one| format!("{}: {} {:?}", one.cause, one.evidence, one.would_decide))
            .collect();
        format!("{}\n{}", diagnoses.join("\n"), paths.join("\n"))
    }

    /// Fails if it names anything, or if the run ended with another status than 0.
    pub(crate) fn is_healthy(&self) -> Result<(), Failed> {
        self.names(&[])?;
        match self.exit_status {
            0 => Ok(()),
            status => Err(format!("names nothing and ended with {status}").into()),
        }
    }

    /// Fails unless a path of this kind was probed in this family.
    pub(crate) fn probes(&self, access_path: &str, family: &str) -> Result<(), Failed> {
        let matches = |path: &serde_json::Value| {
            path["access_path"] == access_path && path["family"] == family
        };
        if self.paths.iter().any(matches) {
            return Ok(());
        }
        Err(format!("no path by {access_path} was probed by {family}").into())
    }

    /// Fails if a path fails.
    pub(crate) fn fails_nowhere(&self) -> Result<(), Failed> {
        let mut failing = self.paths.iter().filter(|path| path["health"] == "failing");
        match failing.next() {
            None => Ok(()),
            Some(path) => Err(format!("a path fails without a cause: {path}").into()),
        }
    }

    /// Fails unless paths of this family fail, and no others.
    pub(crate) fn fails_only_on(&self, family: &str) -> Result<(), Failed> {
        let failing = || self.paths.iter().filter(|path| path["health"] == "failing");
        if failing().next().is_some() && failing().all(|path| path["family"] == family) {
            return Ok(());
        }
        let families: Vec<_> = failing().map(|path| &path["family"]).collect();
        Err(format!("paths should fail by {family} alone, and fail by {families:?}").into())
    }

    /// The servers of failing paths to slots of the Service.
    pub(crate) fn failing_servers(&self) -> impl Iterator<Item = Option<&str>> {
        let paths = self.paths.iter();
        paths
            .filter(|path| path["health"] == "failing" && path["access_path"] == "cluster-ip")
            .map(|path| path["server"]["pod"].as_str())
    }

    /// Fails unless each diagnosis shows the entry of its sample on this node as the kernel writes it, waiting for an answer.
    pub(crate) fn shows_unreplied_entry(&self, node: &str) -> Result<(), Failed> {
        let is_unreplied = |entry: &String| {
            entry.contains(" SYN_SENT src=") && entry.contains(" [UNREPLIED] src=")
        };
        let shows_entry = |diagnosis: &Diagnosis| {
            let mut on_node = diagnosis
                .conntrack
                .iter()
                .filter(|found| found.node == node);
            on_node.any(|found| matches!(&found.entries[..], [entry] if is_unreplied(entry)))
        };
        if self.diagnoses.iter().all(shows_entry) {
            return Ok(());
        }
        Err(format!(
            "no unreplied conntrack entry on {node}: {:#?}",
            self.diagnoses
        )
        .into())
    }

    /// The confidence of each diagnosis.
    pub(crate) fn confidences(&self) -> impl Iterator<Item = &str> {
        self.diagnoses.iter().map(|one| one.confidence.as_str())
    }
}

/// A command that runs the program.
pub(crate) fn command() -> Command {
    Command::new(&*PROBER)
}

/// A command that runs the program in the control plane's network. The nodes have the agent's image.
pub(crate) fn command_in(cluster: &Arc<Cluster>) -> Result<Command, Failed> {
    let mut with_image = WITH_IMAGE.lock().unwrap_or_else(PoisonError::into_inner);
    if !with_image.contains(&cluster.name) {
        cluster.import(&IMAGE)?;
        with_image.insert(cluster.name.clone());
    }
    Ok(cluster.command(&*PROBER))
}

/// Runs `prober run` to its end.
pub(crate) fn run(cluster: &Arc<Cluster>, arguments: &[&str]) -> Result<Output, Failed> {
    Ok(command_in(cluster)?.arg("run").args(arguments).output()?)
}

/// Runs `prober run -o json` to its end.
pub(crate) fn report(cluster: &Arc<Cluster>, arguments: &[&str]) -> Result<Report, Failed> {
    read(&run(cluster, &[arguments, &["-o", "json"]].concat())?)
}

/// Parses and validates the report of a run that has ended.
pub(crate) fn read(output: &Output) -> Result<Report, Failed> {
    let stderr = String::from_utf8_lossy(&output.stderr);
    let whole: serde_json::Value = serde_json::from_slice(&output.stdout)
        .map_err(|error| format!("ended with {:?}: {error}\n{stderr}", output.status.code()))?;
    if let Some(error) = SCHEMA.iter_errors(&whole).next() {
        return Err(format!(
            "{} does not match the schema: {error}",
            error.instance_path()
        )
        .into());
    }
    if whole["exit_status"].as_i64() != output.status.code().map(i64::from) {
        return Err(format!(
            "ended with {:?} and reports {}",
            output.status.code(),
            whole["exit_status"]
        )
        .into());
    }
    if output.status.code() == Some(2) {
        let unprobed: Vec<_> = (whole["paths"].as_array().into_iter().flatten())
            .filter(|path| path["health"] == "not-probed")
            .collect();
        return Err(format!(
            "could not run: {} {}; without an outcome: {unprobed:?}; {}; agents: {}\n{stderr}",
            whole["completion"], whole["unprobed"], whole["notes"], whole["agents"]
        )
        .into());
    }
    Ok(serde_json::from_value(whole)?)
}

/// Runs `prober clean` and returns its output.
pub(crate) fn clean(cluster: &Arc<Cluster>, arguments: &[&str]) -> Result<String, Failed> {
    let output = command_in(cluster)?.arg("clean").args(arguments).output()?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(String::from_utf8_lossy(&output.stderr).into_owned().into())
}

/// Waits until a pod of a run with this end of its name is running, and returns its name. Clients of nodes under test start
/// last.
pub(crate) fn await_running(cluster: &Arc<Cluster>, end: &str) -> Result<String, Failed> {
    let mut found = None;
    wait_until(
        &format!("a pod of the run whose name ends with {end} is running"),
        || {
            let running = [
                "get",
                "pods",
                "-A",
                "-l",
                LABEL,
                "--field-selector",
                "status.phase=Running",
                "-o",
                "name",
            ];
            let pods = cluster.kubectl(&running)?;
            let mut names = pods.lines().filter_map(|name| name.strip_prefix("pod/"));
            found = names.find(|name| name.ends_with(end)).map(str::to_owned);
            Ok(found.is_some())
        },
    )?;
    Ok(found.unwrap_or_default())
}

/// Waits until no object of any run exists.
pub(crate) fn nothing_left(cluster: &Arc<Cluster>) -> Result<(), Failed> {
    let mut left = Vec::new();
    let gone = wait_until("no object of a run is left", || {
        left = cluster.objects(LABEL)?;
        Ok(left.is_empty())
    });
    gone.map_err(|failed| format!("{}: {left:?}", failed.message().unwrap_or_default()).into())
}

/// A kubeconfig with this token. `ca` is base64; without it the client accepts any certificate.
pub(crate) fn kubeconfig(server: &str, token: &str, ca: Option<&str>) -> String {
    let trust = ca.map_or_else(
        || "insecure-skip-tls-verify: true".to_owned(),
        |ca| format!("certificate-authority-data: {ca}"),
    );
    format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: test\n\
         clusters: [{{name: test, cluster: {{server: '{server}', {trust}}}}}]\n\
         users: [{{name: test, user: {{token: '{token}'}}}}]\n\
         contexts: [{{name: test, context: {{cluster: test, user: test}}}}]\n"
    )
}

/// The PID of the cluster's API server.
pub(crate) fn api_server(cluster: &Cluster) -> Result<u32, Failed> {
    let folder = format!("/{}/", cluster.name);
    let processes = std::fs::read_dir("/proc")?.flatten();
    let mut pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let found = pids.find(|pid| {
        let words = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let words = String::from_utf8_lossy(&words);
        words.starts_with("kube-apiserver\0") && words.contains(&folder)
    });
    found.ok_or_else(|| "no API server runs".into())
}

/// Sends a signal to one process.
pub(crate) fn signal(pid: u32, name: &str) -> Result<(), Failed> {
    let sent = Command::new("kill")
        .args([&format!("-{name}"), &pid.to_string()])
        .status()?;
    if sent.success() {
        return Ok(());
    }
    Err(format!("kill -{name} {pid}: {sent}").into())
}
