//! Finds and removes what runs have left behind.

use std::fmt::Debug;
use std::time::Duration;

use futures::future::try_join_all;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{DeleteParams, ListParams, Preconditions, PropagationPolicy};
use kube::core::Status;
use kube::runtime::wait::{self, await_condition, conditions};
use kube::runtime::watcher;
use kube::{Api, Resource};
use serde::de::DeserializeOwned;
use thiserror::Error;

use crate::kubernetes::api_client::ApiClient;
use crate::kubernetes::api_error::ApiError;
use crate::kubernetes::labels;
use crate::one_shot::leftovers::{Leftover, LeftoverObject, ObjectKind, group_by_run};

/// How long things may take to be gone: a pod is given half a minute to end where nobody says otherwise.
const PATIENCE: Duration = Duration::from_mins(1);

/// Where leftovers are looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SearchScope {
    /// In the connection's namespace.
    Namespace,
    /// In all.
    AllNamespaces,
}

/// Why something may still be there.
#[derive(Debug, Error)]
pub enum CleanupError {
    /// The API server does not answer, or not to us.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// The removal was accepted and does not come to an end.
    #[error(
        "{} of run {run} in namespace {namespace} were told to go and are still there after {} s: is the kubelet of \
         their node alive? `kubectl -n {namespace} get pods -o wide -l prober.dev/run={run}` shows it",
        names(.objects), PATIENCE.as_secs()
    )]
    Timeout {
        /// Where.
        namespace: String,
        /// The run.
        run: String,
        /// What is still there.
        objects: Vec<LeftoverObject>,
    },
}

/// What is left of `run`, or of all runs.
pub async fn find(
    connection: &ApiClient,
    area: SearchScope,
    run: Option<&str>,
) -> Result<Vec<Leftover>, CleanupError> {
    let selector = ListParams::default().labels(&labels::run_selector(run));
    let (jobs, pods, services, slices) = futures::try_join!(
        list::<Job>(connection, area, &selector, "list jobs"),
        metadata::<Pod>(connection, area, &selector, ObjectKind::Pod, "list pods"),
        metadata::<Service>(
            connection,
            area,
            &selector,
            ObjectKind::Service,
            "list services"
        ),
        metadata::<EndpointSlice>(
            connection,
            area,
            &selector,
            ObjectKind::EndpointSlice,
            "list endpointslices"
        ),
    )?;
    Ok(group_by_run(&jobs, &[pods, services, slices].concat()))
}

/// Removes a run, and waits until it is gone.
///
/// The anchor is deleted in the foreground, so that it is gone only when all that it owns is:
/// <https://kubernetes.io/docs/concepts/architecture/garbage-collection/#foreground-deletion>
pub async fn remove(connection: &ApiClient, leftover: &Leftover) -> Result<(), CleanupError> {
    let targets: Vec<&LeftoverObject> = leftover
        .owner_job()
        .into_iter()
        .chain(leftover.unowned())
        .collect();
    let gone = try_join_all(
        targets
            .iter()
            .map(|thing| remove_object(connection, &leftover.namespace, thing)),
    );
    if let Ok(done) = tokio::time::timeout(PATIENCE, gone).await {
        return done.map(drop);
    }
    let remaining = find(connection, SearchScope::Namespace, Some(&leftover.run)).await?;
    Err(CleanupError::Timeout {
        namespace: leftover.namespace.clone(),
        run: leftover.run.clone(),
        objects: remaining
            .into_iter()
            .flat_map(|leftover| leftover.objects)
            .collect(),
    })
}

fn api<K>(connection: &ApiClient, area: SearchScope) -> Api<K>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
{
    match area {
        SearchScope::Namespace => Api::namespaced(connection.kube.clone(), &connection.namespace),
        SearchScope::AllNamespaces => Api::all(connection.kube.clone()),
    }
}

async fn list<K>(
    connection: &ApiClient,
    area: SearchScope,
    selector: &ListParams,
    task: &str,
) -> Result<Vec<K>, ApiError>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Clone
        + Debug
        + DeserializeOwned,
{
    let api = api::<K>(connection, area);
    let listed = connection.request(task, api.list(selector)).await?;
    Ok(listed.items)
}

async fn metadata<K>(
    connection: &ApiClient,
    area: SearchScope,
    selector: &ListParams,
    kind: ObjectKind,
    task: &str,
) -> Result<Vec<(ObjectKind, ObjectMeta)>, ApiError>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Clone
        + Debug
        + DeserializeOwned,
{
    let api = api::<K>(connection, area);
    let listed = connection
        .request(task, api.list_metadata(selector))
        .await?;
    Ok(listed
        .items
        .into_iter()
        .map(|item| (kind, item.metadata))
        .collect())
}

async fn remove_object(
    connection: &ApiClient,
    namespace: &str,
    thing: &LeftoverObject,
) -> Result<(), CleanupError> {
    let client = connection.kube.clone();
    let removed = match thing.kind {
        ObjectKind::Job => delete(Api::<Job>::namespaced(client, namespace), thing).await,
        ObjectKind::Pod => delete(Api::<Pod>::namespaced(client, namespace), thing).await,
        ObjectKind::Service => delete(Api::<Service>::namespaced(client, namespace), thing).await,
        ObjectKind::EndpointSlice => {
            delete(Api::<EndpointSlice>::namespaced(client, namespace), thing).await
        }
    };
    removed.map_err(|error| {
        let task = format!("remove {} {namespace}/{}", thing.kind, thing.name);
        CleanupError::Api(connection.explain_error(&task, &error))
    })
}

/// Deletes exactly this object, not one that has its name by now, and waits until it is gone.
async fn delete<K>(api: Api<K>, thing: &LeftoverObject) -> Result<(), kube::Error>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    let how = DeleteParams {
        propagation_policy: Some(match thing.kind {
            ObjectKind::Job => PropagationPolicy::Foreground,
            ObjectKind::Pod | ObjectKind::Service | ObjectKind::EndpointSlice => {
                PropagationPolicy::Background
            }
        }),
        preconditions: Some(Preconditions {
            uid: Some(thing.uid.clone()),
            ..Preconditions::default()
        }),
        ..DeleteParams::default()
    };
    match api.delete(&thing.name, &how).await {
        Ok(_) => {}
        // Gone already, or replaced by another of its name.
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => return Ok(()),
        Err(error) => return Err(error),
    }
    let gone = await_condition(api, &thing.name, conditions::is_deleted(&thing.uid)).await;
    match gone {
        Ok(_) => Ok(()),
        Err(wait::Error::ProbeFailed(error)) => Err(request_error(error)),
    }
}

/// The request that failed under a watch.
fn request_error(error: watcher::Error) -> kube::Error {
    match error {
        watcher::Error::InitialListFailed(error)
        | watcher::Error::WatchStartFailed(error)
        | watcher::Error::WatchFailed(error) => error,
        watcher::Error::WatchError(status) => kube::Error::Api(status),
        watcher::Error::NoResourceVersion => {
            kube::Error::Api(Status::failure("a watch came without a resourceVersion", "").boxed())
        }
    }
}

fn names(things: &[LeftoverObject]) -> String {
    let names: Vec<String> = things
        .iter()
        .map(|thing| format!("{} {}", thing.kind, thing.name))
        .collect();
    names.join(", ")
}
