//! `no-endpoints`: the Service port has no ready endpoint, and every node refuses what is sent to it.

use std::collections::BTreeSet;

use crate::diagnosis::Remedy;
use crate::diagnosis::case::Case;
use crate::diagnosis::catalogue::Cause;
use crate::diagnosis::endpoint::{
    is_reached_directly, is_slot, list, served_nodes, untranslated_error,
};
use crate::diagnosis::hypothesis::{Place, Proof};
use crate::diagnosis::model::{Fingerprint, Model, Prediction};
use crate::diagnosis::remedy::step;
use crate::diagnosis::symptom::FailureGroup;
use crate::evidence::PathEvidence;
use crate::packet::Unreachable;
use crate::packet::family::Family;
use crate::probe::outcome::Errno;
use crate::topology::{NodeName, Path};

/// A Service port without ready endpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NoEndpoints;

/// Whether a node refuses the port of one server, while the same client reaches that server by its own address.
fn is_refused(case: &Case<'_>, group: &FailureGroup) -> bool {
    let by_icmp = match group.symptom.unreachable() {
        Some(Unreachable::Port | Unreachable::Other) => true,
        // Without a route to the Service's address, IPv6 fails with this error before the rule applies.
        Some(Unreachable::Network) => group.family == Family::Ipv6,
        Some(Unreachable::Host | Unreachable::Prohibited) | None => false,
    };
    // A program on connect(2) that finds no backend returns EHOSTUNREACH; before Linux 5.15 it can only return EPERM.
    let in_connect = case.path(group.path).is_some_and(|path| path.socket_level)
        && matches!(
            group.symptom.refused_locally(),
            Some(Errno::Ehostunreach | Errno::Eperm)
        );
    is_slot(group) && (by_icmp || in_connect) && is_reached_directly(case, group)
}

/// Nodes whose clients reach the same port.
fn served(case: &Case<'_>, group: &FailureGroup) -> BTreeSet<NodeName> {
    let server = group.server.as_ref();
    server.map_or_else(BTreeSet::new, |server| {
        served_nodes(case, server, group.family)
    })
}

/// The path of a group whose EndpointSlice names no ready endpoint.
fn empty<'a>(case: &Case<'a>, group: &FailureGroup) -> Option<&'a PathEvidence> {
    let path = case.path(group.path)?;
    let is_empty = path.backends.iter().all(|backend| !backend.ready);
    is_empty.then_some(path)
}

/// Whether the evidence agrees: the API names no endpoint, or no node serves the port.
fn agrees(case: &Case<'_>, group: &FailureGroup) -> bool {
    empty(case, group).is_some() || served(case, group).is_empty()
}

impl Model for NoEndpoints {
    fn cause(&self) -> Cause {
        Cause::NoEndpoints
    }

    fn places(&self, case: &Case<'_>, family: Family) -> BTreeSet<Place> {
        case.failing(|group| group.family == family && is_refused(case, group))
            .map(|_| Place::service(family))
            .collect()
    }

    fn predict(&self, _: &Case<'_>, _: &Place, path: &Path) -> Prediction {
        // Each server has a port of the Service to itself, and another one may have endpoints.
        if path.access_path.is_translated() {
            Prediction::MayFail
        } else {
            Prediction::Passes
        }
    }

    fn explains(&self, case: &Case<'_>, _: &Place, group: &FailureGroup) -> bool {
        let mut refused =
            case.failing(|other| other.family == group.family && is_refused(case, other));
        // Where no port agrees, the ones that other nodes serve exclude it.
        is_refused(case, group)
            && (agrees(case, group) || !refused.any(|(_, other)| agrees(case, other)))
    }

    fn fingerprint(&self, case: &Case<'_>, _: &Place, groups: &BTreeSet<usize>) -> Fingerprint {
        if let Some(path) = case.at(groups).find_map(|group| empty(case, group)) {
            return Fingerprint::Seen(
                Proof::Facts,
                vec![format!(
                    "the EndpointSlice behind {} names no ready endpoint",
                    path.target
                )],
            );
        }
        let mut elsewhere = case.at(groups).map(|group| served(case, group));
        match elsewhere.find(|nodes| !nodes.is_empty()) {
            Some(nodes) => {
                Fingerprint::Refuted(format!("clients of {} reach the same port", list(&nodes)))
            }
            None => Fingerprint::Missing(vec![
                "`kubectl get endpointslices` of the Service".to_owned(),
            ]),
        }
    }

    fn support(&self, case: &Case<'_>, _: &Place, groups: &BTreeSet<usize>) -> Vec<String> {
        let mut paths = case.at(groups).filter_map(|group| case.path(group.path));
        let target = paths.next().map(|path| path.target);
        let by = (case.at(groups)).find_map(|group| untranslated_error(case, group));
        let said = match (target, by) {
            (Some(target), Some(by)) if by == target.ip() => Some(format!(
                "{target} is refused by ICMP port unreachable in its own name: the balancer of the client's node has no destination for it"
            )),
            (Some(target), Some(by)) => Some(format!(
                "{target} is refused by ICMP from {by}, without translation, and on every node that probed it"
            )),
            (Some(target), None) => {
                Some(format!("{target} is refused on every node that probed it"))
            }
            (None, _) => None,
        };
        let errno = (case.at(groups)).find_map(|group| group.symptom.refused_locally());
        said.into_iter().chain(errno.map(Errno::sentence)).collect()
    }

    fn remedy(&self, _: &Case<'_>, _: &Place, _: &BTreeSet<usize>) -> Vec<Remedy> {
        vec![step(
            "See which pods the Service selects and whether they are ready.",
            [
                "kubectl get endpointslices -l kubernetes.io/service-name=SERVICE -o wide",
                "kubectl get service SERVICE -o jsonpath='{.spec.selector}'",
            ],
        )]
    }
}
