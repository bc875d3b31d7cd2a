//! `pod-route-missing`: a node has no route to one of its own pods, although it reaches others by one.

use std::collections::BTreeSet;

use super::one_pod::{pod_of, predict_all};
use crate::data_plane::Attachment;
use crate::diagnosis::Remedy;
use crate::diagnosis::case::Case;
use crate::diagnosis::catalogue::Cause;
use crate::diagnosis::hypothesis::{Place, Proof};
use crate::diagnosis::model::{Applies, Fingerprint, Model, Prediction};
use crate::diagnosis::remedy::step;
use crate::diagnosis::symptom::{FailureGroup, ServerEnd, Symptom};
use crate::node_facts::{Resolution, Route, RouteQuery};
use crate::packet::family::Family;
use crate::topology::{AccessPath, AgentId, Path};

/// The model.
pub(crate) struct PodRouteMissing;

impl Model for PodRouteMissing {
    fn cause(&self) -> Cause {
        Cause::PodRouteMissing
    }

    fn places(&self, case: &Case<'_>, family: Family) -> BTreeSet<Place> {
        case.failing(|group| group.family == family)
            .flat_map(|(_, group)| std::iter::once(&group.client).chain(&group.server))
            .map(|pod| Place::pod(pod, family))
            .collect()
    }

    fn applies(&self, case: &Case<'_>, place: &Place) -> Applies {
        let Some(pod) = pod_of(place) else {
            return Applies::Yes;
        };
        let others = || case.plane.attachments_on(&pod.node, place.family);
        if others().any(|one| matches!(one, Attachment::Routed { .. })) {
            Applies::Yes
        } else if let Some(program) = case.plane.program(&pod.node) {
            Applies::No(format!(
                "BPF programs of {} deliver to its pods without routes of their own: {program}",
                pod.node
            ))
        } else if others().all(|one| *one == Attachment::Unknown) {
            Applies::Unknown(format!("the routes of {}: `ip route`", pod.node))
        } else {
            Applies::No(format!("no pod of {} has a route of its own", pod.node))
        }
    }

    fn predict(&self, _: &Case<'_>, place: &Place, path: &Path) -> Prediction {
        predict_all(place, path)
    }

    fn explains(&self, case: &Case<'_>, place: &Place, group: &FailureGroup) -> bool {
        let Some(pod) = pod_of(place) else {
            return false;
        };
        let is_for = |agent: Option<&AgentId>| agent == Some(pod);
        let is_request = is_for(group.server.as_ref()) && group.is_unseen();
        let is_answer = is_for(Some(&group.client))
            && matches!(group.server_end, ServerEnd::SynAck | ServerEnd::Unknown);
        let is_shared = case.is_balanced(group) && case.is_behind(group, pod);
        let is_closed = matches!(group.symptom, Symptom::Silent | Symptom::Unreachable(_));
        is_closed && (is_request || is_answer)
            || (is_closed || group.symptom == Symptom::Lossy) && is_shared
    }

    fn fingerprint(&self, case: &Case<'_>, place: &Place, _: &BTreeSet<usize>) -> Fingerprint {
        let pod = pod_of(place);
        if let Some(works) = pod.and_then(|pod| reached_by_node(case, pod, place.family)) {
            return Fingerprint::Refuted(works);
        }
        let address = pod.and_then(|pod| case.address(pod, place.family));
        let facts = pod.and_then(|pod| case.facts(&pod.node));
        let (Some(pod), Some(address), Some(facts)) = (pod, address, facts) else {
            return Fingerprint::Missing(Vec::new());
        };
        let is_own =
            |route: &Route| route.destination.prefix_len() == route.destination.max_prefix_len();
        match facts.resolve(RouteQuery::to(address)) {
            Resolution::Unread | Resolution::Local => {
                Fingerprint::Missing(vec![format!("`ip route get {address}` on {}", pod.node)])
            }
            Resolution::Route(route) if is_own(route) => {
                Fingerprint::Refuted(format!("{} has a route to {pod}", pod.node))
            }
            Resolution::Route(_)
            | Resolution::RefusedByRoute(_)
            | Resolution::RefusedByRule(_)
            | Resolution::NoRoute => Fingerprint::Seen(
                Proof::Facts,
                vec![format!(
                    "{} has no route of its own to {address}, the address of its pod {pod}, and has one to other pods",
                    pod.node
                )],
            ),
        }
    }

    fn remedy(&self, _: &Case<'_>, place: &Place, _: &BTreeSet<usize>) -> Vec<Remedy> {
        let Some(pod) = pod_of(place) else {
            return Vec::new();
        };
        vec![
            step(
                "Delete the pod: its successor gets a route. If several pods are hit, restart the network plugin's agent of this node first (calico-node, aws-node, cilium).",
                [format!("kubectl delete pod {}", pod.pod)],
            ),
            step(
                "See the routes to pods, and what removed this one (a network manager, a second plugin).",
                ["ip route show | grep -v via".to_owned()],
            ),
        ]
    }
}

/// A healthy connection of a node's own network to the pod: the pod's node routes it as those of pods.
fn reached_by_node(case: &Case<'_>, pod: &AgentId, family: Family) -> Option<String> {
    let works = case.all_healthy().find(|evidence| {
        let path = &evidence.path;
        path.access_path == AccessPath::HostNetwork
            && path.family == family
            && path.server.as_ref() == Some(pod)
    })?;
    let node = &pod.node;
    Some(format!(
        "{node} has a route to {pod}: {} works",
        case.named(works)
    ))
}
