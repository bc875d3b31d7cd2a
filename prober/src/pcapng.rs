//! The packets of failing probes as a pcapng capture: both ends, with a comment for each annotation.

use std::borrow::Cow;
use std::collections::BTreeMap;

use anyhow::Context as _;
use prober_core::packet::capture::{CommentedPacket, InterfacePackets, write_pcapng};
use prober_core::packet::observation::Observation;
use prober_core::report::annotation::{AnnotationKind, End};
use prober_core::report::render::text;
use prober_core::report::{PathReport, ProbeReport, Report};

/// Writes the capture, with one interface for each agent.
///
/// Fails if a packet cannot be written as pcapng.
pub(crate) fn capture(report: &Report) -> anyhow::Result<Vec<u8>> {
    let mut interfaces: BTreeMap<String, Vec<CommentedPacket<'_>>> = BTreeMap::new();
    for path in report.all_paths() {
        for probe in &path.probes {
            let client = interface_name(
                path.client.node.as_ref().map(ToString::to_string),
                path.client.pod.as_deref(),
            );
            interfaces
                .entry(client)
                .or_default()
                .extend(commented_packets(
                    report,
                    path,
                    probe,
                    End::Client,
                    &probe.client.observations,
                ));
            if let Some(server_trace) = &probe.server {
                let agent = probe.server_agent.as_ref();
                let server = interface_name(
                    agent.map(|agent| agent.node.to_string()),
                    agent.map(|agent| agent.pod.as_str()),
                );
                interfaces
                    .entry(server)
                    .or_default()
                    .extend(commented_packets(
                        report,
                        path,
                        probe,
                        End::Server,
                        &server_trace.observations,
                    ));
            }
        }
    }
    let interfaces: Vec<InterfacePackets<'_>> = interfaces
        .into_iter()
        .map(|(interface, packets)| InterfacePackets { interface, packets })
        .collect();
    write_pcapng(&interfaces).context("cannot write the failing probes as pcapng")
}

/// Returns the name of an agent's interface: `node/pod`, or the part that is known.
fn interface_name(node: Option<String>, pod: Option<&str>) -> String {
    match (node, pod) {
        (Some(node), Some(pod)) => format!("{node}/{pod}"),
        (Some(node), None) => node,
        (None, Some(pod)) => pod.to_owned(),
        (None, None) => "unknown".to_owned(),
    }
}

/// Returns the packets of one end with their comments; the first names the probe and its diagnoses.
fn commented_packets<'a>(
    report: &Report,
    path: &PathReport,
    probe: &ProbeReport,
    end: End,
    observations: &'a [Observation],
) -> Vec<CommentedPacket<'a>> {
    let mut packets = Vec::new();
    for (index, observation) in observations.iter().enumerate() {
        let mut comments = Vec::new();
        if index == 0 {
            comments.push(introduction(report, path, probe));
        }
        for annotation in probe
            .annotations
            .iter()
            .filter(|annotation| annotation.end == end && annotation.packet == index)
        {
            comments.push(match annotation.kind {
                AnnotationKind::Odd => format!("odd: {}", annotation.note),
                AnnotationKind::Follows => annotation.note.clone(),
            });
        }
        let comment = comments.join("\n");
        packets.push(CommentedPacket {
            observation,
            comment: Cow::Owned(comment),
        });
    }
    packets
}

/// Returns the comment of a probe's first packet: the path, the outcome and the diagnoses.
fn introduction(report: &Report, path: &PathReport, probe: &ProbeReport) -> String {
    let titles: Vec<String> = report
        .diagnoses
        .iter()
        .filter(|diagnosis| diagnosis.paths.contains(&path.id))
        .map(|diagnosis| text::title(report, diagnosis))
        .collect();
    let outcome = probe.client.outcome.kind().as_str();
    let titles = if titles.is_empty() {
        "no diagnosis".to_owned()
    } else {
        titles.join("; ")
    };
    format!(
        "prober: {} {}, {outcome}: {titles}",
        path.access_path, path.scope
    )
}
