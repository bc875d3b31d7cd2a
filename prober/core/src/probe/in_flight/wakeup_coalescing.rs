//! Wake-up coalescing: common wake-ups of the probes of a long plan with few probes.
//!
//! A wake-up of an idle agent costs many times more processor time than a probe: caches are cold, and a virtual machine
//! has to be scheduled again. So probes that can wait share wake-ups, also those of different engines.

use std::time::Duration;

use crate::plan::ProbePlan;
use crate::random::Random;
use crate::time::{Timestamp, nanos};

/// Average time between two wake-ups.
pub(super) const WAKEUP_INTERVAL: Duration = Duration::from_millis(500);
/// Minimum duration of an item whose probes can wait: people wait for shorter ones, those of a run.
const LONG_PLAN: Duration = Duration::from_secs(5);
/// Maximum average number of probes of one schedule per wake-up: more would disturb each other.
const MAX_PROBES_PER_WAKEUP: u128 = 4;

/// Even wake-ups with jitter, so that agents do not probe in step. The same start gives the same wake-ups.
#[derive(Clone, Copy, Debug)]
pub(super) struct WakeupCoalescing {
    start: Timestamp,
}

impl WakeupCoalescing {
    /// The wake-ups of a plan with this start; `None` with too many probes per wake-up.
    pub(super) fn for_plan(probes: &[ProbePlan], start: Timestamp) -> Option<Self> {
        let waiting = probes.iter().filter(|probe| can_wait(probe));
        let a_day = waiting.map(|probe| 86_400_000 / u128::from(probe.interval_ms));
        let wakeups_a_day = 86_400_000 / WAKEUP_INTERVAL.as_millis();
        (a_day.sum::<u128>() <= MAX_PROBES_PER_WAKEUP * wakeups_a_day).then_some(Self { start })
    }

    /// The wake-up of a probe that is due at `due`: the first whose planned time is not earlier. Jitter moves a wake-up by
    /// up to an eighth of the interval to either side.
    pub(super) fn next_wakeup(self, due: Timestamp) -> Timestamp {
        let number = nanos(due.since(self.start)).div_ceil(nanos(WAKEUP_INTERVAL));
        let seed = self.start.as_nanos().wrapping_add(number);
        let moved = Random::new(seed).below(nanos(WAKEUP_INTERVAL) / 4);
        let meant =
            (self.start.as_nanos()).saturating_add(number.saturating_mul(nanos(WAKEUP_INTERVAL)));
        let at = (meant.saturating_sub(nanos(WAKEUP_INTERVAL) / 8)).saturating_add(moved);
        Timestamp::from_nanos(at).max(self.start)
    }
}

/// Whether the probes of an item can wait for a common wake-up.
pub(super) fn can_wait(probe: &ProbePlan) -> bool {
    let interval = Duration::from_millis(probe.interval_ms.into());
    interval.saturating_mul(probe.count) >= LONG_PLAN
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_next_wakeup_is_soon_and_the_same_for_equal_starts(start: u32, ms in 0_u64..1_000_000, more in 0_u64..2_000) {
            let start = Timestamp::from_nanos(u64::from(start) * 1_000_003);
            let (wakeups, others) = (WakeupCoalescing { start }, WakeupCoalescing { start });
            let due = start + Duration::from_millis(ms);
            let at = wakeups.next_wakeup(due);
            prop_assert!(at >= start);
            prop_assert!(at + WAKEUP_INTERVAL / 8 >= due);
            prop_assert!(at <= due + WAKEUP_INTERVAL + WAKEUP_INTERVAL / 8);
            let later = others.next_wakeup(due + Duration::from_millis(more));
            prop_assert!(later == at || later.since(at) >= WAKEUP_INTERVAL / 2);
        }
    }
}
