//! The packets that a result carries: the first ones and the newest, never without bound.

use crate::packet::observation::Observation;

/// How many of the first packets are kept, whatever follows.
const FIRST: usize = 48;

/// How many packets are kept at most.
pub(super) const MOST: usize = 64;

/// The packets of one probe, in order.
#[derive(Debug, Default)]
pub(super) struct Record(Vec<Observation>);

impl Record {
    /// Keeps a packet; when full, the oldest after the first ones makes room.
    pub(super) fn push(&mut self, observation: &Observation) {
        if self.0.len() >= MOST {
            self.0.remove(FIRST);
        }
        self.0.push(*observation);
    }

    /// Keeps a packet at its place in time, if there is room.
    pub(super) fn insert(&mut self, observation: &Observation) {
        if self.0.len() < MOST {
            let at = self.0.partition_point(|kept| kept.at <= observation.at);
            self.0.insert(at, *observation);
        }
    }

    /// The packets so far.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Observation> {
        self.0.iter()
    }

    /// The newest packet.
    pub(super) fn last(&self) -> Option<&Observation> {
        self.0.last()
    }

    /// The packets.
    pub(super) fn into_observations(self) -> Vec<Observation> {
        self.0
    }
}
