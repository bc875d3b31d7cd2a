//! The packets of one probe as text, first those at its client's end, then those at its server's.

use super::super::packet::{PacketWords, describe, find_annotation, seconds};
use super::super::{Text, Tone};
use crate::packet::observation::{Direction, Observation};
use crate::packet::{Body, ResolutionKind};
use crate::probe::event::ServerTrace;
use crate::probe::outcome::{Exchange, Outcome};
use crate::report::annotation::{Annotation, AnnotationKind, End};
use crate::report::{PathReport, ProbeReport};

/// The most packets of one end that are shown; the rest is counted.
const SHOWN: usize = 6;

/// Adds the packets of `probe` at both ends.
pub(super) fn packets(text: &mut Text, path: &PathReport, probe: &ProbeReport) {
    text.end().put(Tone::Heading, "Packets").end();
    text.wrapped(Tone::Plain, "  ", &summary(path, probe));
    let client = match (&path.client.pod, &path.client.node) {
        (Some(pod), Some(node)) => format!("{pod} on {node}"),
        (Some(one), None) => one.clone(),
        (None, Some(one)) => one.to_string(),
        (None, None) => "the client".to_owned(),
    };
    let seen = &probe.client.observations;
    if let Outcome::RefusedLocally { .. } = probe.client.outcome {
        text.wrapped(
            Tone::Plain,
            "  ",
            &format!("{client} (client) sent nothing"),
        );
    } else if seen.is_empty() {
        text.wrapped(
            Tone::Plain,
            "  ",
            &format!("{client} (client) has no packets: no capture there, tier T0"),
        );
    } else {
        text.plain(format!("  {client} (client) saw\n"));
        end(text, End::Client, seen, &probe.annotations);
    }
    let agent = probe.server_agent.as_ref();
    let server = agent.map_or_else(
        || "the server".to_owned(),
        |agent| format!("{} on {} (server)", agent.pod, agent.node),
    );
    match &probe.server {
        None => text.wrapped(
            Tone::Plain,
            "  ",
            &agent.map_or_else(
                || "no capture from the server side".to_owned(),
                |agent| {
                    format!(
                        "no capture from the server side, {} on {}",
                        agent.pod, agent.node
                    )
                },
            ),
        ),
        Some(trace) if !trace.observations.is_empty() => {
            text.plain(format!("  {server} saw\n"));
            end(text, End::Server, &trace.observations, &probe.annotations);
            text
        }
        Some(trace) => text.wrapped(Tone::Plain, "  ", &format!("{server} {}", counted(trace))),
    };
}

/// The access path, scope, addresses and outcome of a probe, in one line.
pub(in crate::report::render) fn summary(path: &PathReport, probe: &ProbeReport) -> String {
    let client = &probe.client;
    let syns = if client.syns == 1 { "SYN" } else { "SYNs" };
    let after = match &client.exchange {
        Exchange::NotTried | Exchange::BannerReceived { .. } => "",
        Exchange::NoBanner => ", then no banner",
        Exchange::InvalidBanner => ", then a foreign banner",
        Exchange::Reset => ", then a reset",
    };
    let came_of_it = match client.outcome {
        Outcome::RefusedLocally { errno } => errno.sentence(),
        Outcome::Established { .. }
        | Outcome::Reset { .. }
        | Outcome::Unreachable { .. }
        | Outcome::Mismatched { .. }
        | Outcome::Timeout => format!(
            "{} after {} {syns}{after}",
            client.outcome.kind().as_str(),
            client.syns
        ),
    };
    format!(
        "One probe of {}, {}, from {} to {}: {came_of_it}",
        path.access_path, path.scope, client.src, client.dst
    )
}

/// The counters of a server trace in words, for a trace without packets.
pub(in crate::report::render) fn counted(trace: &ServerTrace) -> String {
    if trace.syns == 0 {
        return "listened and saw nothing of it".to_owned();
    }
    format!(
        "counted {} SYN in, {} SYN+ACK out, {} ACK in, {} RST in, {} RST out",
        trace.syns, trace.syn_acks, trace.acks, trace.resets_received, trace.resets_sent
    )
}

fn end(text: &mut Text, end: End, seen: &[Observation], annotations: &[Annotation]) {
    let significant = significant(seen);
    let Some(start) = significant.first().map(|(_, first)| first.at) else {
        return;
    };
    let lines: Vec<(Option<&Annotation>, PacketWords)> = significant
        .iter()
        .take(SHOWN)
        .map(|(place, packet)| {
            (
                find_annotation(annotations, end, *place),
                describe(packet, start),
            )
        })
        .collect();
    let width = |of: fn(&PacketWords) -> &str| {
        lines
            .iter()
            .map(|(_, line)| of(line).chars().count())
            .max()
            .unwrap_or(0)
    };
    let (addresses, what, numbers) = (
        width(|line| &line.addresses),
        width(|line| &line.what),
        width(|line| &line.numbers),
    );
    let mut shown_notes: Vec<&str> = Vec::new();
    for (annotation, line) in &lines {
        let (sign, tone) = match annotation.map(|annotation| annotation.kind) {
            Some(AnnotationKind::Odd) => ("! ", Tone::Bad),
            Some(AnnotationKind::Follows) => ("  ", Tone::Odd),
            None => ("  ", Tone::Plain),
        };
        let PacketWords {
            at,
            arrow,
            addresses: from_to,
            what: kind,
            numbers: counted,
            ttl,
        } = line;
        text.put(tone, sign).put(
            tone,
            format!("{at} {arrow} {from_to:<addresses$} {kind:<what$} {counted:<numbers$} {ttl}"),
        );
        text.end();
        if let Some(annotation) =
            annotation.filter(|annotation| !shown_notes.contains(&annotation.note.as_str()))
        {
            shown_notes.push(&annotation.note);
            text.wrapped(tone, "            ^ ", &annotation.note);
        }
    }
    let rest = significant.len().saturating_sub(SHOWN);
    if let Some((_, last)) = significant.last().filter(|_| rest > 0) {
        let packets = if rest == 1 { "packet" } else { "packets" };
        let until = seconds(last.at, start);
        let more = format!("  and {rest} more {packets} until {until}");
        text.put(Tone::Faint, more).end();
    }
}

/// The packets worth showing, with their indices. ARP and NDP requests that were answered are left out, as are requests
/// that this end did not send (the bridge floods them), and replies if there are TCP packets.
pub(in crate::report::render) fn significant(seen: &[Observation]) -> Vec<(usize, &Observation)> {
    let resolution = |packet: &Observation| match packet.packet.body {
        Body::Resolution(resolution) => Some(resolution),
        Body::Tcp(..) | Body::Icmp(..) => None,
    };
    let answered: Vec<_> = seen
        .iter()
        .filter_map(resolution)
        .filter(|resolution| resolution.kind == ResolutionKind::Reply)
        .map(|resolution| resolution.sender)
        .collect();
    let has_tcp = seen.iter().any(|packet| packet.packet.tcp().is_some());
    seen.iter()
        .enumerate()
        .filter(|(_, packet)| match resolution(packet) {
            None => true,
            Some(resolution) => match resolution.kind {
                ResolutionKind::Reply => !has_tcp,
                ResolutionKind::Request => {
                    packet.direction == Direction::Sent && !answered.contains(&resolution.target)
                }
            },
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::incident;

    #[test]
    fn a_missing_server_trace_is_not_an_empty_one() {
        let report = incident::report();
        let (path, probe) = report.sample(&report.diagnoses[0]).unwrap();
        let shown = |probe: &ProbeReport| {
            let mut text = Text::new();
            packets(&mut text, path, probe);
            text.to_string()
        };
        let without_trace = ProbeReport {
            server: None,
            ..probe.clone()
        };
        assert!(shown(&without_trace).contains("no capture from the server side"));
        let mut empty_trace = probe.clone();
        let trace = empty_trace.server.as_mut().unwrap();
        trace.syns = 0;
        trace.observations.clear();
        assert!(shown(&empty_trace).contains("listened and saw nothing"));
    }
}
