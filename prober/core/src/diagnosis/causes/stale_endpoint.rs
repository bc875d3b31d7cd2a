//! `stale-endpoint`: the Service leads to an address that no pod has, or to a pod that is cut off from its node.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use super::pod_port::{PodPort, Port, pod_port};
use crate::diagnosis::case::Case;
use crate::diagnosis::catalogue::Cause;
use crate::diagnosis::endpoint::dead_address::{
    address_of, is_gone, is_led_astray, is_unresolved_late, resolution_failures, sent_on_to,
};
use crate::diagnosis::endpoint::resolution::Resolved;
use crate::diagnosis::endpoint::{list, served_nodes};
use crate::diagnosis::hypothesis::{Place, Proof};
use crate::diagnosis::model::{Fingerprint, Model, Prediction};
use crate::diagnosis::remedy::step;
use crate::diagnosis::symptom::{FailureGroup, Symptom};
use crate::diagnosis::{PathSegment, Remedy};
use crate::packet::Unreachable;
use crate::packet::family::Family;
use crate::topology::{AccessPath, AgentId, NodeName, Path};

/// Where the Service leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StaleEndpoint {
    /// To an address that no pod has.
    Address,
    /// To a pod whose link on the node is down.
    CutOff,
}

/// The address behind the port of a group's server that no live pod has, according to the API.
fn by_api(case: &Case<'_>, group: &FailureGroup) -> Option<SocketAddr> {
    let path = case.path(group.path)?;
    let mut dead = path
        .backends
        .iter()
        .filter(|backend| backend.agent.is_none());
    dead.next().map(|backend| backend.address)
}

/// Nodes whose clients reach the same port.
fn served(case: &Case<'_>, group: &FailureGroup) -> BTreeSet<NodeName> {
    let server = group.server.as_ref();
    server.map_or_else(BTreeSet::new, |server| {
        served_nodes(case, server, group.family)
    })
}

/// Whether the port of a group's server leads to a dead address, by the API or by packets.
fn leads_to_none(case: &Case<'_>, group: &FailureGroup) -> bool {
    let is_by_api = |other: &FailureGroup| {
        other.family == group.family
            && other.server == group.server
            && is_gone(other)
            && by_api(case, other).is_some()
    };
    is_gone(group) && (case.failing(is_by_api).next().is_some() || is_led_astray(case, group))
}

/// Whether no node serves the port, or the API itself names a dead address.
fn agrees(case: &Case<'_>, group: &FailureGroup) -> bool {
    by_api(case, group).is_some() || served(case, group).is_empty()
}

/// Whether a silent or unreachable group may have a pod that is cut off.
fn is_cut_off(group: &FailureGroup, pod: &AgentId) -> bool {
    let is_alike = match group.symptom {
        Symptom::Silent
        | Symptom::Unreachable(Unreachable::Host | Unreachable::Other | Unreachable::Network) => {
            true
        }
        Symptom::Unreachable(Unreachable::Port | Unreachable::Prohibited)
        | Symptom::SynAckFromWrongSource
        | Symptom::ResetFromWrongSource
        | Symptom::Reset
        | Symptom::RefusedLocally(_)
        | Symptom::Lossy
        | Symptom::NoData
        | Symptom::Stalled
        | Symptom::Broken
        | Symptom::WrongBackend => false,
    };
    let is_at_end = group.server.as_ref() == Some(pod) || group.client == *pod;
    is_at_end && is_alike && group.is_unseen()
}

/// The pods that no client reaches by their own address, and whose link is down or whose address is not resolved.
fn cut_off(case: &Case<'_>, family: Family) -> BTreeSet<AgentId> {
    let is_direct = |group: &FailureGroup| {
        let server = group.server.as_ref();
        group.family == family
            && group.access_path == AccessPath::PodIp
            && server.is_some_and(|pod| is_cut_off(group, pod))
    };
    let pods: BTreeSet<AgentId> = case
        .failing(is_direct)
        .filter_map(|(_, group)| group.server.clone())
        .collect();
    let is_unreachable = |pod: &AgentId| {
        case.fails(|group| {
            group.family == family
                && is_cut_off(group, pod)
                && group.symptom == Symptom::Unreachable(Unreachable::Host)
        })
    };
    let is_candidate = |pod: &AgentId| match pod_port(case, pod, family) {
        PodPort::Down(_) => true,
        PodPort::Up(_) => is_unreachable(pod),
        PodPort::Unknown => is_unreachable(pod) || Resolved::of(case, pod, family).no().is_some(),
    };
    pods.into_iter().filter(is_candidate).collect()
}

impl StaleEndpoint {
    /// The fingerprint of a dead address.
    fn of_address(case: &Case<'_>, groups: &BTreeSet<usize>) -> Fingerprint {
        let by_pod = case.at(groups).find_map(|group| {
            let pod = group.server.as_ref()?;
            Resolved::of(case, pod, group.family).no()
        });
        if let Some(address) = case.at(groups).find_map(|group| by_api(case, group)) {
            let sentence = format!("the EndpointSlice leads to {address}, which no live pod has");
            return Fingerprint::Seen(Proof::Facts, vec![sentence]);
        }
        let mut elsewhere = case.at(groups).map(|group| served(case, group));
        if let Some(nodes) = elsewhere.find(|nodes| !nodes.is_empty()) {
            return Fingerprint::Refuted(format!(
                "clients of {} reach the same port: those nodes lead to a live pod",
                list(&nodes)
            ));
        }
        if let Some(address) = case.at(groups).find_map(|group| sent_on_to(case, group)) {
            let sentence = format!("the SYN went on to {address}, which no pod of the run has");
            return Fingerprint::Seen(Proof::Packets, vec![sentence]);
        }
        if let Some(sentence) = by_pod {
            return Fingerprint::Refuted(sentence);
        }
        if case.at(groups).any(|group| is_unresolved_late(case, group)) {
            return Fingerprint::Seen(Proof::Packets, Vec::new());
        }
        Fingerprint::Missing(vec![
            "the addresses behind the Service: `kubectl get endpointslices -o yaml`, and `ip neigh` on the nodes".to_owned(),
        ])
    }

    /// The fingerprint of a pod whose link is down.
    fn of_pod(case: &Case<'_>, pod: &AgentId, family: Family) -> Fingerprint {
        match pod_port(case, pod, family) {
            PodPort::Down(ports) => {
                let cut_off = |port: &Port| {
                    let said = port.sentence(&pod.node);
                    if ports.len() == 1 {
                        format!("{said}: the pod behind it is cut off")
                    } else {
                        format!("{said}: it, or another one that is down, leads to the pod")
                    }
                };
                Fingerprint::Seen(Proof::Facts, ports.iter().take(4).map(cut_off).collect())
            }
            PodPort::Up(port) => Fingerprint::Refuted(port.sentence(&pod.node)),
            PodPort::Unknown => match Resolved::of(case, pod, family) {
                Resolved::Yes(sentence) => Fingerprint::Refuted(sentence),
                Resolved::No(_) | Resolved::Unknown => Fingerprint::Missing(vec![format!(
                    "`ip link` and `bridge link` on {}: the state of the pod's link",
                    pod.node
                )]),
            },
        }
    }
}

impl Model for StaleEndpoint {
    fn cause(&self) -> Cause {
        Cause::StaleEndpoint
    }

    fn places(&self, case: &Case<'_>, family: Family) -> BTreeSet<Place> {
        match self {
            Self::Address => case
                .failing(|group| group.family == family && leads_to_none(case, group))
                .map(|_| Place::service(family))
                .collect(),
            Self::CutOff => cut_off(case, family)
                .iter()
                .map(|pod| Place::pod(pod, family))
                .collect(),
        }
    }

    fn predict(&self, _: &Case<'_>, place: &Place, path: &Path) -> Prediction {
        match &place.segment {
            // Each server has a port of the Service to itself, and another one may lead to a live pod.
            PathSegment::Service if path.access_path.is_translated() => Prediction::MayFail,
            PathSegment::Pod { pod } => match &path.server {
                Some(server) if path.client == *pod && server != pod => Prediction::Fails,
                // A pod may reach itself inside its own network.
                Some(server) if server == pod && path.access_path != AccessPath::Hairpin => {
                    Prediction::Fails
                }
                Some(server) if server != pod => Prediction::Passes,
                Some(_) | None => Prediction::MayFail,
            },
            PathSegment::Service
            | PathSegment::Node { .. }
            | PathSegment::Between { .. }
            | PathSegment::Namespace
            | PathSegment::Unknown => Prediction::Passes,
        }
    }

    fn explains(&self, case: &Case<'_>, place: &Place, group: &FailureGroup) -> bool {
        match &place.segment {
            PathSegment::Service => {
                let mut gone = case
                    .failing(|other| other.family == group.family && leads_to_none(case, other));
                // Where no port agrees, the ones that other nodes serve exclude it.
                leads_to_none(case, group)
                    && (agrees(case, group) || !gone.any(|(_, other)| agrees(case, other)))
            }
            PathSegment::Pod { pod } => is_cut_off(group, pod),
            PathSegment::Node { .. }
            | PathSegment::Between { .. }
            | PathSegment::Namespace
            | PathSegment::Unknown => false,
        }
    }

    fn fingerprint(&self, case: &Case<'_>, place: &Place, groups: &BTreeSet<usize>) -> Fingerprint {
        match &place.segment {
            PathSegment::Pod { pod } => Self::of_pod(case, pod, place.family),
            PathSegment::Service
            | PathSegment::Node { .. }
            | PathSegment::Between { .. }
            | PathSegment::Namespace
            | PathSegment::Unknown => Self::of_address(case, groups),
        }
    }

    fn support(&self, case: &Case<'_>, place: &Place, groups: &BTreeSet<usize>) -> Vec<String> {
        let mut said = Vec::new();
        if let PathSegment::Pod { pod } = &place.segment
            && pod_port(case, pod, place.family) == PodPort::Unknown
        {
            said.push(match Resolved::of(case, pod, place.family) {
                Resolved::No(sentence) => format!("no access path reaches {pod}: {sentence}"),
                Resolved::Yes(_) | Resolved::Unknown => format!("no access path reaches {pod}"),
            });
        }
        said.extend(resolution_failures(case, groups));
        said
    }

    fn remedy(&self, case: &Case<'_>, place: &Place, groups: &BTreeSet<usize>) -> Vec<Remedy> {
        if let PathSegment::Pod { pod } = &place.segment {
            let ports = match pod_port(case, pod, place.family) {
                PodPort::Down(ports) => ports,
                PodPort::Up(port) => vec![port],
                PodPort::Unknown => Vec::new(),
            };
            let mut commands = match ports.as_slice() {
                [port] => vec![
                    format!("ip -d link show dev {}", port.name),
                    format!("ip link set dev {} up", port.name),
                ],
                _ => vec!["ip link; bridge link".to_owned()],
            };
            commands.push(format!("kubectl delete pod {}", pod.pod));
            return vec![step(
                "Set the pod's link up on its node; if it has none, delete the pod: its successor gets a new one.",
                commands,
            )];
        }
        let listed = (case.at(groups)).find_map(|group| by_api(case, group));
        let seen = || case.at(groups).find_map(|group| address_of(case, group));
        let address = listed.map(|address| address.ip()).or_else(seen);
        let address = address.map_or_else(|| "ADDRESS".to_owned(), |address| address.to_string());
        vec![
            step(
                "Compare the slice's addresses with the pods that are there; a hand-written slice must be corrected by hand.",
                [
                    "kubectl get endpointslices -l kubernetes.io/service-name=SERVICE -o yaml | grep -A1 addresses".to_owned(),
                    format!("kubectl get pods -A -o wide --field-selector status.podIP={address}"),
                ],
            ),
            step(
                "If the slice is the controller's, delete it: it is written anew from the pods.",
                ["kubectl delete endpointslice SLICE"],
            ),
        ]
    }
}
