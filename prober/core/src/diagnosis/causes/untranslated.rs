//! Answers that keep the backend's own address: the client probed a Service, and the translation was not undone.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use crate::data_plane::initial_hop_limit;
use crate::diagnosis::case::Case;
use crate::diagnosis::symptom::{FailureGroup, ServerEnd, Symptom, wrong_source};
use crate::evidence::Evidence;
use crate::packet::TcpFlags;
use crate::packet::observation::{Direction, Observation};
use crate::probe::outcome::{Outcome, ProbeResult};
use crate::topology::AccessPath;

/// Whether the answers of a group come from an address that was not probed.
pub(crate) fn is_untranslated(group: &FailureGroup) -> bool {
    matches!(
        group.symptom,
        Symptom::SynAckFromWrongSource | Symptom::ResetFromWrongSource
    )
}

/// A segment of an open connection that kept the address of the backend that sent it.
pub(crate) struct UntranslatedSegment {
    /// Its source.
    pub(crate) from: SocketAddr,
    /// Its payload, bytes.
    pub(crate) bytes: u32,
    /// Whether the client's kernel answered it with a RST.
    pub(crate) is_reset: bool,
}

/// The first such segment of a probe: after the SYN+ACK of the target, one from another address that acknowledges bytes which
/// the client has sent on this connection. A late segment of an earlier connection from the same port acknowledges others.
pub(crate) fn untranslated_segment(probe: &ProbeResult) -> Option<UntranslatedSegment> {
    let (Outcome::Established { .. }, Some(isn)) = (probe.outcome, probe.isn) else {
        return None;
    };
    let peer = probe.peer();
    let mut seen = probe.observations.iter();
    seen.find(|seen| {
        seen.direction == Direction::Received
            && seen.packet.tcp_src() == Some(peer)
            && (seen.packet.tcp()).is_some_and(|(_, tcp)| tcp.flags.is_syn_ack())
    })?;
    let sent = probe.observations.iter().filter_map(|seen| {
        let (_, tcp) = seen.packet.tcp()?;
        let end = tcp.seq.add(tcp.payload_len).0.wrapping_sub(isn.0);
        (seen.direction == Direction::Sent && !tcp.flags.has(TcpFlags::RST)).then_some(end)
    });
    // The FIN counts as one.
    let most = sent.max().unwrap_or(0).saturating_add(1);
    let (from, bytes) = seen.find_map(|seen| {
        let (_, tcp) = seen.packet.tcp()?;
        let from = seen.packet.tcp_src()?;
        let is_to_client = seen.packet.tcp_dst()? == probe.src;
        let acknowledged = tcp.ack.0.wrapping_sub(isn.0);
        let is_of_connection = tcp.flags.has(TcpFlags::ACK)
            && !tcp.flags.has(TcpFlags::SYN)
            && !tcp.flags.has(TcpFlags::RST)
            && (1..=most).contains(&acknowledged);
        let is_wrong = seen.direction == Direction::Received && is_to_client && from != peer;
        (is_wrong && is_of_connection).then_some((from, tcp.payload_len))
    })?;
    let is_reset = (probe.observations.iter()).any(|seen| is_own_reset(seen, from));
    Some(UntranslatedSegment {
        from,
        bytes,
        is_reset,
    })
}

/// Whether a server received a RST in its client's name that the client did not send: a host that had replaced the client's
/// address sent it.
pub(crate) fn is_reset_by_another(probe: &Evidence) -> bool {
    let client = &probe.client;
    let is_received = (probe.server.as_ref()).is_some_and(|server_trace| {
        server_trace.resets_received > 0 && server_trace.peer != client.src
    });
    let mut packets = client.observations.iter();
    is_received
        && !packets.any(|seen| {
            seen.direction == Direction::Sent
                && (seen.packet.tcp()).is_some_and(|(_, tcp)| tcp.flags.has(TcpFlags::RST))
        })
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
