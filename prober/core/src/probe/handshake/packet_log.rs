//! The recorded packets of a probe: the first ones and the newest, with a maximum.

use crate::packet::observation::Observation;

/// Number of first packets that are always kept.
const FIRST: usize = 48;

/// Maximum number of packets kept.
pub(super) const MOST: usize = 64;

/// The packets of one probe, in order.
#[derive(Debug, Default)]
pub(super) struct PacketLog(Vec<Observation>);

impl PacketLog {
    /// Appends a packet; when full, drops the oldest one after the first ones.
    pub(super) fn push(&mut self, observation: &Observation) {
        if self.0.len() >= MOST {
            self.0.remove(FIRST);
        }
        self.0.push(*observation);
    }

    /// Inserts a packet by its time, if there is room.
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
