//! What a run found, as one document: text, HTML, pcapng and JSON show nothing that is not in it.
//!
//! A `Report` is made once from the joined evidence and its diagnoses, and is read back from
//! its own JSON without loss, so that a saved report can be shown in any form later. The names
//! of its fields are a contract (`deploy/schema/report.v1.json`).

/// Which packets of a probe are odd, and why.
pub mod annotation;
/// From a matrix and its diagnoses to a report.
mod build;
/// The founding incident, for tests.
#[cfg(test)]
pub(crate) mod incident;
/// What limits the verdict.
mod notes;
/// What is told of one path.
mod path;
/// A report as text, JSON and HTML.
pub mod render;
/// Shares with their intervals, rounded to what was measured.
pub mod share;

use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::error::Category;

use crate::diagnosis::catalogue::Cause;
use crate::diagnosis::{Confidence, Exclusion, PathSegment, Remedy};
use crate::evidence::Source;
use crate::node_facts::{Counters, NodeFacts};
use crate::packet::family::Family;
use crate::probe::outcome::EngineKind;
use crate::probe::tier::Tier;
use crate::time::Timestamp;
use crate::topology::{NodeName, PathId};
pub use path::{
    BackendReport, End, EngineUse, FEWEST_HANDSHAKES, Health, PathReport, ProbeReport, RttReport,
    UnprobedReport,
};

/// The version of reports that this code reads and writes.
pub const REPORT_SCHEMA: &str = "prober.dev/report/v1";

/// What the evidence itself does not know of its run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meta {
    /// The version of the program.
    pub version: String,
    /// The command line, word by word, program first.
    pub command: Vec<String>,
    /// When it started, by the wall clock.
    pub started: Timestamp,
    /// How long it took.
    pub duration: Duration,
    /// Whether it came to its end.
    pub completion: Completion,
    /// What a person should know besides, one sentence each.
    pub notes: Vec<String>,
}

/// Whether a run came to its end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "completion", rename_all = "kebab-case")]
pub enum Completion {
    /// Every probe has an outcome.
    Complete,
    /// The user ended it: it tells what it has.
    Interrupted,
    /// It could not be done, or not to its end: it tells what it has.
    CouldNotRun {
        /// Why, as a sentence.
        reason: String,
    },
}

/// What all paths together amount to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Every path was probed and works.
    Healthy,
    /// A path fails, or a cause is named.
    Faulty,
    /// No failure was seen, but not everything was looked at, or too few handshakes were made to
    /// say; or the run could not be completed, and what it saw until then may be half the truth.
    Inconclusive,
}

impl Verdict {
    /// The exit status of a program that tells this verdict.
    pub const fn exit_status(self) -> u8 {
        match self {
            Self::Healthy => 0,
            Self::Faulty => 1,
            Self::Inconclusive => 2,
        }
    }

    /// The name used in JSON and text.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Faulty => "faulty",
            Self::Inconclusive => "inconclusive",
        }
    }
}

/// What a run found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Always [`REPORT_SCHEMA`].
    pub schema: String,
    /// The version of the program that made it.
    pub prober: String,
    /// The command line, word by word, program first.
    pub command: Vec<String>,
    /// When the run started, or the first packet was captured (RFC 3339, UTC).
    pub started: String,
    /// How long the run took, or the time from the first captured packet to the last; milliseconds.
    pub duration_ms: u64,
    /// Where the evidence comes from.
    pub source: Source,
    /// Whether the run came to its end: `completion`, and `reason` where it could not.
    #[serde(flatten)]
    pub completion: Completion,
    /// What it amounts to.
    pub verdict: Verdict,
    /// The exit status that says so: 0 healthy, 1 a path fails, 2 could not tell.
    pub exit_status: u8,
    /// The best tier of evidence that was had.
    pub tier: Tier,
    /// The engines that sent probes.
    pub engines: Vec<EngineKind>,
    /// Whether a Service is translated inside connect(2), where crafted packets meet no
    /// translation: its paths are judged by `kernel` alone. Not a fault.
    pub socket_level: bool,
    /// What is broken, and why that is said.
    pub diagnoses: Vec<DiagnosisReport>,
    /// Every path.
    pub paths: Vec<PathReport>,
    /// Paths that could not be probed, which says nothing of the network.
    #[serde(default)]
    pub unprobed: Vec<UnprobedReport>,
    /// Every agent.
    pub agents: Vec<AgentReport>,
    /// Every node that an agent ran on.
    pub nodes: Vec<NodeReport>,
    /// What a person should know besides.
    pub notes: Vec<String>,
}

/// A cause, or that there is none with a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CauseName(pub Option<Cause>);

impl CauseName {
    /// The slug, or `unknown`.
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

/// One diagnosis.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DiagnosisReport {
    /// The cause's slug, or `unknown`.
    pub cause: CauseName,
    /// What that means, in one line.
    pub meaning: String,
    /// The node where it is.
    pub node: Option<NodeName>,
    /// The stretch of the way where it is.
    pub segment: PathSegment,
    /// The family that suffers; `None` for both.
    pub family: Option<Family>,
    /// How sure it is.
    pub confidence: Confidence,
    /// The best tier of evidence that it rests on.
    pub tier: Tier,
    /// The paths that it explains.
    pub paths: Vec<PathId>,
    /// What was seen, strongest first.
    pub evidence: Vec<String>,
    /// What was ruled out, and by what.
    pub excluded: Vec<Exclusion>,
    /// Observations that would decide between what is left.
    pub would_decide: Vec<String>,
    /// What to do.
    pub remedy: Vec<Remedy>,
    /// The probe that shows it best.
    pub sample: Option<SampleProbe>,
}

/// Which of the report's probes is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SampleProbe {
    /// Its path.
    pub path: PathId,
    /// Its place among [`PathReport::probes`].
    pub probe: usize,
}

/// One agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentReport {
    /// Its node.
    pub node: NodeName,
    /// Its pod.
    pub pod: String,
    /// Whether it reported to its end.
    pub heard: bool,
    /// The evidence that it can have; `None` if it never spoke.
    pub tier: Option<Tier>,
    /// The version of its program.
    pub version: Option<String>,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// What it could not have, and why.
    pub limits: Vec<String>,
    /// Packets that its capture lost.
    pub capture_dropped: u64,
    /// The longest that it was late for its own timers, milliseconds.
    pub starved_ms: u64,
    /// Why it could not be started, or ended too early; never a network fault.
    pub failed: Option<String>,
    /// What it found worth telling.
    pub notices: Vec<String>,
}

/// What a node said of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeReport {
    /// Its name.
    pub node: NodeName,
    /// Its newest facts, without lists and counters; `None`: not read.
    pub facts: Option<NodeFacts>,
    /// Counters that grew from the first reading to the last.
    pub grown: Option<Counters>,
    /// Why it could not be read.
    pub unread: Option<String>,
}

/// A saved report that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// It is not the JSON of a report.
    #[error("not a report of prober: {}; `prober run -o json` writes one", flaw(.0))]
    Json(serde_json::Error),
    /// It is of another version.
    #[error("its schema is '{0}', this prober reads '{REPORT_SCHEMA}'")]
    Schema(String),
}

/// What is wrong with a document that should be a report.
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
    /// Reads a report back from its JSON.
    pub fn parse(json: &[u8]) -> Result<Self, ReportError> {
        #[derive(Deserialize)]
        struct Head {
            schema: String,
        }
        let head: Head = serde_json::from_slice(json).map_err(ReportError::Json)?;
        if head.schema != REPORT_SCHEMA {
            return Err(ReportError::Schema(head.schema));
        }
        serde_json::from_slice(json).map_err(ReportError::Json)
    }

    /// The path of that number.
    pub fn path(&self, id: PathId) -> Option<&PathReport> {
        self.paths.iter().find(|path| path.id == id)
    }

    /// The paths that were probed, but by fewer handshakes than can call them healthy. Ordinary traffic is counted as a
    /// whole: a capture has the handshakes that it has.
    pub fn scarce(&self) -> impl Iterator<Item = &PathReport> {
        let all: u64 = self.paths.iter().map(|path| path.outcomes.total()).sum();
        let source = self.source;
        self.paths.iter().filter(move |path| {
            let own = path.outcomes.total();
            let counted = match source {
                Source::Run | Source::Host => own,
                Source::Capture => all,
            };
            own > 0 && counted < FEWEST_HANDSHAKES
        })
    }

    /// The path and the probe that a diagnosis shows.
    pub fn sample(&self, diagnosis: &DiagnosisReport) -> Option<(&PathReport, &ProbeReport)> {
        let sample = diagnosis.sample?;
        let path = self.path(sample.path)?;
        path.probes.get(sample.probe).map(|probe| (path, probe))
    }
}
