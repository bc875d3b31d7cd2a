//! The time of the standing rounds: it begins with the real time and never jumps, however the clock of the node is set.

use prober_core::time::Timestamp;
use prober_net::packet_socket::now;
use tokio::time::Instant;

/// A clock that never jumps.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SteadyClock {
    started: Instant,
    at_start: Timestamp,
}

impl SteadyClock {
    /// A clock that shows the real time now.
    pub(crate) fn start() -> Self {
        Self {
            started: Instant::now(),
            at_start: now(),
        }
    }

    /// The time.
    pub(crate) fn now(self) -> Timestamp {
        self.at_start + self.started.elapsed()
    }
}
