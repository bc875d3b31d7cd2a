//! Which probe is to be woken when.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::time::Timestamp;

/// A heap of wake-ups, and for each slot the earliest one that stands for it.
///
/// Setting a later time costs nothing: the earlier wake-up comes, finds nothing due, and is set
/// again. An earlier time is pushed beside the old one, which is skipped when it comes.
#[derive(Debug, Default)]
pub(super) struct Timers {
    heap: BinaryHeap<Reverse<(Timestamp, u32)>>,
    armed: Vec<Option<Timestamp>>,
}

impl Timers {
    /// Wakes the slot at `at`, or earlier.
    pub(super) fn arm(&mut self, slot: u32, at: Timestamp) {
        let index = usize::try_from(slot).unwrap_or(usize::MAX);
        if index >= self.armed.len() {
            self.armed.resize(index.saturating_add(1), None);
        }
        let Some(armed) = self.armed.get_mut(index) else {
            return;
        };
        if armed.is_none_or(|armed| at < armed) {
            *armed = Some(at);
            self.heap.push(Reverse((at, slot)));
        }
    }

    /// Forgets the slot.
    pub(super) fn disarm(&mut self, slot: u32) {
        if let Some(armed) = self.armed_mut(slot) {
            *armed = None;
        }
    }

    /// A slot that is to be woken by now; it is not armed any more.
    pub(super) fn pop_due(&mut self, now: Timestamp) -> Option<u32> {
        while let Some(&Reverse((at, slot))) = self.heap.peek() {
            if at > now {
                return None;
            }
            self.heap.pop();
            if let Some(armed) = self.armed_mut(slot)
                && *armed == Some(at)
            {
                *armed = None;
                return Some(slot);
            }
        }
        None
    }

    /// When the next slot may have to be woken.
    pub(super) fn next(&self) -> Option<Timestamp> {
        self.heap.peek().map(|Reverse((at, _))| *at)
    }

    fn armed_mut(&mut self, slot: u32) -> Option<&mut Option<Timestamp>> {
        self.armed.get_mut(usize::try_from(slot).ok()?)
    }
}
