//! Two pods with one address.

use std::collections::BTreeSet;

use crate::diagnosis::case::Case;
use crate::diagnosis::catalogue::Cause;
use crate::diagnosis::endpoint::reset_sender::{ResetSender, reset_packet, reset_sender};
use crate::diagnosis::endpoint::to;
use crate::diagnosis::hypothesis::{Hypothesis, Place, Proof};
use crate::diagnosis::symptom::{FailureGroup, ServerEnd, Symptom};
use crate::packet::family::Family;
use crate::packet::mac::Mac;
use crate::packet::observation::Direction;
use crate::packet::{Body, ResolutionKind, TcpFlags};
use crate::topology::{AccessPath, AgentId};

/// Another pod answers at the server's address.
pub(crate) fn duplicate_server(
    case: &Case<'_>,
    server: &AgentId,
    family: Family,
) -> Option<Hypothesis> {
    let is_by_other_host = |group: &FailureGroup| {
        to(group, server, family)
            && match group.symptom {
                Symptom::Reset | Symptom::ResetFromWrongSource => {
                    reset_sender(case, group) == ResetSender::OtherHost
                }
                Symptom::WrongBackend => group.access_path == AccessPath::PodIp,
                Symptom::SynAckFromWrongSource
                | Symptom::Unreachable(_)
                | Symptom::RefusedLocally(_)
                | Symptom::Silent
                | Symptom::Lossy
                | Symptom::NoData
                | Symptom::Stalled
                | Symptom::Broken => false,
            }
    };
    let by_others = case.places(is_by_other_host);
    let address = case.address(server, family)?;
    let macs = claimants(case, server, family);
    if by_others.is_empty() && macs.len() < 2 {
        return None;
    }
    let groups = case.places(|group| {
        is_by_other_host(group)
            || (to(group, server, family)
                && matches!(
                    group.symptom,
                    Symptom::Silent
                        | Symptom::Lossy
                        | Symptom::Unreachable(_)
                        | Symptom::Reset
                        | Symptom::ResetFromWrongSource
                )
                && matches!(group.server_end, ServerEnd::Nothing | ServerEnd::Unknown))
    });
    if groups.is_empty() {
        return None;
    }
    let mut hypothesis = Hypothesis::proves(
        Cause::DuplicateIp,
        Place::pod(server, family),
        groups,
        Proof::Packets,
    );
    if macs.len() > 1 {
        let macs = macs
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(" and ");
        hypothesis = hypothesis.because(format!("{address} is claimed by {macs}"));
    }
    if let Some(seen) = case
        .at(&by_others)
        .find_map(|group| reset_packet(case, group))
        && let Some((ip, _)) = seen.packet.tcp()
    {
        let link = seen
            .packet
            .link
            .map_or_else(String::new, |link| format!(", source MAC {}", link.src));
        let own = case
            .mac(server, family)
            .map_or_else(String::new, |mac| format!("; the pod's own is {mac}"));
        hypothesis = hypothesis.because(format!(
            "a RST with TTL {}{link} answers for {address}, and {server} never saw the SYN{own}",
            ip.hop_limit
        ));
    }
    Some(
        hypothesis
            .not(Cause::NotListening, format!("{server} sent no RST"))
            .not(
                Cause::RejectReset,
                "the RST comes from a pod, not from a node",
            ),
    )
}

/// MAC addresses that answered for the server's address in clients' captures on its node,
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
            Body::Resolution(reply)
                if reply.kind == ResolutionKind::Reply && reply.sender == address =>
            {
                reply.sender_mac
            }
            Body::Resolution(_) | Body::Tcp(..) | Body::Icmp(..) => None,
        })
        .collect();
    macs.extend(case.mac(server, family).filter(|_| !macs.is_empty()));
    macs
}

/// Another pod has a client's address: the server receives RSTs that the client never sent.
pub(crate) fn duplicate_client(case: &Case<'_>, family: Family) -> Vec<Hypothesis> {
    let is_reset_by_other_pod = |group: &FailureGroup| {
        group.family == family
            && group.symptom == Symptom::Silent
            && group.server_end == ServerEnd::SynAckReset
            && !case.client_packets(group).any(|seen| {
                seen.direction == Direction::Sent
                    && seen
                        .packet
                        .tcp()
                        .is_some_and(|(_, tcp)| tcp.flags.has(TcpFlags::RST))
            })
    };
    let clients: BTreeSet<AgentId> = case
        .failing(is_reset_by_other_pod)
        .map(|(_, group)| group.client.clone())
        .collect();
    clients
        .into_iter()
        .map(|client| {
            let groups = case.places(|group| is_reset_by_other_pod(group) && group.client == client);
            Hypothesis::proves(Cause::DuplicateIp, Place::pod(&client, family), groups, Proof::Packets)
                .because(format!(
                    "servers received RST for their SYN+ACK to {}, and {client} neither saw the SYN+ACK nor sent a RST",
                    case.address(&client, family).map_or_else(|| client.to_string(), |ip| ip.to_string())
                ))
                .not(Cause::BridgeNetfilterOff, "the client received no answer at all")
        })
        .collect()
}
