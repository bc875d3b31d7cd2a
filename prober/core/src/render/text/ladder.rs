//! One probe, packet by packet, first as its client saw it, then as its server did.

use super::super::packet::{Told, mark_of, seconds, told};
use super::super::{Text, Tone};
use crate::event::Witness;
use crate::observation::{Exchange, Observation, OutcomeKind};
use crate::report::mark::{End, MarkKind, PacketMark};
use crate::report::{PathReport, ProbeReport};

/// Packets of one end that are shown; the rest is counted.
const SHOWN: usize = 6;

/// The ladder of `probe`, both ends.
pub(super) fn ladder(text: &mut Text, path: &PathReport, probe: &ProbeReport) {
    text.end().put(Tone::Heading, "Packets").end();
    text.wrapped(Tone::Plain, "  ", &summary(path, probe));
    let client = match (&path.client.pod, &path.client.node) {
        (Some(pod), Some(node)) => format!("{pod} on {node}"),
        (Some(one), None) => one.clone(),
        (None, Some(one)) => one.to_string(),
        (None, None) => "the client".to_owned(),
    };
    let seen = &probe.client.observations;
    if seen.is_empty() {
        text.wrapped(
            Tone::Plain,
            "  ",
            &format!("{client} (client) has no packets: no capture there, tier T0"),
        );
    } else {
        text.plain(format!("  {client} (client) saw\n"));
        end(text, End::Client, seen, &probe.marks);
    }
    let server = probe.server_agent.as_ref().map_or_else(
        || "the server".to_owned(),
        |agent| format!("{} on {}", agent.pod, agent.node),
    );
    match &probe.server {
        None => text.wrapped(
            Tone::Plain,
            "  ",
            &format!("{server} (server): its end was not heard"),
        ),
        Some(witness) if !witness.observations.is_empty() => {
            text.plain(format!("  {server} (server) saw\n"));
            end(text, End::Server, &witness.observations, &probe.marks);
            text
        }
        Some(witness) => text.wrapped(
            Tone::Plain,
            "  ",
            &format!("{server} (server) {}", counted(witness)),
        ),
    };
}

/// What kind of probe it was and what came of it.
pub(in crate::render) fn summary(path: &PathReport, probe: &ProbeReport) -> String {
    let client = &probe.client;
    let syns = if client.syns == 1 { "SYN" } else { "SYNs" };
    let after = match &client.exchange {
        Exchange::NotTried | Exchange::Greeted { .. } => "",
        Exchange::NoBanner => ", then no banner",
        Exchange::Foreign => ", then a foreign banner",
        Exchange::Reset => ", then a reset",
    };
    let outcome = match client.outcome.kind() {
        OutcomeKind::Established => "established",
        OutcomeKind::Reset => "reset",
        OutcomeKind::Timeout => "timeout",
        OutcomeKind::Unreachable => "unreachable",
        OutcomeKind::Mismatched => "mismatched",
    };
    format!(
        "One probe of {}, {}: {} asks {}, {outcome} after {} {syns}{after}",
        path.route, path.scope, client.src, client.dst, client.syns
    )
}

/// What a witness without packets says.
pub(in crate::render) fn counted(witness: &Witness) -> String {
    if witness.syns == 0 {
        return "listened and saw nothing of it".to_owned();
    }
    format!(
        "counted {} SYN in, {} SYN+ACK out, {} ACK in, {} RST in, {} RST out",
        witness.syns, witness.syn_acks, witness.acks, witness.resets_received, witness.resets_sent
    )
}

fn end(text: &mut Text, end: End, seen: &[Observation], marks: &[PacketMark]) {
    let Some(start) = seen.first().map(|first| first.at) else {
        return;
    };
    let lines: Vec<Told> = seen
        .iter()
        .take(SHOWN)
        .map(|packet| told(packet, start))
        .collect();
    let width = |of: fn(&Told) -> &str| {
        lines
            .iter()
            .map(|line| of(line).chars().count())
            .max()
            .unwrap_or(0)
    };
    let (addresses, what, numbers) = (
        width(|line| &line.addresses),
        width(|line| &line.what),
        width(|line| &line.numbers),
    );
    let mut said: Vec<&str> = Vec::new();
    for (place, line) in lines.iter().enumerate() {
        let mark = mark_of(marks, end, place);
        let (sign, tone) = match mark.map(|mark| mark.kind) {
            Some(MarkKind::Odd) => ("! ", Tone::Bad),
            Some(MarkKind::Follows) => ("  ", Tone::Odd),
            None => ("  ", Tone::Plain),
        };
        text.put(tone, sign).put(
            tone,
            format!(
                "{} {} {:<addresses$} {:<what$} {:<numbers$} {}",
                line.at, line.arrow, line.addresses, line.what, line.numbers, line.ttl
            ),
        );
        text.end();
        if let Some(mark) = mark.filter(|mark| !said.contains(&mark.note.as_str())) {
            said.push(&mark.note);
            text.wrapped(tone, "            ^ ", &mark.note);
        }
    }
    let rest = seen.len().saturating_sub(SHOWN);
    if let Some(last) = seen.last().filter(|_| rest > 0) {
        let packets = if rest == 1 { "packet" } else { "packets" };
        let until = seconds(last.at, start);
        text.put(
            Tone::Faint,
            format!("  and {rest} more {packets} until {until}"),
        )
        .end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::incident;

    #[test]
    fn an_end_that_was_not_heard_is_not_an_end_that_saw_nothing() {
        let report = incident::report();
        let (path, probe) = report.exhibit(&report.diagnoses[0]).unwrap();
        let told = |probe: &ProbeReport| {
            let mut text = Text::new();
            ladder(&mut text, path, probe);
            text.to_string()
        };
        let unheard = ProbeReport {
            server: None,
            ..probe.clone()
        };
        assert!(told(&unheard).contains("was not heard"));
        let mut deaf = probe.clone();
        let witness = deaf.server.as_mut().unwrap();
        witness.syns = 0;
        witness.observations.clear();
        assert!(told(&deaf).contains("listened and saw nothing"));
    }
}
