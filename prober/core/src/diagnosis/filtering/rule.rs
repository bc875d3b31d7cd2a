//! Rules that drop or reject, found by who answered in the name of the server, and where silence begins.

use std::collections::BTreeSet;

use crate::diagnosis::case::Case;
use crate::diagnosis::catalogue::Cause;
use crate::diagnosis::drop_point::{Death, Spot, Way, death};
use crate::diagnosis::endpoint::direct_is_well;
use crate::diagnosis::endpoint::resetter::{Resetter, reset_packet, resetter};
use crate::diagnosis::filtering::filter_scope::blame;
use crate::diagnosis::hypothesis::{Opinion, Place, Proof};
use crate::diagnosis::symptom::{ServerEnd, Symptom, Unit};
use crate::packet::Unreachable;
use crate::packet::family::Family;
use crate::probe::outcome::Outcome;
use crate::topology::{AccessPath, NodeName};

/// A rule that answers with RST: it comes from a node, or nobody's end sent it.
pub(crate) fn reject_reset(case: &Case<'_>, node: &NodeName, family: Family) -> Option<Opinion> {
    let units = case.places(|unit| {
        unit.family == family
            && matches!(unit.symptom, Symptom::Reset | Symptom::ForeignReset)
            && resetter(case, unit) == Resetter::Node(node.clone())
    });
    let unit = case.at(&units).next()?;
    let place = Place::node(node, family);
    let seen = reset_packet(case, unit)?;
    let (ip, _) = seen.packet.tcp()?;
    let link = seen
        .packet
        .link
        .map_or_else(String::new, |link| format!(", source MAC {}", link.src));
    let said = format!(
        "{} got a RST from {} with TTL {}{link}",
        unit.client, ip.src, ip.hop_limit
    );
    let heard = case
        .at(&units)
        .any(|unit| unit.server_end != ServerEnd::Unheard);
    let foreign = case
        .at(&units)
        .any(|unit| unit.symptom == Symptom::ForeignReset)
        .then(|| "on the bridge the forged RST comes from the pod's own address, so the client ignores it and times out".to_owned());
    let mut opinion = Opinion::proves(Cause::RejectReset, place, units.clone(), Proof::Packets)
        .because(said)
        .because_all(heard.then(|| "the server's end saw no SYN and sent no RST".to_owned()))
        .because_all(foreign)
        .not(
            Cause::NotListening,
            if heard {
                "the server's end sent no RST"
            } else {
                "the RST's TTL is a node's, not a pod's"
            },
        );
    if case
        .at(&units)
        .all(|unit| unit.access_path == AccessPath::ClusterIpAny)
    {
        opinion = opinion.because("only what was balanced to one endpoint is rejected; a rejected SYN is balanced anew when it is sent again");
    }
    // What the same rule hides: tries that were balanced anew, or whose RST nobody could use.
    let hidden = case.places(|unit| {
        unit.family == family
            && (unit.access_path == AccessPath::ClusterIpAny
                || unit.access_path == AccessPath::Hairpin)
            && matches!(
                unit.symptom,
                Symptom::Lossy | Symptom::Silent | Symptom::Reset | Symptom::ForeignReset
            )
            && case
                .at(&units)
                .any(|known| known.access_path == unit.access_path || known.server == unit.server)
            && matches!(
                unit.server_end,
                ServerEnd::Nothing | ServerEnd::Unheard | ServerEnd::SynAck | ServerEnd::Completed
            )
            && !matches!(resetter(case, unit), Resetter::Server)
    });
    opinion.units.extend(hidden);
    Some(opinion)
}

/// A rule that answers with ICMP, after the translation: the `ClusterIP` or the gateway says so.
pub(crate) fn rejected(case: &Case<'_>, node: &NodeName, family: Family) -> Option<Opinion> {
    let by_rule = |unit: &Unit| match unit.symptom.unreachable() {
        Some(Unreachable::Prohibited) => true,
        Some(Unreachable::Port) => {
            !unit.access_path.is_translated() || {
                case.probes(unit).any(|probe| match probe.client.outcome {
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
    let at_node = |unit: &Unit| match &unit.server {
        Some(server) if server.node != unit.client.node => match icmp_ttl(case, unit) {
            Some(64) => unit.client.node == *node,
            Some(_) | None => server.node == *node,
        },
        Some(_) | None => unit.client.node == *node,
    };
    let units = case.places(|unit| unit.family == family && by_rule(unit) && at_node(unit));
    let unit = case.at(&units).next()?;
    let said = case.client_packets(unit).find_map(|seen| {
        let (ip, icmp) = seen.packet.icmp()?;
        let inner = icmp.quoted?.hop_limit;
        Some(format!(
            "{} got ICMP {}/{} from {} (TTL {}, quoting TTL {inner})",
            unit.client, icmp.type_code.0, icmp.type_code.1, ip.src, ip.hop_limit
        ))
    });
    let deaths = units.iter().map(|&at| (at, Way::There)).collect();
    Some(
        blame(case, node, family, &deaths, units)
            .because_all(said)
            .because("a filter answers for the server, whose end saw nothing"),
    )
}

fn icmp_ttl(case: &Case<'_>, unit: &Unit) -> Option<u8> {
    case.client_packets(unit)
        .find_map(|seen| seen.packet.icmp().map(|(ip, _)| ip.hop_limit))
}

/// Silence whose place is this node.
pub(crate) fn dropped(case: &Case<'_>, node: &NodeName, family: Family) -> Option<Opinion> {
    let located: Vec<(usize, Death)> = case
        .failing(|unit| {
            // What passes untranslated meets the same chain: then it is the Service that fails.
            let service_only = unit.access_path.is_translated()
                && unit.access_path != AccessPath::Hairpin
                && direct_is_well(case, unit);
            unit.family == family && unit.symptom == Symptom::Silent && !service_only
        })
        .map(|(at, unit)| (at, death(case, unit)))
        .filter(|(_, death)| death.spot == Spot::Node(node.clone()))
        .collect();
    let units: BTreeSet<usize> = located.iter().map(|(at, _)| *at).collect();
    let unit = case.at(&units).next()?;
    if unit.is_same_node()
        && case.at(&units).all(|unit| {
            unit.access_path == AccessPath::Hairpin
                || unit.access_path == AccessPath::ClusterIpLocal
        })
    {
        return None;
    }
    let mut said: Vec<String> = located
        .iter()
        .map(|(_, death)| death.because.clone())
        .collect();
    said.sort();
    said.dedup();
    said.truncate(4);
    let deaths = located.iter().map(|(at, death)| (*at, death.way)).collect();
    Some(blame(case, node, family, &deaths, units).because_all(said))
}
