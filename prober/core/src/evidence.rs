//! The evidence of a whole run: both ends of each probe, joined, and the facts of nodes and agents.

/// Whether the path carried the exchange after a handshake.
mod exchange;
/// Services that are translated inside connect(2).
mod socket_level;
/// What ended for want of a processor.
mod starvation;
/// Confidence intervals of counted shares.
pub mod statistics;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::node_facts::{Counters, NodeFacts};
use crate::probe::banner::Banner;
use crate::probe::event::{Hello, OutcomeCounts, ServerTrace, TtlProbe};
use crate::probe::latency::Latency;
use crate::probe::outcome::{EngineKind, OutcomeKind, ProbeResult};
use crate::probe::tier::Tier;
use crate::topology::{AgentId, NodeName, Path, PathId};

/// Everything that a diagnosis may look at.
#[derive(Clone, Debug, Default)]
pub struct Matrix {
    /// Where it comes from, which limits what can be concluded.
    pub source: Source,
    /// Every path, by its number.
    pub paths: BTreeMap<PathId, PathEvidence>,
    /// Paths that were meant to be probed and say nothing of the network, and why: an end of
    /// them could not be started, or ended too early.
    pub unprobed: BTreeMap<Path, String>,
    /// Every agent that was placed.
    pub agents: BTreeMap<AgentId, AgentEvidence>,
    /// Every node that an agent runs on.
    pub nodes: BTreeMap<NodeName, NodeEvidence>,
    /// The nodes whose pods have Services translated inside connect(2); see [`Matrix::learn_socket_level`].
    pub socket_level: BTreeSet<NodeName>,
    /// The NetworkPolicies that close the agents' pods, by what the API says. Whether anything enforces them it does
    /// not say.
    pub policies: Vec<String>,
}

/// Where evidence comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// A run: every path was asked on purpose, and both ends could be watched.
    #[default]
    Run,
    /// `prober probe`: only this host's end, targets that are not our responders.
    Host,
    /// A capture: whatever traffic there was.
    Capture,
}

/// What is known of one path.
#[derive(Clone, Debug)]
pub struct PathEvidence {
    /// The path.
    pub path: Path,
    /// The address and port that the client probes.
    pub target: SocketAddr,
    /// The agents that may answer, in the order of the Service's endpoints; what the
    /// Kubernetes API (or the lab) says should be.
    pub backends: Vec<Backend>,
    /// How many probes were asked for, TTL probes and the other port aside.
    pub requested: u64,
    /// Counts, by engine.
    pub tallies: BTreeMap<EngineKind, PathTally>,
    /// The probes that were reported in full: all that failed or were late, and some healthy ones.
    pub probes: Vec<Evidence>,
    /// The TTL probe, where one was sent. [`PathEvidence::believed_ttl_probe`] says whether it counts.
    pub ttl_probe: Option<TtlProbe>,
    /// What a probe of the server pod's other port met, where one was tried.
    pub other_port: Option<OutcomeKind>,
    /// Whether connect() translates the target (socket-level load balancing), as [`Matrix::learn_socket_level`] found. Not a
    /// fault: nothing translates crafted packets there, so the path is judged by `kernel` alone.
    pub socket_level: bool,
}

/// One endpoint that may answer on a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backend {
    /// The agent behind it; `None` if the endpoint is none of the live pods.
    pub agent: Option<AgentId>,
    /// The endpoint's address and port.
    pub address: SocketAddr,
    /// Whether the API calls it ready.
    pub ready: bool,
}

/// Counts of one path and engine.
#[derive(Clone, Debug, Default)]
pub struct PathTally {
    /// How many had which outcome.
    pub outcomes: OutcomeCounts,
    /// How many were established by their first SYN.
    pub first_syn_success: u64,
    /// Round trips of the established ones.
    pub rtt: Latency,
}

/// One probe with both ends.
#[derive(Clone, Debug)]
pub struct Evidence {
    /// What the client saw.
    pub client: ProbeResult,
    /// Which agent's end is `server`.
    pub server_agent: Option<AgentId>,
    /// What the server's end saw. `None`: unknown (no capture there, or no report).
    /// A server_trace without any packet: it was listening and saw nothing.
    pub server: Option<ServerTrace>,
}

/// What is known of an agent.
#[derive(Clone, Debug, Default)]
pub struct AgentEvidence {
    /// Its first line; `None` if it never reported.
    pub hello: Option<Hello>,
    /// Whether it reported every round to its end.
    pub has_reported: bool,
    /// Its own namespace's counters, before its first probe and after its last.
    pub counters: Option<(Counters, Counters)>,
    /// Packets that its ring gave.
    pub capture_received: u64,
    /// Packets that its ring lost.
    pub capture_dropped: u64,
    /// The longest it was late for its own timers, nanoseconds.
    pub starved_ns: u64,
    /// Why it could not be started, or ended too early.
    pub failed: Option<String>,
    /// Notices of the agent, for the report.
    pub notices: Vec<String>,
}

/// What a node says of itself, before and after the probes.
#[derive(Clone, Debug, Default)]
pub struct NodeEvidence {
    /// Before anything was placed there.
    pub before: Option<NodeFacts>,
    /// Just before the failing paths were probed again.
    pub during: Option<NodeFacts>,
    /// While they were, or after the last probe.
    pub after: Option<NodeFacts>,
    /// Why it could not be read.
    pub unread: Option<String>,
}

impl AgentEvidence {
    /// Whether its capture lost so much that what it did not see may well have been there: more
    /// than half of what it got. Of many probes, a few lost packets hide one, never all.
    pub const fn is_capture_unreliable(&self) -> bool {
        self.capture_dropped > self.capture_received / 2
    }
}

impl NodeEvidence {
    /// The newest reading.
    pub fn latest(&self) -> Option<&NodeFacts> {
        self.readings().next()
    }

    /// Every reading, the newest first.
    pub fn readings(&self) -> impl Iterator<Item = &NodeFacts> {
        [&self.after, &self.during, &self.before]
            .into_iter()
            .flatten()
    }
}

impl PathEvidence {
    /// Counts of all engines that are to be believed on this path.
    pub fn total(&self) -> PathTally {
        let mut total = PathTally::default();
        let believed = self.engines();
        for (engine, tally) in &self.tallies {
            if believed.contains(engine) {
                total.outcomes.add(&tally.outcomes);
                total.first_syn_success += tally.first_syn_success;
                total.rtt.add(&tally.rtt);
            }
        }
        total
    }

    /// How many of the probes that were asked for have no outcome, of any engine.
    pub fn unfinished(&self) -> u64 {
        let ended = (self.tallies.values())
            .map(|tally| tally.outcomes.total())
            .fold(0, u64::saturating_add);
        self.requested.saturating_sub(ended)
    }

    /// Whether every probe so far was established by its first SYN, and its exchange went well.
    /// A path without any outcome is not clean.
    pub fn is_clean(&self) -> bool {
        let total = self.total();
        total.outcomes.total() > 0
            && total.first_syn_success == total.outcomes.total()
            && self.believed().all(|(_, probe)| {
                let banner = probe.client.exchange.banner();
                probe.is_carried() && !banner.is_some_and(|banner| self.is_of_another(banner))
            })
    }

    /// Whether a banner comes from another pod than the path's server.
    pub fn is_of_another(&self, banner: &Banner) -> bool {
        (self.path.server.as_ref()).is_some_and(|server| server.pod != banner.pod)
    }

    /// The outcome that says most about what is wrong; `None` where no probe has ended yet.
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

    /// The engines whose outcomes count.
    pub fn engines(&self) -> Vec<EngineKind> {
        let all = self.tallies.keys().copied();
        all.filter(|&engine| self.believes(engine)).collect()
    }
}

impl Matrix {
    /// The best tier of evidence that was really had.
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
