//! `endpoint-not-programmed` of a new pod whose paths are still closed when the run ends, while a pod that worked before it works
//! on the same node. A policy for the new pod alone has the same symptoms.

use std::collections::BTreeSet;
use std::time::Duration;

use super::endpoint_not_programmed::{Late, steps};
use super::one_pod::{pod_of, predict_all};
use super::policy_engine::{Engine, policy_commands};
use crate::diagnosis::Remedy;
use crate::diagnosis::case::Case;
use crate::diagnosis::catalogue::Cause;
use crate::diagnosis::hypothesis::Place;
use crate::diagnosis::model::{Fingerprint, Model, Prediction};
use crate::diagnosis::symptom::{FailureGroup, Symptom};
use crate::evidence::PathEvidence;
use crate::evidence::start_up::MAX_START_UP;
use crate::packet::family::Family;
use crate::time::nanos;
use crate::topology::{AccessPath, AgentId, Path};
use crate::units::duration;

/// The model.
pub(crate) struct NeverOpened;

impl Model for NeverOpened {
    fn cause(&self) -> Cause {
        Cause::EndpointNotProgrammed
    }

    fn places(&self, case: &Case<'_>, family: Family) -> BTreeSet<Place> {
        case.failing(|group| group.family == family)
            .map(|(_, group)| &group.client)
            .filter(|pod| {
                is_too_long(case, pod, family) && older_that_works(case, pod, family).is_some()
            })
            .map(|pod| Place::pod(pod, family))
            .collect()
    }

    fn predict(&self, _: &Case<'_>, place: &Place, path: &Path) -> Prediction {
        predict_all(place, path)
    }

    fn explains(&self, case: &Case<'_>, place: &Place, group: &FailureGroup) -> bool {
        let Some(pod) = pod_of(place) else {
            return false;
        };
        let is_end = group.client == *pod || group.server.as_ref() == Some(pod);
        let is_shared = case.is_balanced(group) && case.is_behind(group, pod);
        let is_closed = matches!(group.symptom, Symptom::Silent | Symptom::Unreachable(_));
        is_closed && is_end || (is_closed || group.symptom == Symptom::Lossy) && is_shared
    }

    fn fingerprint(&self, case: &Case<'_>, place: &Place, _: &BTreeSet<usize>) -> Fingerprint {
        let Some(pod) = pod_of(place) else {
            return Fingerprint::Missing(Vec::new());
        };
        let commands = policy_commands(case, Engine::on(case, &pod.node));
        Fingerprint::Missing(vec![
            format!(
                "the log of the network plugin's agent on {}: whether it has programmed {pod}",
                pod.node
            ),
            format!(
                "the policies that select the pod: `{}`",
                commands.join("; ")
            ),
        ])
    }

    fn support(&self, case: &Case<'_>, place: &Place, _: &BTreeSet<usize>) -> Vec<String> {
        let Some(pod) = pod_of(place) else {
            return Vec::new();
        };
        let closed = longest(case, pod, place.family).map(|closed| {
            format!(
                "{pod} is new, and no path of it has opened {} after its pods were ready: start-up takes at most {}",
                duration(nanos(closed)),
                duration(nanos(MAX_START_UP)),
            )
        });
        let works = older_that_works(case, pod, place.family).map(|works| {
            let path = case.named(works);
            format!("an older pod of {} works: {path}", pod.node)
        });
        closed.into_iter().chain(works).collect()
    }

    fn remedy(&self, _: &Case<'_>, place: &Place, _: &BTreeSet<usize>) -> Vec<Remedy> {
        let on = pod_of(place).map_or("NODE", |pod| pod.node.as_str());
        steps(on, Late::Pods)
    }
}

/// The longest time that a path of a new client has been closed.
fn longest(case: &Case<'_>, pod: &AgentId, family: Family) -> Option<Duration> {
    let all = case.matrix.paths.values();
    let of_pod = all.filter(|path| path.path.client == *pod && path.path.family == family);
    of_pod.filter_map(|path| case.matrix.closed_for(path)).max()
}

/// Whether a new client has paths that should have opened.
fn is_too_long(case: &Case<'_>, pod: &AgentId, family: Family) -> bool {
    longest(case, pod, family).is_some_and(|closed| closed > MAX_START_UP)
}

/// A healthy path of a pod of the same node that an earlier cycle has used.
fn older_that_works<'c>(
    case: &'c Case<'_>,
    pod: &AgentId,
    family: Family,
) -> Option<&'c PathEvidence> {
    let is_older = |agent: &AgentId| {
        let known = case.matrix.agents.get(agent);
        agent.node == pod.node
            && agent != pod
            && known.is_some_and(|known| known.ready_at.is_none())
    };
    case.healthy().find(|works| {
        let path = &works.path;
        path.family == family
            && path.access_path != AccessPath::Hairpin
            && (is_older(&path.client) || path.server.as_ref().is_some_and(is_older))
    })
}
