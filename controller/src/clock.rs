//! The wall clock, for times that people read; and the monotonic clock, for deadlines.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

#[cfg(target_os = "linux")]
use nix::time::{ClockId, clock_gettime};
use prober_core::time::{Timestamp, nanos};

/// The current time of the wall clock.
pub fn wall() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    Timestamp::from_nanos(nanos(since.unwrap_or_default()))
}

/// The time since the machine booted, on a clock that never goes back; never zero.
///
/// It continues while the machine is suspended, as the Lease's duration does: after a suspension, deadlines have
/// passed.
#[cfg(target_os = "linux")]
pub fn steady() -> Timestamp {
    let since = clock_gettime(ClockId::CLOCK_BOOTTIME)
        .unwrap_or_else(|_| unreachable!("Linux has had this clock since 2.6.39"));
    Timestamp::from_nanos(nanos(Duration::from(since)).max(1))
}

/// The time since this was first called, on a clock that never goes back; never zero. Elsewhere than on Linux no controller runs.
#[cfg(not(target_os = "linux"))]
pub fn steady() -> Timestamp {
    static START: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
    let since: Duration = START.get_or_init(std::time::Instant::now).elapsed();
    Timestamp::from_nanos(nanos(since).max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_steady_clock_never_goes_back_and_is_never_zero() {
        let times: Vec<Timestamp> = (0..1_000).map(|_| steady()).collect();
        assert!(times.is_sorted());
        assert!(times.first().is_some_and(|first| first.as_nanos() > 0));
    }
}
