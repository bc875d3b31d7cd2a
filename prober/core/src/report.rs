//! The report of a run: one document with everything that the text, HTML, pcapng and JSON forms show.
//!
//! `Report::new` builds a report from the joined evidence and its diagnoses. `Report::parse` reads it back from its
//! JSON without loss, so a saved report can be shown in any form. The field names are a published
//! contract (`deploy/schema/report.v1.json`).

/// The packets of a probe that are not as they should be, and why.
pub mod annotation;
/// Builds a report from a matrix and its diagnoses.
mod build;
/// The conntrack entries of samples.
mod conntrack;
/// The matrices and reports of the founding incident and of a healthy network, for tests.
#[cfg(test)]
pub(crate) mod incident;
/// The notes of a report: what limits its verdict.
mod notes;
/// The report of one path.
mod path;
/// A report as text, JSON, HTML and JUnit XML.
pub mod render;
/// Shares and their confidence intervals, rounded to the precision of the measurement.
pub mod share;
/// Sources that nodes replace between pods.
mod source_translation;
/// The verdict of a report.
mod verdict;

use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::error::Category;

use crate::data_plane::{self, NodeDataPlane};
use crate::diagnosis::catalogue::Cause;
use crate::diagnosis::{Confidence, Exclusion, PathSegment, Remedy};
use crate::evidence::Source;
use crate::evidence::connections::Connections;
use crate::node_facts::{Counters, NodeFacts};
use crate::packet::family::Family;
use crate::probe::outcome::EngineKind;
use crate::probe::tier::Tier;
use crate::time::Timestamp;
use crate::topology::{NodeName, PathId};
pub use conntrack::ConntrackReport;
pub use path::{
    BackendReport, ComparisonReport, End, EngineUse, Health, MIN_HANDSHAKES, PathReport,
    ProbeReport, RttReport, UnprobedReport,
};

/// The value of [`Report::schema`]: the report format that this version reads and writes.
pub const REPORT_SCHEMA: &str = "prober.dev/report/v1";

/// Facts about a run that its evidence does not contain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meta {
    /// The version of prober, such as `0.1.0`.
    pub version: String,
    /// The command line as separate arguments, program name first.
    pub command: Vec<String>,
    /// When the run started, by the wall clock.
    pub started: Timestamp,
    /// How long the run took.
    pub duration: Duration,
    /// Whether the run completed.
    pub completion: Completion,
    /// Further notes for the reader, one sentence each.
    pub notes: Vec<String>,
}

/// Whether a run completed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "completion", rename_all = "kebab-case")]
pub enum Completion {
    /// Every probe has an outcome.
    Complete,
    /// The user interrupted the run; the report has the results until then.
    Interrupted,
    /// The run could not start or not complete; the report has the results until then.
    CouldNotRun {
        /// Why it could not complete, as a clause without a full stop.
        reason: String,
    },
}

/// The overall result of a run over all its paths.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Every path was probed and works.
    Healthy,
    /// A path fails, or a cause is named; also if other paths were not probed, or the run did not complete.
    Faulty,
    /// No probe failed, but some paths were not probed, or had fewer than [`MIN_HANDSHAKES`] handshakes; or the run did
    /// not complete, so its results are partial, and no path fails whose agents ran to the end.
    Inconclusive,
}

impl Verdict {
    /// The exit status of a program that reports this verdict: 0 healthy, 1 faulty, 2 inconclusive.
    pub const fn exit_status(self) -> u8 {
        match self {
            Self::Healthy => 0,
            Self::Faulty => 1,
            Self::Inconclusive => 2,
        }
    }

    /// The name of the verdict in JSON and text, such as `faulty`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Faulty => "faulty",
            Self::Inconclusive => "inconclusive",
        }
    }
}

/// The report of a run: its verdict, the diagnoses and the data behind them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Always [`REPORT_SCHEMA`].
    pub schema: String,
    /// The version of prober that made the report.
    pub prober: String,
    /// The command line of the run as separate arguments, program name first.
    pub command: Vec<String>,
    /// When the run started, or the first packet was captured (RFC 3339, UTC).
    pub started: String,
    /// How long the run took, or the time from the first captured packet to the last; in milliseconds.
    pub duration_ms: u64,
    /// Where the evidence comes from: a run in a cluster or lab, a single host, or a capture.
    pub source: Source,
    /// Whether the run completed. In JSON: the field `completion`, and `reason` if the run could not complete.
    #[serde(flatten)]
    pub completion: Completion,
    /// The overall result.
    pub verdict: Verdict,
    /// The exit status of the verdict: 0 healthy, 1 faulty, 2 inconclusive.
    pub exit_status: u8,
    /// The best tier of evidence that was available.
    pub tier: Tier,
    /// The engines that sent probes.
    pub engines: Vec<EngineKind>,
    /// Whether the address of a Service is translated inside connect(2) (socket-level load balancing). Crafted packets
    /// bypass this translation, so the `kernel` engine alone decides the health of such paths. Not a fault.
    pub socket_level: bool,
    /// The diagnoses: what is broken, and the evidence for it.
    pub diagnoses: Vec<DiagnosisReport>,
    /// The paths of the run, without those in `unprobed`.
    pub paths: Vec<PathReport>,
    /// Paths that the follow-up added for comparison: second clients and servers. They are not among `paths`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub comparisons: Vec<ComparisonReport>,
    /// Paths that could not be probed, for reasons other than the network.
    #[serde(default)]
    pub unprobed: Vec<UnprobedReport>,
    /// What happened to each connection of a capture; `None` where no capture was read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connections: Option<Connections>,
    /// Every agent of the run.
    pub agents: Vec<AgentReport>,
    /// Every node that an agent ran on.
    pub nodes: Vec<NodeReport>,
    /// What limits the verdict, and further notes, one sentence each.
    pub notes: Vec<String>,
}

impl Report {
    /// The data planes of the nodes, in a sentence for each kind of node.
    pub fn data_planes(&self) -> Vec<String> {
        let planes = self.nodes.iter();
        let known = planes.filter_map(|node| Some((&node.node, node.data_plane.as_ref()?)));
        data_plane::sentences(known)
    }
}

/// The cause of a diagnosis; `None` where no cause of the catalogue matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CauseName(pub Option<Cause>);

impl CauseName {
    /// The slug of the cause, or `unknown`.
    pub fn as_str(self) -> &'static str {
        self.0.map_or("unknown", Cause::slug)
    }
}

impl From<CauseName> for String {
    fn from(name: CauseName) -> Self {
        name.as_str().to_owned()
    }
}

impl TryFrom<String> for CauseName {
    type Error = crate::diagnosis::catalogue::UnknownCause;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        if text == "unknown" {
            return Ok(Self(None));
        }
        text.parse().map(|cause| Self(Some(cause)))
    }
}

/// One diagnosis of a report.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DiagnosisReport {
    /// The cause; in JSON its slug, or `unknown`.
    pub cause: CauseName,
    /// The meaning of the cause, in one line.
    pub meaning: String,
    /// The node at fault, if it is known.
    pub node: Option<NodeName>,
    /// The part of the path at fault.
    pub segment: PathSegment,
    /// The IP family that is affected; `None` for both.
    pub family: Option<Family>,
    /// The confidence of the diagnosis.
    pub confidence: Confidence,
    /// The best tier of evidence that supports the diagnosis.
    pub tier: Tier,
    /// The paths whose failures the diagnosis explains.
    pub paths: Vec<PathId>,
    /// The supporting observations, strongest first.
    pub evidence: Vec<String>,
    /// The causes that were ruled out, and why.
    pub excluded: Vec<Exclusion>,
    /// Further observations that would distinguish the remaining causes.
    pub would_decide: Vec<String>,
    /// Steps that repair the fault.
    pub remedy: Vec<Remedy>,
    /// The probe that shows the fault best.
    pub sample: Option<SampleProbe>,
    /// The conntrack entries of that probe, for each node at its ends where connection tracking was read; where only a part of
    /// the table was read and has none of it, those of another probe of its path.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conntrack: Vec<ConntrackReport>,
}

/// A reference to a probe of the report, shown as the example of a diagnosis.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SampleProbe {
    /// The path of the probe.
    pub path: PathId,
    /// Its index in [`PathReport::probes`].
    pub probe: usize,
}

/// One agent of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentReport {
    /// The node that the agent ran on.
    pub node: NodeName,
    /// The name of its pod.
    pub pod: String,
    /// Whether it reported every round of its plan to the end.
    pub has_reported: bool,
    /// The tier of evidence that it can collect; `None` if it sent no event.
    pub tier: Option<Tier>,
    /// The version of its program; `None` if it sent no event.
    pub version: Option<String>,
    /// Its IP addresses, without loopback and link-local ones.
    pub addresses: Vec<IpAddr>,
    /// The kinds of evidence that it cannot collect, and why.
    pub limits: Vec<String>,
    /// Packets that its capture dropped.
    pub capture_dropped: u64,
    /// The longest delay of one of its timers, in milliseconds: how long it was starved of CPU.
    pub starved_ms: u64,
    /// From its readiness to the first answer on the path that took longest, in milliseconds; `None` if it is not new, or has no
    /// answer. A path that was open when it was first tried counts with the time of that connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_connectivity_ms: Option<u64>,
    /// Why it could not start, or ended early; never a network fault.
    pub failed: Option<String>,
    /// Further notices from the agent.
    pub notices: Vec<String>,
}

/// The facts that were read on one node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeReport {
    /// The name of the node.
    pub node: NodeName,
    /// The newest facts, without lists and counters; `None` if they were not read.
    pub facts: Option<NodeFacts>,
    /// How it attaches pods, carries packets to other nodes and translates Services, as far as facts and packets show it.
    #[serde(default)]
    pub data_plane: Option<NodeDataPlane>,
    /// The counters that grew between the first and the last reading, and by how much.
    pub grown: Option<Counters>,
    /// Why the facts could not be read.
    pub unread: Option<String>,
}

/// Why a saved report cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// The input is not the JSON of a report.
    #[error("not a report of prober: {}; `prober run -o json` writes one", flaw(.0))]
    Json(serde_json::Error),
    /// The report has another schema version.
    #[error("its schema is '{0}', this prober reads '{REPORT_SCHEMA}'")]
    Schema(String),
}

/// The reason why a document is not the JSON of a report, as a clause.
fn flaw(error: &serde_json::Error) -> String {
    match error.classify() {
        Category::Eof if error.line() <= 1 && error.column() == 0 => "it is empty".to_owned(),
        Category::Eof => format!("it is cut off in line {}", error.line()),
        Category::Syntax => {
            let (line, column) = (error.line(), error.column());
            format!("it is not JSON, from line {line}, column {column} on")
        }
        Category::Data | Category::Io => error.to_string(),
    }
}

impl Report {
    /// Parses a report from its JSON.
    ///
    /// # Errors
    ///
    /// [`ReportError::Schema`] if its schema is not [`REPORT_SCHEMA`]; [`ReportError::Json`] if it is not a report.
    pub fn parse(json: &[u8]) -> Result<Self, ReportError> {
        #[derive(Deserialize)]
        struct SchemaOnly {
            schema: String,
        }
        let header: SchemaOnly = serde_json::from_slice(json).map_err(ReportError::Json)?;
        if header.schema != REPORT_SCHEMA {
            return Err(ReportError::Schema(header.schema));
        }
        serde_json::from_slice(json).map_err(ReportError::Json)
    }

    /// Every path, with those that were added for comparison.
    pub fn all_paths(&self) -> impl Iterator<Item = &PathReport> {
        let compared = self.comparisons.iter().map(|comparison| &comparison.path);
        self.paths.iter().chain(compared)
    }

    /// The path with the number `id`.
    pub fn path(&self, id: PathId) -> Option<&PathReport> {
        self.all_paths().find(|path| path.id == id)
    }

    /// The probed paths with fewer than [`MIN_HANDSHAKES`] handshakes, too few to call them healthy. A capture has none: its
    /// connections are those that there were, and each of them is judged.
    pub fn sparsely_probed(&self) -> impl Iterator<Item = &PathReport> {
        let is_probing = match self.source {
            Source::Run | Source::Host => true,
            Source::Capture => false,
        };
        self.paths.iter().filter(move |path| {
            let own = path.outcomes.total();
            is_probing && own > 0 && own < MIN_HANDSHAKES
        })
    }

    /// The probe that `diagnosis` shows as its example, with its path.
    pub fn sample(&self, diagnosis: &DiagnosisReport) -> Option<(&PathReport, &ProbeReport)> {
        let sample = diagnosis.sample?;
        let path = self.path(sample.path)?;
        path.probes.get(sample.probe).map(|probe| (path, probe))
    }
}
