//! The policies of the API that may deny packets of the agents' pods: of Kubernetes, of the Network Policy API, of Calico and of
//! Cilium. Packets that a policy drops look like a broken network, so a run notes the policies.

/// Calico's selectors.
mod calico_selector;
/// What one policy does.
mod effect;
/// The rules of each kind.
mod rules;
/// Label selectors.
mod selector;

use std::collections::BTreeMap;

use kube::core::DynamicObject;
use prober_core::evidence::policies::{ApiPolicies, ApiPolicy, Denial, PolicyEngine, PolicyKind};
use serde_json::Value;

use effect::{Direction, Effect, Share};
pub use selector::AgentPods;

/// A policy of the API.
#[derive(Clone, Debug)]
pub struct PolicyObject {
    /// Its kind.
    pub kind: PolicyKind,
    /// Its namespace.
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
    /// Its spec.
    pub spec: Value,
}

/// Sentences about policies that deny the agents' packets, or may, for the notes of a report.
pub fn notes(policies: &ApiPolicies, namespace: &str) -> Vec<String> {
    let of_namespace: Vec<&ApiPolicy> = (policies.denying.iter())
        .filter(|policy| policy.kind == PolicyKind::NetworkPolicy)
        .collect();
    let denies = |direction: fn(&ApiPolicy) -> Denial| {
        of_namespace
            .iter()
            .any(|policy| direction(policy) > Denial::Nothing)
    };
    let directions: Vec<&str> = [
        ("ingress", denies(|policy| policy.ingress)),
        ("egress", denies(|policy| policy.egress)),
    ]
    .into_iter()
    .filter_map(|(name, is_denied)| is_denied.then_some(name))
    .collect();
    let names: Vec<&str> = of_namespace
        .iter()
        .map(|policy| policy.name.as_str())
        .collect();
    let plain = (!names.is_empty()).then(|| {
        format!(
            "NetworkPolicy {} in namespace {namespace} restricts the agents' {} to what it allows: what it drops looks like \
             a broken network; probe from a namespace without one (-n), or allow the agents' traffic",
            names.join(", "),
            directions.join(" and "),
        )
    });
    let others = (policies.denying.iter())
        .filter(|policy| policy.kind != PolicyKind::NetworkPolicy)
        .map(|policy| {
            format!(
                "{}: what it drops looks like a broken network; `{}` shows it",
                policy.sentence(),
                policy.show_command()
            )
        });
    plain.into_iter().chain(others).collect()
}

/// The policies of an object: one of Cilium may have several specs.
pub fn of_object(kind: PolicyKind, mut object: DynamicObject) -> Vec<PolicyObject> {
    let name = object.metadata.name.unwrap_or_default();
    // Calico's storage has the tier before the name of a policy of its first tier.
    let name = match kind.engine() {
        PolicyEngine::Calico => name
            .strip_prefix("default.")
            .map(str::to_owned)
            .unwrap_or(name),
        PolicyEngine::Any | PolicyEngine::Cilium => name,
    };
    let namespace = object.metadata.namespace;
    let Some(fields) = object.data.as_object_mut() else {
        return Vec::new();
    };
    let mut specs: Vec<Value> = fields.remove("spec").into_iter().collect();
    if let Some(Value::Array(more)) = fields.remove("specs") {
        specs.extend(more);
    }
    let of_spec = |spec| PolicyObject {
        kind,
        namespace: namespace.clone(),
        name: name.clone(),
        spec,
    };
    specs.into_iter().map(of_spec).collect()
}

/// Returns the policies that deny packets of these pods, or may, sorted.
pub fn denying(objects: &[PolicyObject], pods: &AgentPods<'_>) -> Vec<ApiPolicy> {
    let selecting: Vec<(&PolicyObject, bool)> = (objects.iter())
        .filter_map(
            |object| match effect::selects_pods(object.kind, &object.spec, pods) {
                Some(false) => None,
                Some(true) => Some((object, true)),
                None => Some((object, false)),
            },
        )
        .collect();
    let (ingress, egress) = (
        denials(&selecting, Direction::Ingress),
        denials(&selecting, Direction::Egress),
    );
    let mut found: BTreeMap<(PolicyKind, Option<String>, String), (Denial, Denial)> =
        BTreeMap::new();
    for ((object, _), (ingress, egress)) in selecting.iter().zip(ingress.into_iter().zip(egress)) {
        if ingress.max(egress) > Denial::Nothing {
            let key = (object.kind, object.namespace.clone(), object.name.clone());
            let known = found.entry(key).or_default();
            *known = (known.0.max(ingress), known.1.max(egress));
        }
    }
    let policies = found
        .into_iter()
        .map(|((kind, namespace, name), (ingress, egress))| ApiPolicy {
            kind,
            namespace,
            name,
            ingress,
            egress,
        });
    policies.collect()
}

/// What each of the selecting policies denies in a direction. An allowing one ends the isolation by others that it is united
/// with, and makes uncertain what all others deny, since their order is not evaluated.
fn denials(selecting: &[(&PolicyObject, bool)], direction: Direction) -> Vec<Denial> {
    let effects: Vec<(&PolicyObject, bool, Effect)> = (selecting.iter())
        .map(|(object, is_certain)| {
            let effect = effect::of(object.kind, &object.spec, direction);
            (*object, *is_certain, effect)
        })
        .collect();
    let is_united = |a: PolicyKind, b: PolicyKind| {
        let is_of_cilium = |kind: PolicyKind| kind.engine() == PolicyEngine::Cilium;
        a == b && a == PolicyKind::NetworkPolicy || is_of_cilium(a) && is_of_cilium(b)
    };
    let denial = |(at, (object, is_certain, effect)): (usize, &(&PolicyObject, bool, Effect))| {
        let others = || {
            let all = effects.iter().enumerate();
            all.filter(move |(other, _)| *other != at)
                .map(|(_, other)| other)
        };
        let is_opened = others().any(|(other, is_certain, effect)| {
            *is_certain && effect.allows == Share::Everything && is_united(other.kind, object.kind)
        });
        let is_allowed = others().any(|(.., effect)| effect.allows > Share::Nothing);
        let limit = |denial: Denial, is_sure: bool| {
            if is_sure {
                denial
            } else {
                denial.min(Denial::Maybe)
            }
        };
        let isolation = match effect.allows {
            _ if !effect.isolates || is_opened => Denial::Nothing,
            Share::Everything => Denial::Nothing,
            Share::Some => Denial::Maybe,
            Share::Nothing => Denial::Everything,
        };
        let rules = match effect.denies {
            Share::Nothing => Denial::Nothing,
            Share::Some => Denial::Maybe,
            Share::Everything => Denial::Everything,
        };
        limit(isolation, *is_certain && !is_allowed).max(limit(
            rules,
            *is_certain && (effect.is_final || !is_allowed),
        ))
    };
    effects.iter().enumerate().map(denial).collect()
}

#[cfg(test)]
mod tests;
