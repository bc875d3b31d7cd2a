//! Answers that come from the pod itself although the bridge is not the cause.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use crate::diagnosis::case::Case;
use crate::diagnosis::catalogue::Cause;
use crate::diagnosis::hypothesis::{Hypothesis, Place, Proof};
use crate::diagnosis::symptom::{self, FailureGroup, ServerEnd, Symptom};
use crate::diagnosis::translation::{bridge_sysctl, bridged_filtered};
use crate::evidence::Source;
use crate::packet::family::Family;
use crate::packet::observation::{Direction, Observation};
use crate::topology::{AccessPath, NodeName};

/// Untranslated replies where the bridge is not the cause.
pub(crate) fn reply_bypasses(case: &Case<'_>, node: &NodeName, family: Family) -> Vec<Hypothesis> {
    let here = |group: &FailureGroup| group.family == family && group.client.node == *node;
    let wrong_source = case.places(|group| {
        here(group)
            && group.symptom == Symptom::SynAckFromWrongSource
            && group.access_path != AccessPath::Hairpin
    });
    if wrong_source.is_empty() {
        return Vec::new();
    }
    let place = Place::node(node, family);
    let crossing = case.at(&wrong_source).any(FailureGroup::is_cross_node);
    let filtered = bridged_filtered(case, node, family);
    if filtered == Some(false) && !crossing {
        return vec![Hypothesis::excludes(
            Cause::ReplyBypassesNat,
            place,
            wrong_source,
            format!(
                "only Services of pods on {node} itself are affected, and {} is off there",
                bridge_sysctl(family)
            ),
        )];
    }
    let mut groups = wrong_source.clone();
    // A consequence of untracked replies: the third packet of a direct connection is invalid.
    groups.extend(case.places(|group| {
        let through = group.client.node == *node
            || group
                .server
                .as_ref()
                .is_some_and(|server| server.node == *node);
        group.family == family
            && through
            && match group.symptom {
                Symptom::NoData | Symptom::Broken => group.server_end != ServerEnd::Completed,
                Symptom::Silent => {
                    group.access_path == AccessPath::Hairpin
                        && group.server_end != ServerEnd::Nothing
                }
                Symptom::ResetFromWrongSource | Symptom::SynAckFromWrongSource => {
                    group.access_path == AccessPath::Hairpin
                }
                Symptom::Reset
                | Symptom::Unreachable(_)
                | Symptom::RefusedLocally(_)
                | Symptom::Lossy
                | Symptom::Stalled
                | Symptom::WrongBackend => false,
            }
    }));
    let evidence = seen_at_ends(case, &wrong_source);
    let invalid = case
        .grown(node, "ConntrackInvalid")
        .filter(|&grown| grown > 0);
    let counted = invalid.map(|grown| {
        format!("{node} counted ConntrackInvalid +{grown}: it saw replies that it could not match")
    });
    let host = case.matrix.source != Source::Run;
    let hypothesis = if (filtered == Some(true) || crossing) && !host {
        Hypothesis::proves(Cause::ReplyBypassesNat, place, groups, Proof::Packets)
    } else {
        Hypothesis::fits(Cause::ReplyBypassesNat, place, groups)
            .decided_by(format!(
                "`sysctl {}` on {node}: with 1, it is this",
                bridge_sysctl(family)
            ))
            .decided_by("an answer from a pod on another node: translated back, it is the bridge")
    };
    let hypothesis = hypothesis.because_all(evidence).because_all(counted);
    vec![if filtered == Some(true) {
        hypothesis.not(
            Cause::BridgeNetfilterOff,
            format!("{} is on at {node}", bridge_sysctl(family)),
        )
    } else if crossing {
        hypothesis.not(
            Cause::BridgeNetfilterOff,
            "answers from other nodes, which are routed, come untranslated as well",
        )
    } else {
        hypothesis
    }]
}

/// An answer that came from the backend's own address, over the bridge.
pub(crate) fn is_untranslated(group: &FailureGroup) -> bool {
    matches!(
        group.symptom,
        Symptom::SynAckFromWrongSource | Symptom::ResetFromWrongSource
    )
}

/// The packets of both ends, from the group with the most evidence.
pub(crate) fn seen_at_ends(case: &Case<'_>, groups: &BTreeSet<usize>) -> Vec<String> {
    let Some(group) = case
        .at(groups)
        .max_by_key(|group| (group.server_end, group.access_path == AccessPath::ClusterIp))
    else {
        return Vec::new();
    };
    let mut sentences = Vec::new();
    let answer = case
        .probes(group)
        .find_map(|probe| symptom::wrong_source(&probe.client).map(|(from, _)| (probe, from)));
    if let Some((probe, from)) = answer {
        let packet = probe.client.observations.iter().find(|seen| {
            seen.direction == Direction::Received && seen.packet.tcp_src() == Some(from)
        });
        let link = packet
            .and_then(|seen| seen.packet.link)
            .map_or_else(String::new, |link| format!(", source MAC {}", link.src));
        let ttl = packet
            .and_then(|seen| seen.packet.tcp())
            .map_or_else(String::new, |(ip, _)| match ip.hop_limit {
                64 | 128 | 255 => format!(", TTL {} (not decremented)", ip.hop_limit),
                routed => format!(", TTL {routed} (routed)"),
            });
        let what = if group.symptom == Symptom::ResetFromWrongSource {
            "RST"
        } else {
            "SYN+ACK"
        };
        sentences.push(format!(
            "{} probed {} and received {what} from {from}{ttl}{link}",
            group.client, probe.client.dst
        ));
        let refused = probe
            .client
            .observations
            .iter()
            .find(|seen| is_own_reset(seen, from));
        if refused.is_some() {
            sentences.push(format!(
                "the client's kernel answered RST to {from}: it has no connection with that address"
            ));
        }
    }
    let at_server = case.server_packets(group).find(|seen| {
        seen.direction == Direction::Received
            && seen.packet.tcp().is_some_and(|(_, tcp)| tcp.flags.is_syn())
    });
    if let Some((seen, (ip, _))) = at_server.and_then(|seen| Some((seen, seen.packet.tcp()?))) {
        let link = seen
            .packet
            .link
            .map_or_else(String::new, |link| format!(" from MAC {}", link.src));
        sentences.push(format!(
            "the server's end received the SYN with TTL {}{link}: it was routed there",
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

pub(crate) fn is_own_reset(seen: &Observation, to: SocketAddr) -> bool {
    seen.direction == Direction::Sent
        && seen.packet.tcp_dst() == Some(to)
        && seen
            .packet
            .tcp()
            .is_some_and(|(_, tcp)| tcp.flags.has(crate::packet::TcpFlags::RST))
}
