//! The interface through which packets are sent and received, and the loop that drives probes through it.

use crate::packet::TcpSegment;
use crate::packet::observation::Observation;
use crate::probe::in_flight::InFlight;
use crate::probe::server_trace::ServerTraces;
use crate::time::Timestamp;

/// Why [`Engine::recv`] returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wake {
    /// At least one packet was passed to the sink.
    Packets,
    /// `until` has come.
    Deadline,
    /// Another thread interrupted the wait.
    Interrupted,
}

/// Sends segments and receives packets: a raw socket, or a simulated network.
pub trait Engine {
    /// A failure after which the engine cannot go on.
    type Error: std::error::Error;

    /// The current time, on the clock that also stamps observations.
    fn now(&self) -> Timestamp;

    /// Sends these segments in order. A temporary refusal by the kernel is not an error.
    fn send(&mut self, segments: &[TcpSegment]) -> Result<(), Self::Error>;

    /// Waits for packets until `until`, and passes each with its captured payload to `sink`.
    fn recv(
        &mut self,
        until: Timestamp,
        sink: &mut dyn FnMut(&Observation, &[u8]),
    ) -> Result<Wake, Self::Error>;
}

/// Drives the probes in flight until `until`, until one has an output, or until the engine is interrupted.
///
/// `server_traces` observes every packet, too. Each iteration reads the clock once.
pub fn drive<E: Engine>(
    in_flight: &mut InFlight,
    server_traces: &mut ServerTraces,
    engine: &mut E,
    until: Timestamp,
) -> Result<Wake, E::Error> {
    let mut segments = Vec::new();
    let mut interrupted = false;
    loop {
        let now = engine.now();
        in_flight.handle_timeout(now);
        in_flight.poll_transmit(&mut segments);
        if !segments.is_empty() {
            engine.send(&segments)?;
            segments.clear();
        }
        if interrupted {
            return Ok(Wake::Interrupted);
        }
        if in_flight.has_output() {
            return Ok(Wake::Packets);
        }
        if now >= until {
            return Ok(Wake::Deadline);
        }
        let wait = in_flight.poll_timeout().map_or(until, |at| at.min(until));
        let wake = engine.recv(wait, &mut |observation, payload| {
            in_flight.observe(observation, payload);
            server_traces.observe(observation);
        })?;
        match wake {
            Wake::Packets | Wake::Deadline => {}
            // Answers to the packets that came with the interrupt are still sent.
            Wake::Interrupted => interrupted = true,
        }
    }
}
