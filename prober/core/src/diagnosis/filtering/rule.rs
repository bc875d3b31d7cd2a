//! Rules that drop or reject, found by the source of the answer, and by the place where packets vanish.

use std::collections::BTreeSet;

use crate::diagnosis::case::Case;
use crate::diagnosis::catalogue::Cause;
use crate::diagnosis::drop_point::{DropLocation, DropPoint, FlowDirection, drop_point};
use crate::diagnosis::endpoint::is_reached_directly;
use crate::diagnosis::endpoint::reset_sender::{ResetSender, reset_packet, reset_sender};
use crate::diagnosis::filtering::filter_scope::filter_scope;
use crate::diagnosis::hypothesis::{Hypothesis, Place, Proof};
use crate::diagnosis::symptom::{FailureGroup, ServerEnd, Symptom};
use crate::packet::Unreachable;
use crate::packet::family::Family;
use crate::probe::outcome::Outcome;
use crate::topology::{AccessPath, NodeName};

/// A rule that rejects by RST: the RST comes from a node, or the server's end did not send it.
pub(crate) fn reject_reset(case: &Case<'_>, node: &NodeName, family: Family) -> Option<Hypothesis> {
    let groups = case.places(|group| {
        group.family == family
            && matches!(
                group.symptom,
                Symptom::Reset | Symptom::ResetFromWrongSource
            )
            && reset_sender(case, group) == ResetSender::Node(node.clone())
    });
    let group = case.at(&groups).next()?;
    let place = Place::node(node, family);
    let seen = reset_packet(case, group)?;
    let (ip, _) = seen.packet.tcp()?;
    let link = seen
        .packet
        .link
        .map_or_else(String::new, |link| format!(", source MAC {}", link.src));
    let sentence = format!(
        "{} received a RST from {} with TTL {}{link}",
        group.client, ip.src, ip.hop_limit
    );
    let has_server_trace = case
        .at(&groups)
        .any(|group| group.server_end != ServerEnd::Unknown);
    let wrong_source = case
        .at(&groups)
        .any(|group| group.symptom == Symptom::ResetFromWrongSource)
        .then(|| "on the bridge the forged RST comes from the pod's own address, so the client ignores it and times out".to_owned());
    let mut hypothesis =
        Hypothesis::proves(Cause::RejectReset, place, groups.clone(), Proof::Packets)
            .because(sentence)
            .because_all(
                has_server_trace.then(|| "the server's end saw no SYN and sent no RST".to_owned()),
            )
            .because_all(wrong_source)
            .not(
                Cause::NotListening,
                if has_server_trace {
                    "the server's end sent no RST"
                } else {
                    "the RST's TTL is a node's, not a pod's"
                },
            );
    if case
        .at(&groups)
        .all(|group| group.access_path == AccessPath::ClusterIpAny)
    {
        hypothesis = hypothesis.because("only connections that were balanced to one endpoint are rejected; a rejected SYN is balanced anew when it is sent again");
    }
    // Failures that the same rule explains: SYNs that were balanced anew, and connections with a RST that the client ignores.
    let hidden = case.places(|group| {
        group.family == family
            && (group.access_path == AccessPath::ClusterIpAny
                || group.access_path == AccessPath::Hairpin)
            && matches!(
                group.symptom,
                Symptom::Lossy | Symptom::Silent | Symptom::Reset | Symptom::ResetFromWrongSource
            )
            && case
                .at(&groups)
                .any(|known| known.access_path == group.access_path || known.server == group.server)
            && matches!(
                group.server_end,
                ServerEnd::Nothing | ServerEnd::Unknown | ServerEnd::SynAck | ServerEnd::Completed
            )
            && !matches!(reset_sender(case, group), ResetSender::Server)
    });
    hypothesis.groups.extend(hidden);
    Some(hypothesis)
}

/// A rule that rejects by ICMP after the translation: the error comes from the `ClusterIP` or the gateway.
pub(crate) fn rejected(case: &Case<'_>, node: &NodeName, family: Family) -> Option<Hypothesis> {
    let by_rule = |group: &FailureGroup| match group.symptom.unreachable() {
        Some(Unreachable::Prohibited) => true,
        Some(Unreachable::Port) => {
            !group.access_path.is_translated() || {
                case.probes(group).any(|probe| match probe.client.outcome {
                    Outcome::Unreachable { by, .. } => by == Some(probe.client.peer().ip()),
                    Outcome::Established { .. }
                    | Outcome::Reset { .. }
                    | Outcome::RefusedLocally { .. }
                    | Outcome::Mismatched { .. }
                    | Outcome::Timeout => false,
                })
            }
        }
        Some(Unreachable::Network | Unreachable::Host | Unreachable::Other) | None => false,
    };
    let at_node = |group: &FailureGroup| match &group.server {
        Some(server) if server.node != group.client.node => match icmp_ttl(case, group) {
            Some(64) => group.client.node == *node,
            Some(_) | None => server.node == *node,
        },
        Some(_) | None => group.client.node == *node,
    };
    let groups = case.places(|group| group.family == family && by_rule(group) && at_node(group));
    let group = case.at(&groups).next()?;
    let sentence = case.client_packets(group).find_map(|seen| {
        let (ip, icmp) = seen.packet.icmp()?;
        let inner = icmp.quoted?.hop_limit;
        Some(format!(
            "{} received ICMP {}/{} from {} (TTL {}, quoting TTL {inner})",
            group.client, icmp.type_code.0, icmp.type_code.1, ip.src, ip.hop_limit
        ))
    });
    let drop_points = groups
        .iter()
        .map(|&at| (at, FlowDirection::ToServer))
        .collect();
    Some(
        filter_scope(case, node, family, &drop_points, groups)
            .because_all(sentence)
            .because("a filter answers in place of the server, whose end saw nothing"),
    )
}

fn icmp_ttl(case: &Case<'_>, group: &FailureGroup) -> Option<u8> {
    case.client_packets(group)
        .find_map(|seen| seen.packet.icmp().map(|(ip, _)| ip.hop_limit))
}

/// Packets that are dropped on this node.
pub(crate) fn dropped(case: &Case<'_>, node: &NodeName, family: Family) -> Option<Hypothesis> {
    let located: Vec<(usize, DropPoint)> = case
        .failing(|group| {
            // Untranslated packets pass the same chain: if these arrive, the Service fails.
            let service_only = group.access_path.is_translated()
                && group.access_path != AccessPath::Hairpin
                && is_reached_directly(case, group);
            group.family == family && group.symptom == Symptom::Silent && !service_only
        })
        .map(|(at, group)| (at, drop_point(case, group)))
        .filter(|(_, drop_point)| drop_point.location == DropLocation::Node(node.clone()))
        .collect();
    let groups: BTreeSet<usize> = located.iter().map(|(at, _)| *at).collect();
    let group = case.at(&groups).next()?;
    if group.is_same_node()
        && case.at(&groups).all(|group| {
            group.access_path == AccessPath::Hairpin
                || group.access_path == AccessPath::ClusterIpLocal
        })
    {
        return None;
    }
    let mut sentences: Vec<String> = located
        .iter()
        .map(|(_, drop_point)| drop_point.because.clone())
        .collect();
    sentences.sort();
    sentences.dedup();
    sentences.truncate(4);
    let drop_points = located
        .iter()
        .map(|(at, drop_point)| (*at, drop_point.direction))
        .collect();
    Some(filter_scope(case, node, family, &drop_points, groups).because_all(sentences))
}
