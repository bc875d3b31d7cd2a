//! NetworkPolicies that hold the agents in: what they drop looks like a broken network, so a run says that they are there.

use std::collections::BTreeMap;

use k8s_openapi::api::networking::v1::{NetworkPolicy, NetworkPolicySpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};

/// The way of a packet, seen from the pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PolicyType {
    Ingress,
    Egress,
}

impl PolicyType {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Ingress => "ingress",
            Self::Egress => "egress",
        }
    }
}

/// The policies that close a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Isolation {
    /// Their names.
    pub policies: Vec<String>,
    /// The directions that they close.
    policy_types: Vec<PolicyType>,
}

impl Isolation {
    /// A sentence about them.
    pub fn note(&self, namespace: &str) -> String {
        let directions: Vec<_> = self.policy_types.iter().map(|one| one.as_str()).collect();
        format!(
            "NetworkPolicy {} in namespace {namespace} closes the agents' {} but for what is allowed: what it drops looks \
             like a broken network; probe from a namespace without one (-n), or allow the agents' traffic",
            self.policies.join(", "),
            directions.join(" and "),
        )
    }
}

/// The policies that hold in a pod with these labels; `None` where none does.
///
/// A pod that any policy selects is closed in the policy's directions, but for what some policy allows:
/// <https://kubernetes.io/docs/concepts/services-networking/network-policies/#the-two-sorts-of-pod-isolation>
pub fn isolation(
    policies: &[NetworkPolicy],
    labels: &BTreeMap<String, String>,
) -> Option<Isolation> {
    let selecting: Vec<(&str, &NetworkPolicySpec)> = policies
        .iter()
        .filter_map(|policy| Some((policy.metadata.name.as_deref()?, policy.spec.as_ref()?)))
        .filter(|(_, spec)| {
            let selector = spec.pod_selector.as_ref();
            selector.is_none_or(|selector| selects(selector, labels))
        })
        .collect();
    let mut directions = Vec::new();
    let mut names = Vec::new();
    for direction in [PolicyType::Ingress, PolicyType::Egress] {
        let isolating: Vec<_> = selecting
            .iter()
            .filter(|(_, spec)| isolates(spec, direction))
            .collect();
        if isolating.is_empty()
            || isolating
                .iter()
                .any(|(_, spec)| allows_all(spec, direction))
        {
            continue;
        }
        directions.push(direction);
        names.extend(isolating.iter().map(|(name, _)| (*name).to_owned()));
    }
    names.sort_unstable();
    names.dedup();
    (!directions.is_empty()).then_some(Isolation {
        policies: names,
        policy_types: directions,
    })
}

fn isolates(spec: &NetworkPolicySpec, direction: PolicyType) -> bool {
    match (&spec.policy_types, direction) {
        (Some(types), PolicyType::Ingress) => types.iter().any(|one| one == "Ingress"),
        (Some(types), PolicyType::Egress) => types.iter().any(|one| one == "Egress"),
        (None, PolicyType::Ingress) => true,
        (None, PolicyType::Egress) => spec.egress.as_ref().is_some_and(|rules| !rules.is_empty()),
    }
}

/// Whether one rule names neither peers nor ports: it allows all.
fn allows_all(spec: &NetworkPolicySpec, direction: PolicyType) -> bool {
    let is_empty = |peers: usize, ports: usize| peers == 0 && ports == 0;
    match direction {
        PolicyType::Ingress => spec.ingress.iter().flatten().any(|rule| {
            is_empty(
                rule.from.as_ref().map_or(0, Vec::len),
                rule.ports.as_ref().map_or(0, Vec::len),
            )
        }),
        PolicyType::Egress => spec.egress.iter().flatten().any(|rule| {
            is_empty(
                rule.to.as_ref().map_or(0, Vec::len),
                rule.ports.as_ref().map_or(0, Vec::len),
            )
        }),
    }
}

/// Whether a selector selects a pod with these labels; an empty one selects every pod.
fn selects(selector: &LabelSelector, labels: &BTreeMap<String, String>) -> bool {
    let equal = selector
        .match_labels
        .iter()
        .flatten()
        .all(|(key, value)| labels.get(key) == Some(value));
    let fulfilled = selector
        .match_expressions
        .iter()
        .flatten()
        .all(|expression| matches_requirement(expression, labels));
    equal && fulfilled
}

fn matches_requirement(
    expression: &LabelSelectorRequirement,
    labels: &BTreeMap<String, String>,
) -> bool {
    let value = labels.get(&expression.key);
    let is_listed = value.is_some_and(|value| {
        let mut values = expression.values.iter().flatten();
        values.any(|one| one == value)
    });
    match expression.operator.as_str() {
        "In" => is_listed,
        "NotIn" => !is_listed,
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        // No other operator is in the API: a newer one may well select.
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubernetes::labels;

    fn policies(specs: serde_json::Value) -> Vec<NetworkPolicy> {
        let serde_json::Value::Array(specs) = specs else {
            panic!("a list of specs")
        };
        specs
            .into_iter()
            .enumerate()
            .map(|(number, spec)| {
                let policy = serde_json::json!({"metadata": {"name": format!("policy-{number}")}, "spec": spec});
                serde_json::from_value(policy).expect("a policy")
            })
            .collect()
    }

    fn closed(specs: serde_json::Value) -> Option<String> {
        let isolating = isolation(&policies(specs), &labels::run_labels("prober-k3x9q2"))?;
        let note = isolating.note("prod");
        let (_, rest) = note.split_once("agents' ")?;
        rest.split_once(" but").map(|(way, _)| way.to_owned())
    }

    #[test]
    fn a_pod_is_closed_in_the_directions_of_the_policies_that_select_it() {
        let all = serde_json::json!({});
        for (specs, expected) in [
            (serde_json::json!([]), None),
            (
                serde_json::json!([{"podSelector": all, "policyTypes": ["Ingress"]}]),
                Some("ingress"),
            ),
            (
                serde_json::json!([{"podSelector": all, "policyTypes": ["Ingress", "Egress"]}]),
                Some("ingress and egress"),
            ),
            (
                serde_json::json!([{"podSelector": all, "egress": [{"ports": [{"port": 53}]}]}]),
                Some("ingress and egress"),
            ),
            (
                serde_json::json!([{"podSelector": {"matchLabels": {"app": "shop"}}, "policyTypes": ["Ingress"]}]),
                None,
            ),
            (
                serde_json::json!([{"podSelector": {"matchExpressions": [
                    {"key": "app", "operator": "NotIn", "values": ["shop"]},
                    {"key": "prober.dev/run", "operator": "Exists"},
                    {"key": "legacy", "operator": "DoesNotExist"},
                    {"key": "app.kubernetes.io/name", "operator": "In", "values": ["prober-agent"]}
                ]}, "policyTypes": ["Egress"]}]),
                Some("egress"),
            ),
        ] {
            assert_eq!(closed(specs.clone()).as_deref(), expected, "{specs}");
        }
    }

    #[test]
    fn a_policy_that_allows_all_opens_what_another_closes() {
        let specs = serde_json::json!([
            {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]},
            {"podSelector": {}, "policyTypes": ["Ingress"], "ingress": [{}]}
        ]);
        assert_eq!(closed(specs).as_deref(), Some("egress"));
    }

    #[test]
    fn the_sentence_names_the_policies() {
        let policies = policies(serde_json::json!([
            {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
        ]));
        insta::assert_snapshot!(
            (isolation(&policies, &labels::run_labels("prober-k3x9q2")).expect("closed"))
                .note("prod")
        );
    }
}
