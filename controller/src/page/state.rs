//! What the page shows: plain data, made from the state of the canary by `snapshot`.
//!
//! Every text in it is bounded. Serialized it is the answer of the API.

use std::collections::BTreeMap;
use std::sync::Arc;

use prober_core::report::render::html::fingerprint::Fingerprint;
use prober_core::report::{DiagnosisReport, Report};
use prober_core::time::Timestamp;
use serde::{Serialize, Serializer};

/// What the page shows, without the time of the reading.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PageState {
    /// The controller that answers.
    pub controller: ControllerView,
    /// The checks, by name.
    pub checks: Vec<CheckView>,
    /// The nodes that checks select, in natural order.
    pub nodes: Vec<NodeView>,
    /// The outages that last, the oldest first.
    pub outages: Vec<OutageView>,
    /// The outages that have ended, the newest first.
    pub ended: Vec<OutageView>,
    /// The results between nodes, where these are few.
    pub pairs: Vec<PairView>,
}

/// A state, and when it was read.
#[derive(Clone, Debug, Default)]
pub struct Reading {
    /// When it was read while the controller held the Lease, by the wall clock.
    pub at: Timestamp,
    /// Differs where the state differs.
    pub version: u64,
    /// The state.
    pub state: Arc<PageState>,
}

/// A controller.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ControllerView {
    /// Its identity in the Lease.
    pub identity: String,
    /// Whether it holds the Lease.
    pub leads: bool,
    /// Its version.
    pub version: String,
}

/// A check.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CheckView {
    /// Its name.
    pub name: String,
    /// Whether it is paused.
    pub paused: bool,
    /// How often each node's own paths are probed, such as `10s`.
    pub interval: String,
    /// The nodes that it selects.
    pub nodes: usize,
    /// Those whose agents probe.
    pub measured: usize,
    /// Those whose last results are healthy.
    pub working: usize,
    /// The ordered pairs of nodes that are probed within a cycle.
    pub pairs: i64,
    /// How long a cycle takes.
    pub cycle: String,
    /// The servers that have a slot of the test Service.
    pub slots: usize,
}

/// The state of a node, worst first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum NodeHealth {
    /// An outage involves it.
    Failing,
    /// Its agents report a failure, which is not confirmed.
    Alerting,
    /// Nothing is measured there.
    #[default]
    NotMeasured,
    /// Its agents start.
    Starting,
    /// Its last results are healthy.
    Working,
}

/// A property by which nodes are grouped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Grouping {
    /// Its zone.
    Zone,
    /// Its node pool.
    Pool,
    /// Its machine type.
    InstanceType,
    /// Its kernel.
    Kernel,
    /// The image of its operating system.
    OsImage,
    /// The version of its kubelet.
    Kubelet,
}

/// A node.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeView {
    /// Its name.
    pub name: String,
    /// The check that probes it.
    pub check: String,
    /// Its state.
    pub health: NodeHealth,
    /// Why nothing is measured there; empty where something is.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub why: String,
    /// Since when its agents report a failure.
    #[serde(
        skip_serializing_if = "Option::is_none",
        serialize_with = "optional_time"
    )]
    pub alerting_since: Option<Timestamp>,
    /// Its properties, as far as they are known.
    pub groups: BTreeMap<Grouping, String>,
    /// The outages that last and involve it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub outages: Vec<String>,
}

/// An outage.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct OutageView {
    /// Identifies it while its explanation stays the same.
    pub id: String,
    /// The check that found it.
    pub check: String,
    /// The affected node, if it is a single one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// Its cause, such as `bridge-netfilter-off`.
    pub cause: String,
    /// The meaning of the cause, in one line.
    pub meaning: String,
    /// `proven` or `consistent`.
    pub confidence: String,
    /// What the failing paths have in common; empty if no path is known.
    pub place: String,
    /// When it began.
    #[serde(serialize_with = "time")]
    pub since: Timestamp,
    /// When it ended.
    #[serde(
        skip_serializing_if = "Option::is_none",
        serialize_with = "optional_time"
    )]
    pub end: Option<Timestamp>,
    /// Why it ended; empty while it lasts.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub ended_because: String,
    /// The kinds of its paths, such as `cluster-ip, same node`.
    pub kinds: Vec<String>,
    /// The number of its paths.
    pub paths: usize,
    /// The first nodes that it involves.
    pub nodes: Vec<String>,
    /// How many nodes it involves.
    pub node_count: usize,
    /// Which paths fail where.
    #[serde(skip)]
    pub fingerprint: Fingerprint,
    /// The newest examination that found it.
    #[serde(skip)]
    pub report: Option<FailureReport>,
}

/// The report of an examination, and the diagnosis in it.
#[derive(Clone, Debug)]
pub struct FailureReport {
    /// The report.
    pub report: Arc<Report>,
    /// The index of the diagnosis.
    pub diagnosis: usize,
}

impl FailureReport {
    /// The diagnosis.
    pub fn diagnosis(&self) -> Option<&DiagnosisReport> {
        self.report.diagnoses.get(self.diagnosis)
    }
}

impl PartialEq for FailureReport {
    /// Whether both are of the same examination.
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.report, &other.report) && self.diagnosis == other.diagnosis
    }
}

/// The results from one node to another.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PairView {
    /// The client's node.
    pub client: String,
    /// The server's node.
    pub server: String,
    /// The access paths with a confirmed failure.
    pub failing: Vec<String>,
    /// The number of paths whose last results are healthy.
    pub working: usize,
}

impl Grouping {
    /// Every property, in order of preference.
    pub const ALL: [Self; 6] = [
        Self::Zone,
        Self::Pool,
        Self::InstanceType,
        Self::Kernel,
        Self::OsImage,
        Self::Kubelet,
    ];

    /// Its name in a URL.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Zone => "zone",
            Self::Pool => "pool",
            Self::InstanceType => "instance-type",
            Self::Kernel => "kernel",
            Self::OsImage => "os-image",
            Self::Kubelet => "kubelet",
        }
    }

    /// Its name in a sentence.
    pub const fn words(self) -> &'static str {
        match self {
            Self::Zone => "zone",
            Self::Pool => "node pool",
            Self::InstanceType => "machine type",
            Self::Kernel => "kernel",
            Self::OsImage => "OS image",
            Self::Kubelet => "kubelet",
        }
    }

    /// The property with this name in a URL.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.as_str() == name)
    }
}

impl NodeHealth {
    /// Every state, worst first.
    pub const ALL: [Self; 5] = [
        Self::Failing,
        Self::Alerting,
        Self::NotMeasured,
        Self::Starting,
        Self::Working,
    ];

    /// Its class in the style sheet.
    pub const fn class(self) -> &'static str {
        match self {
            Self::Failing => "failing",
            Self::Alerting => "affected",
            Self::NotMeasured | Self::Starting => "not-probed",
            Self::Working => "works",
        }
    }

    /// Its symbol and word.
    pub const fn words(self) -> &'static str {
        match self {
            Self::Failing => "✕ fails",
            Self::Alerting => "△ alerts",
            Self::NotMeasured => "○ not measured",
            Self::Starting => "○ starts",
            Self::Working => "✓ works",
        }
    }

    /// Its name in a URL.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Failing => "failing",
            Self::Alerting => "alerting",
            Self::NotMeasured => "not-measured",
            Self::Starting => "starting",
            Self::Working => "working",
        }
    }

    /// The state with this name in a URL.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.as_str() == name)
    }
}

impl NodeView {
    /// The value of a property.
    pub fn group(&self, grouping: Grouping) -> Option<&str> {
        self.groups.get(&grouping).map(String::as_str)
    }
}

impl PageState {
    /// The node with this name.
    pub fn node(&self, name: &str) -> Option<&NodeView> {
        self.nodes.iter().find(|node| node.name == name)
    }

    /// The outage with this id, also one that has ended.
    pub fn outage(&self, id: &str) -> Option<&OutageView> {
        let mut all = self.outages.iter().chain(&self.ended);
        all.find(|outage| outage.id == id)
    }

    /// The number of nodes in a state.
    pub fn count(&self, health: NodeHealth) -> usize {
        let nodes = self.nodes.iter();
        nodes.filter(|node| node.health == health).count()
    }

    /// The number of nodes whose agents probe.
    pub fn measured(&self) -> usize {
        self.checks.iter().map(|check| check.measured).sum()
    }
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde calls it with a reference"
)]
fn time<S: Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&time.to_rfc3339())
}

#[expect(clippy::ref_option, reason = "serde calls it with a reference")]
fn optional_time<S: Serializer>(at: &Option<Timestamp>, serializer: S) -> Result<S::Ok, S::Error> {
    match at {
        Some(at) => time(at, serializer),
        None => serializer.serialize_none(),
    }
}
