//! The seam under which packets are really sent and received, and the loop above it.

use crate::packet::TcpSegment;
use crate::packet::observation::Observation;
use crate::probe::in_flight::InFlight;
use crate::probe::server_trace::ServerTraces;
use crate::time::Timestamp;

/// Why [`Engine::recv`] returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wake {
    /// At least one packet was handed over.
    Packets,
    /// The time is `until`.
    Deadline,
    /// Somebody else wants the thread's attention.
    Called,
}

/// Something that sends segments and sees packets: a raw socket, or a simulation.
pub trait Engine {
    /// What can go wrong for good.
    type Error: std::error::Error;

    /// The time on the clock that also stamps observations.
    fn now(&self) -> Timestamp;

    /// Sends these segments, in order; what the kernel refuses for a moment is not an error.
    fn send(&mut self, segments: &[TcpSegment]) -> Result<(), Self::Error>;

    /// Waits for packets until `until`, and hands each with its captured payload to `sink`.
    fn recv(
        &mut self,
        until: Timestamp,
        sink: &mut dyn FnMut(&Observation, &[u8]),
    ) -> Result<Wake, Self::Error>;
}

/// Lets a flight fly until `until`, until it has a result, or until somebody calls.
///
/// Every packet is also shown to `witnesses`. The clock is read once a turn.
pub fn drive<E: Engine>(
    flight: &mut InFlight,
    witnesses: &mut ServerTraces,
    engine: &mut E,
    until: Timestamp,
) -> Result<Wake, E::Error> {
    let mut segments = Vec::new();
    let mut called = false;
    loop {
        let now = engine.now();
        flight.handle_timeout(now);
        flight.poll_transmit(&mut segments);
        if !segments.is_empty() {
            engine.send(&segments)?;
            segments.clear();
        }
        if called {
            return Ok(Wake::Called);
        }
        if flight.has_result() {
            return Ok(Wake::Packets);
        }
        if now >= until {
            return Ok(Wake::Deadline);
        }
        let wait = flight.poll_timeout().map_or(until, |at| at.min(until));
        let wake = engine.recv(wait, &mut |observation, payload| {
            flight.observe(observation, payload);
            witnesses.observe(observation);
        })?;
        match wake {
            Wake::Packets | Wake::Deadline => {}
            // What the packets beside the call ask for is still sent.
            Wake::Called => called = true,
        }
    }
}
