//! The lines that an agent writes: one JSON object each, versioned by the first.

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use crate::node_facts::{Counters, NodeFacts};
use crate::packet::observation::Observation;
use crate::packet::{Seq, Unreachable};
use crate::probe::latency::Latency;
use crate::probe::outcome::{EngineKind, OutcomeKind, ProbeResult};
use crate::probe::tier::Tier;
use crate::time::Timestamp;
use crate::topology::{AgentId, PathId};

/// The version of the lines, told by the first.
pub const EVENT_SCHEMA: &str = "prober.dev/agent/v1";

/// One line of an agent's standard output.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// The first line: who speaks and what it can do.
    Hello(Hello),
    /// A plan was taken; its probes start now.
    PlanAccepted {
        /// The plan's generation.
        generation: u32,
    },
    /// A plan was refused; the last good one stays in force.
    PlanRefused {
        /// Why.
        reason: String,
    },
    /// A probe that failed, was late, or stands for the healthy ones.
    Probe(Box<ProbeResult>),
    /// Counts of one path since the last tally.
    Tally(Tally),
    /// What this end saw as a server, since the last such line.
    ServerTrace {
        /// One entry a handshake; several for one handshake add up.
        handshakes: Vec<ServerTrace>,
    },
    /// What a TTL ladder met.
    TtlProbe(TtlProbe),
    /// The own network namespace's counters around the probes of one plan.
    Counters {
        /// The plan's generation.
        generation: u32,
        /// Before its first probe.
        before: Counters,
        /// After its last.
        after: Counters,
    },
    /// How complete the packets of this end are, since the start.
    Capture {
        /// Packets that the ring gave.
        received: u64,
        /// Packets that it lost: a lost capture is not a lost packet.
        dropped: u64,
    },
    /// Every probe of a plan has an outcome.
    Done {
        /// The plan's generation.
        generation: u32,
    },
    /// The agent got too little of its processors. Before `done`; one that only answers says it at any time.
    Starved {
        /// The longest that it was late for what it had to do, since it last said so, nanoseconds.
        late_ns: u64,
    },
    /// Nobody reads it, and something has happened: what it had to tell of it is told, and it rings.
    Alert,
    /// What a node says of itself (written by an agent in the node's own network that was told to
    /// read it).
    Facts(Box<NodeFacts>),
    /// Something that a person should know.
    Notice {
        /// In words.
        text: String,
    },
}

/// Who an agent is and what it can do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Always [`EVENT_SCHEMA`].
    pub schema: String,
    /// The agent.
    pub agent: AgentId,
    /// The version of its program.
    pub version: String,
    /// The evidence that it can have.
    pub tier: Tier,
    /// Its addresses, without loopback and link-local ones.
    pub addresses: Vec<IpAddr>,
    /// What it could not have, and why, in words; one entry each.
    pub limits: Vec<String>,
    /// When it was ready.
    pub at: Timestamp,
}

/// Counts of one path.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tally {
    /// The path.
    pub path: PathId,
    /// What sent the probes.
    pub engine: EngineKind,
    /// How many had which outcome.
    pub outcomes: OutcomeCounts,
    /// How many were established by their first SYN.
    pub first_syn_success: u64,
    /// Round trips of the established ones.
    pub rtt: Latency,
}

/// How many probes had which outcome.
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
    /// Counts one.
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

    /// How many had that outcome.
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

    /// All of them; the most there is where a line claims more.
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

/// What a server's end saw of one handshake.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerTrace {
    /// The client's initial sequence number.
    pub isn: Seq,
    /// The client's address as it arrived here.
    pub peer: SocketAddr,
    /// The own address that it asked.
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
    /// The packets; empty where one ordinary handshake of many was only counted.
    pub observations: Vec<Observation>,
}

impl ServerTrace {
    /// The witness of an end that listens and has seen nothing yet.
    pub const fn of_nothing(isn: Seq, peer: SocketAddr, local: SocketAddr) -> Self {
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

/// What a TTL ladder met.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TtlProbe {
    /// The path.
    pub path: PathId,
    /// Whom it asked.
    pub target: SocketAddr,
    /// One entry a hop limit, ascending.
    pub steps: Vec<TtlStep>,
}

/// What one hop limit of a TTL ladder met.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TtlStep {
    /// The SYN's hop limit.
    pub hop_limit: u8,
    /// How often it was sent.
    pub tries: u8,
    /// The first answer to it.
    pub answer: TtlStepAnswer,
}

/// The answer to one rung.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum TtlStepAnswer {
    /// Nothing, however often it was tried.
    Silent,
    /// The hop limit was used up at a router.
    TimeExceeded {
        /// The ICMP's source: the router, or the `ClusterIP` where a translation took place.
        by: IpAddr,
        /// What was left of the ICMP's own hop limit: how far away that router is.
        hop_limit: u8,
    },
    /// A SYN+ACK, whatever its source.
    SynAck {
        /// Its source.
        from: SocketAddr,
        /// What was left of its hop limit.
        hop_limit: u8,
    },
    /// A RST.
    Reset {
        /// Its source.
        from: SocketAddr,
        /// What was left of its hop limit.
        hop_limit: u8,
    },
    /// An ICMP unreachable.
    Unreachable {
        /// Its source.
        by: IpAddr,
        /// Why.
        reason: Unreachable,
        /// What was left of its own hop limit.
        hop_limit: u8,
    },
}

/// A line that is no event.
#[derive(Debug, thiserror::Error)]
#[error("a line of an agent does not parse: {why}: {line}")]
pub struct EventError {
    /// Why; cut, since serde's words repeat what was not expected, however long it is.
    why: String,
    /// Its beginning.
    line: String,
}

impl Event {
    /// Reads one line.
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
