//! Probes: the handshake, all probes in flight of one agent, and the events that an agent reports.

/// The responder's first line.
pub mod banner;
/// The interface through which an agent sends and receives packets.
pub mod engine;
/// The event lines that an agent writes.
pub mod event;
/// One probe as a state machine.
pub mod handshake;
/// All probes in flight of one agent.
pub mod in_flight;
/// Initial sequence numbers under a secret key.
pub mod isn;
/// Round-trip times of one path.
pub mod latency;
/// The result of one probe at its client's end.
pub mod outcome;
/// Handshakes as the server's end observes them.
pub mod server_trace;
/// The tier of evidence.
pub mod tier;
