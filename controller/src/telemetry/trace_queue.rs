//! The queue of traces: bounded, sent in batches, retried with growing pauses; dropped spans are counted.

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
use super::trace::{SpanSource, Trace};
use crate::backoff::Backoff;
use crate::telemetry::channel::OtlpChannel;

/// The most traces of a batch.
const BATCH: usize = 64;

/// The limits of the queue and of its retries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The most traces that wait, beside the batch that is being sent. A trace of a lost handshake takes about 10 KiB.
    pub queue: usize,
    /// The pause after the first failure; each further failure doubles it.
    pub first_pause: Duration,
    /// The longest pause.
    pub longest_pause: Duration,
    /// How long a batch is retried before it is dropped.
    pub retry_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            queue: 1_024,
            first_pause: Duration::from_millis(500),
            longest_pause: Duration::from_secs(30),
            retry_timeout: Duration::from_mins(5),
        }
    }
}

/// The queue, and the task that sends its traces.
#[derive(Debug)]
pub(super) struct TraceQueue {
    queue: Sender<Trace>,
    task: JoinHandle<()>,
    counter: SpanCounter,
}

/// Counts spans.
#[derive(Clone, Debug)]
struct SpanCounter {
    /// Spans in the queue, or being sent.
    pending: Arc<AtomicUsize>,
    metrics: Arc<Metrics>,
}

impl SpanCounter {
    fn queued(&self, spans: usize) {
        self.pending.fetch_add(spans, Ordering::AcqRel);
    }

    fn sent(&self, spans: usize) {
        self.pending.fetch_sub(spans, Ordering::AcqRel);
    }

    fn dropped(&self, spans: usize) {
        self.pending.fetch_sub(spans, Ordering::AcqRel);
        self.metrics.drop_spans(spans);
    }
}

impl TraceQueue {
    pub(super) fn start(
        connection: OtlpChannel,
        resources: Resources,
        limits: Limits,
        metrics: Arc<Metrics>,
        runtime: &Handle,
    ) -> Self {
        let (queue, waiting) = mpsc::channel(limits.queue.max(1));
        let counter = SpanCounter {
            pending: Arc::default(),
            metrics,
        };
        let sender = SpanSender {
            connection,
            resources,
            limits,
            counter: counter.clone(),
        };
        Self {
            queue,
            task: runtime.spawn(sender.run(waiting)),
            counter,
        }
    }

    /// Queues a trace, or drops it if the queue is full.
    pub(super) fn push(&self, trace: Trace) {
        let spans = trace.spans().len();
        self.counter.queued(spans);
        if self.queue.try_send(trace).is_err() {
            self.counter.dropped(spans);
        }
    }

    /// Sends what waits, within the time `within`.
    pub(super) async fn finish(self, within: Duration) {
        let Self {
            queue,
            mut task,
            counter,
        } = self;
        drop(queue);
        if timeout(within, &mut task).await.is_err() {
            task.abort();
            // It was aborted or has just ended: from here on it counts nothing.
            drop(task.await);
        }
        counter.dropped(counter.pending.load(Ordering::Acquire));
    }
}

struct SpanSender {
    connection: OtlpChannel,
    resources: Resources,
    limits: Limits,
    counter: SpanCounter,
}

impl SpanSender {
    async fn run(self, mut waiting: Receiver<Trace>) {
        let mut batch = Vec::with_capacity(BATCH);
        while waiting.recv_many(&mut batch, BATCH).await > 0 {
            // A request has the spans of one resource.
            let mut requests = BTreeMap::<SpanSource, Vec<SpanData>>::new();
            for span in batch.drain(..).flat_map(Trace::into_spans) {
                requests.entry(span.source).or_default().push(span.data);
            }
            let until = Instant::now() + self.limits.retry_timeout;
            for (source, spans) in requests {
                let count = spans.len();
                if self.send(&source, spans, until).await {
                    self.counter.sent(count);
                } else {
                    self.counter.dropped(count);
                }
            }
        }
    }

    /// Whether the spans were accepted, at the first attempt or a later one before `until`. Final errors are not
    /// retried.
    async fn send(&self, source: &SpanSource, spans: Vec<SpanData>, until: Instant) -> bool {
        let Ok(exporter) = self.connection.spans(&self.resources.of_source(source)) else {
            return false;
        };
        let mut backoff = Backoff::new(self.limits.first_pause, self.limits.longest_pause);
        while Instant::now() < until {
            let Err(error) = exporter.export(spans.clone()).await else {
                return true;
            };
            if self.connection.has_refused(&error) {
                tracing::warn!(%error, spans = spans.len(), "traces were refused for good, and are dropped");
                return false;
            }
            let left = until.saturating_duration_since(Instant::now());
            sleep(backoff.pause().min(left)).await;
        }
        false
    }
}
