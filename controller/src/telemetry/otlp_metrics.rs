//! The metrics as OpenTelemetry has them, sent once a minute (or as `OTEL_METRIC_EXPORT_INTERVAL` says).
//!
//! The library forgets what is observed once nobody observes it any more, so whatever can be is read from the table. It
//! never forgets a histogram: those have a provider of their own, which is replaced by a new one as soon as more nodes
//! have gone than are there. So there are never more than twice the histograms of the nodes that are there.

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

use super::metrics::{Kind, Metrics, Way};
use super::trace::network_type;
use crate::telemetry::channel::{Connection, ConnectionError};

/// The most series of one metric: what a thousand nodes can have at their worst, five thousand as they mostly are.
/// Beyond, the library puts all into one that says so.
const MOST_SERIES: usize = 200_000;

/// The buckets of a histogram; with more the durations would be finer, and a thousand nodes dearer.
const BUCKETS: u32 = 40;

/// Nodes that may go before anything is replaced for it.
const SPARED: usize = 16;

/// What is told as OTLP.
#[derive(Debug)]
pub(super) struct Instruments {
    providers: Providers,
    observed: SdkMeterProvider,
    durations: Mutex<Durations>,
}

/// Where providers come from.
#[derive(Debug)]
struct Providers {
    connection: Connection,
    resource: Resource,
    runtime: Handle,
}

/// The histograms, and how many nodes have gone since the first of their values.
#[derive(Debug)]
struct Durations {
    provider: SdkMeterProvider,
    handshakes: Histogram<f64>,
    first_connectivity: Histogram<f64>,
    gone: usize,
}

impl Instruments {
    pub(super) fn new(
        connection: Connection,
        resource: Resource,
        metrics: &Arc<Metrics>,
        runtime: &Handle,
    ) -> Result<Self, ConnectionError> {
        let providers = Providers {
            connection,
            resource,
            runtime: runtime.clone(),
        };
        let observed = providers.another()?;
        observe(&observed.meter("prober"), metrics);
        Ok(Self {
            observed,
            durations: Mutex::new(Durations::new(providers.another()?)),
            providers,
        })
    }

    /// A writer that panicked left whole histograms behind.
    fn durations(&self) -> MutexGuard<'_, Durations> {
        self.durations
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn handshake(&self, node: &NodeName, kind: Kind, duration: Duration) {
        let mut attributes = attributes(node, kind.way).to_vec();
        attributes.push(outcome(kind.outcome));
        (self.durations().handshakes).record(duration.as_secs_f64(), &attributes);
    }

    pub(super) fn first_connectivity(&self, node: &NodeName, duration: Duration) {
        (self.durations().first_connectivity).record(duration.as_secs_f64(), &[of(node)]);
    }

    /// A node has gone, and `present` are left.
    pub(super) fn gone(&self, present: usize) {
        let mut durations = self.durations();
        durations.gone += 1;
        if durations.gone <= present.max(SPARED) {
            return;
        }
        // What worked at the start works again; otherwise the next node that goes asks anew.
        if let Ok(provider) = self.providers.another() {
            let old = std::mem::replace(&mut *durations, Durations::new(provider));
            // It sends what it has, and that may take a while.
            (self.providers.runtime).spawn_blocking(move || drop(old.provider.shutdown()));
        }
    }

    /// Sends what is left, for `within` at most. What could not be sent, the library has told its log.
    pub(super) async fn finish(&self, within: Duration) {
        let ending = [self.observed.clone(), self.durations().provider.clone()];
        let ends = ending.map(|provider| {
            (self.providers.runtime)
                .spawn_blocking(move || drop(provider.shutdown_with_timeout(within)))
        });
        join_all(ends).await;
    }
}

impl Providers {
    fn another(&self) -> Result<SdkMeterProvider, ConnectionError> {
        Ok(SdkMeterProvider::builder()
            .with_periodic_exporter(self.connection.metrics()?)
            .with_resource(self.resource.clone())
            .with_view(stream)
            .build())
    }
}

impl Durations {
    fn new(provider: SdkMeterProvider) -> Self {
        let meter = provider.meter("prober");
        Self {
            handshakes: meter
                .f64_histogram("prober.handshake.duration")
                .with_unit("s")
                .with_description("How long handshakes took, from the first SYN to the answer")
                .build(),
            first_connectivity: meter
                .f64_histogram("prober.agent.first_connectivity.duration")
                .with_unit("s")
                .with_description("From the start of an agent to its first established handshake")
                .build(),
            provider,
            gone: 0,
        }
    }
}

/// Registers what is read from the table.
fn observe(meter: &Meter, metrics: &Arc<Metrics>) {
    let table = Arc::clone(metrics);
    meter
        .u64_observable_counter("prober.handshakes")
        .with_unit("{handshake}")
        .with_description("Handshakes that ended, by what the client saw and what explains it")
        .with_callback(move |observer| {
            for (node, seen, cause, count) in table.handshakes() {
                let mut attributes = vec![of(&node), outcome(seen)];
                attributes.extend(cause.map(|cause| KeyValue::new("prober.cause", cause.as_str())));
                observer.observe(count, &attributes);
            }
        })
        .build();
    let table = Arc::clone(metrics);
    meter
        .u64_observable_gauge("prober.path.healthy")
        .with_description("Whether all paths of a kind from a node work: 1, or 0")
        .with_callback(move |observer| {
            for ((node, way), healthy) in table.ways() {
                observer.observe(u64::from(healthy), &attributes(&node, way));
            }
        })
        .build();
    let table = Arc::clone(metrics);
    meter
        .u64_observable_gauge("prober.node.healthy")
        .with_description("Whether no failure is confirmed on a node: 1, or 0")
        .with_callback(move |observer| {
            for (node, healthy) in table.healths() {
                observer.observe(u64::from(healthy), &[of(&node)]);
            }
        })
        .build();
    let table = Arc::clone(metrics);
    meter
        .f64_observable_gauge("prober.coverage")
        .with_unit("1")
        .with_description("The share of pairs of nodes that were probed within the last cycle")
        .with_callback(move |observer| {
            if let Some(covered) = table.covered() {
                observer.observe(covered, &[]);
            }
        })
        .build();
    let table = Arc::clone(metrics);
    meter
        .u64_observable_gauge("prober.agents")
        .with_unit("{agent}")
        .with_description("Agents by state")
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

fn stream(instrument: &Instrument) -> Option<Stream> {
    let stream = Stream::builder().with_cardinality_limit(MOST_SERIES);
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

fn of(node: &NodeName) -> KeyValue {
    KeyValue::new("k8s.node.name", node.to_string())
}

fn outcome(outcome: OutcomeKind) -> KeyValue {
    KeyValue::new("prober.outcome", outcome.as_str())
}

fn attributes(node: &NodeName, way: Way) -> [KeyValue; 4] {
    [
        of(node),
        KeyValue::new("prober.route", way.route.as_str()),
        KeyValue::new("prober.peer_scope", way.scope.as_str()),
        KeyValue::new("network.type", network_type(way.family)),
    ]
}
