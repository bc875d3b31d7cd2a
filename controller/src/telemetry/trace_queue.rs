//! Traces on their way: a bounded queue, batches, retries with growing pauses, and a count of what was given up.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use opentelemetry_sdk::trace::{SpanData, SpanExporter as _};
use tokio::runtime::Handle;
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use super::metrics::Metrics;
use super::resources::Resources;
use super::trace::{Teller, Trace};
use crate::telemetry::channel::Connection;

/// Traces that are sent together at most.
const BATCH: usize = 64;

/// How much is kept, and for how long it is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Traces that wait at most, beside the batch that is being sent. A trace of a lost handshake takes some 10 KiB.
    pub queue: usize,
    /// The pause after the first failure; each further one is twice as long.
    pub first_pause: Duration,
    /// The longest pause.
    pub longest_pause: Duration,
    /// How long a batch is tried before it is dropped.
    pub patience: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            queue: 1_024,
            first_pause: Duration::from_millis(500),
            longest_pause: Duration::from_secs(30),
            patience: Duration::from_mins(5),
        }
    }
}

/// The queue, and the task that empties it.
#[derive(Debug)]
pub(super) struct Sending {
    queue: Sender<Trace>,
    task: JoinHandle<()>,
    books: Books,
}

/// What became of the spans.
#[derive(Clone, Debug)]
struct Books {
    /// Taken, and neither sent nor dropped yet.
    open: Arc<AtomicUsize>,
    metrics: Arc<Metrics>,
}

impl Books {
    fn open(&self, spans: usize) {
        self.open.fetch_add(spans, Ordering::AcqRel);
    }

    fn sent(&self, spans: usize) {
        self.open.fetch_sub(spans, Ordering::AcqRel);
    }

    fn dropped(&self, spans: usize) {
        self.open.fetch_sub(spans, Ordering::AcqRel);
        self.metrics.drop_spans(spans);
    }
}

impl Sending {
    pub(super) fn start(
        connection: Connection,
        resources: Resources,
        limits: Limits,
        metrics: Arc<Metrics>,
        runtime: &Handle,
    ) -> Self {
        let (queue, waiting) = mpsc::channel(limits.queue.max(1));
        let books = Books {
            open: Arc::default(),
            metrics,
        };
        let sender = Dispatch {
            connection,
            resources,
            limits,
            books: books.clone(),
        };
        Self {
            queue,
            task: runtime.spawn(sender.run(waiting)),
            books,
        }
    }

    /// Queues a trace, or drops it where there is no room.
    pub(super) fn take(&self, trace: Trace) {
        let spans = trace.spans().len();
        self.books.open(spans);
        if self.queue.try_send(trace).is_err() {
            self.books.dropped(spans);
        }
    }

    /// Sends what waits, for `within` at most.
    pub(super) async fn finish(self, within: Duration) {
        let Self {
            queue,
            mut task,
            books,
        } = self;
        drop(queue);
        if timeout(within, &mut task).await.is_err() {
            task.abort();
            // Aborted or ended just now: after this it counts nothing any more.
            drop(task.await);
        }
        books.dropped(books.open.load(Ordering::Acquire));
    }
}

struct Dispatch {
    connection: Connection,
    resources: Resources,
    limits: Limits,
    books: Books,
}

impl Dispatch {
    async fn run(self, mut waiting: Receiver<Trace>) {
        let mut batch = Vec::with_capacity(BATCH);
        while waiting.recv_many(&mut batch, BATCH).await > 0 {
            // A request has the spans of one resource.
            let mut requests = BTreeMap::<Teller, Vec<SpanData>>::new();
            for span in batch.drain(..).flat_map(Trace::into_spans) {
                requests.entry(span.teller).or_default().push(span.data);
            }
            let until = Instant::now() + self.limits.patience;
            for (teller, spans) in requests {
                let count = spans.len();
                if self.send(&teller, spans, until).await {
                    self.books.sent(count);
                } else {
                    self.books.dropped(count);
                }
            }
        }
    }

    /// Whether the spans were taken, at the first try or a later one before `until`. What was refused for good is not tried
    /// again.
    async fn send(&self, teller: &Teller, spans: Vec<SpanData>, until: Instant) -> bool {
        let Ok(exporter) = self.connection.spans(&self.resources.of(teller)) else {
            return false;
        };
        let mut pause = self.limits.first_pause;
        while Instant::now() < until {
            let Err(error) = exporter.export(spans.clone()).await else {
                return true;
            };
            if self.connection.has_refused(&error) {
                tracing::warn!(%error, spans = spans.len(), "traces were refused for good, and are dropped");
                return false;
            }
            sleep(pause.min(until.saturating_duration_since(Instant::now()))).await;
            pause = (pause * 2).min(self.limits.longest_pause);
        }
        false
    }
}
