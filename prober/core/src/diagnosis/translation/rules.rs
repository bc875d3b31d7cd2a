//! A node's rules for the Service: stale, or missing.

use std::net::{IpAddr, SocketAddr};

use crate::diagnosis::case::{Case, answer_to_ttl};
use crate::diagnosis::catalogue::Cause;
use crate::diagnosis::endpoint::{is_reached_directly, list, served_nodes, untranslated_error};
use crate::diagnosis::hypothesis::{Hypothesis, Place, Proof};
use crate::diagnosis::symptom::{FailureGroup, ServerEnd, Symptom};
use crate::evidence::PathEvidence;
use crate::packet::Unreachable;
use crate::packet::family::Family;
use crate::probe::event::TtlStepAnswer;
use crate::topology::{AccessPath, NodeName};

pub(crate) fn stale_rules(case: &Case<'_>, node: &NodeName, family: Family) -> Option<Hypothesis> {
    let groups = case.places(|group| {
        group.family == family
            && group.symptom == Symptom::WrongBackend
            && group.client.node == *node
            && matches!(
                group.access_path,
                AccessPath::ClusterIp | AccessPath::Hairpin | AccessPath::ClusterIpLocal
            )
    });
    let group = case.at(&groups).next()?;
    let expected = group.server.clone()?;
    let answered = case.probes(group).find_map(|probe| {
        let banner = probe.client.exchange.banner()?;
        Some((banner.pod.clone(), banner.node.clone(), probe.client.dst))
    });
    let place = Place::node(node, family);
    let sentence = answered.map(|(pod, at, target)| {
        format!(
            "{target} leads to {expected} according to the API, but {pod} on {at} answered {node}"
        )
    });
    let elsewhere = served_nodes(case, &expected, family);
    let hypothesis = Hypothesis::proves(Cause::StaleRules, place, groups.clone(), Proof::Packets)
        .because_all(sentence);
    Some(if elsewhere.is_empty() {
        hypothesis
    } else {
        hypothesis.because(format!(
            "clients of {} reach {expected} there",
            list(&elsewhere)
        ))
    })
}

pub(crate) fn rules_missing(
    case: &Case<'_>,
    node: &NodeName,
    family: Family,
) -> Option<Hypothesis> {
    let lost = |group: &FailureGroup| {
        group.family == family
            && group.client.node == *node
            && group.access_path.is_translated()
            && matches!(group.server_end, ServerEnd::Nothing | ServerEnd::Unknown)
            && !translated(case, group)
            && match group.symptom.unreachable() {
                None => group.symptom == Symptom::Silent,
                // A port without endpoints is refused on every node.
                Some(Unreachable::Port) => group.server.as_ref().is_some_and(|server| {
                    untranslated_error(case, group).is_some()
                        && !served_nodes(case, server, family).is_empty()
                }),
                Some(
                    Unreachable::Network
                    | Unreachable::Host
                    | Unreachable::Prohibited
                    | Unreachable::Other,
                ) => untranslated_error(case, group).is_some(),
            }
            && (group.server.is_none() || is_reached_directly(case, group))
    };
    let groups = case.places(lost);
    // The port that stays on the node, and a pod's path to itself, have causes of their own.
    let is_conclusive = case
        .at(&groups)
        .any(|group| group.access_path == AccessPath::ClusterIp);
    if !is_conclusive {
        return None;
    }
    let place = Place::node(node, family);
    let all = !case.passes(|path| {
        path.family == family && path.client.node == *node && path.access_path.is_translated()
    });
    let by = case.at(&groups).find_map(|group| untranslated(case, group));
    let untouched = (case.at(&groups)).find_map(|group| untranslated_in_connect(case, group));
    let what = if all {
        "no Service port"
    } else {
        "not every Service port"
    };
    let scope = format!("{what} works from {node}, while the pods' own addresses do");
    let hypothesis = if let Some(by) = by {
        Hypothesis::proves(Cause::ServiceRulesMissing, place, groups, Proof::Packets)
            .because(format!("a SYN with TTL 1 to the ClusterIP was answered by time exceeded from {by}, not from the ClusterIP: no rule translated it"))
            .because(scope)
    } else if let Some(target) = untouched {
        Hypothesis::proves(Cause::ServiceRulesMissing, place, groups, Proof::Packets)
            .because(format!("connect() sent its SYN to {target} itself, although {node} translates Services inside connect(2): it has no translation for the Service"))
            .because(scope)
    } else {
        let both = case.at(&groups).any(FailureGroup::is_cross_node)
            && case.at(&groups).any(FailureGroup::is_same_node);
        let hypothesis = Hypothesis::fits(Cause::ServiceRulesMissing, place, groups)
            .because(scope)
            .decided_by(format!(
                "the Service's chains on {node}: `iptables-save -t nat | grep CLUSTER-IP`"
            ))
            .decided_by("a TTL probe: time exceeded from the gateway means untranslated");
        if both {
            hypothesis.not(
                Cause::BridgeNetfilterOff,
                "Services of pods on other nodes fail as well",
            )
        } else {
            hypothesis
        }
    };
    Some(hypothesis.not(
        Cause::ForwardDrop,
        "the same pods are reached by their own addresses",
    ))
}

/// Whether the TTL probe shows that the SYN was not translated: its first router answers with its
/// own address. `None` where no TTL probe shows it.
pub(crate) fn untranslated(case: &Case<'_>, group: &FailureGroup) -> Option<IpAddr> {
    let ttl_probe = case.ttl_probe(group.path)?;
    match answer_to_ttl(ttl_probe, 1)? {
        TtlStepAnswer::TimeExceeded { by, .. } => (by != ttl_probe.target.ip()).then_some(by),
        TtlStepAnswer::Silent
        | TtlStepAnswer::SynAck { .. }
        | TtlStepAnswer::Reset { .. }
        | TtlStepAnswer::Unreachable { .. } => None,
    }
}

/// The Service's address, where connect() sent its SYN there on a node that translates Services inside connect(2).
fn untranslated_in_connect(case: &Case<'_>, group: &FailureGroup) -> Option<SocketAddr> {
    // Without a ready endpoint there is no backend to translate to.
    let is_ready = |path: &&PathEvidence| path.backends.iter().any(|backend| backend.ready);
    let path = (case.path(group.path)).filter(|path| path.socket_level && is_ready(path))?;
    let mut destinations = case
        .probes(group)
        .filter_map(|probe| probe.client.syn_destination());
    destinations.find(|destination| *destination == path.target)
}

pub(crate) fn translated(case: &Case<'_>, group: &FailureGroup) -> bool {
    case.ttl_probe(group.path).is_some_and(|ttl_probe| {
        ttl_probe.steps.iter().any(|step| match step.answer {
            TtlStepAnswer::TimeExceeded { by, .. } => by == ttl_probe.target.ip(),
            TtlStepAnswer::Silent
            | TtlStepAnswer::SynAck { .. }
            | TtlStepAnswer::Reset { .. }
            | TtlStepAnswer::Unreachable { .. } => false,
        })
    })
}
