//! The timer of each probe.

use crate::probe::handshake::Timer;
use crate::time::Timestamp;

/// Children per node of the heap: half as many levels as with two, and four siblings are adjacent in memory.
const CHILDREN: usize = 4;

/// The timers of the probes: urgent ones, and apart from them those of probes that only linger, which may be handled
/// later.
#[derive(Debug, Default)]
pub(super) struct Timers {
    urgent: Heap,
    lingering: Heap,
}

impl Timers {
    /// Sets the timer of the slot to `at`; an earlier time stays.
    pub(super) fn arm(&mut self, slot: u32, at: Timestamp, timer: Timer) {
        match timer {
            Timer::Linger => {
                self.urgent.disarm(slot);
                self.lingering.arm(slot, at);
            }
            Timer::Resend
            | Timer::Deadline
            | Timer::WrongSource
            | Timer::Unreachable
            | Timer::Exchange => self.urgent.arm(slot, at),
        }
    }

    /// Removes the timer of the slot.
    pub(super) fn disarm(&mut self, slot: u32) {
        self.urgent.disarm(slot);
        self.lingering.disarm(slot);
    }

    /// Removes and returns a slot whose timer is due.
    pub(super) fn pop_due(&mut self, now: Timestamp) -> Option<u32> {
        (self.urgent.pop_due(now)).or_else(|| self.lingering.pop_due(now))
    }

    /// The earliest time of any timer.
    pub(super) fn next(&self) -> Option<Timestamp> {
        (self.urgent.next().into_iter())
            .chain(self.lingering.next())
            .min()
    }

    /// The earliest time of a timer that is not lingering.
    pub(super) fn next_urgent(&self) -> Option<Timestamp> {
        self.urgent.next()
    }
}

/// A heap of timers with an index by slot: a slot has at most one timer, and no stale ones remain. A probe that is
/// answered at once first has a timer of a second, then that of its linger.
///
/// Setting a later time is free: the earlier timer expires, finds nothing due, and is set again.
#[derive(Debug, Default)]
struct Heap {
    /// No entry is due before its parent, which is at `(place - 1) / CHILDREN`.
    heap: Vec<(Timestamp, u32)>,
    /// The place of each slot in the heap.
    places: Vec<Option<u32>>,
}

impl Heap {
    /// Sets the timer of the slot to `at`; an earlier time stays.
    fn arm(&mut self, slot: u32, at: Timestamp) {
        let index = index(slot);
        if index >= self.places.len() {
            self.places.resize(index.saturating_add(1), None);
        }
        let Some(place) = self.place_of(slot) else {
            self.heap.push((at, slot));
            self.rise(self.heap.len() - 1, (at, slot));
            return;
        };
        if self.heap.get(place).is_some_and(|(armed, _)| at < *armed) {
            self.rise(place, (at, slot));
        }
    }

    /// Removes the timer of the slot.
    fn disarm(&mut self, slot: u32) {
        if let Some(place) = self.place_of(slot) {
            self.remove(place);
        }
    }

    /// Removes and returns a slot whose timer is due.
    fn pop_due(&mut self, now: Timestamp) -> Option<u32> {
        let &(at, slot) = self.heap.first()?;
        if at > now {
            return None;
        }
        self.remove(0);
        Some(slot)
    }

    /// The earliest time of any timer.
    fn next(&self) -> Option<Timestamp> {
        self.heap.first().map(|(at, _)| *at)
    }

    fn place_of(&self, slot: u32) -> Option<usize> {
        self.places.get(index(slot)).copied()?.map(index)
    }

    fn remove(&mut self, place: usize) {
        let Some(&(_, slot)) = self.heap.get(place) else {
            return;
        };
        let Some(last) = self.heap.pop() else {
            return;
        };
        if let Some(of_slot) = self.places.get_mut(index(slot)) {
            *of_slot = None;
        }
        if place < self.heap.len() {
            // The last entry replaces it, and moves down, or up in another branch.
            let place = self.sink(place, last);
            self.rise(place, last);
        }
    }

    /// Inserts an entry at `place` or above it.
    fn rise(&mut self, mut place: usize, entry: (Timestamp, u32)) {
        while let Some(above) = place.checked_sub(1).map(|below| below / CHILDREN)
            && let Some(&parent) = self.heap.get(above)
            && entry < parent
        {
            self.put(place, parent);
            place = above;
        }
        self.put(place, entry);
    }

    /// Makes room for an entry at `place` or below it; returns where.
    fn sink(&mut self, mut place: usize, entry: (Timestamp, u32)) -> usize {
        loop {
            let children = (CHILDREN * place + 1..).take(CHILDREN);
            let below = children.map_while(|at| Some((*self.heap.get(at)?, at)));
            match below.min() {
                Some((child, at)) if child < entry => {
                    self.put(place, child);
                    place = at;
                }
                Some(_) | None => return place,
            }
        }
    }

    fn put(&mut self, place: usize, entry: (Timestamp, u32)) {
        if let Some(here) = self.heap.get_mut(place) {
            *here = entry;
        }
        if let Some(of_slot) = self.places.get_mut(index(entry.1)) {
            *of_slot = u32::try_from(place).ok();
        }
    }
}

fn index(slot: u32) -> usize {
    usize::try_from(slot).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Copy, Debug)]
    enum Call {
        Arm(u32, u64),
        Disarm(u32),
        Pop(u64),
    }

    fn call() -> impl Strategy<Value = Call> {
        prop_oneof![
            (0..20_u32, 0..100_u64).prop_map(|(slot, at)| Call::Arm(slot, at)),
            (0..20_u32).prop_map(Call::Disarm),
            (0..100_u64).prop_map(Call::Pop),
        ]
    }

    proptest! {
        #[test]
        fn every_slot_is_woken_once_at_the_earliest_time_that_it_was_armed_for(
            calls in prop::collection::vec(call(), 0..200),
        ) {
            let mut timers = Heap::default();
            let mut model: BTreeMap<u32, Timestamp> = BTreeMap::new();
            for call in calls {
                match call {
                    Call::Arm(slot, at) => {
                        let at = Timestamp::from_nanos(at);
                        timers.arm(slot, at);
                        let armed = model.entry(slot).or_insert(at);
                        *armed = at.min(*armed);
                    }
                    Call::Disarm(slot) => {
                        timers.disarm(slot);
                        model.remove(&slot);
                    }
                    Call::Pop(now) => {
                        let now = Timestamp::from_nanos(now);
                        match timers.pop_due(now) {
                            Some(slot) => {
                                let at = model.remove(&slot).unwrap();
                                prop_assert!(at <= now);
                                prop_assert!(model.values().all(|other| at <= *other));
                            }
                            None => prop_assert!(model.values().all(|at| *at > now)),
                        }
                    }
                }
                prop_assert_eq!(timers.next(), model.values().min().copied());
                prop_assert_eq!(timers.heap.len(), model.len());
            }
        }
    }
}
