//! Probes: the handshake, all probes in flight of one agent, and the events that an agent reports.

/// The responder's first line.
pub mod banner;
/// The interface through which an agent sends and receives packets.
pub mod engine;
/// The lines that an agent writes.
pub mod event;
/// One probe as a state machine.
pub mod handshake;
/// All probes in flight of one agent.
pub mod in_flight;
/// Initial sequence numbers that only a genuine answer can acknowledge.
pub mod isn;
/// Round-trip times of one path.
pub mod latency;
/// What a client sees of one probe.
pub mod outcome;
/// What the server's end sees of each handshake.
pub mod server_trace;
/// The tier of evidence.
pub mod tier;
