//! Lists the policies of the API, of every kind that the cluster has.
//!
//! The kinds are found by discovery. One that the cluster does not have is left out; one that may not be listed is
//! reported as unread.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Namespace;
use kube::Api;
use kube::api::{ApiResource, DynamicObject, GroupVersionKind, ListParams};
use prober_core::evidence::policies::{ApiPolicies, PolicyEngine, PolicyKind};

use crate::kubernetes::api_client::ApiClient;
use crate::kubernetes::policies::{AgentPods, PolicyObject, denying, of_object};

/// The group of Calico's own storage, for clusters without its API server.
const CALICO_STORAGE: &str = "crd.projectcalico.org";

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
