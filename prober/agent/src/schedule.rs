//! When each probe of a plan is due, counted from the plan's start.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use prober_core::plan::ProbePlan;

/// The probes of a plan that are still to be started, in order of time.
#[derive(Debug)]
pub(crate) struct Schedule(BinaryHeap<Reverse<Slot>>);

/// The next probe of one entry of a plan; ordered by time, then by its place in the plan.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Slot {
    due: Duration,
    entry: usize,
    interval: Duration,
    left: u32,
}

impl Schedule {
    /// The schedule of these entries of a plan; each is known by its place.
    pub(crate) fn new<'a>(entries: impl IntoIterator<Item = (usize, &'a ProbePlan)>) -> Self {
        let slots = entries
            .into_iter()
            .filter(|(_, probe)| probe.count > 0)
            .map(|(entry, probe)| {
                Reverse(Slot {
                    due: Duration::from_millis(probe.start_ms.into()),
                    entry,
                    interval: Duration::from_millis(probe.interval_ms.into()),
                    left: probe.count,
                })
            });
        Self(slots.collect())
    }

    /// When the next probe is due.
    pub(crate) fn next_due(&self) -> Option<Duration> {
        self.0.peek().map(|Reverse(slot)| slot.due)
    }

    /// The next probe that is due `elapsed` after the plan's start: since when, and of which entry.
    pub(crate) fn pop(&mut self, elapsed: Duration) -> Option<(Duration, usize)> {
        if self.next_due()? > elapsed {
            return None;
        }
        let Reverse(slot) = self.0.pop()?;
        let (due, entry) = (slot.due, slot.entry);
        if slot.left > 1 {
            self.0.push(Reverse(Slot {
                due: slot.due + slot.interval,
                left: slot.left - 1,
                ..slot
            }));
        }
        Some((due, entry))
    }
}

#[cfg(test)]
mod tests {
    use prober_core::plan::Method;
    use prober_core::topology::PathId;

    use super::*;

    fn entry(count: u32, start_ms: u32, interval_ms: u32) -> ProbePlan {
        ProbePlan {
            path: PathId(0),
            method: Method::Syn,
            target: "192.0.2.1:80".parse().unwrap(),
            count,
            start_ms,
            interval_ms,
            deadline_ms: 1000,
        }
    }

    #[test]
    fn entries_are_interleaved_by_time() {
        let plan = [entry(3, 0, 10), entry(2, 5, 10), entry(0, 0, 0)];
        let mut schedule = Schedule::new(plan.iter().enumerate());
        let forever = Duration::from_secs(1);
        let order: Vec<(u128, usize)> = std::iter::from_fn(|| schedule.pop(forever))
            .map(|(due, entry)| (due.as_millis(), entry))
            .collect();
        assert_eq!(order, [(0, 0), (5, 1), (10, 0), (15, 1), (20, 0)]);
        assert_eq!(schedule.next_due(), None);
    }

    #[test]
    fn nothing_comes_before_it_is_due() {
        let plan = [entry(1, 7, 0)];
        let mut schedule = Schedule::new(plan.iter().enumerate());
        assert_eq!(schedule.pop(Duration::from_millis(6)), None);
        assert_eq!(schedule.next_due(), Some(Duration::from_millis(7)));
        assert!(schedule.pop(Duration::from_millis(7)).is_some());
    }
}
