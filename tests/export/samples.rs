//! The samples of these tests.

use std::time::Duration;

use controller::telemetry::Exporter;
use controller::telemetry::sample::{AgentState, OpenOutage, Sample};
use controller::telemetry::trace::Trace;
use prober_core::diagnosis::catalogue::Cause;
use prober_core::packet::family::Family;
use prober_core::probe::outcome::OutcomeKind;
use prober_core::report::{CauseName, Report};
use prober_core::topology::{AccessPath, NodeName, Scope};

/// The check of the samples.
pub(crate) const CHECK: &str = "default";

/// The report of the founding incident, from the captures of both ends.
pub(crate) fn report() -> Result<Report, String> {
    Report::parse(include_bytes!("founding-incident.json")).map_err(|error| error.to_string())
}

/// The trace of that incident, with the ids of `seed`.
pub(crate) fn trace(seed: u64) -> Result<Trace, String> {
    let traces = Trace::of_report(&report()?, seed);
    traces
        .into_iter()
        .next()
        .ok_or_else(|| "the report shows no probe".to_owned())
}

/// Records a sample of each metric.
pub(crate) fn record(exporter: &Exporter) {
    record_node(exporter, &NodeName::new("node-1"));
    exporter.record(Sample::Outages {
        check: CHECK.into(),
        open: [OpenOutage {
            node: Some(NodeName::new("node-1")),
            cause: Cause::BridgeNetfilterOff.slug(),
            confidence: "proven",
        }]
        .into(),
    });
    exporter.record(Sample::NotMeasured {
        check: CHECK.into(),
        nodes: [(NodeName::new("node-2"), "no-pod")].into(),
    });
    exporter.record(Sample::Coverage {
        check: CHECK.into(),
        nodes: 3,
        total: 6,
    });
    exporter.record(Sample::Agents {
        check: CHECK.into(),
        state: AgentState::Working,
        count: 2,
    });
}

/// Records a sample of each metric of a node.
pub(crate) fn record_node(exporter: &Exporter, node: &NodeName) {
    let handshake = |outcome, cause, duration| Sample::Handshake {
        node: node.clone(),
        peer_scope: Scope::SameNode,
        access_path: AccessPath::ClusterIp,
        family: Family::Ipv4,
        outcome,
        cause,
        duration,
    };
    for millis in [1, 2, 4] {
        let duration = Some(Duration::from_millis(millis));
        exporter.record(handshake(OutcomeKind::Established, None, duration));
    }
    let cause = CauseName(Some(Cause::BridgeNetfilterOff));
    exporter.record(handshake(OutcomeKind::Mismatched, Some(cause), None));
    exporter.record(Sample::Path {
        check: CHECK.into(),
        node: node.clone(),
        access_path: AccessPath::ClusterIp,
        family: Family::Ipv4,
        scope: Scope::SameNode,
        healthy: false,
    });
    exporter.record(Sample::Node {
        check: CHECK.into(),
        node: node.clone(),
        healthy: Some(false),
    });
}
