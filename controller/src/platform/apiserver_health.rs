//! Detects an API server that no longer responds: by failures of the watch, and by a request where the watch is silent.

use std::time::Duration;

use kube::runtime::watcher;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::kubernetes::api_error::ApiError;
use crate::platform::api_calls::ApiCalls;

/// How long the watch may fail before the run fails.
const FAILURE_TIMEOUT: Duration = Duration::from_secs(5);

/// Failures of the watch that are further apart than this are unrelated.
const FAILURE_GAP: Duration = Duration::from_secs(20);

/// How long the watch may be silent while an event is expected. An API server that hangs closes neither watches nor logs.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(5);

/// The evidence that the API server responds, or does not.
pub(super) struct ApiServerHealth {
    calls: ApiCalls,
    /// When the API server last responded.
    last_response: Instant,
    /// The first and the last of the related failures of the watch.
    failures: Option<(Instant, Instant)>,
    /// The liveness request, while it is open.
    liveness_check: JoinSet<Result<(), ApiError>>,
}

impl ApiServerHealth {
    pub(super) fn new(calls: ApiCalls) -> Self {
        Self {
            calls,
            last_response: Instant::now(),
            failures: None,
            liveness_check: JoinSet::new(),
        }
    }

    /// Records an event of the watch.
    pub(super) fn record_event(&mut self) {
        self.last_response = Instant::now();
    }

    /// Records a failure of the watch. Returns why the run fails, once the watch has failed for too long.
    pub(super) fn record_failure(&mut self, error: &watcher::Error) -> Option<String> {
        let now = Instant::now();
        let since = match self.failures {
            Some((first, last)) if now - last < FAILURE_GAP => first,
            Some(_) | None => now,
        };
        self.failures = Some((since, now));
        (now - since >= FAILURE_TIMEOUT).then(|| {
            let seconds = (now - since).as_secs();
            format!("the API server has not responded for {seconds} s: {error}")
        })
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
    /// server did not respond.
    pub(super) async fn finish_check(&mut self) -> Option<String> {
        let Some(response) = self.liveness_check.join_next().await else {
            return std::future::pending().await;
        };
        self.last_response = Instant::now();
        match response {
            Ok(Err(error @ ApiError::Unreachable { .. })) => Some(error.to_string()),
            Ok(Ok(()) | Err(_)) | Err(_) => None,
        }
    }
}
