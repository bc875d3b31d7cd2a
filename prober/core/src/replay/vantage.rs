//! Where a capture was taken, in words, and which capture would show more.

use std::collections::BTreeSet;

use super::ending::Ending;
use super::host::Position;
use super::join::Connection;
use super::paths::GroupKey;
use super::rules::Evidence;
use crate::diagnosis::catalogue::Cause;
use crate::packet::{IcmpKind, Unreachable};
use crate::topology::PathId;

/// What the positions of the observers mean for these failures, a sentence each.
pub(super) fn sentences(
    evidence: &Evidence<'_>,
    found: &[(PathId, &GroupKey, &Connection)],
) -> Vec<String> {
    let mut sentences = BTreeSet::new();
    for (_, key, connection) in found {
        let place = match connection.client.position {
            Position::Client => "at the client's end",
            Position::InTransit => "between client and server",
            Position::Server => "at the server's end",
        };
        let at = match &connection.server {
            None => format!("captured {place} alone"),
            Some(_) if !connection.between.is_empty() => along_the_way(connection),
            Some(server) => {
                let answers: u32 = server
                    .attempt
                    .answers
                    .iter()
                    .map(|answer| answer.count)
                    .sum();
                let syns = server.attempt.syn_count;
                format!(
                    "captured {place} and further on: there {syns} SYN{} and {answers} answer{}",
                    if syns == 1 { " arrives" } else { "s arrive" },
                    if answers == 1 { " leaves" } else { "s leave" },
                )
            }
        };
        sentences.insert(at);
        sentences.extend(errors(connection));
        if matches!(connection.ending, Ending::Unanswered { .. }) {
            for observer in evidence.observers {
                let neighbour = observer.tracker.neighbours.of(key.1.ip());
                if let Some(neighbour) = neighbour.filter(|neighbour| neighbour.unanswered >= 2) {
                    sentences.insert(format!(
                        "{} was requested {} times by ARP or neighbour discovery without an answer",
                        key.1.ip(),
                        neighbour.unanswered
                    ));
                }
            }
        }
    }
    sentences.into_iter().take(6).collect()
}

/// The SYNs and answers at each of several places.
fn along_the_way(connection: &Connection) -> String {
    let places: Vec<String> = connection
        .views()
        .map(|view| {
            let place = match view.position {
                Position::Client => "the client's end",
                Position::InTransit if view.attempt.legs.iter().any(|leg| leg.tunnel.is_some()) => {
                    "in a tunnel"
                }
                Position::InTransit => "on the way",
                Position::Server => "the server's end",
            };
            let answers: u32 = view.attempt.answers.iter().map(|answer| answer.count).sum();
            format!("{place} {} and {answers}", view.attempt.syn_count)
        })
        .collect();
    format!(
        "SYNs and answers, from the client to the server: {}",
        places.join(", ")
    )
}

/// What ICMP messages say of a connection that they do not refuse, a sentence each.
fn errors(connection: &Connection) -> impl Iterator<Item = String> {
    (connection.views().flat_map(|view| &view.attempt.errors)).filter_map(|error| match error.kind {
        IcmpKind::TimeExceeded => Some(format!(
            "{} reports that a SYN had passed too many routers: it goes around in a loop, or its TTL was too small",
            error.by
        )),
        IcmpKind::Redirect { .. } => Some(format!(
            "{} reports that there is a shorter way (ICMP redirect): client and server are on one link with it",
            error.by
        )),
        IcmpKind::Unreachable { .. } | IcmpKind::PacketTooBig { .. } | IcmpKind::Other => None,
    })
}

/// The captures that would decide.
pub(super) fn would_decide(
    cause: Option<Cause>,
    found: &[(PathId, &GroupKey, &Connection)],
) -> Vec<String> {
    let mut wanted = Vec::new();
    let Some((_, _, connection)) = found.first() else {
        return wanted;
    };
    let leg = connection.leg();
    let (client, target) = (
        leg.client.ip(),
        connection.translated().unwrap_or(leg.target),
    );
    let filter = format!(
        "host {client} and (port {} or icmp or icmp6) or arp",
        target.port()
    );
    if let Ending::Undecided {
        is_one_sided: true, ..
    } = connection.ending
    {
        wanted.push(format!(
            "the same connections with the packets of both directions: `tcpdump -ni any -w all.pcap '{filter}'`, without a filter of flags or of a direction"
        ));
        return wanted;
    }
    match (connection.client.position, &connection.server) {
        (Position::Client | Position::InTransit, None) => wanted.push(format!(
            "the same connections at the server's end, at the same time: `tcpdump -ni any -w server.pcap '{filter}'` in the server's pod or on its node"
        )),
        (Position::Server, None) => wanted.push(format!(
            "the same connections at the client's end, at the same time: `tcpdump -ni any -w client.pcap '{filter}'` where {client} runs"
        )),
        (_, Some(_)) => wanted.push(format!(
            "the same connections on the nodes between both ends: `tcpdump -ni any -w node.pcap '{filter}'` on each of them"
        )),
    }
    if cause == Some(Cause::NotListening) {
        wanted.push(format!(
            "whether a process listens at {target}: `ss -ltn` in that pod; a rule that rejects with RST gives the same packets"
        ));
    }
    match connection.ending {
        Ending::NeverAcknowledged { .. } | Ending::Missing { .. } | Ending::TooBig { .. } => {
            wanted.push(format!(
                "whether only large packets are lost: `tracepath -n {}` at both ends",
                target.ip()
            ));
        }
        Ending::Unreachable {
            reason: Unreachable::Host,
            ..
        } => wanted.push(format!(
            "whether a pod or host has the address: `kubectl get pods -A -o wide | grep -w {}`",
            target.ip()
        )),
        Ending::Established
        | Ending::Late { .. }
        | Ending::Undecided { .. }
        | Ending::Looping { .. }
        | Ending::WrongAddress { .. }
        | Ending::RefusedElsewhere { .. }
        | Ending::Refused { .. }
        | Ending::Unreachable { .. }
        | Ending::Unanswered { .. }
        | Ending::GivenUp { .. }
        | Ending::RefusedByClient
        | Ending::AnsweredTwice
        | Ending::HalfOpen { .. }
        | Ending::ResetAfterHandshake { .. } => {}
    }
    if cause == Some(Cause::NoEndpoints) {
        let family = if target.is_ipv6() { " -6" } else { "" };
        wanted.push(format!(
            "the endpoints behind {target}: `kubectl get endpointslices -A`; where it is no address of a Service, the route: `ip{family} route get {}` on the node of {client}",
            target.ip()
        ));
    }
    wanted
}
