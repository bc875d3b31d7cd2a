//! Neighbour resolutions that were seen of late: where a probe fails, whom its gateway asked for
//! names the backend that was chosen, and two answers for one address name a duplicate.

use std::collections::VecDeque;

use crate::packet::observation::Observation;
use crate::time::Timestamp;

/// How many are kept.
const KEPT: usize = 128;

/// How many one probe is given.
const GIVEN: usize = 12;

/// The latest resolutions, oldest first.
#[derive(Debug, Default)]
pub(super) struct Neighbours(VecDeque<Observation>);

impl Neighbours {
    /// Keeps one; the oldest makes room.
    pub(super) fn push(&mut self, observation: &Observation) {
        if self.0.len() >= KEPT {
            self.0.pop_front();
        }
        self.0.push_back(*observation);
    }

    /// The first that were seen since.
    pub(super) fn since(&self, start: Timestamp) -> impl Iterator<Item = &Observation> {
        self.0
            .iter()
            .filter(move |observation| observation.at >= start)
            .take(GIVEN)
    }
}
