//! Leaving: all that the anchor owns goes, then the anchor itself; where something stays, it is waited for.

use std::fmt::Debug;
use std::time::Duration;

use futures::future::join3;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{DeleteParams, ListParams};
use kube::runtime::wait::{await_condition, conditions};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;
use tokio::time::{Instant, sleep, timeout};

use crate::kubernetes::api_error::ApiError;
use crate::kubernetes::labels;
use crate::manifest::Manifest;
use crate::platform::api_calls::ApiCalls;

/// How long it may take until everything is gone.
const PATIENCE: Duration = Duration::from_secs(25);

/// How long an API server that refuses is asked again.
const INSISTENCE: Duration = Duration::from_secs(6);

/// The pause before it is.
const PAUSE: Duration = Duration::from_millis(500);

/// Whether something of a kind may still be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Left {
    /// All is gone.
    Nothing,
    /// A finalizer of somebody's holds it, or nobody could say.
    Perhaps,
}

/// Deletes all that the anchor owns, and then the anchor. What is not gone by then goes with the anchor, which is deleted in
/// the foreground: it is gone only when all is that it owns. Fails with a sentence on what is left.
///
/// <https://kubernetes.io/docs/concepts/architecture/garbage-collection/#foreground-deletion>
pub(super) async fn leave(calls: &ApiCalls, manifest: &Manifest) -> Result<(), String> {
    let Manifest { run, namespace, .. } = manifest;
    let by_itself = format!(
        "the cluster removes it by itself at most {} s after the run began, and `prober clean -n {namespace} --run {run}` \
         when it is told to",
        manifest.lifetime.as_secs()
    );
    // A run is waited for. A canary's agents go in their own time, and it needs no right to delete a pod.
    let is_awaited = manifest.check.is_none();
    let how = if is_awaited && delete_owned(calls, run).await == Left::Nothing {
        DeleteParams::background()
    } else {
        DeleteParams::foreground()
    };
    let jobs: Api<Job> = calls.api();
    let uid = match delete(calls, &jobs, run, &how).await {
        Ok(Some(uid)) => uid,
        Ok(None) => return Ok(()),
        Err(error) => {
            return Err(format!(
                "what the run placed could not be removed: {error}; {by_itself}"
            ));
        }
    };
    let gone = await_condition(jobs, run, conditions::is_deleted(&uid));
    match timeout(PATIENCE, gone).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(format!(
            "nobody could see whether what the run placed is gone: {error}; {by_itself}"
        )),
        Err(_) => Err(format!(
            "what the run placed is not gone after {} s; {by_itself}",
            PATIENCE.as_secs()
        )),
    }
}

/// Deletes all that the anchor owns. The garbage collector does it too, at a pace of its own: three requests for each object,
/// and forty a second (`--kube-api-qps` of the controller manager, doubled).
async fn delete_owned(calls: &ApiCalls, run: &str) -> Left {
    let (services, slices, pods) = join3(
        delete_all::<Service>(calls, run),
        delete_all::<EndpointSlice>(calls, run),
        delete_all::<Pod>(calls, run),
    )
    .await;
    services.max(slices).max(pods)
}

/// Deletes all of a kind, and asks once more, which finds what is still there.
async fn delete_all<K>(calls: &ApiCalls, run: &str) -> Left
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Clone
        + Debug
        + DeserializeOwned,
{
    let ours = ListParams::default().labels(&labels::run_selector(Some(run)));
    let how = DeleteParams::default();
    let all: Api<K> = calls.api();
    let task = format!("delete the {} of {run}", K::plural(&()));
    for _ in 0..2 {
        let deleted = all.delete_collection(&how, &ours);
        let Ok(found) = calls.request(&task, deleted).await else {
            break;
        };
        match found.left() {
            Some(found) if found.items.is_empty() => return Left::Nothing,
            Some(_) => {}
            None => break,
        }
    }
    Left::Perhaps
}

/// Asks for the anchor's deletion and tells its uid if that takes time; `None` if it is gone already.
async fn delete(
    calls: &ApiCalls,
    jobs: &Api<Job>,
    run: &str,
    how: &DeleteParams,
) -> Result<Option<String>, ApiError> {
    let task = format!("delete the Job {run}");
    let until = Instant::now() + INSISTENCE;
    loop {
        let asked = calls.request(&task, async {
            match jobs.delete(run, how).await {
                Ok(answer) => Ok(answer.left().and_then(|job| job.metadata.uid)),
                Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
                Err(error) => Err(error),
            }
        });
        match asked.await {
            Ok(uid) => return Ok(uid),
            Err(ApiError::Unreachable { .. }) if Instant::now() < until => sleep(PAUSE).await,
            Err(error) => return Err(error),
        }
    }
}
