//! The metrics as OpenTelemetry has them, sent once a minute (or as `OTEL_METRIC_EXPORT_INTERVAL` says).

use std::sync::Arc;
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::metrics::{Counter, Histogram, Meter, MeterProvider as _};
use opentelemetry_otlp::MetricExporter;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::metrics::{
    Aggregation, Instrument, InstrumentKind, SdkMeterProvider, Stream,
};
use prober_core::report::CauseName;
use prober_core::topology::NodeName;

use super::metrics::{Kind, Metrics, Way};
use super::trace::network_type;

/// The most series of one metric. Beyond, the library puts all into one that says so: memory stays bounded where nodes
/// come and go for ever, since it forgets none.
const MOST_SERIES: usize = 120_000;

/// The buckets of a histogram; with more the durations would be finer, and a thousand nodes dearer.
const BUCKETS: u32 = 40;

/// What is written at once; everything else is read from the table when it is sent.
#[derive(Debug)]
pub(super) struct Instruments {
    provider: SdkMeterProvider,
    durations: Histogram<f64>,
    handshakes: Counter<u64>,
    first_connectivity: Histogram<f64>,
}

impl Instruments {
    pub(super) fn new(
        exporter: MetricExporter,
        resource: Resource,
        metrics: &Arc<Metrics>,
    ) -> Self {
        let provider = SdkMeterProvider::builder()
            .with_periodic_exporter(exporter)
            .with_resource(resource)
            .with_view(stream)
            .build();
        let meter = provider.meter("prober");
        observe(&meter, metrics);
        Self {
            durations: meter
                .f64_histogram("prober.handshake.duration")
                .with_unit("s")
                .with_description("How long handshakes took, from the first SYN to the answer")
                .build(),
            handshakes: meter
                .u64_counter("prober.handshakes")
                .with_unit("{handshake}")
                .with_description(
                    "Handshakes that ended, by what the client saw and what explains it",
                )
                .build(),
            first_connectivity: meter
                .f64_histogram("prober.agent.first_connectivity.duration")
                .with_unit("s")
                .with_description("From the start of an agent to its first established handshake")
                .build(),
            provider,
        }
    }

    pub(super) fn provider(&self) -> SdkMeterProvider {
        self.provider.clone()
    }

    pub(super) fn handshake(
        &self,
        node: &NodeName,
        kind: Kind,
        cause: Option<CauseName>,
        duration: Option<Duration>,
    ) {
        let outcome = KeyValue::new("prober.outcome", kind.outcome.as_str());
        if let Some(duration) = duration {
            let mut attributes = attributes(node, kind.way).to_vec();
            attributes.push(outcome.clone());
            self.durations.record(duration.as_secs_f64(), &attributes);
        }
        let mut attributes = vec![of(node), outcome];
        attributes.extend(cause.map(|cause| KeyValue::new("prober.cause", cause.as_str())));
        self.handshakes.add(1, &attributes);
    }

    pub(super) fn first_connectivity(&self, node: &NodeName, duration: Duration) {
        self.first_connectivity
            .record(duration.as_secs_f64(), &[of(node)]);
    }
}

/// Registers what is read from the table.
fn observe(meter: &Meter, metrics: &Arc<Metrics>) {
    let table = Arc::clone(metrics);
    meter
        .u64_observable_gauge("prober.path.healthy")
        .with_description("Whether all paths of a kind from a node work: 1, or 0")
        .with_callback(move |observer| {
            for (node, way, healthy) in table.ways() {
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
        .with_description("The share of pairs of nodes that were probed in the present cycle")
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

fn attributes(node: &NodeName, way: Way) -> [KeyValue; 4] {
    [
        of(node),
        KeyValue::new("prober.route", way.route.as_str()),
        KeyValue::new("prober.peer_scope", way.scope.as_str()),
        KeyValue::new("network.type", network_type(way.family)),
    ]
}
