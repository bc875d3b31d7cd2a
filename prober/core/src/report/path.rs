//! The report of one path: its statistics, and its probes as seen from both ends.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::evidence::Comparison;
use crate::packet::family::Family;
use crate::probe::event::{OutcomeCounts, ServerTrace, TtlProbe};
use crate::probe::outcome::{OutcomeKind, ProbeResult};
use crate::report::annotation::Annotation;
use crate::topology::{AccessPath, AgentId, NodeName, PathId, Scope};

/// The state of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Health {
    /// The first SYN of every probe established a connection.
    Healthy,
    /// Every probe established a connection, but some only after a retransmitted SYN.
    Late,
    /// Every probe established a connection, but for the first ones: they failed while a pod at one end was new
    /// ([`Matrix::openings`](crate::evidence::Matrix::openings)).
    Opened,
    /// A probe failed, or a diagnosis explains the path.
    Failing,
    /// No probe has an outcome.
    NotProbed,
}

/// The least number of handshakes for a path to be healthy. After three handshakes without a failure the 95 % interval
/// (Wilson) of the failure rate still reaches 56 %; after four it ends below 50 %, the rate of a Service with one dead
/// endpoint of two.
pub const MIN_HANDSHAKES: u64 = 4;

/// The engines that the statistics of a path come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EngineUse {
    /// The kernel's connect() alone.
    Kernel,
    /// Crafted segments alone.
    Raw,
    /// Both engines, with the same result.
    Both,
}

/// One path that could be probed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PathReport {
    /// The number of the path in this report.
    pub id: PathId,
    /// The end that sends the probes.
    pub client: End,
    /// The end that should answer; node and pod are `None` where the Service selects the endpoint.
    pub server: End,
    /// How the client addresses the server.
    pub access_path: AccessPath,
    /// Whether the two ends are on the same node; `any` where the Service selects the endpoint.
    pub scope: Scope,
    /// The IP family.
    pub family: Family,
    /// The engines that sent probes; `None` if none did.
    pub engine: Option<EngineUse>,
    /// The address and port that the probes are sent to.
    pub target: SocketAddr,
    /// The state of the path.
    pub health: Health,
    /// Whether the target's address is translated inside connect(2).
    pub socket_level: bool,
    /// The number of probes per outcome.
    pub outcomes: OutcomeCounts,
    /// The number of requested probes without an outcome: in flight, or not sent yet, when the run was interrupted or
    /// the agent ended.
    pub unfinished: u64,
    /// The share of all probes (0 to 1) whose first SYN established a connection.
    pub first_syn_success: Option<f64>,
    /// The share of all probes (0 to 1) that received neither an answer from the target's address nor an error: those
    /// that timed out or were answered from another address (`mismatched`).
    pub loss: Option<f64>,
    /// The 95 % interval of `loss` (Wilson).
    pub loss_interval: Option<[f64; 2]>,
    /// The round-trip times of the established probes, in microseconds.
    pub rtt_us: RttReport,
    /// The endpoints that may answer, according to the Kubernetes API.
    pub backends: Vec<BackendReport>,
    /// The result of the TTL probe, if one ran on this path.
    pub ttl_probe: Option<TtlProbe>,
    /// The outcome of a probe to another port of the server's pod, if one was sent.
    pub other_port: Option<OutcomeKind>,
    /// Probes with their packets: failing and late ones, and those that a diagnosis shows.
    pub probes: Vec<ProbeReport>,
    /// The number of failing or late probes that `probes` leaves out.
    pub probes_omitted: u64,
}

/// A path with another pod of a node as client or server, probed in the follow-up. It distinguishes a fault of one pod from one
/// of its node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ComparisonReport {
    /// The end that the other pod replaces.
    pub kind: Comparison,
    /// The path.
    pub path: PathReport,
}

/// A path that could not be probed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnprobedReport {
    /// The end that would have sent the probes.
    pub client: End,
    /// The end that should have answered; node and pod are `None` where the Service selects the endpoint.
    pub server: End,
    /// How the client would have addressed the server.
    pub access_path: AccessPath,
    /// Whether the two ends are on the same node; `any` where the Service selects the endpoint.
    pub scope: Scope,
    /// The IP family.
    pub family: Family,
    /// Why it was not probed.
    pub reason: String,
}

/// The node and the pod at one end of a path.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct End {
    /// The name of the node.
    pub node: Option<NodeName>,
    /// The name of the pod.
    pub pod: Option<String>,
}

/// Round-trip times in microseconds, to two significant digits, the precision of the histogram.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RttReport {
    /// The median.
    pub p50: Option<f64>,
    /// The 99th percentile; of fewer than 100 round trips, the longest.
    pub p99: Option<f64>,
    /// The number of round trips.
    pub count: u64,
}

/// An endpoint that may answer on a path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackendReport {
    /// The node of the endpoint's pod; `None` if the address belongs to no live pod.
    pub node: Option<NodeName>,
    /// The endpoint's pod.
    pub pod: Option<String>,
    /// The endpoint's address and port.
    pub address: SocketAddr,
    /// Whether the endpoint is ready, according to the Kubernetes API.
    pub ready: bool,
}

/// One probe, seen from both ends.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProbeReport {
    /// The result and the packets at the client's end.
    pub client: ProbeResult,
    /// The agent that recorded `server`.
    pub server_agent: Option<AgentId>,
    /// The packets at the server's end. `None` if no agent reported them; a trace without packets if none arrived.
    pub server: Option<ServerTrace>,
    /// Annotations of single packets.
    pub annotations: Vec<Annotation>,
}

impl From<&AgentId> for End {
    fn from(agent: &AgentId) -> Self {
        Self {
            node: Some(agent.node.clone()),
            pod: Some(agent.pod.clone()).filter(|pod| !pod.is_empty()),
        }
    }
}
