//! `network-policy`: a filter drops or refuses new connections of or to one pod, or to one of its ports.

use std::collections::BTreeSet;

use super::policy_engine::{Engine, policy_commands};
use super::second_pod;
use super::traffic::{direction, find_rule, is_dropped_at, refused_by_filter, refuses};
use crate::diagnosis::case::Case;
use crate::diagnosis::catalogue::Cause;
use crate::diagnosis::endpoint::resolution::Resolved;
use crate::diagnosis::hypothesis::Place;
use crate::diagnosis::location::{FlowDirection, Spot, Stage, confined, sentences};
use crate::diagnosis::model::{Fingerprint, Model, Prediction};
use crate::diagnosis::origin;
use crate::diagnosis::remedy::step;
use crate::diagnosis::symptom::{FailureGroup, Symptom};
use crate::diagnosis::{PathSegment, Remedy};
use crate::evidence::Comparison;
use crate::packet::family::Family;
use crate::probe::outcome::OutcomeKind;
use crate::topology::{AccessPath, AgentId, Path, Scope};

/// Which new connections of the pod it drops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NetworkPolicy {
    /// Those to it.
    Ingress,
    /// Those that it begins.
    Egress,
}

impl NetworkPolicy {
    /// The pod of a path or group that such a filter selects.
    fn pod<'a>(self, client: &'a AgentId, server: Option<&'a AgentId>) -> Option<&'a AgentId> {
        match self {
            Self::Ingress => server,
            Self::Egress => Some(client),
        }
    }

    /// Which other pod of its node shows whether only this one is affected.
    const fn comparison(self) -> Comparison {
        match self {
            Self::Ingress => Comparison::SecondServer,
            Self::Egress => Comparison::SecondClient,
        }
    }

    /// The stages of the pod's own node at which it may be enforced: in the chains, or by a program at the pod's link.
    const fn stages(self) -> &'static [Stage] {
        match self {
            Self::Ingress => &[Stage::Forwarding, Stage::ToPod],
            Self::Egress => &[Stage::FromPod, Stage::Forwarding],
        }
    }
}

/// Whether another port of the server answers the same client.
fn is_by_port(case: &Case<'_>, group: &FailureGroup) -> bool {
    group.access_path == AccessPath::PodIp
        && case.path(group.path).and_then(|path| path.other_port) == Some(OutcomeKind::Established)
}

impl Model for NetworkPolicy {
    fn cause(&self) -> Cause {
        Cause::NetworkPolicy
    }

    fn places(&self, case: &Case<'_>, family: Family) -> BTreeSet<Place> {
        let is_candidate = |group: &FailureGroup| {
            // A pod always reaches itself: what fails there alone is no policy.
            group.family == family
                && group.access_path != AccessPath::Hairpin
                && (group.symptom == Symptom::Silent || refuses(case, group).is_some())
        };
        case.failing(is_candidate)
            .filter_map(|(_, group)| self.pod(&group.client, group.server.as_ref()))
            .map(|pod| Place::pod(pod, family))
            .collect()
    }

    fn predict(&self, case: &Case<'_>, place: &Place, path: &Path) -> Prediction {
        let PathSegment::Pod { pod } = &place.segment else {
            return Prediction::Passes;
        };
        if !path.involves(&pod.node) && path.server.is_some() {
            return Prediction::Passes;
        }
        if path.scope() == Scope::Any && self.pod(&path.client, None) != Some(pod) {
            return Prediction::MayFail;
        }
        if self.pod(&path.client, path.server.as_ref()) != Some(pod) {
            return Prediction::Passes;
        }
        // A pod always reaches itself (Kubernetes, "Network Policies"), though some implementations block that, too; a bridge
        // without netfilter carries what the chains would drop; and a policy may except addresses, as those of a node's pods.
        // What passes no node meets a program at the pod's link alone.
        if path.scope() != Scope::CrossNode || case.plane.is_past(&pod.node, path) {
            return Prediction::MayFail;
        }
        Prediction::Fails
    }

    fn explains(&self, case: &Case<'_>, place: &Place, group: &FailureGroup) -> bool {
        let PathSegment::Pod { pod } = &place.segment else {
            return false;
        };
        let is_dropped = is_dropped_at(case, group, &pod.node, self.stages())
            && direction(case, group).is_none_or(|direction| direction == FlowDirection::ToServer);
        is_dropped || refuses(case, group).as_ref() == Some(&pod.node)
    }

    fn fingerprint(&self, case: &Case<'_>, place: &Place, groups: &BTreeSet<usize>) -> Fingerprint {
        let PathSegment::Pod { pod } = &place.segment else {
            return Fingerprint::Missing(Vec::new());
        };
        let is_refused = case.at(groups).any(|group| refuses(case, group).is_some());
        if *self == Self::Ingress
            && !is_refused
            && let Some(sentence) = Resolved::of(case, pod, place.family).no()
        {
            return Fingerprint::Refuted(sentence);
        }
        let mut said = Vec::new();
        if case.at(groups).any(|group| is_by_port(case, group)) {
            said.push(format!("another port of {pod} answers the same client"));
        }
        let refused = case.at(groups).find_map(|group| {
            let (ip, icmp) = origin::unreachable(case, group)?;
            Some(format!(
                "{} received ICMP {}/{} from {} (TTL {}): a filter of {} answers for {pod}",
                group.client, icmp.type_code.0, icmp.type_code.1, ip.src, ip.hop_limit, pod.node
            ))
        });
        // A pod's path to itself has causes of its own.
        let among_pods = (case.at(groups))
            .filter(|group| group.access_path != AccessPath::Hairpin)
            .map(|group| group.index)
            .collect();
        let mut located = confined(case, &among_pods, |spot| match spot {
            Spot::Node(node, stage) => *node == pod.node && self.stages().contains(stage),
            Spot::Wire(..) => false,
        });
        if let Some(refused) = refused {
            said.push(refused);
            located.extend(refused_by_filter(case, groups));
            return Fingerprint::Located(located, said);
        }
        if !located.is_empty() {
            said.extend(sentences(case, groups));
            return Fingerprint::Located(located, said);
        }
        let commands = policy_commands(case, Engine::on(case, &pod.node));
        let mut observations = vec![format!(
            "the policies that select the pod: `{}`",
            commands.join("; ")
        )];
        let kind = self.comparison();
        if !second_pod::is_compared(case, kind, &pod.node, place.family) {
            observations.push(format!(
                "a {} on {}: whether only this pod is affected",
                kind.words(),
                pod.node
            ));
        }
        Fingerprint::Missing(observations)
    }

    fn support(&self, case: &Case<'_>, place: &Place, _: &BTreeSet<usize>) -> Vec<String> {
        match &place.segment {
            PathSegment::Pod { pod } => {
                let mut said = second_pod::sentences(case, self.comparison(), pod, place.family);
                let policies = &case.matrix.policies.denying;
                said.extend(
                    (policies.iter().take(2))
                        .map(|policy| format!("according to the API, {}", policy.sentence())),
                );
                let engine = Engine::on(case, &pod.node);
                said.extend(engine.map(|engine| engine.sentence(&pod.node)));
                said
            }
            PathSegment::Node { .. }
            | PathSegment::Between { .. }
            | PathSegment::Service
            | PathSegment::Namespace
            | PathSegment::Unknown => Vec::new(),
        }
    }

    fn remedy(&self, case: &Case<'_>, place: &Place, _: &BTreeSet<usize>) -> Vec<Remedy> {
        let (pod, engine) = match &place.segment {
            PathSegment::Pod { pod } => {
                let engine = Engine::on(case, &pod.node);
                (
                    pod.pod.as_str(),
                    engine.map(|engine| engine.steps(&pod.node)),
                )
            }
            PathSegment::Node { .. }
            | PathSegment::Between { .. }
            | PathSegment::Service
            | PathSegment::Namespace
            | PathSegment::Unknown => ("POD", None),
        };
        let engine_of_place = (place.node.as_ref()).and_then(|node| Engine::on(case, node));
        let labels = format!("kubectl get pod {pod} --show-labels");
        let policies = policy_commands(case, engine_of_place);
        let mut steps = vec![step(
            "See which policies select the pod.",
            policies.into_iter().chain([labels]),
        )];
        steps.extend(engine.unwrap_or_else(|| vec![find_rule(place.family)]));
        steps
    }
}
