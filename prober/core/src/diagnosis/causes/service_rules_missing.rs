//! `service-rules-missing`: nothing on the client's node translates the Service's address.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::service_proxy;
use crate::data_plane::Translation;
use crate::diagnosis::Remedy;
use crate::diagnosis::case::{Case, answer_to_ttl};
use crate::diagnosis::catalogue::Cause;
use crate::diagnosis::endpoint::{
    is_answered_directly, is_reached_directly, served_nodes, untranslated_error,
};
use crate::diagnosis::hypothesis::{Place, Proof};
use crate::diagnosis::model::{Applies, Fingerprint, Model, Prediction};
use crate::diagnosis::origin;
use crate::diagnosis::symptom::{FailureGroup, ServerEnd, Symptom};
use crate::evidence::PathEvidence;
use crate::packet::Unreachable;
use crate::packet::family::Family;
use crate::probe::event::TtlStepAnswer;
use crate::topology::{AccessPath, NodeName, Path};

/// Where the translation is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ServiceRulesMissing {
    /// In the rules for packets.
    Packets,
    /// In the program on connect(2).
    Connect,
}

impl Model for ServiceRulesMissing {
    fn cause(&self) -> Cause {
        Cause::ServiceRulesMissing
    }

    fn places(&self, case: &Case<'_>, family: Family) -> BTreeSet<Place> {
        // The port that stays on the node, and a pod's path to itself, have causes of their own.
        let is_conclusive = |group: &FailureGroup| {
            group.family == family
                && group.access_path == AccessPath::ClusterIp
                && self.is_on(case, &group.client.node)
                && self.is_lost(case, group)
        };
        case.failing(is_conclusive)
            .map(|(_, group)| Place::node(&group.client.node, family))
            .collect()
    }

    fn applies(&self, case: &Case<'_>, place: &Place) -> Applies {
        let Some(node) = &place.node else {
            return Applies::Yes;
        };
        match case.plane.translation(node) {
            Translation::Iptables
            | Translation::Nftables
            | Translation::Netfilter
            | Translation::Ipvs
            | Translation::Connect
            | Translation::Bpf => Applies::Yes,
            // It is for the proxy to do there what it does on other nodes.
            Translation::Unknown
                if service_proxy::silence(case, place).is_some()
                    || service_proxy::connect_elsewhere(case, place).is_some() =>
            {
                Applies::Yes
            }
            Translation::Unknown => Applies::Unknown(format!("what translates Services on {node}")),
        }
    }

    fn predict(&self, _: &Case<'_>, place: &Place, path: &Path) -> Prediction {
        // A chain of one Service may be lost, or the jump to all of them.
        let is_own = place.node.as_ref() == Some(&path.client.node);
        if is_own && path.access_path.is_translated() {
            Prediction::MayFail
        } else {
            Prediction::Passes
        }
    }

    fn explains(&self, case: &Case<'_>, place: &Place, group: &FailureGroup) -> bool {
        place.node.as_ref() == Some(&group.client.node) && self.is_lost(case, group)
    }

    fn fingerprint(&self, case: &Case<'_>, place: &Place, groups: &BTreeSet<usize>) -> Fingerprint {
        let Some(node) = &place.node else {
            return Fingerprint::Missing(Vec::new());
        };
        let translated =
            (case.at(groups)).find_map(|group| Some((group, case.translated_to(node, group)?)));
        if let Some((group, to)) = translated
            && let Some(path) = case.path(group.path)
        {
            return if to == path.target.ip() {
                let said = format!("connection tracking of {node} has no translation of {to}");
                Fingerprint::Seen(Proof::Facts, vec![said])
            } else {
                Fingerprint::Refuted(format!("connection tracking of {node} leads to {to}"))
            };
        }
        let said = case.at(groups).find_map(|group| match self {
            Self::Packets if service_proxy::rewrites_errors(case, place) => {
                untranslated(case, group, node)
            }
            Self::Packets => None,
            Self::Connect => untouched(case, group, node),
        });
        if let Some(said) = said {
            return Fingerprint::Seen(Proof::Packets, vec![said]);
        }
        let target = case
            .at(groups)
            .find_map(|group| Some(case.path(group.path)?.target.ip()));
        let rules = target.map(|target| service_proxy::rules_for(case, place, target));
        let mut wanted: Vec<String> = rules.into_iter().collect();
        if service_proxy::rewrites_errors(case, place) {
            wanted.push(format!(
                "a TTL probe: time exceeded from an address of {node} means untranslated"
            ));
        }
        Fingerprint::Missing(wanted)
    }

    fn support(&self, case: &Case<'_>, place: &Place, _: &BTreeSet<usize>) -> Vec<String> {
        let Some(node) = &place.node else {
            return Vec::new();
        };
        let works = case.passes(|path| {
            path.family == place.family
                && path.client.node == *node
                && path.access_path.is_translated()
        });
        let what = if works {
            "not every Service port"
        } else {
            "no Service port"
        };
        let what = format!("{what} works from {node}, while the pods' own addresses do");
        std::iter::once(what)
            .chain(service_proxy::silence(case, place))
            .chain(service_proxy::connect_elsewhere(case, place))
            .collect()
    }

    fn remedy(&self, case: &Case<'_>, place: &Place, _: &BTreeSet<usize>) -> Vec<Remedy> {
        service_proxy::write_again(case, place)
    }
}

impl ServiceRulesMissing {
    /// Whether Services are translated there, or may be.
    fn is_on(self, case: &Case<'_>, node: &NodeName) -> bool {
        let is_in_connect = case.plane.translation(node) == Translation::Connect;
        is_in_connect == (self == Self::Connect)
    }

    /// Whether a group fails as an address does that is not translated, while the server is reached by its own.
    fn is_lost(self, case: &Case<'_>, group: &FailureGroup) -> bool {
        if !group.access_path.is_translated()
            || !group.is_unseen()
            || (group.server.is_some() && !has_its_own_way(case, group))
        {
            return false;
        }
        let is_alike = match group.symptom.unreachable() {
            None => group.symptom == Symptom::Silent,
            // A port without endpoints is refused on every node.
            Some(Unreachable::Port) => group.server.as_ref().is_some_and(|server| {
                untranslated_error(case, group).is_some()
                    && !served_nodes(case, server, group.family).is_empty()
            }),
            Some(
                Unreachable::Network
                | Unreachable::Host
                | Unreachable::Prohibited
                | Unreachable::Other,
            ) => untranslated_error(case, group).is_some(),
        };
        is_alike
            && match self {
                Self::Packets => !is_translated(case, group),
                Self::Connect => {
                    let mut probes = case.probes(group);
                    !probes.any(|probe| probe.client.translated_in_connect().is_some())
                }
            }
    }
}

/// Whether SYNs of the same client to the server's own address reach it, or fail in another way than these.
fn has_its_own_way(case: &Case<'_>, group: &FailureGroup) -> bool {
    let is_nowhere = group.symptom == Symptom::Silent && group.server_end == ServerEnd::Nothing;
    is_reached_directly(case, group) || is_nowhere && is_answered_directly(case, group)
}

/// The node's own answer to a SYN with TTL 1, by another address than the Service's, as a sentence.
fn untranslated(case: &Case<'_>, group: &FailureGroup, node: &NodeName) -> Option<String> {
    let ttl_probe = case.ttl_probe(group.path)?;
    let by = time_exceeded(case, group)?;
    (by != ttl_probe.target.ip() && origin::owner(case, by) == Some(node)).then(|| {
        format!("a SYN with TTL 1 to the ClusterIP was answered by time exceeded from {by}, not from the ClusterIP: no rule of {node} translated it")
    })
}

/// Whether a router answered by the Service's address: something had translated the SYN.
fn is_translated(case: &Case<'_>, group: &FailureGroup) -> bool {
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

/// The router that answered a SYN with TTL 1 by time exceeded.
fn time_exceeded(case: &Case<'_>, group: &FailureGroup) -> Option<IpAddr> {
    match answer_to_ttl(case.ttl_probe(group.path)?, 1)? {
        TtlStepAnswer::TimeExceeded { by, .. } => Some(by),
        TtlStepAnswer::Silent
        | TtlStepAnswer::SynAck { .. }
        | TtlStepAnswer::Reset { .. }
        | TtlStepAnswer::Unreachable { .. } => None,
    }
}

/// The SYN of connect() that went to the Service's address itself although it has a ready endpoint, as a sentence.
fn untouched(case: &Case<'_>, group: &FailureGroup, node: &NodeName) -> Option<String> {
    // Without a ready endpoint there is no backend to translate to.
    let is_ready = |path: &&PathEvidence| path.backends.iter().any(|backend| backend.ready);
    let path = (case.path(group.path)).filter(|path| path.socket_level && is_ready(path))?;
    let mut targets = case
        .probes(group)
        .filter_map(|probe| probe.client.syn_destination());
    let target = targets.find(|target| *target == path.target)?;
    Some(format!(
        "connect() sent its SYN to {target} itself, although {node} translates Services inside connect(2): it has no translation for the Service"
    ))
}
