//! Rules for the backend itself: who answers, refuses, or keeps still.

use std::collections::BTreeSet;

use super::case::Case;
use super::catalogue::Cause;
use super::opinion::{Opinion, Place, Proof};
use super::service::servers;
use super::symptom::{ServerEnd, Symptom, Unit};
use crate::evidence::Source;
use crate::family::Family;
use crate::mac::Mac;
use crate::observation::{Direction, Observation, OutcomeKind};
use crate::topology::{AgentId, NodeName, Route};
use crate::wire::{Body, ResolutionKind, TcpFlags};

/// What this family has to say.
pub(crate) fn opinions(case: &Case<'_>) -> Vec<Opinion> {
    let mut opinions = Vec::new();
    for family in case.families() {
        for server in servers(case, family) {
            opinions.extend(not_listening(case, &server, family));
            opinions.extend(accept_queue(case, &server, family));
            opinions.extend(frozen(case, &server, family));
            opinions.extend(duplicate_server(case, &server, family));
        }
        opinions.extend(duplicate_client(case, family));
    }
    opinions
}

/// Who sent a RST.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Resetter {
    /// The server's own end sent it.
    Server,
    /// A rule on this node.
    Node(NodeName),
    /// Some other pod.
    Stranger,
    /// It could not be told.
    Unclear,
}

/// Who sent the RSTs of a unit, by the server's end, and by their TTL and source MAC: two routers
/// on the way from a pod of another node leave 62 of 64, one leaves 63, the own node 64.
pub(crate) fn resetter(case: &Case<'_>, unit: &Unit) -> Resetter {
    if unit.server_end == ServerEnd::ResetSent {
        return Resetter::Server;
    }
    let heard = unit.server_end != ServerEnd::Unheard;
    let Some(seen) = reset_packet(case, unit) else {
        return Resetter::Unclear;
    };
    let Some((ip, _)) = seen.packet.tcp() else {
        return Resetter::Unclear;
    };
    let from_gateway = seen
        .packet
        .link
        .is_some_and(|link| Some(link.src) == case.gateway_mac(&unit.client));
    if unit.is_same_node() {
        let own = unit
            .server
            .as_ref()
            .and_then(|server| case.mac(server, unit.family));
        let sender = seen.packet.link.map(|link| link.src);
        return match (sender, own) {
            _ if from_gateway => Resetter::Node(unit.client.node.clone()),
            (Some(sender), Some(own)) if heard && sender != own => Resetter::Stranger,
            _ if heard => Resetter::Node(unit.client.node.clone()),
            _ => Resetter::Unclear,
        };
    }
    match (ip.hop_limit, &unit.server) {
        (64, Some(_)) => Resetter::Node(unit.client.node.clone()),
        (64, None) if from_gateway => Resetter::Node(unit.client.node.clone()),
        (63, Some(server)) => Resetter::Node(server.node.clone()),
        (63, None) => only_other_node(case, unit).map_or(Resetter::Unclear, Resetter::Node),
        (_, Some(_)) if heard => Resetter::Stranger,
        _ => Resetter::Unclear,
    }
}

/// The one node beside the client's that has endpoints behind a balanced port.
fn only_other_node(case: &Case<'_>, unit: &Unit) -> Option<NodeName> {
    let nodes: BTreeSet<&NodeName> = case
        .path(unit.path)?
        .backends
        .iter()
        .filter_map(|backend| backend.agent.as_ref())
        .map(|agent| &agent.node)
        .filter(|node| **node != unit.client.node)
        .collect();
    let mut nodes = nodes.into_iter();
    let only = nodes.next()?;
    nodes.next().is_none().then(|| only.clone())
}

/// The first RST that the client got.
pub(crate) fn reset_packet<'a>(case: &Case<'a>, unit: &Unit) -> Option<&'a Observation> {
    case.client_packets(unit).find(|seen| {
        seen.direction == Direction::Received
            && seen
                .packet
                .tcp()
                .is_some_and(|(_, tcp)| tcp.flags.has(TcpFlags::RST))
    })
}

fn not_listening(case: &Case<'_>, server: &AgentId, family: Family) -> Option<Opinion> {
    let refused = |unit: &Unit| {
        unit.family == family
            && unit.server.as_ref() == Some(server)
            && unit.symptom == Symptom::Reset
    };
    let sent = case.places(|unit| refused(unit) && resetter(case, unit) == Resetter::Server);
    let place = Place::pod(server, family);
    if !sent.is_empty() {
        let other = case
            .at(&sent)
            .filter_map(|unit| case.path(unit.path)?.other_port)
            .next();
        let ports = other.map(|outcome| match outcome {
            OutcomeKind::Established => "another port of the same pod answers".to_owned(),
            OutcomeKind::Reset => "another port of the same pod refuses as well".to_owned(),
            OutcomeKind::Timeout | OutcomeKind::Unreachable | OutcomeKind::Mismatched => {
                format!("another port of the same pod gave {}", outcome.as_str())
            }
        });
        return Some(
            Opinion::proves(Cause::NotListening, place, sent, Proof::Packets)
                .because(format!(
                    "{server} got the SYN and its own kernel sent the RST"
                ))
                .because_all(ports)
                .not(Cause::RejectReset, "the server's end sent the RST itself"),
        );
    }
    let unclear = case.places(|unit| refused(unit) && resetter(case, unit) == Resetter::Unclear);
    if unclear.is_empty() {
        return None;
    }
    Some(
        Opinion::fits(Cause::NotListening, place, unclear)
            .because(format!("connections to {server} are refused"))
            .decided_by("what the server's end sees: with a SYN and a RST of its own it is this; without, a rule sends the RST"),
    )
}

fn to(unit: &Unit, server: &AgentId, family: Family) -> bool {
    unit.family == family && unit.server.as_ref() == Some(server)
}

fn accept_queue(case: &Case<'_>, server: &AgentId, family: Family) -> Option<Opinion> {
    let ignored = case.places(|unit| {
        to(unit, server, family)
            && matches!(unit.symptom, Symptom::Silent | Symptom::Lossy)
            && unit.server_end == ServerEnd::SynOnly
    });
    let overflows = case
        .agent_grown(server, "TcpExtListenOverflows")
        .filter(|&grown| grown > 0);
    let place = Place::pod(server, family);
    if let Some(grown) = overflows {
        let units = case.places(|unit| {
            to(unit, server, family)
                && matches!(
                    unit.symptom,
                    Symptom::Silent
                        | Symptom::Lossy
                        | Symptom::Mute
                        | Symptom::Broken
                        | Symptom::Stalled
                )
                && unit.server_end != ServerEnd::Nothing
        });
        return (!units.is_empty()).then(|| {
            Opinion::proves(Cause::AcceptQueueFull, place, units, Proof::Facts)
                .because(format!(
                    "{server} counted TcpExtListenOverflows +{grown}: its accept queue is full"
                ))
                .because("its end saw SYNs that it did not answer")
                .not(Cause::PacketLoss, "the SYNs arrived")
                .not(
                    Cause::EndpointFrozen,
                    "a frozen process with room in its queue completes handshakes",
                )
        });
    }
    if ignored.is_empty() {
        return None;
    }
    Some(
        Opinion::fits(Cause::AcceptQueueFull, place, ignored)
            .because(format!("{server}'s end saw SYNs that it did not answer"))
            .decided_by(format!("`nstat -az TcpExtListenOverflows IpOutNoRoutes TcpInCsumErrors` in {server}: the first grows with a full queue, the others where the pod has no way back or gets broken packets")),
    )
}

fn frozen(case: &Case<'_>, server: &AgentId, family: Family) -> Option<Opinion> {
    if case.matrix.source != Source::Run {
        return None;
    }
    let known = case.matrix.agents.get(server);
    let unheard = known.is_some_and(|agent| !agent.heard);
    let mute = case.places(|unit| {
        to(unit, server, family)
            && unit.symptom == Symptom::Mute
            && (unit.server_end == ServerEnd::Completed
                || unheard
                || unit.server_end == ServerEnd::Unheard)
    });
    if mute.is_empty() || case.at(&mute).any(|unit| repeats_syn_ack(case, unit)) {
        return None;
    }
    let spoke = case.at(&mute).any(|unit| {
        case.server_packets(unit).any(|seen| {
            seen.direction == Direction::Sent
                && seen
                    .packet
                    .tcp()
                    .is_some_and(|(_, tcp)| tcp.payload_len > 0)
        })
    });
    if spoke {
        return None;
    }
    let completed = case.best_server_end(&mute) == ServerEnd::Completed;
    let routes: BTreeSet<Route> = case.at(&mute).map(|unit| unit.route).collect();
    let mut opinion = if completed || unheard {
        Opinion::proves(
            Cause::EndpointFrozen,
            Place::pod(server, family),
            mute,
            Proof::Packets,
        )
    } else {
        Opinion::fits(Cause::EndpointFrozen, Place::pod(server, family), mute).decided_by(format!(
            "the state of the process in {server}: `cat /proc/1/status | grep State`"
        ))
    };
    opinion = opinion.because(format!(
        "{server}'s kernel completes handshakes on {} routes, and no banner ever follows",
        routes.len()
    ));
    if completed {
        opinion =
            opinion.because("its end saw the third packet of the handshake, and sent no data");
    }
    if unheard {
        opinion = opinion.because(format!(
            "the agent in {server} has stopped reporting as well"
        ));
    }
    Some(
        opinion
            .not(Cause::AcceptQueueFull, "the SYN+ACK is not repeated")
            .not(Cause::MtuBlackHole, "the banner is small"),
    )
}

fn repeats_syn_ack(case: &Case<'_>, unit: &Unit) -> bool {
    case.probes(unit).any(|probe| {
        let answers = probe.client.observations.iter().filter(|seen| {
            seen.direction == Direction::Received
                && seen
                    .packet
                    .tcp()
                    .is_some_and(|(_, tcp)| tcp.flags.is_syn_ack())
        });
        answers.count() > 1
    })
}

/// Another pod answers at the server's address.
fn duplicate_server(case: &Case<'_>, server: &AgentId, family: Family) -> Option<Opinion> {
    let strange = |unit: &Unit| {
        to(unit, server, family)
            && match unit.symptom {
                Symptom::Reset | Symptom::ForeignReset => {
                    resetter(case, unit) == Resetter::Stranger
                }
                Symptom::Impostor => unit.route == Route::PodIp,
                Symptom::ForeignSynAck
                | Symptom::Unreachable(_)
                | Symptom::Silent
                | Symptom::Lossy
                | Symptom::Mute
                | Symptom::Stalled
                | Symptom::Broken => false,
            }
    };
    let strangers = case.places(strange);
    let address = case.address(server, family)?;
    let macs = claimants(case, server, family);
    if strangers.is_empty() && macs.len() < 2 {
        return None;
    }
    let units = case.places(|unit| {
        strange(unit)
            || (to(unit, server, family)
                && matches!(
                    unit.symptom,
                    Symptom::Silent
                        | Symptom::Lossy
                        | Symptom::Unreachable(_)
                        | Symptom::Reset
                        | Symptom::ForeignReset
                )
                && matches!(unit.server_end, ServerEnd::Nothing | ServerEnd::Unheard))
    });
    if units.is_empty() {
        return None;
    }
    let mut opinion = Opinion::proves(
        Cause::DuplicateIp,
        Place::pod(server, family),
        units,
        Proof::Packets,
    );
    if macs.len() > 1 {
        let macs = macs
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(" and ");
        opinion = opinion.because(format!("{address} is claimed by {macs}"));
    }
    if let Some(seen) = case
        .at(&strangers)
        .find_map(|unit| reset_packet(case, unit))
        && let Some((ip, _)) = seen.packet.tcp()
    {
        let link = seen
            .packet
            .link
            .map_or_else(String::new, |link| format!(", source MAC {}", link.src));
        let own = case
            .mac(server, family)
            .map_or_else(String::new, |mac| format!("; the pod's own is {mac}"));
        opinion = opinion.because(format!(
            "a RST with TTL {}{link} answers for {address}, and {server} never saw the SYN{own}",
            ip.hop_limit
        ));
    }
    Some(
        opinion
            .not(Cause::NotListening, format!("{server} sent no RST"))
            .not(
                Cause::RejectReset,
                "the RST comes from a pod, not from a node",
            ),
    )
}

/// Ethernet addresses that answered for the server's address in clients' captures on its node,
/// with its own.
fn claimants(case: &Case<'_>, server: &AgentId, family: Family) -> BTreeSet<Mac> {
    let Some(address) = case.address(server, family) else {
        return BTreeSet::new();
    };
    let mut macs: BTreeSet<Mac> = case
        .matrix
        .paths
        .values()
        .filter(|path| path.path.client.node == server.node && path.path.family == family)
        .flat_map(|path| &path.probes)
        .flat_map(|probe| &probe.client.observations)
        .filter_map(|seen| match seen.packet.body {
            Body::Resolution(told)
                if told.kind == ResolutionKind::Reply && told.sender == address =>
            {
                told.sender_mac
            }
            Body::Resolution(_) | Body::Tcp(..) | Body::Icmp(..) => None,
        })
        .collect();
    macs.extend(case.mac(server, family).filter(|_| !macs.is_empty()));
    macs
}

/// Another pod has a client's address: the server gets RSTs that the client never sent.
fn duplicate_client(case: &Case<'_>, family: Family) -> Vec<Opinion> {
    let usurped = |unit: &Unit| {
        unit.family == family
            && unit.symptom == Symptom::Silent
            && unit.server_end == ServerEnd::SynAckReset
            && !case.client_packets(unit).any(|seen| {
                seen.direction == Direction::Sent
                    && seen
                        .packet
                        .tcp()
                        .is_some_and(|(_, tcp)| tcp.flags.has(TcpFlags::RST))
            })
    };
    let clients: BTreeSet<AgentId> = case
        .failing(usurped)
        .map(|(_, unit)| unit.client.clone())
        .collect();
    clients
        .into_iter()
        .map(|client| {
            let units = case.places(|unit| usurped(unit) && unit.client == client);
            Opinion::proves(Cause::DuplicateIp, Place::pod(&client, family), units, Proof::Packets)
                .because(format!(
                    "servers got RST for their SYN+ACK to {}, and {client} neither saw the SYN+ACK nor sent a RST",
                    case.address(&client, family).map_or_else(|| client.to_string(), |ip| ip.to_string())
                ))
                .not(Cause::BridgeNetfilterOff, "the client got no answer at all")
        })
        .collect()
}
