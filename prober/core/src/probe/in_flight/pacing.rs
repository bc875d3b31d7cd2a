//! The schedule of the probes of a plan: an even pace with jitter, so that agents do not probe in step.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use crate::plan::ProbePlan;
use crate::probe::in_flight::wakeup_coalescing::{WAKEUP_INTERVAL, WakeupCoalescing, can_wait};
use crate::random::Random;
use crate::time::{Timestamp, nanos};

/// Whether probes may be delayed to share wake-ups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// Each probe has its own time.
    Even,
    /// In a long plan with few probes, probes share wake-ups: two per second, the same ones for every schedule with the same
    /// start.
    Coalesced,
}

/// The schedule of a plan's probes.
///
/// Probe `i` of an item is due `start_ms + i * interval_ms` after the plan's start, moved by up to
/// a quarter of the interval to either side (the first only later). Items with an interval of
/// 0 are due all at once. A probe that can wait is due at the next common wake-up.
#[derive(Debug)]
pub struct Pacing {
    start: Timestamp,
    /// The common wake-ups, where probes share them.
    wakeups: Option<WakeupCoalescing>,
    random: Random,
    /// The next probe of each unfinished item: its time, the index of the item, its number.
    next: BinaryHeap<Reverse<(Timestamp, usize, u32)>>,
}

impl Pacing {
    /// The schedule of these items from `start` on.
    pub fn new(probes: &[ProbePlan], start: Timestamp, pace: Pace) -> Self {
        let mut pacing = Self {
            start,
            wakeups: match pace {
                Pace::Even => None,
                Pace::Coalesced => WakeupCoalescing::for_plan(probes, start),
            },
            random: Random::new(start.as_nanos()),
            next: BinaryHeap::new(),
        };
        for (item, probe) in probes.iter().enumerate() {
            pacing.set(probe, item, 0);
        }
        pacing
    }

    /// The index of an item with a due probe. `probes` are the items that the schedule was made from.
    pub fn poll(&mut self, probes: &[ProbePlan], now: Timestamp) -> Option<usize> {
        let &Reverse((at, item, number)) = self.next.peek()?;
        if at > now {
            return None;
        }
        self.next.pop();
        if let Some(probe) = probes.get(item) {
            self.set(probe, item, number.saturating_add(1));
        }
        Some(item)
    }

    /// When the next probe is due; `None` after the last.
    pub fn next_at(&self) -> Option<Timestamp> {
        self.next.peek().map(|Reverse((at, ..))| *at)
    }

    fn set(&mut self, probe: &ProbePlan, item: usize, number: u32) {
        if number >= probe.count {
            return;
        }
        let interval = Duration::from_millis(u64::from(probe.interval_ms));
        let wakeups = self.wakeups.filter(|_| can_wait(probe));
        // A common wake-up has its own jitter.
        let free = match wakeups {
            Some(_) => interval.saturating_sub(WAKEUP_INTERVAL),
            None => interval,
        };
        let even = self.start
            + Duration::from_millis(u64::from(probe.start_ms))
            + interval.saturating_mul(number);
        // From a quarter earlier to a quarter later: the probes of an item keep their order.
        let earliest = match number {
            0 => even.as_nanos(),
            1.. => even.as_nanos().saturating_sub(nanos(free) / 4),
        };
        let moved = self.random.below(nanos(free) / 2);
        let due = Timestamp::from_nanos(earliest.saturating_add(moved));
        let at = wakeups.map_or(due, |wakeups| wakeups.next_wakeup(due));
        self.next.push(Reverse((at, item, number)));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::plan::Method;
    use crate::topology::PathId;

    fn item(count: u32, start_ms: u32, interval_ms: u32) -> ProbePlan {
        ProbePlan {
            path: PathId(0),
            method: Method::Syn,
            target: "100.67.30.133:80".parse().unwrap(),
            count,
            start_ms,
            interval_ms,
            deadline_ms: 1000,
        }
    }

    proptest! {
        #[test]
        fn every_probe_is_due_once_and_within_its_own_interval(
            counts in prop::collection::vec((0_u32..20, 0_u32..500, 0_u32..200), 1..6),
            start: u32,
        ) {
            let probes: Vec<ProbePlan> = counts.iter().map(|&(n, start, interval)| item(n, start, interval)).collect();
            let start = Timestamp::from_nanos(u64::from(start));
            let mut pacing = Pacing::new(&probes, start, Pace::Even);
            let mut done = vec![0_u32; probes.len()];
            let mut now = start;
            while let Some(at) = pacing.next_at() {
                prop_assert!(at >= now, "the schedule never goes back");
                now = at;
                let item = pacing.poll(&probes, now).unwrap();
                let (probe, number) = (&probes[item], done[item]);
                let due = u64::from(probe.start_ms) + u64::from(number) * u64::from(probe.interval_ms);
                let late = at.since(start).as_nanos().cast_signed() - i128::from(due).cast_unsigned().cast_signed() * 1_000_000;
                let quarter = i128::from(probe.interval_ms) * 250_000;
                prop_assert!((-quarter..=2 * quarter).contains(&late));
                done[item] += 1;
            }
            let planned: Vec<u32> = probes.iter().map(|probe| probe.count).collect();
            prop_assert_eq!(done, planned);
        }
    }

    /// When the probes of these items are due.
    fn times(probes: &[ProbePlan], pace: Pace) -> Vec<u64> {
        let start = Timestamp::from_nanos(77_000_000_000);
        let mut pacing = Pacing::new(probes, start, pace);
        std::iter::from_fn(|| {
            let at = pacing.next_at()?;
            pacing.poll(probes, at)?;
            Some(at.as_nanos())
        })
        .collect()
    }

    #[test]
    fn probes_of_a_long_plan_with_few_probes_share_two_wakeups_a_second() {
        // Two engines with independent schedules.
        let one = times(&[item(50, 0, 200)], Pace::Coalesced);
        let other = times(&[item(5, 30, 2_000), item(50, 100, 200)], Pace::Coalesced);
        assert_eq!((one.len(), other.len()), (50, 55));
        let mut wakeups: Vec<u64> = one.into_iter().chain(other).collect();
        wakeups.sort_unstable();
        wakeups.dedup();
        assert!(
            wakeups.len() <= 22,
            "{} times in ten seconds",
            wakeups.len()
        );
    }

    #[test]
    fn short_busy_and_even_plans_keep_their_times() {
        let (short, busy, long) = (item(20, 0, 200), item(100, 0, 100), item(50, 0, 200));
        for even in [short, busy] {
            let even = [even];
            assert_eq!(times(&even, Pace::Coalesced), times(&even, Pace::Even));
        }
        let mut apart = times(&[long], Pace::Even);
        apart.dedup();
        assert_eq!(apart.len(), 50);
    }

    #[test]
    fn nothing_is_due_before_its_time() {
        let probes = [item(1, 10, 0)];
        let mut pacing = Pacing::new(&probes, Timestamp::from_nanos(0), Pace::Coalesced);
        assert_eq!(pacing.poll(&probes, Timestamp::from_nanos(9_999_999)), None);
        assert_eq!(
            pacing.poll(&probes, Timestamp::from_nanos(10_000_000)),
            Some(0)
        );
        assert_eq!(pacing.next_at(), None);
    }
}
