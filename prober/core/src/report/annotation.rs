//! Annotations of the packets of a probe: those that are not as they should be, and those that follow from them.
//!
//! An annotation describes a packet, never a cause: a cause follows only from the whole matrix.

use serde::{Deserialize, Serialize};

pub use crate::diagnosis::End;
use crate::diagnosis::unexpected_packets;
use crate::evidence::Evidence;
use crate::packet::observation::{Direction, Observation};
use crate::packet::{Tcp, TcpFlags};
use crate::probe::outcome::Outcome;

/// Why a packet is annotated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AnnotationKind {
    /// The packet is not as it should be: the probe goes wrong here.
    Odd,
    /// The packet is a consequence of an odd packet, or of a missing one.
    Follows,
}

/// An annotation of one packet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Annotation {
    /// The end whose capture contains the packet.
    pub end: End,
    /// The index of the packet in that end's observations.
    pub packet: usize,
    /// Why the packet is annotated.
    pub kind: AnnotationKind,
    /// The annotation's text.
    pub note: String,
}

/// The annotations of the packets of `probe`: the client's packets first, each end's in order of time.
pub fn annotations(probe: &Evidence) -> Vec<Annotation> {
    let odd = unexpected_packets(probe);
    let has_odd_answer = odd.iter().any(|(end, ..)| *end == End::Client);
    let mut annotations: Vec<Annotation> = odd
        .into_iter()
        .map(|(end, packet, note)| Annotation {
            end,
            packet,
            kind: match end {
                End::Server if has_odd_answer => AnnotationKind::Follows,
                End::Client | End::Server => AnnotationKind::Odd,
            },
            note,
        })
        .collect();
    let server = probe.server.iter().flat_map(|trace| &trace.observations);
    let others = annotations_of_end(
        End::Client,
        probe.client.observations.iter(),
        |place, seen| annotate_client_packet(place, seen, probe),
    )
    .chain(annotations_of_end(End::Server, server, |_, seen| {
        annotate_server_packet(seen, probe)
    }));
    for annotation in others {
        let same =
            |other: &Annotation| (other.end, other.packet) == (annotation.end, annotation.packet);
        if !annotations.iter().any(same) {
            annotations.push(annotation);
        }
    }
    annotations.sort_by_key(|annotation| (annotation.end, annotation.packet));
    annotations
}

/// The annotations that `annotate` gives to the packets of one end.
fn annotations_of_end<'a>(
    end: End,
    seen: impl Iterator<Item = &'a Observation>,
    annotate: impl Fn(usize, &Observation) -> Option<(AnnotationKind, String)>,
) -> impl Iterator<Item = Annotation> {
    seen.enumerate().filter_map(move |(packet, seen)| {
        let (kind, note) = annotate(packet, seen)?;
        Some(Annotation {
            end,
            packet,
            kind,
            note,
        })
    })
}

/// The annotation of the client's packet at `place`, unless it is as it should be.
fn annotate_client_packet(
    place: usize,
    seen: &Observation,
    probe: &Evidence,
) -> Option<(AnnotationKind, String)> {
    if seen.direction != Direction::Sent {
        return None;
    }
    let (_, tcp) = seen.packet.tcp()?;
    let to = seen.packet.tcp_dst()?;
    if tcp.flags.has(TcpFlags::RST) && to != probe.client.peer() {
        return Some((
            AnnotationKind::Follows,
            format!("the client's kernel knows no connection with {to} and resets it"),
        ));
    }
    let before = probe.client.observations.get(..place).unwrap_or_default();
    if is_repeated(tcp, before) {
        let repeated = if tcp.flags.is_syn() {
            "the SYN again".to_owned()
        } else {
            format!("the same {} bytes again", tcp.payload_len)
        };
        return Some((
            AnnotationKind::Follows,
            format!("{repeated}: nothing usable came"),
        ));
    }
    if !tcp.flags.is_syn() || probe.client.outcome != Outcome::Timeout {
        return None;
    }
    Some(match &probe.server {
        Some(trace) if trace.syns == 0 => (
            AnnotationKind::Odd,
            "this end sent it, the server's end never saw it".to_owned(),
        ),
        Some(_) => (
            AnnotationKind::Follows,
            "it reached the server's end; no answer came back here".to_owned(),
        ),
        None => (AnnotationKind::Odd, "nothing answered it".to_owned()),
    })
}

/// Whether `tcp` retransmits a SYN or data that the client sent `before`.
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

/// The annotation of a packet of the server's end, unless it is as it should be.
fn annotate_server_packet(
    seen: &Observation,
    probe: &Evidence,
) -> Option<(AnnotationKind, String)> {
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
            AnnotationKind::Odd,
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
        let odd: Vec<_> = annotations(&probe)
            .into_iter()
            .filter(|annotation| annotation.kind == AnnotationKind::Odd)
            .collect();
        let seen = &odd[0];
        assert_eq!((seen.end, seen.packet), (End::Client, 1));
        assert!(seen.note.contains("100.96.54.247:8080"), "{}", seen.note);
        assert!(odd.iter().all(|annotation| annotation.end == End::Client));
    }

    #[test]
    fn a_syn_that_the_server_never_saw_is_the_odd_one() {
        let mut probe = incident::probe();
        probe.client.outcome = Outcome::Timeout;
        probe.client.observations.truncate(1);
        let trace = probe.server.as_mut().unwrap();
        trace.syns = 0;
        trace.observations.clear();
        let annotations = annotations(&probe);
        assert_eq!(annotations.len(), 1);
        assert_eq!(
            annotations[0].note,
            "this end sent it, the server's end never saw it"
        );
    }

    #[test]
    fn a_syn_ack_that_never_arrives_is_odd_where_it_left() {
        let mut probe = incident::probe();
        probe.client.outcome = Outcome::Timeout;
        probe.client.observations.truncate(1);
        let annotations = annotations(&probe);
        let odd: Vec<_> = annotations
            .iter()
            .filter(|annotation| annotation.kind == AnnotationKind::Odd)
            .collect();
        assert_eq!((odd[0].end, odd[0].packet), (End::Server, 1));
    }
}
