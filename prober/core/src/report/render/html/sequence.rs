//! The sequence diagram of one probe: client, node and server as lifelines, each packet as an arrow; a packet that one
//! end sent and the other did not receive ends in a cross.

use std::collections::BTreeSet;

use maud::{Markup, html};

use super::super::packet::{PacketWords, describe, find_annotation};
use super::super::text::{counted, significant, summary};
use crate::packet::observation::{Direction, Observation};
use crate::packet::{Body, TcpFlags};
use crate::probe::event::ServerTrace;
use crate::report::annotation::{Annotation, AnnotationKind, End};
use crate::report::{PathReport, ProbeReport};
use crate::time::Timestamp;

/// The most rows that are drawn; the rest is counted.
const ROWS: usize = 12;
const WIDTH: u32 = 1000;
const TOP: u32 = 64;
const ROW: u32 = 46;
const CLIENT: u32 = 110;
const NODE: u32 = 500;
const SERVER: u32 = 890;
/// The characters of a name that fit between the page's edge and the next lifeline's name.
const NAME: usize = 24;

/// A packet at one end, with its annotation.
struct Seen<'a> {
    packet: &'a Observation,
    annotation: Option<&'a Annotation>,
}

/// One row: the same packet at both ends, or a packet at one end.
struct Row<'a> {
    client: Option<Seen<'a>>,
    server: Option<Seen<'a>>,
}

/// A line of text below a packet.
struct Note {
    class: &'static str,
    text: String,
}

/// The diagram of `probe`; `number` distinguishes the diagrams of a page.
pub(super) fn diagram(path: &PathReport, probe: &ProbeReport, number: usize) -> Markup {
    let all = rows(probe);
    let shown = all.get(..ROWS.min(all.len())).unwrap_or_default();
    let first = |time_at: fn(&Row<'_>) -> Option<Timestamp>| all.iter().find_map(time_at);
    let starts = [
        first(|row| Some(row.client.as_ref()?.packet.at)),
        first(|row| Some(row.server.as_ref()?.packet.at)),
    ]
    .map(Option::unwrap_or_default);
    let ends = Ends::of(&all, probe);
    let heads = Heads::numbered(number);
    let mut shown_notes: BTreeSet<&str> = BTreeSet::new();
    let mut at = TOP + 24;
    let mut drawn = Vec::new();
    for (place, row) in shown.iter().enumerate() {
        let annotations = [&row.client, &row.server]
            .into_iter()
            .filter_map(|seen| seen.as_ref()?.annotation)
            .filter(|annotation| shown_notes.insert(&annotation.note));
        let mut notes: Vec<Note> = annotations
            .map(|annotation| Note {
                class: match annotation.kind {
                    AnnotationKind::Odd => "why",
                    AnnotationKind::Follows => "then",
                },
                text: annotation.note.clone(),
            })
            .collect();
        notes.extend(ends.note(place));
        drawn.push(draw(row, probe, at, starts, &notes, &heads));
        at += ROW + 18 * u32::try_from(notes.len()).unwrap_or(0);
    }
    let rest = all.len() - shown.len();
    let height = at + if rest > 0 { 30 } else { 10 };
    let (client, node, server) = names(path, probe);
    let unseen = match &probe.server {
        None => Some("no capture from this side".to_owned()),
        Some(trace) if trace.observations.is_empty() => Some(counted(trace)),
        Some(_) => None,
    };
    html! {
        p { (summary(path, probe)) }
        section class="scroll" tabindex="0" aria-label={ "Packets of diagnosis " (number) } {
            svg class="packets" viewBox={ "0 0 " (WIDTH) " " (height) } role="img" aria-label=(summary(path, probe)) {
                defs {
                    marker id=(heads.plain) viewBox="0 0 10 10" refX="9" refY="5" markerWidth="8" markerHeight="8" markerUnits="userSpaceOnUse" orient="auto-start-reverse" {
                        path d="M0 0L10 5L0 10z" class="head" {}
                    }
                    marker id=(heads.odd) viewBox="0 0 10 10" refX="9" refY="5" markerWidth="11" markerHeight="11" markerUnits="userSpaceOnUse" orient="auto-start-reverse" {
                        path d="M0 0L10 5L0 10z" class="head odd" {}
                    }
                }
                @for (x, name, what) in [(CLIENT, &client, "client"), (NODE, &node, "rules and routes"), (SERVER, &server, "server")] {
                    text x=(x) y="24" text-anchor="middle" class="name" { (shortened(name, if x == NODE { 2 * NAME } else { NAME })) }
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

/// The element ids of a diagram's arrow heads.
struct Heads {
    plain: String,
    odd: String,
}

impl Heads {
    fn numbered(number: usize) -> Self {
        Self {
            plain: format!("head-{number}"),
            odd: format!("odd-head-{number}"),
        }
    }
}

/// Where the record of one end stops although the other goes on. A packet that is missing after that was not recorded,
/// which does not mean that it was lost.
#[derive(Default)]
struct Ends {
    /// The first row of a packet that arrived at the server after the client's last packet.
    client: Option<usize>,
    /// The row of the server's last packet, and the note below it.
    server: Option<(usize, String)>,
}

impl Ends {
    fn of(rows: &[Row<'_>], probe: &ProbeReport) -> Self {
        let after_client = rows
            .iter()
            .rposition(|row| row.client.is_some())
            .map(|last| last + 1);
        let client = after_client.and_then(|start| {
            let mut after = rows.iter().enumerate().skip(start);
            let arrived = after.find(|(_, row)| {
                row.server
                    .as_ref()
                    .is_some_and(|seen| is_tcp(seen, Direction::Received))
            })?;
            Some(arrived.0)
        });
        let last = rows.iter().rposition(|row| row.server.is_some());
        let server = last.zip(probe.server.as_ref()).and_then(|(last, trace)| {
            let goes_on = rows.iter().skip(last + 1).any(|row| {
                row.client
                    .as_ref()
                    .is_some_and(|seen| is_tcp(seen, Direction::Sent))
            });
            if is_cut(trace) {
                let counted = counted(trace);
                Some((last, format!("the server's record ends here; it {counted}")))
            } else {
                let text = "the server's record has no packet after this".to_owned();
                goes_on.then_some((last, text))
            }
        });
        Self { client, server }
    }

    /// The note below the row at `place`.
    fn note(&self, place: usize) -> Option<Note> {
        let client = self.client.filter(|first| *first == place).map(|_| {
            "the client's record has ended before this: what it sent then is not in it".to_owned()
        });
        let server = self.server.as_ref().filter(|(last, _)| *last == place);
        let text = client.or_else(|| server.map(|(_, text)| text.clone()))?;
        Some(Note {
            class: "then",
            text,
        })
    }
}

fn is_tcp(seen: &Seen<'_>, direction: Direction) -> bool {
    seen.packet.direction == direction && seen.packet.packet.tcp().is_some()
}

/// Whether a server trace counted packets that it did not keep.
fn is_cut(trace: &ServerTrace) -> bool {
    let kept = |direction, is_kind: fn(TcpFlags) -> bool| {
        let seen = trace.observations.iter().filter(|seen| {
            let tcp = seen.packet.tcp();
            seen.direction == direction && tcp.is_some_and(|(_, tcp)| is_kind(tcp.flags))
        });
        u32::try_from(seen.count()).unwrap_or(u32::MAX)
    };
    trace.syns > kept(Direction::Received, TcpFlags::is_syn)
        || trace.syn_acks > kept(Direction::Sent, TcpFlags::is_syn_ack)
        || trace.resets_received > kept(Direction::Received, |flags| flags.has(TcpFlags::RST))
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

/// `name` in at most `most` characters, with an ellipsis in the middle if it is longer.
fn shortened(name: &str, most: usize) -> String {
    let length = name.chars().count();
    if length <= most {
        return name.to_owned();
    }
    let head: String = name.chars().take(most / 2).collect();
    let tail: String = name.chars().skip(length - most / 2 + 1).collect();
    format!("{head}…{tail}")
}

/// The packets of both ends in one order. A packet at both ends is one row, matched by flags and sequence number.
fn rows(probe: &ProbeReport) -> Vec<Row<'_>> {
    let ends = |end, seen| -> Vec<Seen<'_>> {
        significant(seen)
            .into_iter()
            .map(|(place, packet)| Seen {
                packet,
                annotation: find_annotation(&probe.annotations, end, place),
            })
            .collect()
    };
    let client = ends(End::Client, &probe.client.observations);
    let trace = probe.server.as_ref();
    let server = ends(
        End::Server,
        trace.map_or(&[], |trace| trace.observations.as_slice()),
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

/// Whether both ends captured the same packet, one as sent and the other as received.
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
    notes: &[Note],
    heads: &Heads,
) -> Markup {
    let is_odd = [&row.client, &row.server]
        .into_iter()
        .flatten()
        .any(has_odd_annotation);
    let has_both_ends = probe.server.is_some() && !probe.client.observations.is_empty();
    let lost = |seen: &Seen<'_>| {
        has_both_ends
            && seen.packet.direction == Direction::Sent
            && seen.packet.packet.tcp().is_some()
    };
    html! {
        g {
            @if is_odd {
                rect class="band" x="4" width=(WIDTH - 8) y=(y - 22) height=(ROW - 4 + 18 * u32::try_from(notes.len()).unwrap_or(0)) rx="4" {}
            }
            @if let Some(seen) = &row.client {
                (half(seen, (CLIENT, NODE), y, client_start, heads))
                text x="8" y=(y + 4) class="faint mono" { (describe(seen.packet, client_start).at) }
                @if row.server.is_none() && lost(seen) && has_odd_annotation(seen) { (cross(NODE, y)) }
            }
            @if let Some(seen) = &row.server {
                (half(seen, (SERVER, NODE), y, server_start, heads))
                text x=(WIDTH - 8) y=(y + 4) text-anchor="end" class="faint mono" { (describe(seen.packet, server_start).at) }
                @if row.client.is_none() && lost(seen) && has_odd_annotation(seen) { (cross(NODE, y)) }
            }
            @for (place, note) in (0_u32..).zip(notes) {
                text x=(NODE) y=(y + 34 + 18 * place) text-anchor="middle" class=(note.class) { (note.text) }
            }
        }
    }
}

/// Whether the packet is annotated as odd.
fn has_odd_annotation(seen: &Seen<'_>) -> bool {
    seen.annotation
        .is_some_and(|annotation| annotation.kind == AnnotationKind::Odd)
}

/// The arrow between one end and the node.
fn half(
    seen: &Seen<'_>,
    (own, node): (u32, u32),
    y: u32,
    start: Timestamp,
    heads: &Heads,
) -> Markup {
    let PacketWords {
        addresses,
        what,
        numbers,
        ttl,
        at: _,
        arrow: _,
    } = describe(seen.packet, start);
    let (from, to) = match seen.packet.direction {
        Direction::Sent => (own, node),
        Direction::Received | Direction::Overheard => (node, own),
    };
    let middle = u32::midpoint(own, node);
    let is_odd = has_odd_annotation(seen);
    let head = if is_odd { &heads.odd } else { &heads.plain };
    html! {
        text.what.mono.odd[is_odd] x=(middle) y=(y - 7) text-anchor="middle" { (what) " " (numbers) " " (ttl) }
        line.arrow.odd[is_odd] x1=(from) x2=(to) y1=(y) y2=(y) marker-end={ "url(#" (head) ")" } {}
        text x=(middle) y=(y + 14) text-anchor="middle" class="faint mono" { (addresses) }
    }
}

fn cross(x: u32, y: u32) -> Markup {
    html! {
        line class="cross" x1=(x - 8) x2=(x + 8) y1=(y - 8) y2=(y + 8) {}
        line class="cross" x1=(x - 8) x2=(x + 8) y1=(y + 8) y2=(y - 8) {}
    }
}
