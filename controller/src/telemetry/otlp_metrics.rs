//! The metrics as OpenTelemetry instruments, sent once a minute (or at `OTEL_METRIC_EXPORT_INTERVAL`).
//!
//! The library drops a series that is no longer observed, so counters and gauges are observed from the table. It never
//! drops a histogram: histograms have a meter provider of their own, which is replaced once more nodes were removed than
//! are present. So there are at most twice as many histograms as the present nodes have.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::future::join_all;
use opentelemetry::KeyValue;
use opentelemetry::metrics::{Histogram, Meter, MeterProvider as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::metrics::{
    Aggregation, Instrument, InstrumentKind, SdkMeterProvider, Stream,
};
use prober_core::probe::outcome::OutcomeKind;
use prober_core::topology::NodeName;
use tokio::runtime::Handle;

use super::metrics::{HandshakeClass, Metrics, PathClass};
use super::trace::network_type;
use crate::telemetry::channel::{OtlpChannel, OtlpChannelError};

/// The most series of one metric: those of 1,000 nodes at their worst, or of 5,000 usual ones. The library merges
/// further ones into one that says so.
const MAX_SERIES: usize = 200_000;

/// The most buckets of a histogram; more would be more precise, and use more memory per node.
const BUCKETS: u32 = 40;

/// The number of removed nodes from which histograms are replaced.
const MIN_REMOVED_NODES: usize = 16;

/// The metrics that are pushed by OTLP.
#[derive(Debug)]
pub(super) struct OtlpMetrics {
    providers: MeterProviders,
    observed: SdkMeterProvider,
    durations: Mutex<Histograms>,
}

/// Creates meter providers.
#[derive(Debug)]
struct MeterProviders {
    connection: OtlpChannel,
    resource: Resource,
    runtime: Handle,
}

/// The histograms, and the number of nodes that were removed since they were created.
#[derive(Debug)]
struct Histograms {
    provider: SdkMeterProvider,
    handshakes: Histogram<f64>,
    removed: usize,
}

impl OtlpMetrics {
    pub(super) fn new(
        connection: OtlpChannel,
        resource: Resource,
        metrics: &Arc<Metrics>,
        runtime: &Handle,
    ) -> Result<Self, OtlpChannelError> {
        let providers = MeterProviders {
            connection,
            resource,
            runtime: runtime.clone(),
        };
        let observed = providers.create()?;
        observe(&observed.meter("prober"), metrics);
        Ok(Self {
            observed,
            durations: Mutex::new(Histograms::new(providers.create()?)),
            providers,
        })
    }

    /// A writer that panicked leaves whole histograms.
    fn durations(&self) -> MutexGuard<'_, Histograms> {
        self.durations
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn handshake(&self, node: &NodeName, kind: HandshakeClass, duration: Duration) {
        let mut attributes = attributes(node, kind.path).to_vec();
        attributes.push(outcome(kind.outcome));
        (self.durations().handshakes).record(duration.as_secs_f64(), &attributes);
    }

    /// Counts a removed node; `present` nodes are left.
    pub(super) fn remove_node(&self, present: usize) {
        let mut durations = self.durations();
        durations.removed += 1;
        if durations.removed <= present.max(MIN_REMOVED_NODES) {
            return;
        }
        // The same configuration has worked before; if it fails, the next removal tries again.
        if let Ok(provider) = self.providers.create() {
            let old = std::mem::replace(&mut *durations, Histograms::new(provider));
            // It sends what it has, which may take long.
            (self.providers.runtime).spawn_blocking(move || drop(old.provider.shutdown()));
        }
    }

    /// Sends what is left within the time `within`; the library logs what it could not send.
    pub(super) async fn finish(&self, within: Duration) {
        let ending = [self.observed.clone(), self.durations().provider.clone()];
        let ends = ending.map(|provider| {
            (self.providers.runtime)
                .spawn_blocking(move || drop(provider.shutdown_with_timeout(within)))
        });
        join_all(ends).await;
    }
}

impl MeterProviders {
    fn create(&self) -> Result<SdkMeterProvider, OtlpChannelError> {
        Ok(SdkMeterProvider::builder()
            .with_periodic_exporter(self.connection.metrics()?)
            .with_resource(self.resource.clone())
            .with_view(stream)
            .build())
    }
}

impl Histograms {
    fn new(provider: SdkMeterProvider) -> Self {
        let meter = provider.meter("prober");
        Self {
            handshakes: meter
                .f64_histogram("prober.handshake.duration")
                .with_unit("s")
                .with_description("How long handshakes took, from the first SYN to the answer")
                .build(),
            provider,
            removed: 0,
        }
    }
}

/// Registers the metrics that are read from the table.
fn observe(meter: &Meter, metrics: &Arc<Metrics>) {
    let table = Arc::clone(metrics);
    meter
        .u64_observable_counter("prober.handshakes")
        .with_unit("{handshake}")
        .with_description("Handshakes that ended, by what the client saw and what explains it")
        .with_callback(move |observer| {
            for (node, seen, cause, count) in table.handshakes() {
                let mut attributes = vec![node_attribute(&node), outcome(seen)];
                attributes.extend(cause.map(|cause| KeyValue::new("prober.cause", cause.as_str())));
                observer.observe(count, &attributes);
            }
        })
        .build();
    let table = Arc::clone(metrics);
    meter
        .u64_observable_gauge("prober.path.healthy")
        .with_description("Whether all paths of a kind from a node that is examined work: 1, or 0")
        .with_callback(move |observer| {
            for ((node, path), healthy) in table.paths() {
                observer.observe(u64::from(healthy), &attributes(&node, path));
            }
        })
        .build();
    let table = Arc::clone(metrics);
    meter
        .u64_observable_gauge("prober.node.healthy")
        .with_description("Whether a node is measured and no failure is confirmed on it: 1, or 0")
        .with_callback(move |observer| {
            for (node, healthy) in table.healths() {
                observer.observe(u64::from(healthy), &[node_attribute(&node)]);
            }
        })
        .build();
    observe_problems(meter, metrics);
    let table = Arc::clone(metrics);
    meter
        .f64_observable_gauge("prober.coverage")
        .with_unit("1")
        .with_description("The share of the selected nodes whose agents probe")
        .with_callback(move |observer| {
            if let Some(covered) = table.covered() {
                observer.observe(covered, &[]);
            }
        })
        .build();
    let table = Arc::clone(metrics);
    meter
        .u64_observable_gauge("prober.agents")
        .with_unit("{node}")
        .with_description("Nodes by the state of their agents")
        .with_callback(move |observer| {
            for (state, count) in table.states() {
                observer.observe(
                    count,
                    &[KeyValue::new("prober.agent.state", state.as_str())],
                );
            }
        })
        .build();
    let table = Arc::clone(metrics);
    meter
        .u64_observable_counter("prober.export.dropped")
        .with_unit("{span}")
        .with_description("Spans that could not be sent and were dropped")
        .with_callback(move |observer| observer.observe(table.dropped(), &[]))
        .build();
}

/// Registers the metrics whose series end when the problem does.
fn observe_problems(meter: &Meter, metrics: &Arc<Metrics>) {
    let table = Arc::clone(metrics);
    meter
        .u64_observable_gauge("prober.outage")
        .with_description("An outage that lasts, by node, cause and confidence: 1")
        .with_callback(move |observer| {
            for outage in table.outages() {
                let mut attributes = vec![
                    KeyValue::new("prober.cause", outage.cause),
                    KeyValue::new("prober.confidence", outage.confidence),
                ];
                attributes.extend(outage.node.as_ref().map(node_attribute));
                observer.observe(1, &attributes);
            }
        })
        .build();
    let table = Arc::clone(metrics);
    meter
        .u64_observable_gauge("prober.node.not_measured")
        .with_description("A node where nothing is measured, by the reason: 1")
        .with_callback(move |observer| {
            for (node, reason) in table.not_measured() {
                let reason = KeyValue::new("prober.reason", reason);
                observer.observe(1, &[node_attribute(&node), reason]);
            }
        })
        .build();
}

fn stream(instrument: &Instrument) -> Option<Stream> {
    let stream = Stream::builder().with_cardinality_limit(MAX_SERIES);
    let stream = if instrument.kind() == InstrumentKind::Histogram {
        stream.with_aggregation(Aggregation::Base2ExponentialHistogram {
            max_size: BUCKETS,
            max_scale: 20,
            record_min_max: true,
        })
    } else {
        stream
    };
    stream.build().ok()
}

fn node_attribute(node: &NodeName) -> KeyValue {
    KeyValue::new("k8s.node.name", node.to_string())
}

fn outcome(outcome: OutcomeKind) -> KeyValue {
    KeyValue::new("prober.outcome", outcome.as_str())
}

fn attributes(node: &NodeName, path: PathClass) -> [KeyValue; 4] {
    [
        node_attribute(node),
        KeyValue::new("prober.access_path", path.access_path.as_str()),
        KeyValue::new("prober.peer_scope", path.scope.as_str()),
        KeyValue::new("network.type", network_type(path.family)),
    ]
}
