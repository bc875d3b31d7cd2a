//! Finds the NetworkPolicies that isolate the agents. Packets that a policy drops look like a broken network, so a run notes
//! the policies.

use std::collections::BTreeMap;

use k8s_openapi::api::networking::v1::{NetworkPolicy, NetworkPolicySpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};

/// A direction of traffic as seen from the pod.
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

/// The policies that isolate a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Isolation {
    /// Their names, sorted.
    pub policies: Vec<String>,
    /// The directions in which the pod is isolated.
    policy_types: Vec<PolicyType>,
}

impl Isolation {
    /// A sentence about the policies, for the notes of a report.
    pub fn note(&self, namespace: &str) -> String {
        let directions: Vec<_> = self.policy_types.iter().map(|one| one.as_str()).collect();
        format!(
            "NetworkPolicy {} in namespace {namespace} restricts the agents' {} to what it allows: what it drops looks like \
             a broken network; probe from a namespace without one (-n), or allow the agents' traffic",
            self.policies.join(", "),
            directions.join(" and "),
        )
    }
}

/// Returns the policies that isolate a pod with these labels; `None` if there are none.
///
/// A pod that any policy selects is isolated in the directions of the policy, except for the traffic that some policy
/// allows:
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
    let mut policy_types = Vec::new();
    let mut names = Vec::new();
    for policy_type in [PolicyType::Ingress, PolicyType::Egress] {
        let isolating: Vec<_> = selecting
            .iter()
            .filter(|(_, spec)| isolates(spec, policy_type))
            .collect();
        if isolating.is_empty()
            || isolating
                .iter()
                .any(|(_, spec)| allows_all(spec, policy_type))
        {
            continue;
        }
        policy_types.push(policy_type);
        names.extend(isolating.iter().map(|(name, _)| (*name).to_owned()));
    }
    names.sort_unstable();
    names.dedup();
    (!policy_types.is_empty()).then_some(Isolation {
        policies: names,
        policy_types,
    })
}

fn isolates(spec: &NetworkPolicySpec, policy_type: PolicyType) -> bool {
    match (&spec.policy_types, policy_type) {
        (Some(types), PolicyType::Ingress) => types.iter().any(|one| one == "Ingress"),
        (Some(types), PolicyType::Egress) => types.iter().any(|one| one == "Egress"),
        (None, PolicyType::Ingress) => true,
        (None, PolicyType::Egress) => spec.egress.as_ref().is_some_and(|rules| !rules.is_empty()),
    }
}

/// Whether a rule of the policy names neither peers nor ports, and so allows all traffic.
fn allows_all(spec: &NetworkPolicySpec, policy_type: PolicyType) -> bool {
    let is_empty = |peers: usize, ports: usize| peers == 0 && ports == 0;
    match policy_type {
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

/// Whether the selector selects a pod with these labels. An empty selector selects every pod.
fn selects(selector: &LabelSelector, labels: &BTreeMap<String, String>) -> bool {
    let has_labels = selector
        .match_labels
        .iter()
        .flatten()
        .all(|(key, value)| labels.get(key) == Some(value));
    let meets_requirements = selector
        .match_expressions
        .iter()
        .flatten()
        .all(|requirement| matches_requirement(requirement, labels));
    has_labels && meets_requirements
}

fn matches_requirement(
    requirement: &LabelSelectorRequirement,
    labels: &BTreeMap<String, String>,
) -> bool {
    let value = labels.get(&requirement.key);
    let is_listed = value.is_some_and(|value| {
        let mut values = requirement.values.iter().flatten();
        values.any(|one| one == value)
    });
    match requirement.operator.as_str() {
        "In" => is_listed,
        "NotIn" => !is_listed,
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        // The API has no other operator. A future one may select the pod.
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

    fn isolated_directions(specs: serde_json::Value) -> Option<String> {
        let isolating = isolation(&policies(specs), &labels::run_labels("prober-k3x9q2"))?;
        let note = isolating.note("prod");
        let (_, rest) = note.split_once("agents' ")?;
        rest.split_once(" to what")
            .map(|(directions, _)| directions.to_owned())
    }

    #[test]
    fn a_pod_is_isolated_in_the_directions_of_the_policies_that_select_it() {
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
            assert_eq!(
                isolated_directions(specs.clone()).as_deref(),
                expected,
                "{specs}"
            );
        }
    }

    #[test]
    fn a_policy_that_allows_all_traffic_ends_the_isolation_by_another() {
        let specs = serde_json::json!([
            {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]},
            {"podSelector": {}, "policyTypes": ["Ingress"], "ingress": [{}]}
        ]);
        assert_eq!(isolated_directions(specs).as_deref(), Some("egress"));
    }

    #[test]
    fn the_note_names_the_policies() {
        let policies = policies(serde_json::json!([
            {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
        ]));
        insta::assert_snapshot!(
            (isolation(&policies, &labels::run_labels("prober-k3x9q2")).expect("isolated"))
                .note("prod")
        );
    }
}
