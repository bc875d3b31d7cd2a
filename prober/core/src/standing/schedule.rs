//! When the probes of a round are due, and a bound of how many are sent.

use std::time::Duration;

use crate::random::Random;
use crate::time::{Timestamp, nanos};

/// The average time between two wake-ups of a round: waking up costs more than a probe.
const WAKEUP_INTERVAL: Duration = Duration::from_millis(2_500);

/// The longest time over which the first round is spread: a node that has just booted is judged soon.
const FIRST_SPREAD: Duration = Duration::from_secs(1);

/// When the groups of a round are due, in their order. They are spread over the interval and share wake-ups. Jitter moves a
/// wake-up by up to a quarter of the time to the next: a path is probed about once in each interval, however rounds follow.
pub fn times_of_round(
    groups: usize,
    start: Timestamp,
    interval: Duration,
    is_first: bool,
    random: &mut Random,
) -> Vec<Timestamp> {
    let spread = if is_first {
        FIRST_SPREAD.min(interval / 10)
    } else {
        interval
    };
    let wakeups = nanos(spread).div_ceil(nanos(WAKEUP_INTERVAL));
    let wakeups = wakeups.clamp(1, (groups as u64).max(1));
    let length = nanos(spread) / wakeups;
    let wakeup_times: Vec<Timestamp> = (0..wakeups)
        .map(|number| start + Duration::from_nanos(number * length + random.below(length / 4)))
        .collect();
    let of_group = |group: usize| {
        let at = group * wakeup_times.len() / groups.max(1);
        wakeup_times.get(at).copied().unwrap_or(start)
    };
    (0..groups).map(of_group).collect()
}

/// A token bucket: so many at once, and so many a second on average.
#[derive(Clone, Debug)]
pub struct RateLimit {
    /// How many may be taken at once.
    burst: u32,
    /// The time after which one more may be taken.
    every: Duration,
    left: u32,
    /// When `left` was last increased.
    filled: Timestamp,
}

impl RateLimit {
    /// A full bucket of `burst`, which gains one after each `every`.
    pub const fn new(burst: u32, every: Duration) -> Self {
        Self {
            burst,
            every,
            left: burst,
            filled: Timestamp::from_nanos(0),
        }
    }

    /// Takes `count` if there are as many; returns whether there were.
    pub fn take(&mut self, count: u32, now: Timestamp) -> bool {
        let gained = nanos(now.since(self.filled)) / nanos(self.every).max(1);
        let gained = u32::try_from(gained).unwrap_or(u32::MAX);
        self.left = self.left.saturating_add(gained).min(self.burst);
        // The rest of the time counts for the next one.
        self.filled = if self.left == self.burst {
            now.max(self.filled)
        } else {
            self.filled + self.every.saturating_mul(gained)
        };
        let is_enough = self.left >= count;
        if is_enough {
            self.left -= count;
        }
        is_enough
    }

    /// How long it takes to gain one.
    pub const fn every(&self) -> Duration {
        self.every
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_group_is_due_in_order_and_within_its_part_of_the_round(
            groups in 0_usize..70, interval_ms in 500_u64..100_000, seed: u64, is_first: bool,
        ) {
            let start = Timestamp::from_nanos(1_000_000_000_000);
            let interval = Duration::from_millis(interval_ms);
            let times = times_of_round(groups, start, interval, is_first, &mut Random::new(seed));
            prop_assert_eq!(times.len(), groups);
            prop_assert!(times.is_sorted());
            let spread = if is_first { (interval / 10).min(FIRST_SPREAD) } else { interval };
            prop_assert!(times.iter().all(|at| *at >= start && at.since(start) < spread));
            // The jitter moves a group within its wake-up's part of the round, and no further.
            let wakeups = (nanos(spread).div_ceil(nanos(WAKEUP_INTERVAL))).clamp(1, groups.max(1) as u64);
            for (group, at) in times.iter().enumerate() {
                let part = (group as u64 * wakeups) / groups as u64;
                let length = nanos(spread) / wakeups;
                let offset = nanos(at.since(start));
                prop_assert!((part * length..=part * length + length / 4).contains(&offset));
            }
        }

        #[test]
        fn no_more_is_taken_than_the_burst_and_the_rate(
            burst in 1_u32..50, every_ms in 1_u64..1_000, steps in prop::collection::vec((0_u64..3_000, 1_u32..5), 0..200),
        ) {
            let start = Timestamp::from_nanos(1_000_000_000_000);
            let mut limit = RateLimit::new(burst, Duration::from_millis(every_ms));
            let (mut now, mut taken) = (start, 0_u64);
            for (pause, count) in steps {
                now = now + Duration::from_millis(pause);
                if limit.take(count, now) {
                    taken += u64::from(count);
                }
                let most = u64::from(burst) + nanos(now.since(start)) / 1_000_000 / every_ms;
                prop_assert!(taken <= most, "{taken} of {most}");
            }
        }
    }

    #[test]
    fn an_empty_bucket_fills_again() {
        let at = |ms| Timestamp::from_nanos(1_000_000_000_000) + Duration::from_millis(ms);
        let mut limit = RateLimit::new(2, Duration::from_millis(100));
        assert!(limit.take(2, at(0)) && !limit.take(1, at(99)));
        assert!(limit.take(1, at(100)) && !limit.take(1, at(199)) && limit.take(1, at(200)));
    }
}
