//! The policies of the API that may deny packets of the agents' pods: of Kubernetes, of the Network Policy API, of Calico and of
//! Cilium. Packets that a policy drops look like a broken network, so a run notes the policies.
//!
//! The kinds are found by discovery. One that the cluster does not have is left out; one that may not be listed is
//! reported as unread.

/// Calico's selectors.
mod calico_selector;
/// What one policy does.
mod effect;
/// The rules of each kind.
mod rules;
/// Label selectors.
mod selector;

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Namespace;
use kube::Api;
use kube::api::{ApiResource, DynamicObject, GroupVersionKind, ListParams};
use prober_core::evidence::policies::{ApiPolicies, ApiPolicy, Denial, PolicyEngine, PolicyKind};
use serde_json::Value;

use crate::kubernetes::api_client::ApiClient;
use effect::{Direction, Effect, Share};
pub use selector::AgentPods;

/// The group of Calico's own storage, for clusters without its API server.
const CALICO_STORAGE: &str = "crd.projectcalico.org";

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

/// Reads the policies that may deny packets of pods with these labels in the client's namespace.
///
/// Errors are no errors of a run: a kind that cannot be listed is among [`ApiPolicies::unread`].
pub async fn read(client: &ApiClient, labels: &BTreeMap<String, String>) -> ApiPolicies {
    let served = served_kinds(client).await;
    let lists = served.into_iter().map(|(kind, resources)| async move {
        for resource in &resources {
            if let Some(list) = list(client, kind, resource).await {
                return (kind, Some(list));
            }
        }
        (kind, None)
    });
    let lists = futures::future::join_all(lists).await;
    let unread = lists.iter().filter(|(_, list)| list.is_none());
    let unread = unread.map(|(kind, _)| *kind).collect();
    let objects: Vec<PolicyObject> = (lists.into_iter())
        .filter_map(|(_, list)| list)
        .flatten()
        .collect();
    // A NetworkPolicy selects pods of its own namespace alone.
    let is_plain = |object: &PolicyObject| object.kind == PolicyKind::NetworkPolicy;
    let namespace_labels = if objects.iter().all(is_plain) {
        None
    } else {
        namespace_labels(client).await
    };
    let pods = AgentPods {
        namespace: &client.namespace,
        namespace_labels: namespace_labels.as_ref(),
        labels,
    };
    ApiPolicies {
        denying: denying(&objects, &pods),
        unread,
    }
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

/// The kinds that the API server has, each with its resources, the best one first.
async fn served_kinds(client: &ApiClient) -> Vec<(PolicyKind, Vec<ApiResource>)> {
    let groups = client
        .request("list API groups", client.kube.list_api_groups())
        .await
        .map(|list| list.groups)
        .unwrap_or_default();
    let mut served: Vec<(String, String, String)> = Vec::new();
    for group in groups {
        let is_of_policies = |kind: &&PolicyKind| groups_of(**kind).contains(&group.name.as_str());
        // NetworkPolicies are in every cluster.
        let is_known = group.name == PolicyKind::NetworkPolicy.group();
        if is_known || !PolicyKind::ALL.iter().any(|kind| is_of_policies(&kind)) {
            continue;
        }
        for version in group.versions {
            let task = format!("list resources of {}", version.group_version);
            let resources = client.kube.list_api_group_resources(&version.group_version);
            let Ok(list) = client.request(&task, resources).await else {
                continue;
            };
            served.extend(
                list.resources
                    .into_iter()
                    .map(|resource| (group.name.clone(), version.version.clone(), resource.name)),
            );
        }
    }
    let plain = PolicyKind::NetworkPolicy;
    served.push((
        plain.group().to_owned(),
        "v1".to_owned(),
        plain.resource().to_owned(),
    ));
    let of_kind = |kind: PolicyKind| -> Vec<ApiResource> {
        let mut resources = Vec::new();
        for wanted in groups_of(kind) {
            let mut versions = served
                .iter()
                .filter(|(group, _, name)| group == wanted && name == kind.resource());
            resources.extend(versions.next().map(|(group, version, _)| {
                let kind_of = GroupVersionKind::gvk(group, version, kind.as_str());
                ApiResource::from_gvk_with_plural(&kind_of, kind.resource())
            }));
        }
        resources
    };
    let all = PolicyKind::ALL.iter().map(|kind| (*kind, of_kind(*kind)));
    all.filter(|(_, resources)| !resources.is_empty()).collect()
}

/// The API groups that may have a kind, the best one first.
fn groups_of(kind: PolicyKind) -> Vec<&'static str> {
    match kind.engine() {
        PolicyEngine::Calico => vec![kind.group(), CALICO_STORAGE],
        PolicyEngine::Any | PolicyEngine::Cilium => vec![kind.group()],
    }
}

/// Lists the objects of a kind; `None` if that fails.
async fn list(
    client: &ApiClient,
    kind: PolicyKind,
    resource: &ApiResource,
) -> Option<Vec<PolicyObject>> {
    let api: Api<DynamicObject> = if kind.is_namespaced() {
        Api::namespaced_with(client.kube.clone(), &client.namespace, resource)
    } else {
        Api::all_with(client.kube.clone(), resource)
    };
    let task = format!("list {}", resource.plural);
    let all = ListParams::default();
    let list = client.request(&task, api.list(&all)).await.ok()?;
    Some(
        list.items
            .into_iter()
            .flat_map(|object| of_object(kind, object))
            .collect(),
    )
}

/// The policies of an object: one of Cilium may have several specs.
fn of_object(kind: PolicyKind, mut object: DynamicObject) -> Vec<PolicyObject> {
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

/// Returns the labels of the client's namespace; `None` without the permission.
async fn namespace_labels(client: &ApiClient) -> Option<BTreeMap<String, String>> {
    let api = Api::<Namespace>::all(client.kube.clone());
    let task = "get the labels of the namespace";
    let namespace = client
        .request(task, api.get_metadata(&client.namespace))
        .await
        .ok()?;
    Some(namespace.metadata.labels.unwrap_or_default())
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
