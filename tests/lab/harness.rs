//! Runs the program in the lab and parses its report.

use std::collections::BTreeSet;
use std::process::{Command, Output};
use std::sync::LazyLock;

use libtest_mimic::Failed;
use serde::Deserialize;

use crate::program::PROBER;

/// The published schema of reports, against which every report of these tests is validated.
static SCHEMA: LazyLock<jsonschema::Validator> = LazyLock::new(|| {
    let text = include_str!("../../deploy/schema/report.v1.json");
    let schema = serde_json::from_str(text).expect("the schema is JSON");
    jsonschema::validator_for(&schema).expect("the schema is a JSON Schema")
});

/// A fault as `prober lab faults -o json` lists it.
#[derive(Clone, Deserialize)]
pub(crate) struct Fault {
    #[serde(rename = "fault")]
    pub(crate) name: String,
    pub(crate) causes: BTreeSet<String>,
    /// The node on which it is injected by default.
    #[serde(default)]
    pub(crate) node: Option<String>,
    /// The data planes on which it can be injected.
    pub(crate) data_planes: Vec<String>,
    /// Whether no connection fails because of it.
    #[serde(rename = "harmless")]
    pub(crate) is_harmless: bool,
    /// Whether connections fail because of it only while the pods of a run are new.
    pub(crate) ends_with_start_up: bool,
}

impl Fault {
    /// Whether it can be injected without `--data-plane`.
    pub(crate) fn is_on_the_default_data_plane(&self) -> bool {
        self.data_planes.iter().any(|name| name == "bridge-vxlan")
    }

    /// Whether the diagnosis may name another node than that of the injection: the cause is in the API's data
    /// about a Service, between two nodes, or on every node.
    pub(crate) fn may_be_elsewhere(&self) -> bool {
        [
            "no-endpoints",
            "stale-endpoint",
            "packet-loss",
            "overlay",
            "mtu",
            "duplicate-ip",
            "socket-level",
        ]
        .iter()
        .any(|prefix| self.name.starts_with(prefix))
    }
}

/// The fields of a report that the tests check.
#[derive(Deserialize)]
pub(crate) struct Report {
    pub(crate) diagnoses: Vec<Diagnosis>,
    pub(crate) paths: Vec<serde_json::Value>,
    /// Paths of second clients and servers.
    #[serde(default)]
    pub(crate) comparisons: Vec<serde_json::Value>,
    pub(crate) agents: Vec<serde_json::Value>,
    pub(crate) completion: String,
    pub(crate) socket_level: bool,
    pub(crate) notes: Vec<String>,
    #[serde(skip)]
    pub(crate) status: i32,
    #[serde(skip)]
    pub(crate) text: String,
}

/// One diagnosis of a report.
#[derive(Debug, Deserialize)]
pub(crate) struct Diagnosis {
    pub(crate) cause: String,
    pub(crate) node: Option<String>,
    pub(crate) segment: Segment,
    pub(crate) confidence: String,
    pub(crate) evidence: Vec<String>,
    /// The conntrack entries of the sample, by node.
    #[serde(default)]
    pub(crate) conntrack: Vec<Conntrack>,
}

/// The part of the path that a diagnosis is about.
#[derive(Debug, Deserialize)]
pub(crate) struct Segment {
    /// The nodes that it is between.
    #[serde(default)]
    pub(crate) from: Option<String>,
    #[serde(default)]
    pub(crate) to: Option<String>,
    /// The pod, where it is one.
    #[serde(default)]
    pub(crate) pod: serde_json::Value,
}

/// The conntrack entries of a diagnosis on one node.
#[derive(Debug, Deserialize)]
pub(crate) struct Conntrack {
    pub(crate) node: String,
    pub(crate) entries: Vec<String>,
    pub(crate) is_complete: bool,
}

/// Runs of the lab by the program under test.
pub(crate) struct Lab;

impl Lab {
    /// Returns every fault that the lab can inject.
    pub(crate) fn faults() -> Vec<Fault> {
        let output = prober(&["lab", "faults", "-o", "json"]);
        serde_json::from_slice(&output.stdout).expect("`prober lab faults -o json` is JSON")
    }

    /// Runs `prober run --lab` and returns its JSON report. Only with faults that end with the start-up of pods does it wait
    /// for closed paths as long as by default: with the others none opens.
    pub(crate) fn run(arguments: &[&str]) -> Result<Report, Failed> {
        let mut all = vec!["run", "--lab", "-o", "json"];
        all.extend(arguments);
        if !arguments
            .iter()
            .any(|word| word.starts_with("late-") || *word == "--wait-for-paths")
        {
            all.extend(["--wait-for-paths", "3s"]);
        }
        Report::read(&prober(&all))
            .map_err(|error| format!("prober {}: {error}", all.join(" ")).into())
    }
}

/// Runs the program.
pub(crate) fn prober(arguments: &[&str]) -> Output {
    Command::new(&*PROBER)
        .args(arguments)
        .output()
        .expect("run prober")
}

impl Report {
    /// Parses and validates the program's output.
    pub(crate) fn read(output: &Output) -> Result<Self, String> {
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let mut report: Self = serde_json::from_str(&text).map_err(|error| {
            format!(
                "{error}\nstatus {:?}\n{text}\n{}",
                output.status.code(),
                String::from_utf8_lossy(&output.stderr)
            )
        })?;
        let value: serde_json::Value =
            serde_json::from_str(&text).map_err(|error| error.to_string())?;
        if let Some(error) = SCHEMA.iter_errors(&value).next() {
            let path = error.instance_path();
            return Err(format!("the report violates the schema at {path}: {error}"));
        }
        report.status = output.status.code().unwrap_or(-1);
        report.text = text;
        Ok(report)
    }

    /// Fails unless exactly these causes are named and the exit status is that of the verdict.
    pub(crate) fn names_only(&self, causes: &BTreeSet<String>) -> Result<(), Failed> {
        let named: BTreeSet<String> = self
            .diagnoses
            .iter()
            .map(|diagnosis| diagnosis.cause.clone())
            .collect();
        if named != *causes {
            return Err(format!("named {named:?}, expected {causes:?}\n{}", self.summary()).into());
        }
        let expected = i32::from(!causes.is_empty());
        if self.status != expected {
            return Err(format!("exit status {}, expected {expected}", self.status).into());
        }
        Ok(())
    }

    /// Returns the diagnosis of this cause.
    pub(crate) fn diagnosis(&self, cause: &str) -> Result<&Diagnosis, Failed> {
        self.diagnoses
            .iter()
            .find(|diagnosis| diagnosis.cause == cause)
            .ok_or_else(|| format!("{cause} is not named\n{}", self.summary()).into())
    }

    /// Returns diagnoses and paths for the message of a failed test.
    pub(crate) fn summary(&self) -> String {
        if self.paths.is_empty() {
            // The run has failed: its text has the reason.
            return self.text.clone();
        }
        let diagnoses = self
            .diagnoses
            .iter()
            .map(|diagnosis| format!("{diagnosis:#?}"));
        let paths = self.paths.iter().map(|path| {
            format!(
                "{} -> {} {} {} {}",
                path["client"]["pod"],
                path["server"]["pod"],
                path["access_path"],
                path["family"],
                path["outcomes"]
            )
        });
        diagnoses.chain(paths).collect::<Vec<_>>().join("\n")
    }
}
