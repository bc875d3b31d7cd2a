//! Policies as the API has them, and what each denies of the agents' packets.

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::kubernetes::labels;

const RUN: &str = "prober-k3x9q2";

fn object(kind: PolicyKind, name: &str, spec: Value) -> PolicyObject {
    PolicyObject {
        kind,
        namespace: kind.is_namespaced().then(|| "prod".to_owned()),
        name: name.to_owned(),
        spec,
    }
}

/// What these policies deny, as sentences; the namespace has the label `team: net`.
fn said(objects: &[PolicyObject]) -> Vec<String> {
    let namespace = BTreeMap::from([
        ("kubernetes.io/metadata.name".to_owned(), "prod".to_owned()),
        ("team".to_owned(), "net".to_owned()),
    ]);
    sentences(objects, Some(&namespace))
}

fn sentences(
    objects: &[PolicyObject],
    namespace_labels: Option<&BTreeMap<String, String>>,
) -> Vec<String> {
    let labels = labels::run_labels(RUN);
    let pods = AgentPods {
        namespace: "prod",
        namespace_labels,
        labels: &labels,
    };
    let found = denying(objects, &pods);
    let sentences = found.iter().map(ApiPolicy::sentence);
    sentences
        .map(|said| {
            let (policy, of) = said
                .split_once(" of the agents' pods")
                .unwrap_or((&said, ""));
            assert_eq!(of, "");
            policy.to_owned()
        })
        .collect()
}

/// What a policy of a kind denies alone.
fn alone(kind: PolicyKind, spec: Value) -> String {
    let said = said(&[object(kind, "p", spec)]);
    let [only] = &said[..] else {
        assert!(said.is_empty(), "{said:?}");
        return "nothing".to_owned();
    };
    match (only.split_once(" denies "), only.split_once(" may deny ")) {
        (Some((_, all)), _) => format!("all {all}"),
        (None, Some((_, some))) => format!("some {some}"),
        (None, None) => only.clone(),
    }
}

#[test]
fn network_policies_isolate_the_pods_that_they_select() {
    let all = json!({});
    for (spec, expected) in [
        (
            json!({"podSelector": all, "policyTypes": ["Ingress"]}),
            "all ingress",
        ),
        (
            json!({"podSelector": all, "policyTypes": ["Ingress", "Egress"]}),
            "all ingress and egress",
        ),
        (
            json!({"podSelector": all, "policyTypes": ["Egress"], "egress": [{"ports": [{"port": 53}]}]}),
            "some egress",
        ),
        (
            json!({"podSelector": all, "egress": [{"ports": [{"port": 53}]}]}),
            "all ingress and may deny egress",
        ),
        (
            json!({"podSelector": {"matchLabels": {"app": "shop"}}, "policyTypes": ["Ingress"]}),
            "nothing",
        ),
        (
            json!({"podSelector": {"matchExpressions": [
                {"key": "app", "operator": "NotIn", "values": ["shop"]},
                {"key": "prober.dev/run", "operator": "Exists"},
                {"key": "legacy", "operator": "DoesNotExist"},
                {"key": "app.kubernetes.io/name", "operator": "In", "values": ["prober-agent"]}
            ]}, "policyTypes": ["Egress"]}),
            "all egress",
        ),
        (json!({"podSelector": all, "ingress": [{}]}), "nothing"),
    ] {
        let denied = alone(PolicyKind::NetworkPolicy, spec.clone());
        assert_eq!(denied, expected, "{spec}");
    }
}

#[test]
fn a_policy_that_allows_all_traffic_ends_the_isolation_by_another() {
    let of = |name, spec| object(PolicyKind::NetworkPolicy, name, spec);
    let denied = said(&[
        of(
            "closed",
            json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}),
        ),
        of(
            "open",
            json!({"podSelector": {}, "policyTypes": ["Ingress"], "ingress": [{}]}),
        ),
    ]);
    assert_eq!(
        denied,
        ["NetworkPolicy closed in namespace prod denies egress"]
    );
    // One that allows a part leaves the rest denied.
    let denied = said(&[
        of(
            "closed",
            json!({"podSelector": {}, "policyTypes": ["Ingress"]}),
        ),
        of(
            "web",
            json!({"podSelector": {}, "ingress": [{"ports": [{"port": 80}]}]}),
        ),
    ]);
    let expected = [
        "NetworkPolicy closed in namespace prod may deny ingress",
        "NetworkPolicy web in namespace prod may deny ingress",
    ];
    assert_eq!(denied, expected);
}

#[test]
fn a_policy_of_cilium_isolates_unless_it_says_otherwise() {
    let kind = PolicyKind::CiliumClusterwideNetworkPolicy;
    let all = json!({});
    for (spec, expected) in [
        (
            json!({"endpointSelector": all, "ingress": [{}]}),
            "all ingress",
        ),
        (json!({"endpointSelector": all, "ingress": []}), "nothing"),
        (
            json!({"endpointSelector": all, "ingress": [{}], "enableDefaultDeny": {"ingress": false}}),
            "nothing",
        ),
        (
            json!({"endpointSelector": all, "egress": [{"toPorts": [{"ports": [{"port": "53"}]}]}]}),
            "some egress",
        ),
        (
            json!({"endpointSelector": all, "ingress": [{"fromEntities": ["all"]}]}),
            "nothing",
        ),
        (
            json!({"endpointSelector": all, "ingress": [{"fromEntities": ["all"]}],
                   "ingressDeny": [{"fromEndpoints": [{}]}]}),
            "all ingress",
        ),
        (json!({"nodeSelector": all, "ingress": [{}]}), "nothing"),
        (
            json!({"endpointSelector": {"matchLabels": {"k8s:io.kubernetes.pod.namespace": "prod"}}, "ingress": [{}]}),
            "all ingress",
        ),
        (
            json!({"endpointSelector": {"matchLabels": {"k8s:io.cilium.k8s.namespace.labels.team": "web"}}, "ingress": [{}]}),
            "nothing",
        ),
        (
            json!({"endpointSelector": {"matchLabels": {"io.cilium.k8s.policy.serviceaccount": "default"}}, "ingress": [{}]}),
            "some ingress",
        ),
    ] {
        assert_eq!(alone(kind, spec.clone()), expected, "{spec}");
    }
}

#[test]
fn rules_of_calico_apply_in_their_order() {
    let kind = PolicyKind::CalicoGlobalNetworkPolicy;
    for (spec, expected) in [
        (
            json!({"selector": "all()", "types": ["Ingress", "Egress"]}),
            "all ingress and egress",
        ),
        (
            json!({"selector": "projectcalico.org/orchestrator == 'k8s'"}),
            "all ingress",
        ),
        (json!({"namespaceSelector": "team == 'web'"}), "nothing"),
        (
            json!({"namespaceSelector": "projectcalico.org/name == 'prod'"}),
            "all ingress",
        ),
        (json!({"selector": "app == 'shop'"}), "nothing"),
        (json!({"selector": "app is 'shop'"}), "some ingress"),
        (
            json!({"serviceAccountSelector": "role == 'x'"}),
            "some ingress",
        ),
        (
            json!({"selector": "all()", "ingress": [{"action": "Allow"}]}),
            "nothing",
        ),
        (
            json!({"ingress": [{"action": "Log"}, {"action": "Deny"}, {"action": "Allow"}]}),
            "all ingress",
        ),
        (
            json!({"ingress": [{"action": "Allow", "protocol": "UDP"}]}),
            "some ingress",
        ),
        (
            json!({"egress": [{"action": "Deny", "destination": {"ports": [80]}}, {"action": "Allow"}]}),
            "some egress",
        ),
        (json!({"applyOnForward": true}), "nothing"),
    ] {
        assert_eq!(alone(kind, spec.clone()), expected, "{spec}");
    }
}

#[test]
fn policies_of_administrators_deny_by_their_rules_alone() {
    let everywhere = json!([{"namespaces": {}}]);
    for (kind, spec, expected) in [
        (
            PolicyKind::AdminNetworkPolicy,
            json!({"subject": {"namespaces": {}}, "ingress": [{"action": "Deny", "from": everywhere}]}),
            "all ingress",
        ),
        (
            PolicyKind::AdminNetworkPolicy,
            json!({"subject": {"namespaces": {"matchLabels": {"team": "net"}}},
                   "ingress": [{"action": "Deny", "from": everywhere, "ports": [{"portNumber": {"port": 80}}]}]}),
            "some ingress",
        ),
        (
            PolicyKind::BaselineAdminNetworkPolicy,
            json!({"subject": {"pods": {"namespaceSelector": {}, "podSelector": {"matchLabels": {"app": "shop"}}}},
                   "ingress": [{"action": "Deny", "from": everywhere}]}),
            "nothing",
        ),
        (
            PolicyKind::ClusterNetworkPolicy,
            json!({"tier": "Admin", "subject": {"namespaces": {}},
                   "egress": [{"action": "Accept", "to": everywhere}, {"action": "Deny", "to": everywhere}]}),
            "nothing",
        ),
        (PolicyKind::AdminNetworkPolicy, json!({}), "nothing"),
    ] {
        assert_eq!(alone(kind, spec.clone()), expected, "{spec}");
    }
}

#[test]
fn what_another_policy_may_allow_is_not_denied_for_certain() {
    let allow = object(
        PolicyKind::AdminNetworkPolicy,
        "allow",
        json!({"subject": {"namespaces": {}}, "ingress": [{"action": "Allow", "from": [{"namespaces": {}}]}]}),
    );
    let isolate = object(
        PolicyKind::NetworkPolicy,
        "closed",
        json!({"podSelector": {}, "policyTypes": ["Ingress"]}),
    );
    let deny = object(
        PolicyKind::CiliumNetworkPolicy,
        "deny",
        json!({"endpointSelector": {}, "ingressDeny": [{"fromEntities": ["all"]}]}),
    );
    assert_eq!(
        said(&[allow, isolate, deny]),
        [
            "NetworkPolicy closed in namespace prod may deny ingress",
            "CiliumNetworkPolicy deny in namespace prod denies ingress"
        ]
    );
}

#[test]
fn a_namespace_whose_labels_are_not_readable_may_be_selected() {
    let policy = object(
        PolicyKind::AdminNetworkPolicy,
        "p",
        json!({"subject": {"namespaces": {"matchLabels": {"team": "net"}}},
               "ingress": [{"action": "Deny", "from": [{"namespaces": {}}]}]}),
    );
    assert_eq!(
        said(std::slice::from_ref(&policy)),
        ["AdminNetworkPolicy p denies ingress"]
    );
    assert_eq!(
        sentences(&[policy], None),
        ["AdminNetworkPolicy p may deny ingress"]
    );
}

#[test]
fn an_object_of_cilium_has_several_specs_and_one_of_calicos_storage_its_tier() {
    let object = |value: Value| serde_json::from_value::<DynamicObject>(value).expect("an object");
    let cilium = object(json!({"metadata": {"name": "two", "namespace": "prod"},
        "specs": [{"endpointSelector": {}}, {"nodeSelector": {}}]}));
    assert_eq!(of_object(PolicyKind::CiliumNetworkPolicy, cilium).len(), 2);
    let calico = object(json!({"metadata": {"name": "default.deny-all"}, "spec": {}}));
    let [policy] = &of_object(PolicyKind::CalicoGlobalNetworkPolicy, calico)[..] else {
        panic!("one policy")
    };
    assert_eq!(policy.name, "deny-all");
}

#[test]
fn the_notes_name_the_policies() {
    let policies = ApiPolicies {
        denying: {
            let labels = labels::run_labels(RUN);
            let pods = AgentPods {
                namespace: "prod",
                namespace_labels: None,
                labels: &labels,
            };
            let closed = json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"]});
            denying(
                &[
                    object(PolicyKind::NetworkPolicy, "policy-0", closed),
                    object(
                        PolicyKind::CalicoGlobalNetworkPolicy,
                        "lock-down",
                        json!({}),
                    ),
                ],
                &pods,
            )
        },
        unread: Vec::new(),
    };
    insta::assert_snapshot!(notes(&policies, "prod").join("\n"));
}

/// Any JSON.
fn json() -> impl Strategy<Value = Value> {
    let keys = prop::sample::select(vec![
        "ingress",
        "egress",
        "ingressDeny",
        "types",
        "action",
        "from",
        "fromEndpoints",
        "namespaces",
        "matchLabels",
        "matchExpressions",
        "podSelector",
        "endpointSelector",
        "selector",
        "subject",
        "key",
        "operator",
        "values",
    ]);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "(Deny|Allow|In|all\\(\\)|has\\(a\\)|[a-z]{0,4})".prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 40, 4, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(keys.clone().prop_map(str::to_owned), inner, 0..4)
                .prop_map(Value::from_iter),
        ]
    })
}

proptest! {
    #[test]
    fn every_spec_is_evaluated(specs in prop::collection::vec(json(), 0..4)) {
        for kind in PolicyKind::ALL {
            let objects: Vec<_> = specs.iter().map(|spec| object(*kind, "p", spec.clone())).collect();
            said(&objects);
        }
    }
}
