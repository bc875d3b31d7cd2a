//! `network-policy` of all agents: the API has policies that may deny what they send, or the run could not read whether it has,
//! and no packet passes between pods.
//!
//! There is no other sign that they are enforced: a drop on every node has the same symptoms. The policies alone explain all of
//! them at once.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use super::policy_engine::{Engine, policy_commands};
use crate::diagnosis::Remedy;
use crate::diagnosis::bridge_filter::{bridged_filtered, is_bridged};
use crate::diagnosis::case::Case;
use crate::diagnosis::catalogue::Cause;
use crate::diagnosis::hypothesis::Place;
use crate::diagnosis::model::{Fingerprint, Model, Prediction};
use crate::diagnosis::remedy::step;
use crate::diagnosis::symptom::{FailureGroup, Symptom};
use crate::evidence::policies::ApiPolicy;
use crate::packet::family::Family;
use crate::topology::{AccessPath, Path, Scope};

/// The model.
pub(crate) struct NamespacePolicies;

impl Model for NamespacePolicies {
    fn cause(&self) -> Cause {
        Cause::NetworkPolicy
    }

    fn places(&self, case: &Case<'_>, family: Family) -> BTreeSet<Place> {
        let policies = &case.matrix.policies;
        let may_be = !policies.denying.is_empty() || !policies.unread.is_empty();
        may_be
            .then(|| Place::namespace(family))
            .into_iter()
            .collect()
    }

    fn predict(&self, case: &Case<'_>, _: &Place, path: &Path) -> Prediction {
        if may_pass_no_chain(case, path) {
            return Prediction::MayFail;
        }
        match path.access_path {
            // A pod always reaches itself (Kubernetes, "Network Policies"), though some implementations block that, too.
            AccessPath::Hairpin => Prediction::MayFail,
            AccessPath::PodIp
            | AccessPath::ClusterIp
            | AccessPath::ClusterIpAny
            | AccessPath::ClusterIpLocal
            | AccessPath::NodePort
            | AccessPath::HostNetwork => Prediction::Fails,
        }
    }

    fn explains(&self, _: &Case<'_>, _: &Place, group: &FailureGroup) -> bool {
        is_blocked(group)
    }

    fn fingerprint(&self, case: &Case<'_>, place: &Place, _: &BTreeSet<usize>) -> Fingerprint {
        if case.fails(|group| group.family == place.family && !is_blocked(group)) {
            return Fingerprint::Refuted("packets pass from one pod to another".to_owned());
        }
        let policies = &case.matrix.policies;
        let unread = policies.unread_observation().into_iter();
        let others = [
            "the same run from a namespace without such policies: `prober run -n NAMESPACE`"
                .to_owned(),
            "whether the network plugin of this cluster enforces the policies".to_owned(),
        ];
        Fingerprint::Missing(unread.chain(others).collect())
    }

    fn support(&self, case: &Case<'_>, place: &Place, _: &BTreeSet<usize>) -> Vec<String> {
        let is_bridged = |path: &Path| path.family == place.family && may_pass_no_chain(case, path);
        let exception = if case.passes(is_bridged) {
            ", but over a bridge whose packets pass no chain"
        } else {
            ""
        };
        let policies = &case.matrix.policies;
        let mut denying: Vec<&ApiPolicy> = policies.denying.iter().collect();
        denying.sort_by_key(|policy| Reverse(policy.ingress.max(policy.egress)));
        let shown: Vec<String> = (denying.iter().take(3))
            .map(|policy| policy.sentence())
            .collect();
        let more = denying.len().saturating_sub(shown.len());
        let more = if more > 0 {
            format!(", and {more} more may")
        } else {
            String::new()
        };
        let said = format!("no SYN passes from one pod to another{exception}");
        let said = if shown.is_empty() {
            said
        } else {
            format!("according to the API, {}{more}; {said}", shown.join("; "))
        };
        std::iter::once(said)
            .chain(policies.unread_sentence())
            .collect()
    }

    fn remedy(&self, case: &Case<'_>, _: &Place, groups: &BTreeSet<usize>) -> Vec<Remedy> {
        let node = case.at(groups).map(|group| &group.client.node).next();
        let engine = node.and_then(|node| Engine::on(case, node));
        let mut steps = vec![
            step(
                "Probe from a namespace whose policies let pods connect to each other.",
                ["prober run --node NODE -n NAMESPACE"],
            ),
            step(
                "If these pods are to be reached: see what the policies allow, and allow the clients.",
                policy_commands(case, engine),
            ),
        ];
        let own = engine.zip(node).map(|(engine, node)| engine.steps(node));
        steps.extend(own.into_iter().flatten());
        steps
    }
}

/// Whether a path is one between pods of a node that may pass no chain, where a policy is enforced.
fn may_pass_no_chain(case: &Case<'_>, path: &Path) -> bool {
    let node = &path.client.node;
    let is_unfiltered = bridged_filtered(case, node, path.family) == Some(false);
    path.scope() == Scope::SameNode
        && is_unfiltered
        && is_bridged(case, node, path.family) == Some(true)
}

/// Whether a group fails like a connection that a policy drops or rejects: none of its packets arrived at the server's end.
fn is_blocked(group: &FailureGroup) -> bool {
    let is_refusal = match group.symptom {
        Symptom::Silent
        | Symptom::Lossy
        | Symptom::Unreachable(_)
        | Symptom::Reset
        | Symptom::ResetFromWrongSource => true,
        Symptom::SynAckFromWrongSource
        | Symptom::RefusedLocally(_)
        | Symptom::NoData
        | Symptom::Stalled
        | Symptom::Broken
        | Symptom::WrongBackend => false,
    };
    is_refusal && group.is_unseen()
}
