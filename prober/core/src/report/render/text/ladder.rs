//! One probe, packet by packet, first as its client saw it, then as its server did.

use super::super::packet::{Told, mark_of, seconds, told};
use super::super::{Text, Tone};
use crate::packet::observation::{Direction, Observation};
use crate::packet::{Body, ResolutionKind};
use crate::probe::event::ServerTrace;
use crate::probe::outcome::{Exchange, Outcome};
use crate::report::annotation::{End, MarkKind, PacketMark};
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
        end(text, End::Client, seen, &probe.marks);
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
        Some(witness) if !witness.observations.is_empty() => {
            text.plain(format!("  {server} saw\n"));
            end(text, End::Server, &witness.observations, &probe.marks);
            text
        }
        Some(witness) => text.wrapped(Tone::Plain, "  ", &format!("{server} {}", counted(witness))),
    };
}

/// What kind of probe it was and what came of it.
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
        "One probe of {}, {}: {} asks {}, {came_of_it}",
        path.access_path, path.scope, client.src, client.dst
    )
}

/// What a witness without packets says.
pub(in crate::report::render) fn counted(witness: &ServerTrace) -> String {
    if witness.syns == 0 {
        return "listened and saw nothing of it".to_owned();
    }
    format!(
        "counted {} SYN in, {} SYN+ACK out, {} ACK in, {} RST in, {} RST out",
        witness.syns, witness.syn_acks, witness.acks, witness.resets_received, witness.resets_sent
    )
}

fn end(text: &mut Text, end: End, seen: &[Observation], marks: &[PacketMark]) {
    let telling = telling(seen);
    let Some(start) = telling.first().map(|(_, first)| first.at) else {
        return;
    };
    let lines: Vec<(Option<&PacketMark>, Told)> = telling
        .iter()
        .take(SHOWN)
        .map(|(place, packet)| (mark_of(marks, end, *place), told(packet, start)))
        .collect();
    let width = |of: fn(&Told) -> &str| {
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
    let mut said: Vec<&str> = Vec::new();
    for (mark, line) in &lines {
        let (sign, tone) = match mark.map(|mark| mark.kind) {
            Some(MarkKind::Odd) => ("! ", Tone::Bad),
            Some(MarkKind::Follows) => ("  ", Tone::Odd),
            None => ("  ", Tone::Plain),
        };
        let Told {
            at,
            arrow,
            addresses: asked,
            what: kind,
            numbers: counted,
            ttl,
        } = line;
        text.put(tone, sign).put(
            tone,
            format!("{at} {arrow} {asked:<addresses$} {kind:<what$} {counted:<numbers$} {ttl}"),
        );
        text.end();
        if let Some(mark) = mark.filter(|mark| !said.contains(&mark.note.as_str())) {
            said.push(&mark.note);
            text.wrapped(tone, "            ^ ", &mark.note);
        }
    }
    let rest = telling.len().saturating_sub(SHOWN);
    if let Some((_, last)) = telling.last().filter(|_| rest > 0) {
        let packets = if rest == 1 { "packet" } else { "packets" };
        let until = seconds(last.at, start);
        let more = format!("  and {rest} more {packets} until {until}");
        text.put(Tone::Faint, more).end();
    }
}

/// The packets that tell something, with their places: a question for an Ethernet address that
/// was answered is left out, with its answer; so is a copy that the bridge flooded back.
pub(in crate::report::render) fn telling(seen: &[Observation]) -> Vec<(usize, &Observation)> {
    let resolution = |packet: &Observation| match packet.packet.body {
        Body::Resolution(resolution) => Some(resolution),
        Body::Tcp(..) | Body::Icmp(..) => None,
    };
    let answered: Vec<_> = seen
        .iter()
        .filter_map(resolution)
        .filter(|said| said.kind == ResolutionKind::Reply)
        .map(|said| said.sender)
        .collect();
    let has_tcp = seen.iter().any(|packet| packet.packet.tcp().is_some());
    seen.iter()
        .enumerate()
        .filter(|(_, packet)| match resolution(packet) {
            None => true,
            Some(said) => match said.kind {
                ResolutionKind::Reply => !has_tcp,
                ResolutionKind::Request => {
                    packet.direction == Direction::Sent && !answered.contains(&said.target)
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
    fn an_end_that_was_not_heard_is_not_an_end_that_saw_nothing() {
        let report = incident::report();
        let (path, probe) = report.sample(&report.diagnoses[0]).unwrap();
        let told = |probe: &ProbeReport| {
            let mut text = Text::new();
            ladder(&mut text, path, probe);
            text.to_string()
        };
        let unheard = ProbeReport {
            server: None,
            ..probe.clone()
        };
        assert!(told(&unheard).contains("no capture from the server side"));
        let mut deaf = probe.clone();
        let witness = deaf.server.as_mut().unwrap();
        witness.syns = 0;
        witness.observations.clear();
        assert!(told(&deaf).contains("listened and saw nothing"));
    }
}
