//! One probe as a drawing: client, node and server as lifelines, each packet as an arrow, and what
//! one end sent and the other never saw as an arrow that ends in a cross.

use maud::{Markup, html};

use super::super::packet::{Told, mark_of, told};
use super::super::text::{counted, summary, telling};
use crate::packet::Body;
use crate::packet::observation::{Direction, Observation};
use crate::report::annotation::{End, MarkKind, PacketMark};
use crate::report::{PathReport, ProbeReport};
use crate::time::Timestamp;

/// Rows that are drawn; the rest is counted.
const ROWS: usize = 12;
const WIDTH: u32 = 1000;
const TOP: u32 = 64;
const ROW: u32 = 46;
const CLIENT: u32 = 110;
const NODE: u32 = 500;
const SERVER: u32 = 890;

/// A packet at one end, and what is to be said of it.
struct Seen<'a> {
    packet: &'a Observation,
    mark: Option<&'a PacketMark>,
}

/// One row: the same packet at both ends, or at one.
struct Row<'a> {
    client: Option<Seen<'a>>,
    server: Option<Seen<'a>>,
}

/// The drawing, and the same as text for those who cannot see it.
pub(super) fn figure(path: &PathReport, probe: &ProbeReport) -> Markup {
    let all = rows(probe);
    let shown = all.get(..ROWS.min(all.len())).unwrap_or_default();
    let first = |end: fn(&Row<'_>) -> Option<Timestamp>| all.iter().find_map(end);
    let starts = [
        first(|row| Some(row.client.as_ref()?.packet.at)),
        first(|row| Some(row.server.as_ref()?.packet.at)),
    ]
    .map(Option::unwrap_or_default);
    let mut said: Vec<&str> = Vec::new();
    let mut at = TOP + 24;
    let mut drawn = Vec::new();
    for row in shown {
        let notes: Vec<&PacketMark> = [&row.client, &row.server]
            .into_iter()
            .filter_map(|seen| seen.as_ref()?.mark)
            .filter(|mark| {
                let is_new = !said.contains(&mark.note.as_str());
                said.push(&mark.note);
                is_new
            })
            .collect();
        drawn.push(draw(row, probe, at, starts, &notes));
        at += ROW + 18 * u32::try_from(notes.len()).unwrap_or(0);
    }
    let rest = all.len() - shown.len();
    let height = at + if rest > 0 { 30 } else { 10 };
    let (client, node, server) = names(path, probe);
    let unseen = match &probe.server {
        None => Some("its end was not heard".to_owned()),
        Some(witness) if witness.observations.is_empty() => Some(counted(witness)),
        Some(_) => None,
    };
    html! {
        p { (summary(path, probe)) }
        div class="scroll" {
            svg class="ladder" viewBox={ "0 0 " (WIDTH) " " (height) } role="img" aria-label=(summary(path, probe)) {
                defs {
                    marker id="head" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="8" markerHeight="8" markerUnits="userSpaceOnUse" orient="auto-start-reverse" {
                        path d="M0 0L10 5L0 10z" class="head" {}
                    }
                    marker id="odd-head" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="11" markerHeight="11" markerUnits="userSpaceOnUse" orient="auto-start-reverse" {
                        path d="M0 0L10 5L0 10z" style="fill:var(--bad)" {}
                    }
                }
                @for (x, name, what) in [(CLIENT, &client, "client"), (NODE, &node, "rules and routes"), (SERVER, &server, "server")] {
                    text x=(x) y="24" text-anchor="middle" class="name" { (name) }
                    text x=(x) y="42" text-anchor="middle" class="faint" { (what) }
                    line class="life" x1=(x) x2=(x) y1="52" y2=(height - 8) {}
                }
                @if let Some(unseen) = &unseen {
                    text x=(SERVER) y="60" text-anchor="middle" class="then" { (unseen) }
                }
                @for row in &drawn { (row) }
                @if rest > 0 {
                    text x=(NODE) y=(height - 12) text-anchor="middle" class="faint" { "and " (rest) " more packets" }
                }
            }
        }
    }
}

fn names(path: &PathReport, probe: &ProbeReport) -> (String, String, String) {
    let client = path
        .client
        .pod
        .clone()
        .unwrap_or_else(|| "client".to_owned());
    let server_agent = probe.server_agent.as_ref();
    let server = server_agent
        .map(|agent| agent.pod.clone())
        .or_else(|| path.server.pod.clone())
        .unwrap_or_else(|| "server".to_owned());
    let here = path.client.node.as_ref();
    let there = server_agent
        .map(|agent| &agent.node)
        .or(path.server.node.as_ref());
    let node = match (here, there) {
        (Some(here), Some(there)) if here != there => format!("{here}, {there}"),
        (Some(one), _) | (None, Some(one)) => one.to_string(),
        (None, None) => "network".to_owned(),
    };
    (client, node, server)
}

/// Both ends in one order: a packet that both saw is one row, by its flags and sequence number.
fn rows(probe: &ProbeReport) -> Vec<Row<'_>> {
    let ends = |end, seen| -> Vec<Seen<'_>> {
        telling(seen)
            .into_iter()
            .map(|(place, packet)| Seen {
                packet,
                mark: mark_of(&probe.marks, end, place),
            })
            .collect()
    };
    let client = ends(End::Client, &probe.client.observations);
    let witness = probe.server.as_ref();
    let server = ends(
        End::Server,
        witness.map_or(&[], |witness| witness.observations.as_slice()),
    );
    let mut rows = Vec::new();
    let mut left = server;
    for seen in client {
        let twin = left
            .iter()
            .position(|other| same(seen.packet, other.packet));
        if let Some(place) = twin {
            let mut before: Vec<Seen<'_>> = left.drain(..=place).collect();
            let twin = before.pop();
            rows.extend(before.into_iter().map(|server| Row {
                client: None,
                server: Some(server),
            }));
            rows.push(Row {
                client: Some(seen),
                server: twin,
            });
        } else {
            rows.push(Row {
                client: Some(seen),
                server: None,
            });
        }
    }
    rows.extend(left.into_iter().map(|server| Row {
        client: None,
        server: Some(server),
    }));
    rows
}

/// Whether one end sent what the other received.
fn same(client: &Observation, server: &Observation) -> bool {
    let opposite = matches!(
        (client.direction, server.direction),
        (Direction::Sent, Direction::Received) | (Direction::Received, Direction::Sent)
    );
    let numbers = |seen: &Observation| match seen.packet.body {
        Body::Tcp(_, tcp) => Some((tcp.flags, tcp.seq, tcp.payload_len)),
        Body::Icmp(..) | Body::Resolution(_) => None,
    };
    opposite && numbers(client).is_some() && numbers(client) == numbers(server)
}

fn draw(
    row: &Row<'_>,
    probe: &ProbeReport,
    y: u32,
    [client_start, server_start]: [Timestamp; 2],
    notes: &[&PacketMark],
) -> Markup {
    let is_odd = [&row.client, &row.server]
        .into_iter()
        .flatten()
        .any(marked_odd);
    let heard = probe.server.is_some() && !probe.client.observations.is_empty();
    let lost = |seen: &Seen<'_>| {
        heard && seen.packet.direction == Direction::Sent && seen.packet.packet.tcp().is_some()
    };
    html! {
        g {
            @if is_odd {
                rect class="band" x="4" width=(WIDTH - 8) y=(y - 22) height=(ROW - 4 + 18 * u32::try_from(notes.len()).unwrap_or(0)) rx="4" {}
            }
            @if let Some(seen) = &row.client {
                (half(seen, (CLIENT, NODE), y, client_start))
                text x="8" y=(y + 4) class="faint mono" { (told(seen.packet, client_start).at) }
                @if row.server.is_none() && lost(seen) && marked_odd(seen) { (cross(NODE, y)) }
            }
            @if let Some(seen) = &row.server {
                (half(seen, (SERVER, NODE), y, server_start))
                text x=(WIDTH - 8) y=(y + 4) text-anchor="end" class="faint mono" { (told(seen.packet, server_start).at) }
                @if row.client.is_none() && lost(seen) && marked_odd(seen) { (cross(NODE, y)) }
            }
            @for (place, note) in (0_u32..).zip(notes) {
                text x=(NODE) y=(y + 34 + 18 * place) text-anchor="middle" class=(match note.kind { MarkKind::Odd => "why", MarkKind::Follows => "then" }) { (note.note) }
            }
        }
    }
}

/// Whether it is one of the odd ones.
fn marked_odd(seen: &Seen<'_>) -> bool {
    seen.mark.is_some_and(|mark| mark.kind == MarkKind::Odd)
}

/// The arrow between one end and the node.
fn half(seen: &Seen<'_>, (own, node): (u32, u32), y: u32, start: Timestamp) -> Markup {
    let Told {
        addresses,
        what,
        numbers,
        ttl,
        at: _,
        arrow: _,
    } = told(seen.packet, start);
    let (from, to) = match seen.packet.direction {
        Direction::Sent => (own, node),
        Direction::Received | Direction::Overheard => (node, own),
    };
    let middle = u32::midpoint(own, node);
    let (head, odd) = if marked_odd(seen) {
        ("url(#odd-head)", "odd")
    } else {
        ("url(#head)", "")
    };
    html! {
        text x=(middle) y=(y - 7) text-anchor="middle" class={ "what mono " (odd) } { (what) " " (numbers) " " (ttl) }
        line class={ "arrow " (odd) } x1=(from) x2=(to) y1=(y) y2=(y) marker-end=(head) {}
        text x=(middle) y=(y + 14) text-anchor="middle" class="faint mono" { (addresses) }
    }
}

fn cross(x: u32, y: u32) -> Markup {
    html! {
        line class="cross" x1=(x - 8) x2=(x + 8) y1=(y - 8) y2=(y + 8) {}
        line class="cross" x1=(x - 8) x2=(x + 8) y1=(y + 8) y2=(y - 8) {}
    }
}
