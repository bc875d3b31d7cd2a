//! Detects an API server that no longer responds: by failures of the watch without an event between them, and by requests where
//! the watch is silent. A server that is restarted is away for some seconds: it has time to come back.

use std::fmt;
use std::time::Duration;

use kube::runtime::watcher;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::kubernetes::api_error::ApiError;
use crate::platform::api_calls::ApiCalls;

/// How long the API server may not respond before the run fails.
const FAILURE_TIMEOUT: Duration = Duration::from_secs(15);

/// Failures of the watch that are further apart than this are unrelated.
const FAILURE_GAP: Duration = Duration::from_secs(40);

/// How long the watch may be silent while an event is expected. An API server that hangs closes neither watches nor logs.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(5);

/// The evidence that the API server responds, or does not.
pub(super) struct ApiServerHealth {
    calls: ApiCalls,
    /// When the API server last responded, or last failed to.
    last_response: Instant,
    failures: Failures,
    /// The liveness request, while it is open.
    liveness_check: JoinSet<Result<(), ApiError>>,
}

impl ApiServerHealth {
    pub(super) fn new(calls: ApiCalls) -> Self {
        Self {
            calls,
            last_response: Instant::now(),
            failures: Failures::default(),
            liveness_check: JoinSet::new(),
        }
    }

    /// Records an event of the watch: the API server responds, and earlier failures are over.
    pub(super) fn record_event(&mut self) {
        self.last_response = Instant::now();
        self.failures.clear();
    }

    /// Records a failure of the watch. Returns why the run fails, once the watch has failed for too long.
    pub(super) fn record_failure(&mut self, error: &watcher::Error) -> Option<String> {
        let now = Instant::now();
        self.failures.add(now, now, error)
    }

    /// Returns when the liveness of the API server is to be checked. `expected_since` is the time since which an event is
    /// expected; `None` if none is.
    pub(super) fn next_check(&self, expected_since: Option<Instant>) -> Option<Instant> {
        let since = expected_since.filter(|_| self.liveness_check.is_empty())?;
        Some(since.max(self.last_response) + SILENCE_TIMEOUT)
    }

    /// Sends a liveness request.
    pub(super) fn start_check(&mut self) {
        let calls = self.calls.clone();
        self.liveness_check
            .spawn(async move { calls.check_liveness().await });
    }

    /// Waits for the response to the open liveness request, for ever if there is none. Returns why the run fails, if the API
    /// server has not responded for too long.
    pub(super) async fn finish_check(&mut self) -> Option<String> {
        let Some(response) = self.liveness_check.join_next().await else {
            return std::future::pending().await;
        };
        let now = Instant::now();
        let since = std::mem::replace(&mut self.last_response, now);
        if let Ok(Err(error @ ApiError::Unreachable { .. })) = response {
            self.failures.add(since, now, &error)
        } else {
            self.failures.clear();
            None
        }
    }
}

/// The related failures of the watch and of liveness requests, since the API server last responded.
#[derive(Debug, Default)]
struct Failures {
    /// The first and the last one.
    span: Option<(Instant, Instant)>,
}

impl Failures {
    /// Forgets them: the API server has responded.
    fn clear(&mut self) {
        self.span = None;
    }

    /// Adds a failure that began at `began`. Returns why the run fails, once the failures last too long.
    fn add(&mut self, began: Instant, now: Instant, error: &impl fmt::Display) -> Option<String> {
        let since = match self.span {
            Some((first, last)) if now - last < FAILURE_GAP => first,
            Some(_) | None => began,
        };
        self.span = Some((since, now));
        (now - since >= FAILURE_TIMEOUT).then(|| {
            let seconds = (now - since).as_secs();
            format!("the API server has not responded for {seconds} s: {error}")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_end_a_run_only_if_nothing_was_received_between_them() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut failures = Failures::default();
        let mut add = |began, seconds| failures.add(at(began), at(seconds), &"reset");
        for seconds in [0, 5, 10, 14] {
            assert_eq!(add(seconds, seconds), None);
        }
        let reason = add(16, 16).unwrap();
        assert!(reason.contains("for 16 s: reset"), "{reason}");
        // A server that hangs is silent before a request fails.
        let mut failures = Failures::default();
        assert_eq!(failures.add(at(0), at(10), &"no response"), None);
        assert!(failures.add(at(10), at(20), &"no response").is_some());

        // Failures six seconds apart, with an event between each two of them.
        let mut failures = Failures::default();
        for round in 0..100 {
            let at = at(round * 6);
            assert_eq!(failures.add(at, at, &"reset"), None);
            failures.clear();
        }
        // Failures that are far apart have others between them that were not seen.
        for hour in 1..10 {
            let at = at(hour * 3_600);
            assert_eq!(failures.add(at, at, &"reset"), None);
        }
    }
}
