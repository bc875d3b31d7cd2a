//! Whether the API server is there: told by its watch while that speaks, asked for where it is silent.

use std::time::Duration;

use kube::runtime::watcher;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::kubernetes::api_error::ApiError;
use crate::platform::api_calls::ApiCalls;

/// How long the watch may fail before the API server is given up.
const PATIENCE: Duration = Duration::from_secs(5);

/// Failures of the watch that lie further apart have nothing to do with each other.
const MEMORY: Duration = Duration::from_secs(20);

/// How long the watch may be silent where something is awaited: an API server that hangs breaks no watch, and no log.
const QUIET: Duration = Duration::from_secs(5);

/// What is known of the API server's life.
pub(super) struct ApiServerHealth {
    calls: ApiCalls,
    heard: Instant,
    /// The first and the last of the watch's failures in a row.
    failing: Option<(Instant, Instant)>,
    /// The question whether it is there, while it is open.
    question: JoinSet<Result<(), ApiError>>,
}

impl ApiServerHealth {
    pub(super) fn new(calls: ApiCalls) -> Self {
        Self {
            calls,
            heard: Instant::now(),
            failing: None,
            question: JoinSet::new(),
        }
    }

    /// The watch has spoken.
    pub(super) fn beat(&mut self) {
        self.heard = Instant::now();
    }

    /// The watch has failed; why the API server is given up, if it is.
    pub(super) fn fail(&mut self, error: &watcher::Error) -> Option<String> {
        let now = Instant::now();
        let since = match self.failing {
            Some((first, last)) if now - last < MEMORY => first,
            Some(_) | None => now,
        };
        self.failing = Some((since, now));
        (now - since >= PATIENCE).then(|| {
            let silent = (now - since).as_secs();
            format!("the API server has not answered for {silent} s: {error}")
        })
    }

    /// When it is to be asked, if what is awaited since then does not come.
    pub(super) fn quiet(&self, awaited: Option<Instant>) -> Option<Instant> {
        let awaited = awaited.filter(|_| self.question.is_empty())?;
        Some(awaited.max(self.heard) + QUIET)
    }

    /// Asks it.
    pub(super) fn ask(&mut self) {
        let calls = self.calls.clone();
        self.question
            .spawn(async move { calls.check_liveness().await });
    }

    /// Waits for the answer to the open question, for ever where there is none. Why the API server is given up, if it is.
    pub(super) async fn answer(&mut self) -> Option<String> {
        let Some(answer) = self.question.join_next().await else {
            return std::future::pending().await;
        };
        self.heard = Instant::now();
        match answer {
            Ok(Err(error @ ApiError::Unreachable { .. })) => Some(error.to_string()),
            Ok(Ok(()) | Err(_)) | Err(_) => None,
        }
    }
}
