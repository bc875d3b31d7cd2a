//! A node's rules for the Service: stale, or missing.

use std::net::{IpAddr, SocketAddr};

use crate::diagnosis::case::{Case, rung};
use crate::diagnosis::catalogue::Cause;
use crate::diagnosis::endpoint::{direct_is_well, list, served_nodes, untranslated_error};
use crate::diagnosis::hypothesis::{Opinion, Place, Proof};
use crate::diagnosis::symptom::{ServerEnd, Symptom, Unit};
use crate::evidence::PathEvidence;
use crate::packet::Unreachable;
use crate::packet::family::Family;
use crate::probe::event::TtlStepAnswer;
use crate::topology::{AccessPath, NodeName};

pub(crate) fn stale_rules(case: &Case<'_>, node: &NodeName, family: Family) -> Option<Opinion> {
    let units = case.places(|unit| {
        unit.family == family
            && unit.symptom == Symptom::Impostor
            && unit.client.node == *node
            && matches!(
                unit.access_path,
                AccessPath::ClusterIp | AccessPath::Hairpin | AccessPath::ClusterIpLocal
            )
    });
    let unit = case.at(&units).next()?;
    let expected = unit.server.clone()?;
    let met = case.probes(unit).find_map(|probe| {
        let banner = probe.client.exchange.banner()?;
        Some((banner.pod.clone(), banner.node.clone(), probe.client.dst))
    });
    let place = Place::node(node, family);
    let said = met.map(|(pod, at, asked)| {
        format!("{asked} leads to {expected} according to the API, but from {node} {pod} on {at} answered")
    });
    let elsewhere = served_nodes(case, &expected, family);
    let opinion =
        Opinion::proves(Cause::StaleRules, place, units.clone(), Proof::Packets).because_all(said);
    Some(if elsewhere.is_empty() {
        opinion
    } else {
        opinion.because(format!(
            "clients of {} meet {expected} there",
            list(&elsewhere)
        ))
    })
}

pub(crate) fn rules_missing(case: &Case<'_>, node: &NodeName, family: Family) -> Option<Opinion> {
    let lost = |unit: &Unit| {
        unit.family == family
            && unit.client.node == *node
            && unit.access_path.is_translated()
            && matches!(unit.server_end, ServerEnd::Nothing | ServerEnd::Unheard)
            && !translated(case, unit)
            && match unit.symptom.unreachable() {
                None => unit.symptom == Symptom::Silent,
                // A port without endpoints is refused on every node.
                Some(Unreachable::Port) => unit.server.as_ref().is_some_and(|server| {
                    untranslated_error(case, unit).is_some()
                        && !served_nodes(case, server, family).is_empty()
                }),
                Some(
                    Unreachable::Network
                    | Unreachable::Host
                    | Unreachable::Prohibited
                    | Unreachable::Other,
                ) => untranslated_error(case, unit).is_some(),
            }
            && (unit.server.is_none() || direct_is_well(case, unit))
    };
    let units = case.places(lost);
    // The port that stays on the node, or a pod's way to itself, fail alone for reasons of their own.
    let telling = case
        .at(&units)
        .any(|unit| unit.access_path == AccessPath::ClusterIp);
    if !telling {
        return None;
    }
    let place = Place::node(node, family);
    let all = !case.passes(|path| {
        path.family == family && path.client.node == *node && path.access_path.is_translated()
    });
    let by = case.at(&units).find_map(|unit| untranslated(case, unit));
    let untouched = (case.at(&units)).find_map(|unit| untranslated_in_connect(case, unit));
    let what = if all {
        "no Service port"
    } else {
        "not every Service port"
    };
    let scope = format!("{what} works from {node}, while the pods' own addresses do");
    let opinion = if let Some(by) = by {
        Opinion::proves(Cause::ServiceRulesMissing, place, units, Proof::Packets)
            .because(format!("a SYN with TTL 1 to the ClusterIP met time exceeded from {by}, not from the ClusterIP: no rule translated it"))
            .because(scope)
    } else if let Some(asked) = untouched {
        Opinion::proves(Cause::ServiceRulesMissing, place, units, Proof::Packets)
            .because(format!("connect() sent its SYN to {asked} itself, although {node} translates Services inside connect(2): it knew no backend, nor the Service"))
            .because(scope)
    } else {
        let both =
            case.at(&units).any(Unit::is_cross_node) && case.at(&units).any(Unit::is_same_node);
        let opinion = Opinion::fits(Cause::ServiceRulesMissing, place, units)
            .because(scope)
            .decided_by(format!(
                "the Service's chains on {node}: `iptables-save -t nat | grep CLUSTER-IP`"
            ))
            .decided_by("a TTL ladder: time exceeded from the gateway means untranslated");
        if both {
            opinion.not(
                Cause::BridgeNetfilterOff,
                "Services of pods on other nodes fail as well",
            )
        } else {
            opinion
        }
    };
    Some(opinion.not(
        Cause::ForwardDrop,
        "the same pods are reached by their own addresses",
    ))
}

/// Whether the ladder shows that nothing translated the SYN: its first router answers in its own
/// name. `None` where no ladder tells.
pub(crate) fn untranslated(case: &Case<'_>, unit: &Unit) -> Option<IpAddr> {
    let ladder = case.ladder(unit.path)?;
    match rung(ladder, 1)? {
        TtlStepAnswer::TimeExceeded { by, .. } => (by != ladder.target.ip()).then_some(by),
        TtlStepAnswer::Silent
        | TtlStepAnswer::SynAck { .. }
        | TtlStepAnswer::Reset { .. }
        | TtlStepAnswer::Unreachable { .. } => None,
    }
}

/// The Service's address, where connect() left it in its SYN on a node that translates Services inside connect(2).
fn untranslated_in_connect(case: &Case<'_>, unit: &Unit) -> Option<SocketAddr> {
    // Without a ready endpoint there is nothing to translate to.
    let is_ready = |path: &&PathEvidence| path.backends.iter().any(|backend| backend.ready);
    let path = (case.path(unit.path)).filter(|path| path.socket_level && is_ready(path))?;
    let mut asked = case
        .probes(unit)
        .filter_map(|probe| probe.client.syn_destination());
    asked.find(|asked| *asked == path.target)
}

pub(crate) fn translated(case: &Case<'_>, unit: &Unit) -> bool {
    case.ladder(unit.path).is_some_and(|ladder| {
        ladder.steps.iter().any(|rung| match rung.answer {
            TtlStepAnswer::TimeExceeded { by, .. } => by == ladder.target.ip(),
            TtlStepAnswer::Silent
            | TtlStepAnswer::SynAck { .. }
            | TtlStepAnswer::Reset { .. }
            | TtlStepAnswer::Unreachable { .. } => false,
        })
    })
}
