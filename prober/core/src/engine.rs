//! The seam under which packets are really sent and received.

use crate::observation::Observation;
use crate::time::Timestamp;
use crate::wire::Segment;

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
    fn send(&mut self, segments: &[Segment]) -> Result<(), Self::Error>;

    /// Waits for packets until `until`, and hands each with its captured payload to `sink`.
    fn recv(
        &mut self,
        until: Timestamp,
        sink: &mut dyn FnMut(&Observation, &[u8]),
    ) -> Result<Wake, Self::Error>;
}
