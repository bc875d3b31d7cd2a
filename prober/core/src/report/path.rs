//! What is told of one path: its figures, and its probes seen from both ends.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::packet::family::Family;
use crate::probe::event::{OutcomeCounts, ServerTrace, TtlProbe};
use crate::probe::outcome::{OutcomeKind, ProbeResult};
use crate::report::annotation::PacketMark;
use crate::topology::{AccessPath, AgentId, NodeName, PathId, Scope};

/// How a path does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Health {
    /// Every probe was established, by its first SYN.
    Healthy,
    /// Every probe was established, but some only after a SYN was repeated.
    Late,
    /// A probe failed, or a diagnosis explains the path.
    Failing,
    /// No probe has an outcome.
    NotProbed,
}

/// The fewest handshakes that can call a path healthy. Of three without a failure the 95 % interval (Wilson) still says
/// that up to 56 % may fail; of four it ends below a half, so that a Service one of whose two endpoints is dead would have
/// shown it.
pub const FEWEST_HANDSHAKES: u64 = 4;

/// Which engines a path's figures come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EngineUse {
    /// The kernel's connect() alone.
    Kernel,
    /// Crafted segments alone.
    Raw,
    /// Both, and they agree.
    Both,
}

/// One path.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PathReport {
    /// Its number in this report.
    pub id: PathId,
    /// Who asks.
    pub client: End,
    /// Who should answer; both names `None` where the Service picks.
    pub server: End,
    /// How the client addresses the server.
    pub access_path: AccessPath,
    /// Where the two ends stand relative to each other.
    pub scope: Scope,
    /// The IP family.
    pub family: Family,
    /// What the figures come from; `None` where nothing was sent.
    pub engine: Option<EngineUse>,
    /// The address and port that are asked.
    pub target: SocketAddr,
    /// How it does.
    pub health: Health,
    /// Whether the address is translated inside connect(2).
    pub socket_level: bool,
    /// How many probes had which outcome.
    pub outcomes: OutcomeCounts,
    /// How many probes were asked for and have no outcome: still in flight, or not sent yet, when
    /// the run was interrupted or their agent ended.
    pub unfinished: u64,
    /// The share of all probes (0 to 1) that the first SYN established.
    pub first_syn_success: Option<f64>,
    /// The share of all probes (0 to 1) that the asked address left without an answer, and no
    /// error came either: timeouts and mismatched ones.
    pub loss: Option<f64>,
    /// The 95 % interval of `loss` (Wilson).
    pub loss_interval: Option<[f64; 2]>,
    /// Round trips of the established probes.
    pub rtt_us: RttReport,
    /// The endpoints that may answer, as the API says.
    pub backends: Vec<BackendReport>,
    /// The TTL ladder, where one was climbed.
    pub ttl_probe: Option<TtlProbe>,
    /// What a probe of the server pod's other port met, where one was tried.
    pub other_port: Option<OutcomeKind>,
    /// Probes in full: failing and late ones, and those that a diagnosis shows.
    pub probes: Vec<ProbeReport>,
    /// How many failing or late probes were left out of `probes`.
    pub probes_omitted: u64,
}

/// A path that could not be probed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnprobedReport {
    /// Who would have asked.
    pub client: End,
    /// Who should have answered; both names `None` where the Service picks.
    pub server: End,
    /// How the client would have addressed the server.
    pub access_path: AccessPath,
    /// Where the two ends stand relative to each other.
    pub scope: Scope,
    /// The IP family.
    pub family: Family,
    /// Why.
    pub reason: String,
}

/// One end of a path.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct End {
    /// Its node.
    pub node: Option<NodeName>,
    /// Its pod.
    pub pod: Option<String>,
}

/// Round trips in microseconds, with the two digits that the histogram has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RttReport {
    /// The median.
    pub p50: Option<f64>,
    /// What 99 % do not exceed; of fewer than 100 round trips that is the longest.
    pub p99: Option<f64>,
    /// How many were measured.
    pub count: u64,
}

/// One endpoint that may answer on a path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackendReport {
    /// The node of the pod behind it; `None` if it is none of the live pods.
    pub node: Option<NodeName>,
    /// The pod behind it.
    pub pod: Option<String>,
    /// Its address and port.
    pub address: SocketAddr,
    /// Whether the API calls it ready.
    pub ready: bool,
}

/// One probe, seen from both ends.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProbeReport {
    /// What the client saw.
    pub client: ProbeResult,
    /// Whose end `server` is.
    pub server_agent: Option<AgentId>,
    /// What the server's end saw. `None`: not heard; a witness without packets: saw nothing.
    pub server: Option<ServerTrace>,
    /// What is to be said of single packets.
    pub marks: Vec<PacketMark>,
}

impl From<&AgentId> for End {
    fn from(agent: &AgentId) -> Self {
        Self {
            node: Some(agent.node.clone()),
            pod: Some(agent.pod.clone()).filter(|pod| !pod.is_empty()),
        }
    }
}
