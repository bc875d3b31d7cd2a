//! Which packets of a probe are odd, and what follows from them: what a reader of two captures
//! would point at.
//!
//! A mark says what is seen, never a cause: naming causes needs the whole matrix.

use serde::{Deserialize, Serialize};

pub use crate::diagnosis::End;
use crate::diagnosis::odd_packets;
use crate::evidence::Evidence;
use crate::packet::observation::{Direction, Observation};
use crate::packet::{Tcp, TcpFlags};
use crate::probe::outcome::Outcome;

/// How a marked packet stands out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MarkKind {
    /// It should not be so: this is where the probe goes wrong.
    Odd,
    /// It follows from an odd one, or from one that never came.
    Follows,
}

/// What is to be said of one packet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PacketMark {
    /// Whose capture it is in.
    pub end: End,
    /// Its place among that end's observations.
    pub packet: usize,
    /// How it stands out.
    pub kind: MarkKind,
    /// Why, in words.
    pub note: String,
}

/// The marks of one probe: the client's packets first, each end's in order.
pub fn marks(probe: &Evidence) -> Vec<PacketMark> {
    let odd = odd_packets(probe);
    let has_odd_answer = odd.iter().any(|(end, ..)| *end == End::Client);
    let mut marks: Vec<PacketMark> = odd
        .into_iter()
        .map(|(end, packet, note)| PacketMark {
            end,
            packet,
            kind: match end {
                End::Server if has_odd_answer => MarkKind::Follows,
                End::Client | End::Server => MarkKind::Odd,
            },
            note,
        })
        .collect();
    let server = probe
        .server
        .iter()
        .flat_map(|witness| &witness.observations);
    let told = ends(
        End::Client,
        probe.client.observations.iter(),
        |place, seen| of_client(place, seen, probe),
    )
    .chain(ends(End::Server, server, |_, seen| of_server(seen, probe)));
    for mark in told {
        let same = |other: &PacketMark| (other.end, other.packet) == (mark.end, mark.packet);
        if !marks.iter().any(same) {
            marks.push(mark);
        }
    }
    marks.sort_by_key(|mark| (mark.end, mark.packet));
    marks
}

/// The marks of one end.
fn ends<'a>(
    end: End,
    seen: impl Iterator<Item = &'a Observation>,
    say: impl Fn(usize, &Observation) -> Option<(MarkKind, String)>,
) -> impl Iterator<Item = PacketMark> {
    seen.enumerate().filter_map(move |(packet, seen)| {
        let (kind, note) = say(packet, seen)?;
        Some(PacketMark {
            end,
            packet,
            kind,
            note,
        })
    })
}

fn of_client(place: usize, seen: &Observation, probe: &Evidence) -> Option<(MarkKind, String)> {
    if seen.direction != Direction::Sent {
        return None;
    }
    let (_, tcp) = seen.packet.tcp()?;
    let to = seen.packet.tcp_dst()?;
    if tcp.flags.has(TcpFlags::RST) && to != probe.client.peer() {
        return Some((
            MarkKind::Follows,
            format!("the client's kernel knows no connection with {to} and resets it"),
        ));
    }
    let before = probe.client.observations.get(..place).unwrap_or_default();
    if is_repeated(tcp, before) {
        let what = if tcp.flags.is_syn() {
            "the SYN again".to_owned()
        } else {
            format!("the same {} bytes again", tcp.payload_len)
        };
        return Some((MarkKind::Follows, format!("{what}: nothing usable came")));
    }
    if !tcp.flags.is_syn() || probe.client.outcome != Outcome::Timeout {
        return None;
    }
    Some(match &probe.server {
        Some(witness) if witness.syns == 0 => (
            MarkKind::Odd,
            "this end sent it, the server's end never saw it".to_owned(),
        ),
        Some(_) => (
            MarkKind::Follows,
            "it reached the server's end; no answer came back here".to_owned(),
        ),
        None => (MarkKind::Odd, "nothing answered it".to_owned()),
    })
}

/// Whether the client sent these bytes (or this SYN) before.
fn is_repeated(tcp: &Tcp, before: &[Observation]) -> bool {
    (tcp.flags.is_syn() || tcp.payload_len > 0)
        && before.iter().any(|earlier| {
            earlier.direction == Direction::Sent
                && earlier.packet.tcp().is_some_and(|(_, other)| {
                    other.seq == tcp.seq
                        && other.flags == tcp.flags
                        && other.payload_len == tcp.payload_len
                })
        })
}

fn of_server(seen: &Observation, probe: &Evidence) -> Option<(MarkKind, String)> {
    let (_, tcp) = seen.packet.tcp()?;
    let arrived = probe.client.observations.iter().any(|other| {
        other.direction == Direction::Received
            && other
                .packet
                .tcp()
                .is_some_and(|(_, tcp)| tcp.flags.is_syn_ack())
    });
    let is_lost = seen.direction == Direction::Sent
        && tcp.flags.is_syn_ack()
        && !arrived
        && !probe.client.observations.is_empty();
    is_lost.then(|| {
        (
            MarkKind::Odd,
            "it left here, the client's end never saw it".to_owned(),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::incident;

    #[test]
    fn the_answer_from_the_pod_s_own_address_is_the_odd_one() {
        let probe = incident::probe();
        let odd: Vec<_> = marks(&probe)
            .into_iter()
            .filter(|mark| mark.kind == MarkKind::Odd)
            .collect();
        let seen = &odd[0];
        assert_eq!((seen.end, seen.packet), (End::Client, 1));
        assert!(seen.note.contains("100.96.54.247:8080"), "{}", seen.note);
        assert!(odd.iter().all(|mark| mark.end == End::Client));
    }

    #[test]
    fn a_syn_that_the_server_never_saw_is_the_odd_one() {
        let mut probe = incident::probe();
        probe.client.outcome = Outcome::Timeout;
        probe.client.observations.truncate(1);
        let witness = probe.server.as_mut().unwrap();
        witness.syns = 0;
        witness.observations.clear();
        let marks = marks(&probe);
        assert_eq!(marks.len(), 1);
        assert_eq!(
            marks[0].note,
            "this end sent it, the server's end never saw it"
        );
    }

    #[test]
    fn a_syn_ack_that_never_arrives_is_odd_where_it_left() {
        let mut probe = incident::probe();
        probe.client.outcome = Outcome::Timeout;
        probe.client.observations.truncate(1);
        let marks = marks(&probe);
        let odd: Vec<_> = marks
            .iter()
            .filter(|mark| mark.kind == MarkKind::Odd)
            .collect();
        assert_eq!((odd[0].end, odd[0].packet), (End::Server, 1));
    }
}
