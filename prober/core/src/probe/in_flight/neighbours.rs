//! Recent neighbour resolutions (ARP, neighbour discovery). For a failed probe, a request of its gateway shows the chosen
//! backend, and two replies for one address show a duplicate address.

use std::collections::VecDeque;

use crate::packet::observation::Observation;
use crate::time::Timestamp;

/// Maximum number kept.
const KEPT: usize = 128;

/// Maximum number per probe.
const GIVEN: usize = 12;

/// The latest resolutions, oldest first.
#[derive(Debug, Default)]
pub(super) struct Neighbours(VecDeque<Observation>);

impl Neighbours {
    /// Adds one; when full, drops the oldest.
    pub(super) fn push(&mut self, observation: &Observation) {
        if self.0.len() >= KEPT {
            self.0.pop_front();
        }
        self.0.push_back(*observation);
    }

    /// The first ones since `start`.
    pub(super) fn since(&self, start: Timestamp) -> impl Iterator<Item = &Observation> {
        self.0
            .iter()
            .filter(move |observation| observation.at >= start)
            .take(GIVEN)
    }
}
