//! Answers that keep the backend's own address: the client probed a Service, and the translation was not undone.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use crate::data_plane::initial_hop_limit;
use crate::diagnosis::case::Case;
use crate::diagnosis::symptom::{FailureGroup, ServerEnd, Symptom, wrong_source};
use crate::packet::TcpFlags;
use crate::packet::observation::{Direction, Observation};
use crate::topology::AccessPath;

/// Whether the answers of a group come from an address that was not probed.
pub(crate) fn is_untranslated(group: &FailureGroup) -> bool {
    matches!(
        group.symptom,
        Symptom::SynAckFromWrongSource | Symptom::ResetFromWrongSource
    )
}

/// Whether the wrong source of a group's answers is a backend of its path; `None` where no such answer was reported, or the
/// backends are not known.
pub(crate) fn is_from_backend(case: &Case<'_>, group: &FailureGroup) -> Option<bool> {
    let backends = &case.path(group.path)?.backends;
    let (from, _) = case
        .probes(group)
        .find_map(|probe| wrong_source(&probe.client))?;
    let is_backend = backends.iter().any(|backend| backend.address == from);
    (!backends.is_empty()).then_some(is_backend)
}

/// Whether a wrong answer came from its sender without passing the router that the SYN was sent to: `None` where neither its
/// source MAC nor its hop limit was observed.
pub(crate) fn is_switched(case: &Case<'_>, group: &FailureGroup) -> Option<bool> {
    let sent_to = case
        .client_packets(group)
        .filter(|seen| seen.direction == Direction::Sent)
        // Not the answer to an ARP request of the server, which resolves the client's address before it answers.
        .find(|seen| seen.packet.tcp().is_some_and(|(_, tcp)| tcp.flags.is_syn()))
        .and_then(|seen| seen.packet.link?.dst);
    case.client_packets(group).find_map(|seen| {
        let (ip, _) = seen.packet.tcp()?;
        if seen.direction != Direction::Received {
            return None;
        }
        let is_from_router = match (seen.packet.link, sent_to) {
            (Some(link), Some(router)) => link.src == router,
            (None, _) | (_, None) => false,
        };
        Some(is_undiminished(ip.hop_limit) && !is_from_router)
    })
}

/// Whether no router has decremented a hop limit.
const fn is_undiminished(hop_limit: u8) -> bool {
    initial_hop_limit(hop_limit) == hop_limit
}

/// The packets of both ends, from the group with the most evidence.
pub(crate) fn seen_at_ends(case: &Case<'_>, groups: &BTreeSet<usize>) -> Vec<String> {
    let Some(group) = case
        .at(groups)
        .max_by_key(|group| (group.server_end, group.access_path == AccessPath::ClusterIp))
    else {
        return Vec::new();
    };
    let mut sentences = seen_at_client(case, group);
    let at_server = case.server_packets(group).find(|seen| {
        seen.direction == Direction::Received
            && seen.packet.tcp().is_some_and(|(_, tcp)| tcp.flags.is_syn())
    });
    if let Some((seen, (ip, _))) = at_server.and_then(|seen| Some((seen, seen.packet.tcp()?))) {
        let link = seen
            .packet
            .link
            .map_or_else(String::new, |link| format!(" from MAC {}", link.src));
        let way = if is_undiminished(ip.hop_limit) {
            "no router forwarded it"
        } else {
            "it was routed there"
        };
        sentences.push(format!(
            "the server's end received the SYN with TTL {}{link}: {way}",
            ip.hop_limit
        ));
    }
    if group.server_end == ServerEnd::SynAckReset {
        let resets: u32 = case
            .server_traces(group)
            .map(|server_trace| server_trace.resets_received)
            .sum();
        sentences.push(format!(
            "the server's end sent SYN+ACK and received {resets} RST"
        ));
    }
    sentences
}

fn seen_at_client(case: &Case<'_>, group: &FailureGroup) -> Vec<String> {
    let answer = case
        .probes(group)
        .find_map(|probe| wrong_source(&probe.client).map(|(from, _)| (probe, from)));
    let Some((probe, from)) = answer else {
        return Vec::new();
    };
    let packet =
        probe.client.observations.iter().find(|seen| {
            seen.direction == Direction::Received && seen.packet.tcp_src() == Some(from)
        });
    let link = packet
        .and_then(|seen| seen.packet.link)
        .map_or_else(String::new, |link| format!(", source MAC {}", link.src));
    let hop_limit = packet.and_then(|seen| seen.packet.tcp());
    let ttl = hop_limit.map_or_else(String::new, |(ip, _)| {
        let way = if is_undiminished(ip.hop_limit) {
            "not decremented"
        } else {
            "routed"
        };
        format!(", TTL {} ({way})", ip.hop_limit)
    });
    let what = if group.symptom == Symptom::ResetFromWrongSource {
        "RST"
    } else {
        "SYN+ACK"
    };
    let mut sentences = vec![format!(
        "{} probed {} and received {what} from {from}{ttl}{link}",
        group.client, probe.client.dst
    )];
    let mut sent = probe.client.observations.iter();
    if sent.any(|seen| is_own_reset(seen, from)) {
        sentences.push(format!(
            "the client's kernel answered RST to {from}: it has no connection with that address"
        ));
    }
    sentences
}

fn is_own_reset(seen: &Observation, to: SocketAddr) -> bool {
    seen.direction == Direction::Sent
        && seen.packet.tcp_dst() == Some(to)
        && (seen.packet.tcp()).is_some_and(|(_, tcp)| tcp.flags.has(TcpFlags::RST))
}
