//! The evidence of a whole run: both ends of each probe, joined, and the facts of nodes and agents.

/// Another pod in the place of one end.
mod comparison;
/// What happened to each connection of a capture.
pub mod connections;
/// The conntrack entries of a probe.
pub mod conntrack;
/// Whether the path carried the exchange after a handshake.
mod exchange;
/// The time that the paths of new agents took to work.
mod first_connectivity;
/// The addresses of agents and the facts of nodes.
mod lookup;
/// Policies of the API.
pub mod policies;
/// Services that are translated inside connect(2).
mod socket_level;
/// Paths that opened after their pods were ready.
pub mod start_up;
/// Probes that failed for lack of processor time.
mod starvation;
/// Confidence intervals of counted shares.
pub mod statistics;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use comparison::Comparison;
pub use lookup::AgentAddresses;

use crate::node_facts::{Counters, NodeFacts};
use crate::probe::banner::Banner;
use crate::probe::event::{Hello, OutcomeCounts, Reached, ServerTrace, TtlProbe};
use crate::probe::latency::Latency;
use crate::probe::outcome::{EngineKind, Outcome, OutcomeKind, ProbeResult};
use crate::probe::tier::Tier;
use crate::time::Timestamp;
use crate::topology::{AgentId, NodeName, Path, PathId};

use policies::ApiPolicies;

/// All input of a diagnosis.
#[derive(Clone, Debug, Default)]
pub struct Matrix {
    /// Where it comes from, which limits what can be concluded.
    pub source: Source,
    /// Every path, by its number.
    pub paths: BTreeMap<PathId, PathEvidence>,
    /// Those of them that a follow-up added, with another pod of a node as client or server.
    pub comparisons: BTreeMap<PathId, Comparison>,
    /// Paths that were meant to be probed and are no evidence of the network, and why: an end of
    /// them could not be started, or ended too early.
    pub unprobed: BTreeMap<Path, String>,
    /// Every agent that was placed.
    pub agents: BTreeMap<AgentId, AgentEvidence>,
    /// Every node that an agent runs on.
    pub nodes: BTreeMap<NodeName, NodeEvidence>,
    /// The nodes whose pods have Services translated inside connect(2); see [`Matrix::learn_socket_level`].
    pub socket_level: BTreeSet<NodeName>,
    /// The policies of the API that may deny packets of the agents' pods; it does not show whether they are enforced.
    pub policies: ApiPolicies,
}

/// Where evidence comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// A run: every path was probed deliberately, and both ends could be observed.
    #[default]
    Run,
    /// `prober probe`: only this host's end; the targets need not be responders.
    Host,
    /// A capture: any traffic.
    Capture,
}

/// The evidence of one path.
#[derive(Clone, Debug)]
pub struct PathEvidence {
    /// The path.
    pub path: Path,
    /// The address and port that the client probes.
    pub target: SocketAddr,
    /// The agents that may answer, in the order of the Service's endpoints, according to the Kubernetes API (or the lab).
    pub backends: Vec<Backend>,
    /// The number of planned probes, without TTL probes and those of the other port.
    pub requested: u64,
    /// Counts, by engine.
    pub tallies: BTreeMap<EngineKind, PathTally>,
    /// The probes that were reported in full: all failed or late ones, and some healthy ones.
    pub probes: Vec<Evidence>,
    /// The TTL probe, where one was sent. [`PathEvidence::counted_ttl_probe`] returns it if it counts.
    pub ttl_probe: Option<TtlProbe>,
    /// The outcome of a probe of the server pod's other port, where one was sent.
    pub other_port: Option<OutcomeKind>,
    /// Whether connect() translates the target (socket-level load balancing), as [`Matrix::learn_socket_level`] found. Not a
    /// fault: crafted packets are not translated there, so only the `kernel` engine counts.
    pub socket_level: bool,
}

/// One endpoint that may answer on a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backend {
    /// The agent behind it; `None` if no live pod has this address.
    pub agent: Option<AgentId>,
    /// The endpoint's address and port.
    pub address: SocketAddr,
    /// Whether it is ready according to the API.
    pub ready: bool,
}

/// Counts of one path and engine.
#[derive(Clone, Debug, Default)]
pub struct PathTally {
    /// The number of probes by outcome.
    pub outcomes: OutcomeCounts,
    /// The number of probes that their first SYN established.
    pub first_syn_success: u64,
    /// Round-trip times of the established ones.
    pub rtt: Latency,
}

impl PathTally {
    /// Counts one probe.
    pub fn count(&mut self, probe: &ProbeResult) {
        self.outcomes.count(probe.outcome.kind());
        self.first_syn_success += u64::from(probe.is_first_syn_success());
        if let Outcome::Established { rtt_ns, .. } = probe.outcome {
            self.rtt.record(Duration::from_nanos(rtt_ns));
        }
    }

    /// Adds counts and round-trip times; saturates, since an agent's line may claim any number.
    pub fn add(&mut self, outcomes: &OutcomeCounts, first_syn_success: u64, rtt: &Latency) {
        self.outcomes.add(outcomes);
        self.first_syn_success = self.first_syn_success.saturating_add(first_syn_success);
        self.rtt.add(rtt);
    }
}

/// One probe with both ends.
#[derive(Clone, Debug)]
pub struct Evidence {
    /// What the client observed.
    pub client: ProbeResult,
    /// The agent whose end is `server`.
    pub server_agent: Option<AgentId>,
    /// What the server's end observed. `None`: unknown (no capture there, or no report).
    /// A [`ServerTrace`] without any packet: it was listening and observed nothing.
    pub server: Option<ServerTrace>,
}

/// The evidence of an agent.
#[derive(Clone, Debug, Default)]
pub struct AgentEvidence {
    /// Its first line; `None` if it never reported.
    pub hello: Option<Hello>,
    /// When the run noticed that it is ready, by the run's clock; `None` if it was not started by this run, or if a path to or
    /// from it worked in an earlier cycle.
    pub ready_at: Option<Timestamp>,
    /// The targets that answered while it waited for them, before its first probe.
    pub reached: BTreeMap<SocketAddr, Reached>,
    /// Whether it reported every round to its end.
    pub has_reported: bool,
    /// Its own namespace's counters, before its first probe and after its last.
    pub counters: Option<(Counters, Counters)>,
    /// Packets that its capture delivered.
    pub capture_received: u64,
    /// Packets that its capture lost.
    pub capture_dropped: u64,
    /// The longest delay of its own timers, nanoseconds.
    pub starved_ns: u64,
    /// Why it could not be started, or ended too early.
    pub failed: Option<String>,
    /// Notices of the agent, for the report.
    pub notices: Vec<String>,
}

/// The facts of a node, before and after the probes.
#[derive(Clone, Debug, Default)]
pub struct NodeEvidence {
    /// Before any pod was placed there.
    pub before: Option<NodeFacts>,
    /// Just before the failing paths were probed again.
    pub during: Option<NodeFacts>,
    /// During those probes, or after the last probe.
    pub after: Option<NodeFacts>,
    /// Why they could not be read.
    pub unread: Option<String>,
}

impl AgentEvidence {
    /// Whether its capture lost so much that a packet it lacks may well have been there: more
    /// than half of all packets. Of many probes, a few lost packets hide one, never all.
    pub const fn is_capture_unreliable(&self) -> bool {
        self.capture_dropped > self.capture_received / 2
    }
}

impl NodeEvidence {
    /// The most recent reading.
    pub fn latest(&self) -> Option<&NodeFacts> {
        self.readings().next()
    }

    /// Every reading, the most recent first.
    pub fn readings(&self) -> impl Iterator<Item = &NodeFacts> {
        [&self.after, &self.during, &self.before]
            .into_iter()
            .flatten()
    }
}

impl PathEvidence {
    /// A path without any evidence.
    pub const fn new(path: Path, target: SocketAddr, backends: Vec<Backend>) -> Self {
        Self {
            path,
            target,
            backends,
            requested: 0,
            tallies: BTreeMap::new(),
            probes: Vec::new(),
            ttl_probe: None,
            other_port: None,
            socket_level: false,
        }
    }

    /// The agents that may answer: that of the path, and those of its backends.
    pub fn servers(&self) -> impl Iterator<Item = &AgentId> {
        let backends = self.backends.iter();
        let agents = backends.filter_map(|backend| backend.agent.as_ref());
        self.path.server.iter().chain(agents)
    }

    /// The counts of all engines that count on this path.
    pub fn total(&self) -> PathTally {
        let mut total = PathTally::default();
        let engines = self.engines();
        for (engine, tally) in &self.tallies {
            if engines.contains(engine) {
                total.add(&tally.outcomes, tally.first_syn_success, &tally.rtt);
            }
        }
        total
    }

    /// The number of planned probes without an outcome, of any engine.
    pub fn unfinished(&self) -> u64 {
        let ended = (self.tallies.values())
            .map(|tally| tally.outcomes.total())
            .fold(0, u64::saturating_add);
        self.requested.saturating_sub(ended)
    }

    /// Whether every probe so far was established by its first SYN and completed its exchange.
    /// A path without any outcome is not clean.
    pub fn is_clean(&self) -> bool {
        let total = self.total();
        total.outcomes.total() > 0
            && total.first_syn_success == total.outcomes.total()
            && self.counted().all(|(_, probe)| {
                let banner = probe.client.exchange.banner();
                probe.is_carried() && !banner.is_some_and(|banner| self.is_of_another(banner))
            })
    }

    /// Whether a banner comes from another pod than the path's server.
    pub fn is_of_another(&self, banner: &Banner) -> bool {
        (self.path.server.as_ref()).is_some_and(|server| server.pod != banner.pod)
    }

    /// The outcome that is most indicative of a fault; `None` where no probe has ended yet.
    pub fn worst(&self) -> Option<OutcomeKind> {
        let outcomes = self.total().outcomes;
        [
            OutcomeKind::Mismatched,
            OutcomeKind::Timeout,
            OutcomeKind::Unreachable,
            OutcomeKind::RefusedLocally,
            OutcomeKind::Reset,
            OutcomeKind::Established,
        ]
        .into_iter()
        .find(|&kind| outcomes.of(kind) > 0)
    }

    /// The engines that count on this path.
    pub fn engines(&self) -> Vec<EngineKind> {
        let all = self.tallies.keys().copied();
        all.filter(|&engine| self.counts(engine)).collect()
    }
}

impl Matrix {
    /// The best tier of the evidence that was actually collected.
    pub fn tier(&self) -> Tier {
        if self.nodes.values().any(|node| node.latest().is_some()) {
            return Tier::T2;
        }
        self.agents
            .values()
            .filter_map(|agent| agent.hello.as_ref().map(|hello| hello.tier))
            .max()
            .unwrap_or(if self.source == Source::Run {
                Tier::T0
            } else {
                Tier::T1
            })
    }
}
