//! The pure core of prober: no I/O, no clock, no async, no unsafe code.
//!
//! The modules follow the data. [`topology`] names nodes, agents and the paths between them. A [`plan`] says which of
//! these paths an agent probes, and pairs nodes over time. A [`probe`] is one TCP handshake: the agent's state machines
//! send and receive [`packet`]s and report events. A [`standing`] agent of a canary draws its own probes. [`node_facts`] are the settings and counters of a node. [`evidence`]
//! joins the events of both ends of every path with the facts of their nodes. From it the [`data_plane`] of the nodes is
//! inferred, and a [`diagnosis`] names the causes that explain the evidence; a [`report`] presents them. A [`run`] drives all of this, from the placement of agents to
//! its report; [`replay`] builds evidence from capture files instead, and a [`simulation`] replaces the network in tests.
//! Points in [`time`] and [`random`] numbers are passed in.
#![forbid(unsafe_code)]

/// Nodes, agents, and the paths between them.
pub mod topology;

/// The probes that an agent is given, and the pairs of nodes that are probed.
pub mod plan;

/// Packets: parsed from bytes, crafted into bytes, as text, and in capture files.
pub mod packet;

/// Probes: the handshake, all probes in flight of one agent, and the events that an agent reports.
pub mod probe;

/// A standing agent, which probes by itself round after round.
pub mod standing;

/// Settings, links, routes and counters of a node.
pub mod node_facts;

/// Everything that a diagnosis may use: probes, agents, nodes.
pub mod evidence;

/// How the nodes attach pods, carry packets and translate Services.
pub mod data_plane;

/// From evidence to causes.
pub mod diagnosis;

/// The result of a run as one document, and its renderings.
pub mod report;

/// A run as a state machine.
pub mod run;

/// Captures as evidence.
pub mod replay;

/// A simulated network, for tests and benchmarks.
pub mod simulation;

/// The name that a wrong one may stand for.
pub mod suggestion;

/// Words of others, made harmless for terminals, pages and logs.
pub mod printable;

/// Points in time.
pub mod time;

/// Seeded random numbers.
pub mod random;

/// Durations in units that fit.
mod units;
