//! The pure floor of prober: packets, evidence, diagnosis; no I/O, no clock, no unsafe.
#![forbid(unsafe_code)]

/// The responder's first line.
pub mod banner;
/// Capture files, read and written.
pub mod capture;
/// Initial sequence numbers that only a real answer knows.
pub mod cookie;
/// From evidence to causes.
pub mod diagnosis;
/// The seam under which packets are really sent and received.
pub mod engine;
/// The lines that an agent writes.
pub mod event;
/// What a whole run knows.
pub mod evidence;
/// What a node says of itself.
pub mod facts;
/// IPv4 or IPv6.
pub mod family;
/// All probes in flight of one agent.
pub mod flight;
/// One probe as a state machine.
pub mod handshake;
/// Observations as text.
pub mod ladder;
/// Round-trip times of one path.
pub mod latency;
/// An Ethernet address.
pub mod mac;
/// What one end sees of a probe.
pub mod observation;
/// Which pairs of nodes are probed.
pub mod pairing;
/// What an agent is told to do.
pub mod plan;
/// Seeded numbers.
pub mod random;
/// A report as text, JSON and HTML.
pub mod render;
/// Captures as evidence.
pub mod replay;
/// What a run found, as one document.
pub mod report;
/// A whole run as a machine.
pub mod run;
/// A network in memory.
pub mod sim;
/// Intervals for shares that were counted.
pub mod statistics;
/// Points in time as numbers of our own.
pub mod time;
/// What can be probed.
pub mod topology;
/// Packets as meaning.
pub mod wire;
/// The server's end of handshakes.
pub mod witness;
