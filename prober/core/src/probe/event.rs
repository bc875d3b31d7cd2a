//! The event lines that an agent writes: one JSON object each. The first line carries the version of the schema.

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use crate::node_facts::{Counters, NodeFacts};
use crate::packet::observation::Observation;
use crate::packet::{Checksum, Seq, Unreachable};
use crate::probe::latency::Latency;
use crate::probe::outcome::{EngineKind, OutcomeKind, ProbeResult};
use crate::probe::tier::Tier;
use crate::time::Timestamp;
use crate::topology::{AccessPath, AgentId, PathId};

/// The version of the event lines; the first line carries it.
pub const EVENT_SCHEMA: &str = "prober.dev/agent/v1";

/// One line of an agent's standard output.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// The first line: the name and the abilities of the agent.
    Hello(Hello),
    /// A plan was accepted; its probes start now.
    PlanAccepted {
        /// The plan's generation.
        generation: u32,
    },
    /// The targets that answered while the agent waited for them, before `plan-accepted`.
    Reached {
        /// One entry per target.
        targets: Vec<Reached>,
    },
    /// A plan was refused; the last good one stays in force.
    PlanRefused {
        /// Why.
        reason: String,
    },
    /// A probe that failed or was late, or a sample of the healthy ones.
    Probe(Box<ProbeResult>),
    /// Counts of one path since the last tally.
    Tally(Tally),
    /// Handshakes that this agent observed as a server since the last such line.
    ServerTrace {
        /// One entry per handshake. The counts of several entries of one handshake add up.
        handshakes: Vec<ServerTrace>,
    },
    /// The answers to a TTL probe.
    TtlProbe(TtlProbe),
    /// Counters of the agent's network namespace before and after the probes of one plan.
    Counters {
        /// The plan's generation.
        generation: u32,
        /// Before its first probe.
        before: Counters,
        /// After its last.
        after: Counters,
    },
    /// How complete the packet capture is, counted since the start of the agent.
    Capture {
        /// Packets that the capture delivered.
        received: u64,
        /// Packets that the capture lost. They were not lost on the network.
        dropped: u64,
    },
    /// Every probe of a plan has an outcome.
    Done {
        /// The plan's generation.
        generation: u32,
    },
    /// The agent did not get enough processor time. Comes before `done`; an agent without probes reports it at any time.
    Starved {
        /// The longest delay of a timer since the last such line, nanoseconds.
        late_ns: u64,
    },
    /// Comes after a failed or late probe of an unattended plan, or after failures of a path of the standing plan: the lines before it describe
    /// the failure, and the log needs to be read now.
    Alert,
    /// A failed probe of the standing plan, before the `alert` that it is a reason for.
    StandingFailure(Box<StandingFailure>),
    /// Facts of a node, read by an agent in the node's own network namespace where its plan requests them.
    Facts(Box<NodeFacts>),
    /// A message for people.
    Notice {
        /// The message.
        text: String,
    },
}

/// The name and the abilities of an agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Always [`EVENT_SCHEMA`].
    pub schema: String,
    /// The agent.
    pub agent: AgentId,
    /// The version of its program.
    pub version: String,
    /// The tier of evidence that it can collect.
    pub tier: Tier,
    /// Its addresses, without loopback and link-local ones.
    pub addresses: Vec<IpAddr>,
    /// What it cannot collect, and why; one sentence per entry.
    pub limits: Vec<String>,
    /// When it was ready.
    pub at: Timestamp,
    /// The run whose first plan this line comes before; `None` in the first line of a log. A standing agent writes the line
    /// again for each run, so that a reader of the log's end needs nothing from before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<String>,
}

/// A failed probe of the standing plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StandingFailure {
    /// How the server was addressed.
    pub access_path: AccessPath,
    /// The server that was expected; `None` where any may answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<AgentId>,
    /// The generation of the standing plan.
    pub generation: u64,
    /// Whether another server answered than the plan says, for longer than a change of the plan takes to reach every node.
    #[serde(default)]
    pub stale: bool,
    /// The probe with its packets; its `path` has no meaning.
    pub result: ProbeResult,
}

/// A target that answered while its client waited for it, before its first probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reached {
    /// The target.
    pub target: SocketAddr,
    /// The number of connections that failed before.
    pub failures: u32,
    /// When the first connection began, by the client's clock.
    pub tried: Timestamp,
    /// When one was established, by the client's clock.
    pub at: Timestamp,
}

/// Counts of one path.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tally {
    /// The path.
    pub path: PathId,
    /// What sent the probes.
    pub engine: EngineKind,
    /// Number of probes by outcome.
    pub outcomes: OutcomeCounts,
    /// Number of probes that their first SYN established.
    pub first_syn_success: u64,
    /// Round-trip times of the established ones.
    pub rtt: Latency,
}

/// Number of probes by outcome.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutcomeCounts {
    /// See [`OutcomeKind::Established`].
    pub established: u64,
    /// See [`OutcomeKind::Reset`].
    pub reset: u64,
    /// See [`OutcomeKind::Timeout`].
    pub timeout: u64,
    /// See [`OutcomeKind::Unreachable`].
    pub unreachable: u64,
    /// See [`OutcomeKind::RefusedLocally`].
    #[serde(default)]
    pub refused_locally: u64,
    /// See [`OutcomeKind::Mismatched`].
    pub mismatched: u64,
}

impl OutcomeCounts {
    /// Counts one probe.
    pub const fn count(&mut self, kind: OutcomeKind) {
        match kind {
            OutcomeKind::Established => self.established += 1,
            OutcomeKind::Reset => self.reset += 1,
            OutcomeKind::Timeout => self.timeout += 1,
            OutcomeKind::Unreachable => self.unreachable += 1,
            OutcomeKind::RefusedLocally => self.refused_locally += 1,
            OutcomeKind::Mismatched => self.mismatched += 1,
        }
    }

    /// Number of probes with this outcome.
    pub const fn of(&self, kind: OutcomeKind) -> u64 {
        match kind {
            OutcomeKind::Established => self.established,
            OutcomeKind::Reset => self.reset,
            OutcomeKind::Timeout => self.timeout,
            OutcomeKind::Unreachable => self.unreachable,
            OutcomeKind::RefusedLocally => self.refused_locally,
            OutcomeKind::Mismatched => self.mismatched,
        }
    }

    /// Number of all probes; saturates.
    pub const fn total(&self) -> u64 {
        self.established
            .saturating_add(self.reset)
            .saturating_add(self.timeout)
            .saturating_add(self.unreachable)
            .saturating_add(self.refused_locally)
            .saturating_add(self.mismatched)
    }

    /// Adds another's counts.
    pub const fn add(&mut self, other: &Self) {
        self.established = self.established.saturating_add(other.established);
        self.reset = self.reset.saturating_add(other.reset);
        self.timeout = self.timeout.saturating_add(other.timeout);
        self.unreachable = self.unreachable.saturating_add(other.unreachable);
        self.refused_locally = self.refused_locally.saturating_add(other.refused_locally);
        self.mismatched = self.mismatched.saturating_add(other.mismatched);
    }
}

/// One handshake as the server's end observed it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerTrace {
    /// The client's initial sequence number.
    pub isn: Seq,
    /// The client's address as it arrived here.
    pub peer: SocketAddr,
    /// The server's address and port that the SYN arrived at.
    pub local: SocketAddr,
    /// SYNs that arrived.
    pub syns: u32,
    /// SYN+ACKs that left.
    pub syn_acks: u32,
    /// Pure ACKs and data that arrived.
    pub acks: u32,
    /// RSTs that arrived.
    pub resets_received: u32,
    /// RSTs that left.
    pub resets_sent: u32,
    /// The packets; empty where an ordinary handshake is only counted.
    pub observations: Vec<Observation>,
}

impl ServerTrace {
    /// The trace of a server that has not observed any packet of this handshake.
    pub const fn empty(isn: Seq, peer: SocketAddr, local: SocketAddr) -> Self {
        Self {
            isn,
            peer,
            local,
            syns: 0,
            syn_acks: 0,
            acks: 0,
            resets_received: 0,
            resets_sent: 0,
            observations: Vec::new(),
        }
    }
}

/// The answers to a TTL probe: SYNs of one five-tuple with rising hop limits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TtlProbe {
    /// The path.
    pub path: PathId,
    /// The address and port that the SYNs were sent to.
    pub target: SocketAddr,
    /// One entry per hop limit, ascending.
    pub steps: Vec<TtlStep>,
}

/// The answer to one hop limit of a TTL probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TtlStep {
    /// The SYN's hop limit.
    pub hop_limit: u8,
    /// How many times the SYN was sent.
    pub tries: u8,
    /// The first answer to it.
    pub answer: TtlStepAnswer,
    /// Whether the SYN's checksum was right where a router quoted it, which this end sent with a right one.
    #[serde(default, skip_serializing_if = "Checksum::is_unknown")]
    pub checksum: Checksum,
}

/// How one step of a TTL probe was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum TtlStepAnswer {
    /// No answer to any of the SYNs.
    Silent,
    /// A router reports that the hop limit is used up.
    TimeExceeded {
        /// The source of the ICMP message: the router, or the `ClusterIP` where NAT rewrote it.
        by: IpAddr,
        /// The hop limit that the ICMP message arrived with; it shows the distance of the router.
        hop_limit: u8,
    },
    /// A SYN+ACK from any source.
    SynAck {
        /// Its source.
        from: SocketAddr,
        /// The hop limit that it arrived with.
        hop_limit: u8,
    },
    /// A RST.
    Reset {
        /// Its source.
        from: SocketAddr,
        /// The hop limit that it arrived with.
        hop_limit: u8,
    },
    /// An ICMP unreachable.
    Unreachable {
        /// Its source.
        by: IpAddr,
        /// Why.
        reason: Unreachable,
        /// The hop limit that it arrived with.
        hop_limit: u8,
    },
}

/// A line that does not parse as an event.
#[derive(Debug, thiserror::Error)]
#[error("a line of an agent does not parse: {why}: {line}")]
pub struct EventError {
    /// The error of serde, shortened: it may quote input of any length.
    why: String,
    /// The start of the line.
    line: String,
}

impl Event {
    /// Parses one line.
    pub fn parse(line: &str) -> Result<Self, EventError> {
        serde_json::from_str(line).map_err(|error| EventError {
            why: error.to_string().chars().take(160).collect(),
            line: line.chars().take(120).collect(),
        })
    }

    /// The event as one line, without its newline.
    pub fn to_line(&self) -> String {
        serde_json::to_string(self).unwrap_or_else(|error| {
            // Serializing to memory fails only where a map has a key that is no string; none has.
            format!("{{\"event\":\"notice\",\"text\":\"an event did not serialize: {error}\"}}")
        })
    }
}
