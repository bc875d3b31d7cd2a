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
use tokio::time::{sleep, timeout};

use crate::backoff::Backoff;
use crate::kubernetes::api_client::ApiClient;
use crate::kubernetes::api_error::ApiError;
use crate::kubernetes::labels;
use crate::one_shot::leftovers::{Leftover, LeftoverObject, ObjectKind, group_by_run};

/// How long a removal may take. The default grace period of a pod is half a minute.
const REMOVAL_TIMEOUT: Duration = Duration::from_mins(1);

/// The first and the longest pause between two searches for what remains, before they are lengthened at random.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Where leftovers are looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SearchScope {
    /// In the namespace of the client.
    Namespace,
    /// In all namespaces.
    AllNamespaces,
}

/// Why objects may remain.
#[derive(Debug, Error)]
pub enum CleanupError {
    /// A request to the API server failed.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// The objects were deleted and still exist.
    #[error(
        "{} of run {run} in namespace {namespace} were deleted and still exist after {} s: is the kubelet of their \
         node up? `kubectl -n {namespace} get pods -o wide -l prober.dev/run={run}` shows the node",
        object_names(.objects), REMOVAL_TIMEOUT.as_secs()
    )]
    Timeout {
        /// The namespace.
        namespace: String,
        /// The run.
        run: String,
        /// The objects that remain.
        objects: Vec<LeftoverObject>,
    },
}

/// Returns the leftovers of `run`, or of all runs.
///
/// # Errors
///
/// If objects cannot be listed.
pub async fn find(
    client: &ApiClient,
    area: SearchScope,
    run: Option<&str>,
) -> Result<Vec<Leftover>, CleanupError> {
    let selector = ListParams::default().labels(&labels::run_selector(run));
    let (jobs, pods, services, slices) = futures::try_join!(
        list::<Job>(client, area, &selector, "list jobs"),
        metadata::<Pod>(client, area, &selector, ObjectKind::Pod, "list pods"),
        metadata::<Service>(
            client,
            area,
            &selector,
            ObjectKind::Service,
            "list services"
        ),
        metadata::<EndpointSlice>(
            client,
            area,
            &selector,
            ObjectKind::EndpointSlice,
            "list endpointslices"
        ),
    )?;
    Ok(group_by_run(&jobs, &[pods, services, slices].concat()))
}

/// Removes the leftovers of a run, and waits until they are gone: the garbage collector removes what the owner Job owns, once
/// the Job is deleted.
///
/// # Errors
///
/// If an object cannot be deleted, or remains for a minute.
pub async fn remove(client: &ApiClient, leftover: &Leftover) -> Result<(), CleanupError> {
    let targets: Vec<&LeftoverObject> = leftover
        .owner_job()
        .into_iter()
        .chain(leftover.unowned())
        .collect();
    let in_namespace = ApiClient {
        namespace: leftover.namespace.clone(),
        ..client.clone()
    };
    let gone = async {
        let objects = targets.iter();
        try_join_all(objects.map(|object| remove_object(client, &leftover.namespace, object)))
            .await?;
        let mut pauses = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
        let scope = SearchScope::Namespace;
        while !find(&in_namespace, scope, Some(&leftover.run))
            .await?
            .is_empty()
        {
            sleep(pauses.pause()).await;
        }
        Ok(())
    };
    if let Ok(done) = timeout(REMOVAL_TIMEOUT, gone).await {
        return done;
    }
    let remaining = find(&in_namespace, SearchScope::Namespace, Some(&leftover.run)).await?;
    Err(CleanupError::Timeout {
        namespace: leftover.namespace.clone(),
        run: leftover.run.clone(),
        objects: remaining
            .into_iter()
            .flat_map(|leftover| leftover.objects)
            .collect(),
    })
}

fn api<K>(client: &ApiClient, area: SearchScope) -> Api<K>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
{
    match area {
        SearchScope::Namespace => Api::namespaced(client.kube.clone(), &client.namespace),
        SearchScope::AllNamespaces => Api::all(client.kube.clone()),
    }
}

async fn list<K>(
    client: &ApiClient,
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
    let api = api::<K>(client, area);
    let listed = client.request(task, api.list(selector)).await?;
    Ok(listed.items)
}

async fn metadata<K>(
    client: &ApiClient,
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
    let api = api::<K>(client, area);
    let listed = client.request(task, api.list_metadata(selector)).await?;
    Ok(listed
        .items
        .into_iter()
        .map(|item| (kind, item.metadata))
        .collect())
}

async fn remove_object(
    client: &ApiClient,
    namespace: &str,
    object: &LeftoverObject,
) -> Result<(), CleanupError> {
    let kube = client.kube.clone();
    let removed = match object.kind {
        ObjectKind::Job => delete(Api::<Job>::namespaced(kube, namespace), object).await,
        ObjectKind::Pod => delete(Api::<Pod>::namespaced(kube, namespace), object).await,
        ObjectKind::Service => delete(Api::<Service>::namespaced(kube, namespace), object).await,
        ObjectKind::EndpointSlice => {
            delete(Api::<EndpointSlice>::namespaced(kube, namespace), object).await
        }
    };
    removed.map_err(|error| {
        let task = format!("remove {} {namespace}/{}", object.kind, object.name);
        CleanupError::Api(client.explain_error(&task, &error))
    })
}

/// Deletes the object with this uid, not another of the same name, and waits until it is gone.
async fn delete<K>(api: Api<K>, object: &LeftoverObject) -> Result<(), kube::Error>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    let params = DeleteParams {
        propagation_policy: Some(PropagationPolicy::Background),
        preconditions: Some(Preconditions {
            uid: Some(object.uid.clone()),
            ..Preconditions::default()
        }),
        ..DeleteParams::default()
    };
    match api.delete(&object.name, &params).await {
        Ok(_) => {}
        // The object is gone, or another one has its name.
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => return Ok(()),
        Err(error) => return Err(error),
    }
    let gone = await_condition(api, &object.name, conditions::is_deleted(&object.uid)).await;
    match gone {
        Ok(_) => Ok(()),
        Err(wait::Error::ProbeFailed(error)) => Err(request_error(error)),
    }
}

/// The error of the request behind a watch.
fn request_error(error: watcher::Error) -> kube::Error {
    match error {
        watcher::Error::InitialListFailed(error)
        | watcher::Error::WatchStartFailed(error)
        | watcher::Error::WatchFailed(error) => error,
        watcher::Error::WatchError(status) => kube::Error::Api(status),
        watcher::Error::NoResourceVersion => {
            kube::Error::Api(Status::failure("the watch returned no resourceVersion", "").boxed())
        }
    }
}

fn object_names(objects: &[LeftoverObject]) -> String {
    let names: Vec<String> = objects
        .iter()
        .map(|object| format!("{} {}", object.kind, object.name))
        .collect();
    names.join(", ")
}
