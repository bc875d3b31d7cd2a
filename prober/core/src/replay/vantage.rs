//! Where a capture was taken, in words, and which capture would show more.

use std::collections::BTreeSet;

use super::ending::Ending;
use super::host::Position;
use super::join::Connection;
use super::paths::GroupKey;
use super::rules::Evidence;
use crate::diagnosis::catalogue::Cause;
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
            Some(server) => {
                let answers: u32 = server
                    .attempt
                    .answers
                    .iter()
                    .map(|answer| answer.count)
                    .sum();
                format!(
                    "captured {place} and further on: there {} SYNs arrive and {answers} answers leave",
                    server.attempt.syn_count
                )
            }
        };
        sentences.insert(at);
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
    wanted
}
