//! One interface of one file: its packets in the order of time, and the connections that they make.

use std::collections::VecDeque;

use super::seen::Seen;
use super::tracker::Tracker;
use crate::time::Timestamp;

/// The number of packets within which a file may be out of order.
const WINDOW: usize = 4_096;

/// One interface of one file.
#[derive(Debug, Default)]
pub(super) struct Observer {
    /// The number of the file.
    pub(super) file: usize,
    /// The number of the interface in it.
    pub(super) interface: usize,
    /// Its connections.
    pub(super) tracker: Tracker,
    /// The first timestamp of its file.
    pub(super) from: Option<Timestamp>,
    /// The last timestamp of its file: the known end of the observation.
    pub(super) until: Timestamp,
    /// Packets that wait for earlier ones, in the order of time.
    waiting: VecDeque<Seen>,
}

impl Observer {
    /// The interface of a file.
    pub(super) fn new(file: usize, interface: usize) -> Self {
        Self {
            file,
            interface,
            ..Self::default()
        }
    }

    /// Adds the next packet of the file.
    pub(super) fn take(&mut self, seen: Seen) {
        self.from = Some(self.from.map_or(seen.at, |from| from.min(seen.at)));
        self.until = self.until.max(seen.at);
        // Nearly always the last place.
        let place = match self.waiting.back() {
            Some(last) if last.at > seen.at => {
                self.waiting.partition_point(|other| other.at <= seen.at)
            }
            Some(_) | None => self.waiting.len(),
        };
        self.waiting.insert(place, seen);
        if self.waiting.len() > WINDOW
            && let Some(first) = self.waiting.pop_front()
        {
            self.tracker.take(&first);
        }
    }

    /// Ends the file; `until` is its last timestamp on any interface.
    pub(super) fn finish(&mut self, until: Timestamp) {
        while let Some(first) = self.waiting.pop_front() {
            self.tracker.take(&first);
        }
        self.waiting = VecDeque::new();
        self.until = self.until.max(until);
        self.tracker.finish(self.until);
    }
}
