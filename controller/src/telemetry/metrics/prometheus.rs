//! The table in the words of Prometheus: OpenTelemetry's names with underscores, units and `_total` at their ends.

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

use super::{Figures, Kind, Metrics, Way};
use crate::telemetry::trace::network_type;

/// How the figures are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exposition {
    /// OpenMetrics text: classic histograms, coarser ones.
    Text,
    /// Prometheus' protocol buffers: native histograms.
    Protobuf,
}

impl Exposition {
    /// What a scraper takes, by its `Accept` header: protocol buffers if it names them.
    pub fn accepted(accept: &str) -> Self {
        if accept.contains("application/vnd.google.protobuf") {
            Self::Protobuf
        } else {
            Self::Text
        }
    }

    /// The `Content-Type` of what is written.
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Text => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Protobuf => {
                "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"
            }
        }
    }
}

/// Writes all figures; fails only where a name is none.
pub fn expose(metrics: &Arc<Metrics>, exposition: Exposition) -> Result<Vec<u8>, fmt::Error> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Table(Arc::clone(metrics), exposition)));
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
struct Table(Arc<Metrics>, Exposition);

impl Collector for Table {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        // Of one moment, and written when nobody waits for them any more.
        let figures = self.0.figures().clone();
        durations(&figures, self.1, &mut encoder)?;
        handshakes(&figures, &mut encoder)?;
        healths(&figures, &mut encoder)?;
        first_connectivity(&figures, self.1, &mut encoder)?;
        whole(&figures, &mut encoder)
    }
}

fn durations(
    figures: &Figures,
    exposition: Exposition,
    encoder: &mut DescriptorEncoder<'_>,
) -> fmt::Result {
    let mut family = encoder.encode_descriptor(
        "prober_handshake_duration",
        "How long handshakes took, from the first SYN to the answer",
        Some(&Unit::Seconds),
        MetricType::Histogram,
    )?;
    for (name, node) in &figures.nodes {
        match exposition {
            Exposition::Text => {
                for ((scope, outcome), histogram) in &node.coarse {
                    let labels = [
                        ("k8s_node_name", name.as_str()),
                        ("prober_peer_scope", scope.as_str()),
                        ("prober_outcome", outcome.as_str()),
                    ];
                    histogram.encode(family.encode_family(&labels)?)?;
                }
            }
            Exposition::Protobuf => {
                for (Kind { way, outcome }, histogram) in &node.durations {
                    let labels = [
                        &labels(name, *way)[..],
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

fn handshakes(figures: &Figures, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let mut family = encoder.encode_descriptor(
        "prober_handshakes",
        "Handshakes that ended, by what the client saw and what explains it",
        None,
        MetricType::Counter,
    )?;
    for (name, node) in &figures.nodes {
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

fn healths(figures: &Figures, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let mut family = encoder.encode_descriptor(
        "prober_path_healthy",
        "Whether all paths of a kind from a node work: 1, or 0",
        None,
        MetricType::Gauge,
    )?;
    for ((name, way), healthy) in figures.ways() {
        gauge(family.encode_family(&labels(&name, way))?, healthy)?;
    }
    let mut family = encoder.encode_descriptor(
        "prober_node_healthy",
        "Whether no failure is confirmed on a node: 1, or 0",
        None,
        MetricType::Gauge,
    )?;
    for (name, healthy) in figures.healths() {
        let labels = [("k8s_node_name", name.as_str())];
        gauge(family.encode_family(&labels)?, healthy)?;
    }
    Ok(())
}

fn first_connectivity(
    figures: &Figures,
    exposition: Exposition,
    encoder: &mut DescriptorEncoder<'_>,
) -> fmt::Result {
    let mut family = encoder.encode_descriptor(
        "prober_agent_first_connectivity_duration",
        "From the start of an agent to its first established handshake",
        Some(&Unit::Seconds),
        MetricType::Histogram,
    )?;
    match exposition {
        Exposition::Text => match &figures.first_connectivity {
            Some(histogram) => histogram.encode(family),
            None => Ok(()),
        },
        Exposition::Protobuf => {
            for (name, node) in &figures.nodes {
                if let Some(histogram) = &node.first_connectivity {
                    histogram.encode(family.encode_family(&[("k8s_node_name", name.as_str())])?)?;
                }
            }
            Ok(())
        }
    }
}

fn whole(figures: &Figures, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    if let Some(covered) = figures.covered() {
        let unit = Unit::Other("ratio".to_owned());
        let share = encoder.encode_descriptor(
            "prober_coverage",
            "The share of pairs of nodes that were probed within the last cycle",
            Some(&unit),
            MetricType::Gauge,
        )?;
        ConstGauge::new(covered).encode(share)?;
    }
    let mut family =
        encoder.encode_descriptor("prober_agents", "Agents by state", None, MetricType::Gauge)?;
    for (state, count) in figures.states() {
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
    ConstCounter::new(figures.dropped).encode(dropped)
}

fn gauge(encoder: MetricEncoder<'_>, healthy: bool) -> fmt::Result {
    ConstGauge::new(i64::from(healthy)).encode(encoder)
}

fn labels(node: &NodeName, way: Way) -> [(&'static str, &str); 4] {
    [
        ("k8s_node_name", node.as_str()),
        ("prober_route", way.route.as_str()),
        ("prober_peer_scope", way.scope.as_str()),
        ("network_type", network_type(way.family)),
    ]
}
