//! The beats that the probes of a long and quiet plan ride on.
//!
//! An agent that sleeps most of the time pays for each time that it is woken, many times what a probe costs: caches are
//! cold, and in a virtual machine the processor was given away. So probes that have time wait for each other, those of
//! one engine for those of the other.

use std::time::Duration;

use crate::plan::ProbePlan;
use crate::random::Random;
use crate::time::{Timestamp, nanos};

/// From one beat to the next, on average.
pub(super) const BEAT: Duration = Duration::from_millis(500);
/// How long an item's probes go on at least to ride on beats: a run is waited for.
const LONG: Duration = Duration::from_secs(5);
/// Probes of one timetable that may ride on a beat, on average: more would be in each other's way.
const MOST_RIDERS: u128 = 4;

/// An even beat with jitter, so that agents do not go in step: the same for all who count from the same start.
#[derive(Clone, Copy, Debug)]
pub(super) struct WakeupCoalescing {
    start: Timestamp,
}

impl WakeupCoalescing {
    /// The beats of a plan that starts then, if few enough of its probes would ride on one.
    pub(super) fn of(probes: &[ProbePlan], start: Timestamp) -> Option<Self> {
        let riders = probes.iter().filter(|probe| has_time(probe));
        let a_day = riders.map(|probe| 86_400_000 / u128::from(probe.interval_ms));
        let beats_a_day = 86_400_000 / BEAT.as_millis();
        (a_day.sum::<u128>() <= MOST_RIDERS * beats_a_day).then_some(Self { start })
    }

    /// The beat that a probe which is due then rides on: the first that is meant to be no earlier. WakeupCoalescing come up to an
    /// eighth earlier or later than they are meant to.
    pub(super) fn after(self, due: Timestamp) -> Timestamp {
        let number = nanos(due.since(self.start)).div_ceil(nanos(BEAT));
        let seed = self.start.as_nanos().wrapping_add(number);
        let moved = Random::new(seed).below(nanos(BEAT) / 4);
        let meant = (self.start.as_nanos()).saturating_add(number.saturating_mul(nanos(BEAT)));
        let at = (meant.saturating_sub(nanos(BEAT) / 8)).saturating_add(moved);
        Timestamp::from_nanos(at).max(self.start)
    }
}

/// Whether an item's probes have time to wait for a beat.
pub(super) fn has_time(probe: &ProbePlan) -> bool {
    let interval = Duration::from_millis(probe.interval_ms.into());
    interval.saturating_mul(probe.count) >= LONG
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_next_beat_is_soon_and_the_same_for_all(start: u32, ms in 0_u64..1_000_000, more in 0_u64..2_000) {
            let start = Timestamp::from_nanos(u64::from(start) * 1_000_003);
            let (beats, others) = (WakeupCoalescing { start }, WakeupCoalescing { start });
            let due = start + Duration::from_millis(ms);
            let at = beats.after(due);
            prop_assert!(at >= start);
            prop_assert!(at + BEAT / 8 >= due);
            prop_assert!(at <= due + BEAT + BEAT / 8);
            let later = others.after(due + Duration::from_millis(more));
            prop_assert!(later == at || later.since(at) >= BEAT / 2);
        }
    }
}
