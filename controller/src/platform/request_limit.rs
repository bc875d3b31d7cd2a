//! Limits the requests of one run, so that a run on every node of a large cluster is no burden for its API server: so many at a
//! time, and so many a second.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, sleep_until};

/// Requests that are open at the same time.
const MAX_OPEN: usize = MAX_OPEN_PERMITS as usize;
const MAX_OPEN_PERMITS: u32 = 16;

/// The average time between two requests: twice the rate that kubectl has (50 a second,
/// <https://github.com/kubernetes/kubectl/blob/master/pkg/cmd/cmd.go>, `WithDiscoveryQPS`).
const INTERVAL: Duration = Duration::from_millis(10);

/// Requests that may be sent at once after a pause: those of a run on a few nodes.
const BURST: u32 = 200;

/// The limit. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct RequestLimit {
    open: Arc<Semaphore>,
    /// When the next request would be sent if all were sent at the average rate.
    next: Arc<Mutex<Instant>>,
    /// Whether no more requests are admitted.
    is_closed: watch::Sender<bool>,
}

impl Default for RequestLimit {
    fn default() -> Self {
        Self {
            open: Arc::new(Semaphore::new(MAX_OPEN)),
            next: Arc::new(Mutex::new(Instant::now())),
            is_closed: watch::Sender::new(false),
        }
    }
}

impl RequestLimit {
    /// Waits until a request may be sent, for ever if no more are admitted. It counts as open until the permit is dropped.
    pub(super) async fn admit(&self) -> Option<OwnedSemaphorePermit> {
        let mut state = self.is_closed.subscribe();
        let closed = async { state.wait_for(|is_closed| *is_closed).await.is_ok() };
        tokio::select! {
            biased;
            _ = closed => std::future::pending().await,
            permit = self.wait_for_turn() => permit,
        }
    }

    /// Admits no more requests, and waits until none is open.
    pub(super) async fn close(&self) {
        self.is_closed.send_replace(true);
        // The semaphore is never closed.
        drop(self.open.acquire_many(MAX_OPEN_PERMITS).await);
    }

    async fn wait_for_turn(&self) -> Option<OwnedSemaphorePermit> {
        let permit = Arc::clone(&self.open).acquire_owned().await.ok();
        let at = {
            let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
            let now = Instant::now();
            let (at, after) = schedule(*next, now);
            *next = after;
            at
        };
        sleep_until(at).await;
        permit
    }
}

/// Returns when a request is sent that is ready `now`, and when the next would be at the average rate. `next` is the same of
/// this one.
fn schedule(next: Instant, now: Instant) -> (Instant, Instant) {
    let next = next.max(now);
    let at = next.checked_sub(INTERVAL * BURST).unwrap_or(now).max(now);
    (at, next + INTERVAL)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures::future::join_all;
    use tokio::task::yield_now;

    use super::*;
    use crate::kubernetes::runtime::block_on;

    #[test]
    fn a_burst_is_sent_at_once_and_the_rest_at_the_average_rate() {
        let start = Instant::now();
        let mut next = start;
        let mut sent = Vec::new();
        for _ in 0..1_000 {
            let (at, after) = schedule(next, start);
            next = after;
            sent.push(at - start);
        }
        let in_burst = sent.iter().filter(|after| after.is_zero()).count();
        assert_eq!(in_burst, usize::try_from(BURST).unwrap() + 1);
        assert_eq!(sent[999], INTERVAL * (999 - BURST));
        // After a pause there is a burst again, and not a larger one.
        let later = next + Duration::from_secs(60);
        let (at, after) = schedule(next, later);
        assert_eq!((at, after), (later, later + INTERVAL));
    }

    #[test]
    fn after_its_end_no_request_is_open_and_none_begins() {
        let limit = RequestLimit::default();
        let result = block_on(async {
            let open = limit.admit().await;
            let waiting: Vec<_> = (0..100)
                .map(|_| {
                    let limit = limit.clone();
                    tokio::spawn(async move { limit.admit().await.map(drop) })
                })
                .collect();
            let closing = limit.close();
            tokio::pin!(closing);
            // The first request is still open.
            assert!(futures::poll!(&mut closing).is_pending());
            drop(open);
            closing.await;
            yield_now().await;
            let later = limit.admit();
            tokio::pin!(later);
            assert!(futures::poll!(&mut later).is_pending());
            waiting.iter().filter(|task| !task.is_finished()).count()
        });
        assert_eq!(result.unwrap(), 100);
    }

    #[test]
    fn few_requests_are_open_at_a_time() {
        let limit = RequestLimit::default();
        let (open, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let request = async || {
            let _permit = limit.admit().await;
            let now = open.fetch_add(1, Ordering::SeqCst) + 1;
            most.fetch_max(now, Ordering::SeqCst);
            yield_now().await;
            open.fetch_sub(1, Ordering::SeqCst);
        };
        block_on(join_all((0..150).map(|_| request()))).unwrap();
        assert!((2..=MAX_OPEN).contains(&most.into_inner()));
    }
}
