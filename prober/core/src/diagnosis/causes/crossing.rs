//! Failures of packets that cross from one node to another, in one direction.

use std::collections::BTreeSet;

use crate::data_plane::{Transport, TunnelKind};
use crate::diagnosis::PathSegment;
use crate::diagnosis::case::Case;
use crate::diagnosis::hypothesis::Place;
use crate::diagnosis::location::{Spot, Stage};
use crate::diagnosis::model::{Applies, Prediction};
use crate::diagnosis::symptom::{FailureGroup, ServerEnd, Symptom};
use crate::packet::IcmpKind;
use crate::packet::family::Family;
use crate::topology::{NodeName, Path, Scope};

/// A place for each ordered pair of nodes that a failing packet or its answer was expected to cross, at the node that sends.
pub(crate) fn places(case: &Case<'_>, family: Family) -> BTreeSet<Place> {
    case.failing(|group| group.family == family && group.is_cross_node())
        .filter_map(|(_, group)| Some((&group.client.node, &group.server.as_ref()?.node)))
        .flat_map(|(a, b)| [(a, b), (b, a)])
        .map(|(from, to)| Place::between(from, to, Some(from), family))
        .collect()
}

/// The node that sends and the one that should receive.
pub(crate) const fn ends(place: &Place) -> Option<(&NodeName, &NodeName)> {
    match &place.segment {
        PathSegment::Between { from, to } => Some((from, to)),
        PathSegment::Pod { .. }
        | PathSegment::Node { .. }
        | PathSegment::Service
        | PathSegment::Namespace
        | PathSegment::Unknown => None,
    }
}

/// Whether packets of pods from one node to another are in a tunnel.
pub(crate) fn applies_in_tunnel(
    case: &Case<'_>,
    from: &NodeName,
    to: &NodeName,
    family: Family,
) -> Applies {
    let untunnelled = |link: &str| {
        Applies::No(format!(
            "packets of pods leave {from} for {to} by {link} as they are: there is no tunnel"
        ))
    };
    match case.plane.transport(from, to, family) {
        Transport::Tunnel { .. } => Applies::Yes,
        Transport::Direct { link, .. } => untunnelled(link),
        Transport::ByPod { links } => untunnelled(&links.join(" or ")),
        Transport::Refused | Transport::NoRoute => Applies::No(format!(
            "{from} has no usable route to the pods of {to}: nothing enters a tunnel"
        )),
        Transport::Unknown => Applies::Unknown(format!(
            "the routes and links of {from}: `ip route`, `ip -d link`"
        )),
    }
}

/// Whether packets of pods cross in a tunnel of VXLAN; one of another kind has no `without`, in words.
pub(crate) fn applies_in_vxlan(case: &Case<'_>, place: &Place, without: &str) -> Applies {
    let Some((from, to)) = ends(place) else {
        return Applies::Yes;
    };
    match case.plane.transport(from, to, place.family) {
        Transport::Tunnel { tunnel, .. } if *tunnel != TunnelKind::Vxlan => Applies::No(format!(
            "the tunnel from {from} to {to} is {}, which has no {without}",
            tunnel.as_str()
        )),
        Transport::Tunnel { .. }
        | Transport::Direct { .. }
        | Transport::ByPod { .. }
        | Transport::Refused
        | Transport::NoRoute
        | Transport::Unknown => applies_in_tunnel(case, from, to, place.family),
    }
}

/// No packet gets from one node to the other: handshakes fail in both directions for lack of SYNs or of answers.
pub(crate) fn predict(place: &Place, path: &Path) -> Prediction {
    let Some((from, to)) = ends(place) else {
        return Prediction::Passes;
    };
    let client = &path.client.node;
    match &path.server {
        Some(server) => {
            let server = &server.node;
            if (client == from && server == to) || (client == to && server == from) {
                Prediction::Fails
            } else {
                Prediction::Passes
            }
        }
        None if path.scope() == Scope::Any && (client == from || client == to) => {
            Prediction::MayFail
        }
        None => Prediction::Passes,
    }
}

/// Whether a group fails for lack of packets from one node to the other, dropped or refused at the sending node at one of
/// these stages.
pub(crate) fn fails_at_sender(
    case: &Case<'_>,
    place: &Place,
    group: &FailureGroup,
    stages: &[Stage],
) -> bool {
    let (Some((from, to)), Some(server)) = (ends(place), &group.server) else {
        return false;
    };
    let is_there = group.client.node == *from && server.node == *to;
    let is_back = group.client.node == *to && server.node == *from;
    match group.symptom {
        Symptom::Silent => {
            let end = group.server_end;
            let is_lost = (is_there && group.is_unseen())
                || (is_back && matches!(end, ServerEnd::SynAck | ServerEnd::Unknown));
            let location = case.location(group);
            is_lost
                && location.is_some_and(|location| {
                    // Which direction is lost is not known: the answers may be.
                    end == ServerEnd::Unknown || location.is_on(from, stages)
                })
        }
        Symptom::Unreachable(_) => is_there && group.is_unseen(),
        Symptom::SynAckFromWrongSource
        | Symptom::ResetFromWrongSource
        | Symptom::Reset
        | Symptom::RefusedLocally(_)
        | Symptom::Lossy
        | Symptom::NoData
        | Symptom::Stalled
        | Symptom::Broken
        | Symptom::WrongBackend => false,
    }
}

/// Whether a silent group's packets from one node to the other may be lost between the two.
pub(crate) fn is_lost_between(case: &Case<'_>, place: &Place, group: &FailureGroup) -> bool {
    let Some((from, to)) = ends(place) else {
        return false;
    };
    let wire = Spot::Wire(from.clone(), to.clone());
    case.location(group)
        .is_some_and(|location| location.spots.contains(&wire))
}

/// Whether the server's end of a group received an ICMP unreachable for its answer.
pub(crate) fn answer_is_refused(case: &Case<'_>, group: &FailureGroup) -> bool {
    let unreachable = |kind: IcmpKind| matches!(kind, IcmpKind::Unreachable { .. });
    case.server_packets(group)
        .filter_map(|seen| seen.packet.icmp())
        .any(|(_, icmp)| unreachable(icmp.kind))
}

/// The ICMP errors of both ends, each once.
pub(crate) fn icmp_errors(case: &Case<'_>, groups: &BTreeSet<usize>) -> Vec<String> {
    let mut sentences: Vec<String> = case
        .at(groups)
        .flat_map(|group| case.client_packets(group).chain(case.server_packets(group)))
        .filter_map(|seen| {
            let (ip, icmp) = seen.packet.icmp()?;
            let inner = icmp.quoted?.hop_limit;
            Some(format!(
                "ICMP {}/{} from {} (TTL {}, quoting TTL {inner})",
                icmp.type_code.0, icmp.type_code.1, ip.src, ip.hop_limit
            ))
        })
        .collect();
    sentences.sort();
    sentences.dedup();
    sentences.truncate(2);
    sentences
}
