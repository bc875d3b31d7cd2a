//! The program against a cluster: run as users run it, and asked what its report says and what it left.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use libtest_mimic::Failed;
use serde::Deserialize;

use crate::harness::{Cluster, wait_until};
use crate::program::PROBER;

/// What everything of every run carries.
pub(crate) const LABEL: &str = "prober.dev/run";

/// The agent's image, built once.
static IMAGE: LazyLock<PathBuf> = LazyLock::new(|| {
    let checkout = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
    let made = Command::new(checkout.join("scripts/image"))
        .arg("prober-agent")
        .output()
        .expect("run scripts/image");
    let said = String::from_utf8_lossy(&made.stderr);
    assert!(made.status.success(), "the image is not made: {said}");
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| checkout.join("target"), PathBuf::from);
    target.join("image/prober-agent.tar")
});

/// The clusters whose nodes have the image.
static SUPPLIED: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// The published schema of reports: every report of these tests is held to it.
static SCHEMA: LazyLock<jsonschema::Validator> = LazyLock::new(|| {
    let text = include_str!("../../deploy/schema/report.v1.json");
    let schema = serde_json::from_str(text).expect("the schema is JSON");
    jsonschema::validator_for(&schema).expect("the schema is a schema")
});

/// What a report says, as far as the tests ask.
#[derive(Debug, Deserialize)]
pub(crate) struct Report {
    pub(crate) diagnoses: Vec<Diagnosis>,
    paths: Vec<serde_json::Value>,
}

/// One diagnosis of a report.
#[derive(Debug, Deserialize)]
pub(crate) struct Diagnosis {
    pub(crate) cause: String,
    pub(crate) node: Option<String>,
    pub(crate) confidence: String,
    evidence: serde_json::Value,
}

impl Report {
    /// Fails unless exactly these causes are named, each on its node; where no node is given, on any.
    pub(crate) fn names(&self, expected: &[(&str, &str)]) -> Result<(), Failed> {
        let named: BTreeSet<(&str, &str)> = self
            .diagnoses
            .iter()
            .map(|one| (one.cause.as_str(), one.node.as_deref().unwrap_or_default()))
            .collect();
        let is_expected = |(cause, node): &(&str, &str)| {
            expected
                .iter()
                .any(|(wanted, at)| cause == wanted && (at.is_empty() || node == at))
        };
        let is_named = |(wanted, _): &(&str, &str)| named.iter().any(|(cause, _)| cause == wanted);
        if named.iter().all(is_expected) && expected.iter().all(is_named) {
            return Ok(());
        }
        // Late ones as well: all of their probes are established.
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
        let told: Vec<String> = (self.diagnoses.iter())
            .map(|one| format!("{}: {}", one.cause, one.evidence))
            .collect();
        Err(format!(
            "named {named:?}, expected {expected:?}\n{}\n{}",
            told.join("\n"),
            paths.join("\n")
        )
        .into())
    }

    /// Fails unless this access path was probed in this family.
    pub(crate) fn probes(&self, access_path: &str, family: &str) -> Result<(), Failed> {
        let is_it = |path: &serde_json::Value| {
            path["access_path"] == access_path && path["family"] == family
        };
        if self.paths.iter().any(is_it) {
            return Ok(());
        }
        Err(format!("no path by {access_path} was probed by {family}").into())
    }

    /// Fails where any path does.
    pub(crate) fn fails_nowhere(&self) -> Result<(), Failed> {
        let mut failing = self.paths.iter().filter(|path| path["health"] == "failing");
        match failing.next() {
            None => Ok(()),
            Some(path) => Err(format!("a path fails, with no cause: {path}").into()),
        }
    }

    /// Fails unless paths of this family fail, and none of another.
    pub(crate) fn fails_only_on(&self, family: &str) -> Result<(), Failed> {
        let failing = || self.paths.iter().filter(|path| path["health"] == "failing");
        if failing().next().is_some() && failing().all(|path| path["family"] == family) {
            return Ok(());
        }
        let families: Vec<_> = failing().map(|path| &path["family"]).collect();
        Err(format!("paths should fail by {family} alone, and fail by {families:?}").into())
    }

    /// The pods to which paths fail that name one.
    pub(crate) fn failing_servers(&self) -> impl Iterator<Item = Option<&str>> {
        let paths = self.paths.iter();
        paths
            .filter(|path| path["health"] == "failing" && path["access_path"] == "cluster-ip")
            .map(|path| path["server"]["pod"].as_str())
    }

    /// How sure each diagnosis is.
    pub(crate) fn confidences(&self) -> impl Iterator<Item = &str> {
        self.diagnoses.iter().map(|one| one.confidence.as_str())
    }
}

/// The program, here.
pub(crate) fn command() -> Command {
    Command::new(&*PROBER)
}

/// The program where it reaches the cluster's API server, whose nodes have the agent's image.
pub(crate) fn command_in(cluster: &Arc<Cluster>) -> Result<Command, Failed> {
    let mut supplied = SUPPLIED.lock().unwrap_or_else(PoisonError::into_inner);
    if !supplied.contains(&cluster.name) {
        cluster.import(&IMAGE)?;
        supplied.insert(cluster.name.clone());
    }
    Ok(cluster.command(&*PROBER))
}

/// `prober run` to its end.
pub(crate) fn run(cluster: &Arc<Cluster>, arguments: &[&str]) -> Result<Output, Failed> {
    Ok(command_in(cluster)?.arg("run").args(arguments).output()?)
}

/// `prober run -o json` to its end.
pub(crate) fn report(cluster: &Arc<Cluster>, arguments: &[&str]) -> Result<Report, Failed> {
    read(&run(cluster, &[arguments, &["-o", "json"]].concat())?)
}

/// The report of a run that has ended, held to what is published of reports.
pub(crate) fn read(output: &Output) -> Result<Report, Failed> {
    let told = String::from_utf8_lossy(&output.stderr);
    let whole: serde_json::Value = serde_json::from_slice(&output.stdout)
        .map_err(|error| format!("ended with {:?}: {error}\n{told}", output.status.code()))?;
    if let Some(error) = SCHEMA.iter_errors(&whole).next() {
        return Err(format!(
            "{} is not what the schema says: {error}",
            error.instance_path()
        )
        .into());
    }
    if whole["exit_status"].as_i64() != output.status.code().map(i64::from) {
        return Err(format!(
            "ended with {:?} and says {}",
            output.status.code(),
            whole["exit_status"]
        )
        .into());
    }
    if output.status.code() == Some(2) {
        let silent: Vec<_> = (whole["paths"].as_array().into_iter().flatten())
            .filter(|path| path["health"] == "not-probed")
            .collect();
        return Err(format!(
            "could not run: {} {}; without an outcome: {silent:?}; {}; agents: {}\n{told}",
            whole["completion"], whole["unprobed"], whole["notes"], whole["agents"]
        )
        .into());
    }
    Ok(serde_json::from_value(whole)?)
}

/// What `prober clean` says.
pub(crate) fn clean(cluster: &Arc<Cluster>, arguments: &[&str]) -> Result<String, Failed> {
    let output = command_in(cluster)?.arg("clean").args(arguments).output()?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(String::from_utf8_lossy(&output.stderr).into_owned().into())
}

/// Waits until a pod of a run runs whose name ends so, and tells its name. Clients of nodes under test come last.
pub(crate) fn await_running(cluster: &Arc<Cluster>, end: &str) -> Result<String, Failed> {
    let mut found = None;
    wait_until(
        &format!("a pod of the run runs that ends with {end}"),
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

/// Waits until no object of any run is there.
pub(crate) fn nothing_left(cluster: &Arc<Cluster>) -> Result<(), Failed> {
    let mut left = Vec::new();
    let gone = wait_until("nothing of a run is left", || {
        left = cluster.objects(LABEL)?;
        Ok(left.is_empty())
    });
    gone.map_err(|failed| format!("{}: {left:?}", failed.message().unwrap_or_default()).into())
}

/// A kubeconfig for whoever has the token; without a `ca` (base64) any certificate will do.
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

/// The process of the cluster's API server.
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
