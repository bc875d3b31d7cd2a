//! `stale-rules`: the rules of a node lead to an endpoint that the API no longer names.

use std::collections::BTreeSet;

use super::reset_sender::{described, is_from_own_bridge, reset_packet};
use super::service_proxy;
use crate::diagnosis::Remedy;
use crate::diagnosis::case::{Case, counts};
use crate::diagnosis::catalogue::Cause;
use crate::diagnosis::endpoint::dead_address::{resolution_failures, sent_on_to};
use crate::diagnosis::endpoint::{is_reached_directly, is_slot, list, served_nodes};
use crate::diagnosis::hypothesis::{Place, Proof};
use crate::diagnosis::model::{Fingerprint, Model, Prediction};
use crate::diagnosis::origin;
use crate::diagnosis::symptom::{FailureGroup, Symptom};
use crate::packet::Unreachable;
use crate::packet::family::Family;
use crate::topology::{AccessPath, NodeName, Path};

/// What is at the old endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StaleRules {
    /// Another pod, which answers.
    OtherPod,
    /// No pod.
    NoPod,
}

impl Model for StaleRules {
    fn cause(&self) -> Cause {
        Cause::StaleRules
    }

    fn places(&self, case: &Case<'_>, family: Family) -> BTreeSet<Place> {
        let is_candidate = |group: &FailureGroup| match self {
            Self::OtherPod => is_answered_by_other(group) || is_refused_by_other(case, group),
            // A pod's path to itself has causes of its own.
            Self::NoPod => group.access_path == AccessPath::ClusterIp && leads_nowhere(case, group),
        };
        case.failing(|group| group.family == family && is_candidate(group))
            .map(|(_, group)| Place::node(&group.client.node, family))
            .collect()
    }

    fn predict(&self, _: &Case<'_>, place: &Place, path: &Path) -> Prediction {
        // Rules of one Service may be stale, and those of another not.
        let is_own = place.node.as_ref() == Some(&path.client.node);
        if is_own && path.access_path.is_translated() {
            Prediction::MayFail
        } else {
            Prediction::Passes
        }
    }

    fn explains(&self, case: &Case<'_>, place: &Place, group: &FailureGroup) -> bool {
        let Some(node) = &place.node else {
            return false;
        };
        if group.client.node != *node {
            return false;
        }
        match self {
            Self::OtherPod => is_answered_by_other(group) || is_refused_by_other(case, group),
            Self::NoPod => leads_nowhere(case, group),
        }
    }

    fn fingerprint(&self, case: &Case<'_>, place: &Place, groups: &BTreeSet<usize>) -> Fingerprint {
        match self {
            Self::OtherPod => {
                refused_by_other(case, groups).unwrap_or_else(|| answered_by_other(case, groups))
            }
            Self::NoPod => translated_elsewhere(case, place, groups)
                .unwrap_or_else(|| sent_to_no_pod(case, place, groups)),
        }
    }

    fn support(&self, case: &Case<'_>, place: &Place, groups: &BTreeSet<usize>) -> Vec<String> {
        let mut said = match self {
            Self::OtherPod => Vec::new(),
            Self::NoPod => resolution_failures(case, groups),
        };
        let served = case.at(groups).find_map(|group| {
            let server = group.server.as_ref()?;
            let nodes = served_elsewhere(case, group);
            (!nodes.is_empty()).then_some((nodes, server))
        });
        if let Some((nodes, server)) = served {
            let nodes = list(&nodes);
            said.push(match self {
                Self::OtherPod => format!("clients of {nodes} reach {server} there"),
                Self::NoPod => {
                    format!("clients of {nodes} reach {server} through the same port")
                }
            });
        }
        said.extend(service_proxy::silence(case, place));
        said
    }

    fn remedy(&self, case: &Case<'_>, place: &Place, _: &BTreeSet<usize>) -> Vec<Remedy> {
        service_proxy::write_again(case, place)
    }
}

/// The address that the node translates to, by its conntrack entries: the server's own, or one that no pod of the run has.
fn translated_elsewhere(
    case: &Case<'_>,
    place: &Place,
    groups: &BTreeSet<usize>,
) -> Option<Fingerprint> {
    let node = place.node.as_ref()?;
    case.at(groups).find_map(|group| {
        let to = case.translated_to(node, group)?;
        let target = case.path(group.path)?.target.ip();
        let server = case.address(group.server.as_ref()?, group.family)?;
        if to == server {
            return Some(Fingerprint::Refuted(format!(
                "connection tracking of {node} leads to {to}, the server's own address"
            )));
        }
        (to != target).then(|| {
            let said = format!("connection tracking of {node} leads to {to}, not to {server}");
            Fingerprint::Seen(Proof::Facts, vec![said])
        })
    })
}

/// Another pod's banner, where the expected pod answers by its own address: it is not a second pod with that address.
fn answered_by_other(case: &Case<'_>, groups: &BTreeSet<usize>) -> Fingerprint {
    let answer = case.at(groups).find_map(|group| {
        let expected = group.server.as_ref()?;
        let (pod, node, target) = case.probes(group).find_map(|probe| {
            let banner = probe.client.exchange.banner()?;
            Some((&banner.pod, &banner.node, probe.client.dst))
        })?;
        let client = &group.client.node;
        let said = format!(
            "{target} leads to {expected} according to the API, but {pod} on {node} answered {client}"
        );
        Some((is_reached_directly(case, group), said))
    });
    match answer {
        Some((true, said)) => Fingerprint::Seen(Proof::Packets, vec![said]),
        Some((false, _)) => Fingerprint::Missing(vec![
            "which pod answers at the expected pod's own address".to_owned(),
        ]),
        None => Fingerprint::Missing(vec![
            "what answers at the Service's address: it sent no pod's name".to_owned(),
        ]),
    }
}

/// Whether a pod of the client's node refuses what is for a server of another node, which the client reaches itself.
fn is_refused_by_other(case: &Case<'_>, group: &FailureGroup) -> bool {
    group.access_path == AccessPath::ClusterIp
        && is_from_own_bridge(case, group)
        && is_reached_directly(case, group)
}

/// The RST of a pod of the client's node, in the place of a server of another node.
fn refused_by_other(case: &Case<'_>, groups: &BTreeSet<usize>) -> Option<Fingerprint> {
    let mut refused = case
        .at(groups)
        .filter(|group| is_refused_by_other(case, group));
    refused.find_map(|group| {
        let server = group.server.as_ref()?;
        let target = case.path(group.path)?.target;
        let (seen, ip) = reset_packet(case, group)?;
        let said = format!(
            "{target} leads to {server} on {} according to the API, but {} received a RST from a port of its own bridge: {}",
            server.node,
            group.client,
            described(seen, ip)
        );
        Some(Fingerprint::Seen(Proof::Packets, vec![said]))
    })
}

/// The address that the SYN went on to, or the error of netfilter's translation of it.
fn sent_to_no_pod(case: &Case<'_>, place: &Place, groups: &BTreeSet<usize>) -> Fingerprint {
    let stale = case.at(groups).find_map(|group| sent_on_to(case, group));
    if let Some(address) = stale {
        return Fingerprint::Seen(
            Proof::Packets,
            vec![format!(
                "the SYN went on to {address}, which no pod of the run has"
            )],
        );
    }
    // What worked earlier in the run may have lost its route, as the pod's own path then has, if it was probed before.
    let is_unresolved = |group: &FailureGroup| {
        let path = case.path(group.path);
        is_unresolved(case, group) && path.is_some_and(|path| counts(path).0.established == 0)
    };
    if service_proxy::rewrites_errors(case, place) && case.at(groups).any(is_unresolved) {
        return Fingerprint::Seen(Proof::Packets, Vec::new());
    }
    let target = case
        .at(groups)
        .find_map(|group| Some(case.path(group.path)?.target.ip()));
    let rules = target.map(|target| service_proxy::rules_for(case, place, target));
    Fingerprint::Missing(rules.into_iter().collect())
}

/// Whether a group fails as probes of an address do that no pod has.
fn is_gone(symptom: Symptom) -> bool {
    matches!(
        symptom,
        Symptom::Silent | Symptom::Unreachable(Unreachable::Host | Unreachable::Other)
    )
}

/// Whether another pod answers at the Service's address.
fn is_answered_by_other(group: &FailureGroup) -> bool {
    group.symptom == Symptom::WrongBackend
        && matches!(
            group.access_path,
            AccessPath::ClusterIp | AccessPath::Hairpin | AccessPath::ClusterIpLocal
        )
}

/// Whether the Service's port leads nowhere from this node alone: the client reaches the server itself, and clients of other
/// nodes reach it through the same port. Where the client's own packets pass no node, they do not show that the node forwards
/// what it has translated: then the address is needed that it translates to.
fn leads_nowhere(case: &Case<'_>, group: &FailureGroup) -> bool {
    let Some(server) = &group.server else {
        return false;
    };
    let nodes = || served_nodes(case, server, group.family);
    let is_comparable = || {
        let tracked = || case.translated_to(&group.client.node, group);
        let elsewhere =
            || tracked().is_some_and(|to| case.address(server, group.family) != Some(to));
        !(case.plane).bypasses_nodes(&group.client, server, group.family)
            || elsewhere()
            || sent_on_to(case, group).is_some()
            || is_unresolved(case, group)
    };
    is_slot(group)
        && is_gone(group.symptom)
        && group.is_unseen()
        && is_reached_directly(case, group)
        && !nodes().is_empty()
        && !nodes().contains(&group.client.node)
        && is_comparable()
}

/// Other nodes whose clients reach the group's server through its Service.
fn served_elsewhere(case: &Case<'_>, group: &FailureGroup) -> BTreeSet<NodeName> {
    let server = group.server.as_ref();
    let mut nodes = server.map_or_else(BTreeSet::new, |server| {
        served_nodes(case, server, group.family)
    });
    nodes.remove(&group.client.node);
    nodes
}

/// Whether an error with the Service's own address reports that the host cannot be resolved.
fn is_unresolved(case: &Case<'_>, group: &FailureGroup) -> bool {
    let target = case.path(group.path).map(|path| path.target.ip());
    let by = origin::unreachable(case, group).map(|(ip, _)| ip.src);
    group.symptom == Symptom::Unreachable(Unreachable::Host) && by.is_some() && by == target
}
