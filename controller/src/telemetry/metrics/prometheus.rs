//! The table in the formats of Prometheus: OpenTelemetry's names with underscores, units and `_total` at their ends.

use std::fmt;
use std::sync::Arc;

use prober_core::topology::NodeName;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeMetric, MetricEncoder, prometheus_protobuf, text,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};

use super::{HandshakeClass, MetricTable, Metrics, PathClass};
use crate::kubernetes::request_count::RequestCount;
use crate::telemetry::trace::network_type;

/// The format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exposition {
    /// OpenMetrics text, with classic histograms.
    Text,
    /// Prometheus' protocol buffers, with native histograms.
    Protobuf,
}

impl Exposition {
    /// The format for an `Accept` header: protocol buffers if it names them.
    pub fn accepted(accept: &str) -> Self {
        if accept.contains("application/vnd.google.protobuf") {
            Self::Protobuf
        } else {
            Self::Text
        }
    }

    /// The `Content-Type` of the format.
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Text => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Protobuf => {
                "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"
            }
        }
    }
}

/// Writes all metrics; fails only on an invalid name.
pub fn expose(metrics: &Arc<Metrics>, exposition: Exposition) -> Result<Vec<u8>, fmt::Error> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(TableCollector(Arc::clone(metrics), exposition)));
    match exposition {
        Exposition::Text => {
            let mut written = String::new();
            text::encode(&mut written, &registry)?;
            Ok(written.into_bytes())
        }
        Exposition::Protobuf => {
            prometheus_protobuf::encode_to_vec(&registry).map_err(|_| fmt::Error)
        }
    }
}

#[derive(Debug)]
struct TableCollector(Arc<Metrics>, Exposition);

impl Collector for TableCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let table = self.0.table();
        durations(&table, self.1, &mut encoder)?;
        handshakes(&table, &mut encoder)?;
        healths(&table, &mut encoder)?;
        problems(&table, &mut encoder)?;
        totals(&table, &mut encoder)?;
        controller(&table, &mut encoder)
    }
}

fn durations(
    table: &MetricTable,
    exposition: Exposition,
    encoder: &mut DescriptorEncoder<'_>,
) -> fmt::Result {
    let mut family = encoder.encode_descriptor(
        "prober_handshake_duration",
        "How long handshakes took, from the first SYN to the answer",
        Some(&Unit::Seconds),
        MetricType::Histogram,
    )?;
    for (name, node) in &table.nodes {
        match exposition {
            Exposition::Text => {
                for ((scope, outcome), histogram) in &node.classic_durations {
                    let labels = [
                        ("k8s_node_name", name.as_str()),
                        ("prober_peer_scope", scope.as_str()),
                        ("prober_outcome", outcome.as_str()),
                    ];
                    histogram.encode(family.encode_family(&labels)?)?;
                }
            }
            Exposition::Protobuf => {
                for (HandshakeClass { path, outcome }, histogram) in &node.durations {
                    let labels = [
                        &labels(name, *path)[..],
                        &[("prober_outcome", outcome.as_str())],
                    ]
                    .concat();
                    histogram.encode(family.encode_family(&labels.as_slice())?)?;
                }
            }
        }
    }
    Ok(())
}

fn handshakes(table: &MetricTable, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let mut family = encoder.encode_descriptor(
        "prober_handshakes",
        "Handshakes that ended, by what the client saw and what explains it",
        None,
        MetricType::Counter,
    )?;
    for (name, node) in &table.nodes {
        for ((outcome, cause), count) in &node.handshakes {
            let labels = [
                ("k8s_node_name", name.as_str()),
                ("prober_outcome", outcome.as_str()),
                ("prober_cause", cause.map_or("", |cause| cause.as_str())),
            ];
            ConstCounter::new(*count).encode(family.encode_family(&labels)?)?;
        }
    }
    Ok(())
}

fn healths(table: &MetricTable, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let mut family = encoder.encode_descriptor(
        "prober_path_healthy",
        "Whether all paths of a kind from a node that is examined work: 1, or 0",
        None,
        MetricType::Gauge,
    )?;
    for ((name, path), healthy) in table.paths() {
        gauge(family.encode_family(&labels(&name, path))?, healthy)?;
    }
    let mut family = encoder.encode_descriptor(
        "prober_node_healthy",
        "Whether a node is measured and no failure is confirmed on it: 1, or 0; absent where that is not known",
        None,
        MetricType::Gauge,
    )?;
    for (name, healthy) in table.healths() {
        let labels = [("k8s_node_name", name.as_str())];
        gauge(family.encode_family(&labels)?, healthy)?;
    }
    Ok(())
}

/// Series that end when the problem does.
fn problems(table: &MetricTable, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let mut family = encoder.encode_descriptor(
        "prober_outage",
        "An outage that lasts, by node, cause and confidence: 1; absent when it has ended",
        None,
        MetricType::Gauge,
    )?;
    for outage in table.outages() {
        let labels = [
            (
                "k8s_node_name",
                outage.node.as_ref().map_or("", NodeName::as_str),
            ),
            ("prober_cause", outage.cause),
            ("prober_confidence", outage.confidence),
        ];
        gauge(family.encode_family(&labels)?, true)?;
    }
    let mut family = encoder.encode_descriptor(
        "prober_node_not_measured",
        "A node where nothing is measured, by the reason: 1; absent where it is measured, or no check wants it",
        None,
        MetricType::Gauge,
    )?;
    for (node, reason) in table.not_measured() {
        let labels = [("k8s_node_name", node.as_str()), ("prober_reason", reason)];
        gauge(family.encode_family(&labels)?, true)?;
    }
    Ok(())
}

fn totals(table: &MetricTable, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    if let Some(covered) = table.covered() {
        let unit = Unit::Other("ratio".to_owned());
        let share = encoder.encode_descriptor(
            "prober_coverage",
            "The share of the selected nodes whose agents probe",
            Some(&unit),
            MetricType::Gauge,
        )?;
        ConstGauge::new(covered).encode(share)?;
    }
    let mut family = encoder.encode_descriptor(
        "prober_agents",
        "Nodes by the state of their agents",
        None,
        MetricType::Gauge,
    )?;
    for (state, count) in table.states() {
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        let labels = [("prober_agent_state", state.as_str())];
        ConstGauge::new(count).encode(family.encode_family(&labels)?)?;
    }
    let dropped = encoder.encode_descriptor(
        "prober_export_dropped",
        "Spans that could not be sent and were dropped",
        None,
        MetricType::Counter,
    )?;
    ConstCounter::new(table.dropped).encode(dropped)
}

/// What the controller itself does.
fn controller(table: &MetricTable, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let controller = &table.controller;
    let leader = encoder.encode_descriptor(
        "prober_leader",
        "Whether this controller leads: 1, or 0",
        None,
        MetricType::Gauge,
    )?;
    gauge(leader, controller.is_leading)?;
    let examinations = encoder.encode_descriptor(
        "prober_examinations",
        "Examinations that had a result",
        None,
        MetricType::Counter,
    )?;
    ConstCounter::new(controller.examinations).encode(examinations)?;
    let alerts = encoder.encode_descriptor(
        "prober_transient_alerts",
        "Alerts of agents that ended without a confirmed failure",
        None,
        MetricType::Counter,
    )?;
    let transient = table.checks.values().map(|check| check.transient_alerts);
    ConstCounter::new(transient.sum::<u64>()).encode(alerts)?;
    let errors = encoder.encode_descriptor(
        "prober_reconcile_errors",
        "Reconciliations of a ConnectivityCheck that failed and are tried again",
        None,
        MetricType::Counter,
    )?;
    ConstCounter::new(controller.reconcile_errors).encode(errors)?;
    if let Some(durations) = &controller.reconciliations {
        let reconciliations = encoder.encode_descriptor(
            "prober_reconcile_duration",
            "How long reconciliations of a ConnectivityCheck took",
            Some(&Unit::Seconds),
            MetricType::Histogram,
        )?;
        durations.encode(reconciliations)?;
    }
    if let Some(durations) = &controller.evaluations {
        let evaluations = encoder.encode_descriptor(
            "prober_evaluation_duration",
            "How long it took to evaluate the nodes and the checks after a change",
            Some(&Unit::Seconds),
            MetricType::Histogram,
        )?;
        durations.encode(evaluations)?;
    }
    let mut requests = encoder.encode_descriptor(
        "prober_api_requests",
        "Requests to the API server, by verb and status code; a watch counts when it is opened",
        None,
        MetricType::Counter,
    )?;
    let counted = controller.requests.iter();
    for ((verb, code), count) in counted.flat_map(RequestCount::by_verb_and_code) {
        let labels = [("verb", verb), ("code", code.as_str())];
        ConstCounter::new(count).encode(requests.encode_family(&labels)?)?;
    }
    Ok(())
}

fn gauge(encoder: MetricEncoder<'_>, healthy: bool) -> fmt::Result {
    ConstGauge::new(i64::from(healthy)).encode(encoder)
}

fn labels(node: &NodeName, path: PathClass) -> [(&'static str, &str); 4] {
    [
        ("k8s_node_name", node.as_str()),
        ("prober_access_path", path.access_path.as_str()),
        ("prober_peer_scope", path.scope.as_str()),
        ("network_type", network_type(path.family)),
    ]
}
