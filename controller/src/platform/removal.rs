//! Deletes the objects of a run, then its owner Job, and waits until they are gone.

use std::fmt::Debug;
use std::time::Duration;

use futures::future::join3;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{DeleteParams, ListParams};
use kube::runtime::wait::{self, await_condition, conditions};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;
use tokio::time::{sleep, timeout};

use crate::kubernetes::api_error::ApiError;
use crate::kubernetes::labels;
use crate::manifest::Manifest;
use crate::platform::api_calls::ApiCalls;

/// How long the removal may take.
const REMOVAL_TIMEOUT: Duration = Duration::from_secs(25);

/// The pause before objects that remain are deleted again.
const REMAINING_PAUSE: Duration = Duration::from_millis(500);

/// Whether objects of a kind remain after their deletion.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Remaining {
    /// None remain.
    No,
    /// Some may remain: a finalizer holds them, or a request failed.
    Perhaps,
}

/// Deletes the objects that the owner Job owns, then the Job, and waits until all of them are gone. The Job of a canary is deleted
/// in the foreground: it is gone only when its objects are.
///
/// <https://kubernetes.io/docs/concepts/architecture/garbage-collection/#foreground-deletion>
///
/// # Errors
///
/// A sentence about what remains.
pub(super) async fn remove_run(calls: &ApiCalls, manifest: &Manifest) -> Result<(), String> {
    let Manifest { run, namespace, .. } = manifest;
    let outlook = format!(
        "the cluster removes it by itself at most {} s after the run began, and `prober clean -n {namespace} --run {run}` \
         removes it at once",
        manifest.lifetime.as_secs()
    );
    // A one-shot run deletes its objects. A canary does not, and so needs no permission to delete pods.
    let is_one_shot = manifest.check.is_none();
    let (params, mut remaining) = if is_one_shot {
        (
            DeleteParams::background(),
            Box::pin(delete_owned(calls, run)).await,
        )
    } else {
        (DeleteParams::foreground(), Remaining::No)
    };
    let jobs: Api<Job> = calls.api();
    let uid = match delete_job(calls, &jobs, run, &params).await {
        Ok(uid) => uid,
        Err(error) => {
            return Err(format!(
                "the objects of the run could not be removed: {error}; {outlook}"
            ));
        }
    };
    let gone = async {
        if let Some(uid) = &uid {
            await_condition(jobs, run, conditions::is_deleted(uid)).await?;
        }
        while remaining == Remaining::Perhaps {
            sleep(REMAINING_PAUSE).await;
            remaining = Box::pin(delete_owned(calls, run)).await;
        }
        Ok::<(), wait::Error>(())
    };
    match timeout(REMOVAL_TIMEOUT, gone).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(format!(
            "the removal of the objects of the run could not be watched: {error}; {outlook}"
        )),
        Err(_) => Err(format!(
            "the objects of the run are not gone after {} s; {outlook}",
            REMOVAL_TIMEOUT.as_secs()
        )),
    }
}

/// Deletes the objects that the owner Job owns. The garbage collector would do it too, but more slowly: it sends three
/// requests for each object, and forty a second (`--kube-api-qps` of the controller manager, doubled).
async fn delete_owned(calls: &ApiCalls, run: &str) -> Remaining {
    let (services, slices, pods) = join3(
        delete_all::<Service>(calls, run),
        delete_all::<EndpointSlice>(calls, run),
        delete_all::<Pod>(calls, run),
    )
    .await;
    services.max(slices).max(pods)
}

/// Deletes the run's objects of one kind. A second deletion finds the objects that remain.
async fn delete_all<K>(calls: &ApiCalls, run: &str) -> Remaining
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Clone
        + Debug
        + DeserializeOwned,
{
    let of_run = ListParams::default().labels(&labels::run_selector(Some(run)));
    let params = DeleteParams::default();
    let api: Api<K> = calls.api();
    let task = format!("delete the {} of {run}", K::plural(&()));
    for _ in 0..2 {
        let deletion = api.delete_collection(&params, &of_run);
        let Ok(response) = calls.request(&task, deletion).await else {
            break;
        };
        match response.left() {
            Some(found) if found.items.is_empty() => return Remaining::No,
            Some(_) => {}
            None => break,
        }
    }
    Remaining::Perhaps
}

/// Deletes the owner Job, again and again where that may succeed later. Returns its uid if the deletion is under way; `None` if the Job is gone.
async fn delete_job(
    calls: &ApiCalls,
    jobs: &Api<Job>,
    run: &str,
    params: &DeleteParams,
) -> Result<Option<String>, ApiError> {
    let task = format!("delete the Job {run}");
    calls
        .repeat(&task, || async {
            match jobs.delete(run, params).await {
                Ok(response) => Ok(response.left().and_then(|job| job.metadata.uid)),
                Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
                Err(error) => Err(error),
            }
        })
        .await
}
