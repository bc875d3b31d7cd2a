//! One interface of one file: its packets in the order of time, and the connections that they make.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

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
    waiting: BinaryHeap<Reverse<Waiting>>,
    packets: u64,
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
        self.packets += 1;
        self.waiting.push(Reverse(Waiting {
            at: seen.at,
            number: self.packets,
            seen,
        }));
        if self.waiting.len() > WINDOW
            && let Some(Reverse(first)) = self.waiting.pop()
        {
            self.tracker.take(&first.seen);
        }
    }

    /// Ends the file; `until` is its last timestamp on any interface.
    pub(super) fn finish(&mut self, until: Timestamp) {
        while let Some(Reverse(first)) = self.waiting.pop() {
            self.tracker.take(&first.seen);
        }
        self.until = self.until.max(until);
        self.tracker.finish(self.until);
    }
}

/// A packet that waits for earlier ones.
#[derive(Clone, Copy, Debug)]
struct Waiting {
    at: Timestamp,
    number: u64,
    seen: Seen,
}

impl Waiting {
    const fn key(&self) -> (Timestamp, u64) {
        (self.at, self.number)
    }
}

impl PartialEq for Waiting {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Waiting {}

impl PartialOrd for Waiting {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Waiting {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.key().cmp(&other.key())
    }
}
