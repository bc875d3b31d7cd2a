//! Pauses between attempts: each twice the one before, lengthened at random.

use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};

/// Pauses that double up to a longest one. Each is lengthened by up to its own length at random, so that attempts that fail
/// together are not repeated together.
#[derive(Debug)]
pub(crate) struct Backoff {
    shape: ExponentialBuilder,
    pauses: ExponentialBackoff,
    longest: Duration,
}

impl Backoff {
    /// Pauses from `first` to `longest`, before they are lengthened.
    pub(crate) fn new(first: Duration, longest: Duration) -> Self {
        let shape = ExponentialBuilder::new()
            .with_min_delay(first)
            .with_max_delay(longest)
            .without_max_times()
            .with_jitter();
        Self {
            shape,
            pauses: shape.build(),
            longest,
        }
    }

    /// The pause before the next attempt.
    pub(crate) fn pause(&mut self) -> Duration {
        self.pauses.next().unwrap_or(self.longest)
    }

    /// Starts again with the first pause, after an attempt that succeeded.
    pub(crate) fn reset(&mut self) {
        self.pauses = self.shape.build();
    }
}

impl Iterator for Backoff {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        Some(self.pause())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_and_start_again_after_a_reset() {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(5));
        for expected in [1, 2, 4, 5, 5].map(Duration::from_secs) {
            let pause = backoff.pause();
            assert!(expected <= pause && pause <= expected * 2, "{pause:?}");
        }
        backoff.reset();
        assert!(backoff.pause() <= Duration::from_secs(2));
    }

    #[test]
    fn attempts_that_fail_together_are_not_repeated_together() {
        let pauses: std::collections::BTreeSet<Duration> = (0..16)
            .map(|_| Backoff::new(Duration::from_secs(1), Duration::from_secs(5)).pause())
            .collect();
        assert!(pauses.len() > 1, "{pauses:?}");
    }
}
