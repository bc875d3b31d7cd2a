//! The probe that shows a diagnosis best, and the unexpected packet in it.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::case::Case;
use crate::evidence::Evidence;
use crate::packet::observation::{Direction, Observation};
use crate::packet::{Body, Checksum, IcmpKind, TcpFlags};
use crate::topology::PathId;

/// One end of a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum End {
    /// The client, which started the handshake.
    Client,
    /// The server, which was expected to answer.
    Server,
}

/// The probe with the most evidence: both ends, an unexpected packet, the most packets.
pub(crate) fn choose(case: &Case<'_>, places: &BTreeSet<usize>) -> Option<(PathId, usize)> {
    let score = |id: PathId, at: usize| {
        let probe = case.path(id)?.probes.get(at)?;
        let server = probe
            .server
            .as_ref()
            .map_or(0, |server_trace| server_trace.observations.len());
        Some((
            unexpected_packet(probe).is_some(),
            server > 0,
            probe.client.observations.len().min(40),
        ))
    };
    let mut best = case
        .at(places)
        .find_map(super::symptom::FailureGroup::first)?;
    for group in case.at(places) {
        for &at in &group.probes {
            if score(group.path, at) > score(best.0, best.1) {
                best = (group.path, at);
            }
        }
    }
    Some(best)
}

/// The unexpected packet, its index at that end, and why it is unexpected.
///
/// Where packets are only missing, none is unexpected.
pub fn unexpected_packet(evidence: &Evidence) -> Option<(End, usize, String)> {
    unexpected_packets(evidence).into_iter().next()
}

/// Every unexpected packet, the client's end first, each end's in order.
pub fn unexpected_packets(evidence: &Evidence) -> Vec<(End, usize, String)> {
    let of_end = |end, seen: &[Observation], why: fn(&Evidence, &Observation) -> Option<String>| {
        seen.iter()
            .enumerate()
            .filter_map(|(at, seen)| Some((end, at, why(evidence, seen)?)))
            .collect::<Vec<_>>()
    };
    let mut all = of_end(
        End::Client,
        &evidence.client.observations,
        unexpected_at_client,
    );
    if let Some(server_trace) = &evidence.server {
        all.extend(of_end(
            End::Server,
            &server_trace.observations,
            unexpected_at_server,
        ));
    }
    all
}

fn unexpected_at_client(evidence: &Evidence, seen: &Observation) -> Option<String> {
    let probe = &evidence.client;
    if seen.direction == Direction::Sent {
        return None;
    }
    match seen.packet.body {
        Body::Tcp(ip, tcp) => {
            let from = seen.packet.tcp_src()?;
            let to = seen.packet.tcp_dst()?;
            if tcp.flags.is_syn() && Some(tcp.seq) == probe.isn {
                return Some(if to.ip() == probe.src.ip() {
                    format!(
                        "the client's SYN comes back, from {from} to {to}: its source was not translated"
                    )
                } else {
                    format!(
                        "the client's SYN passes by on its way to {to}: the bridge floods it, no host has that address"
                    )
                });
            }
            if seen.direction == Direction::Overheard || to != probe.src {
                return None;
            }
            let target = probe.peer();
            if from != target {
                let what = if tcp.flags.has(TcpFlags::RST) {
                    "a RST"
                } else {
                    "an answer"
                };
                return Some(format!(
                    "{what} from {from}, but the target is {target}: the translation was not undone (TTL {})",
                    ip.hop_limit
                ));
            }
            if tcp.checksum == Checksum::Invalid {
                return Some("its checksum is wrong: the kernel drops it".to_owned());
            }
            let sent = evidence
                .server
                .as_ref()
                .is_none_or(|server_trace| server_trace.resets_sent > 0);
            if tcp.flags.has(TcpFlags::RST) {
                return Some(if sent {
                    format!("the connection is refused (TTL {})", ip.hop_limit)
                } else {
                    format!("a RST that the server never sent (TTL {})", ip.hop_limit)
                });
            }
            None
        }
        Body::Icmp(ip, icmp) => match icmp.kind {
            IcmpKind::Unreachable { .. } => {
                let inner = icmp.quoted.map_or_else(String::new, |quoted| {
                    format!(", TTL of the quoted SYN {}", quoted.hop_limit)
                });
                let (kind, code) = icmp.type_code;
                Some(format!(
                    "ICMP {kind}/{code} unreachable from {} (TTL {}{inner})",
                    ip.src, ip.hop_limit
                ))
            }
            IcmpKind::PacketTooBig { mtu } => {
                Some(format!("{} reports that at most {mtu} bytes pass", ip.src))
            }
            IcmpKind::Redirect { gateway } => Some(format!(
                "{} redirects to {gateway}: it routes the packet back out of the interface by which it arrived",
                ip.src
            )),
            IcmpKind::TimeExceeded | IcmpKind::Other => None,
        },
        Body::Resolution(_) => None,
    }
}

fn unexpected_at_server(evidence: &Evidence, seen: &Observation) -> Option<String> {
    if seen.direction != Direction::Received {
        return None;
    }
    match seen.packet.body {
        Body::Tcp(_, tcp) if tcp.flags.has(TcpFlags::RST) => {
            let sent = evidence.client.observations.iter().any(|own| {
                own.direction == Direction::Sent
                    && own
                        .packet
                        .tcp()
                        .is_some_and(|(_, tcp)| tcp.flags.has(TcpFlags::RST))
            });
            Some(if sent {
                "the client's kernel refuses the SYN+ACK: it has no connection with this address"
                    .to_owned()
            } else {
                "a RST that the client never sent: another host has its address".to_owned()
            })
        }
        Body::Icmp(ip, icmp) => match icmp.kind {
            IcmpKind::Unreachable { .. } => {
                let (kind, code) = icmp.type_code;
                Some(format!(
                    "ICMP {kind}/{code} from {}: the reply has no route back",
                    ip.src
                ))
            }
            IcmpKind::Redirect { gateway } => {
                Some(format!("{} redirects the reply to {gateway}", ip.src))
            }
            IcmpKind::PacketTooBig { .. } | IcmpKind::TimeExceeded | IcmpKind::Other => None,
        },
        Body::Tcp(..) | Body::Resolution(_) => None,
    }
}
