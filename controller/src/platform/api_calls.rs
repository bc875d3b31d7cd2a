//! The requests of one run to the API server: each with a time limit of 5 s, few at a time, and repeated where they may succeed
//! later.

use std::fmt::Debug;
use std::time::Duration;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{Event, Pod};
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, Resource, ResourceExt as _};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::backoff::Backoff;
use crate::kubernetes::api_client::ApiClient;
use crate::kubernetes::api_error::ApiError;
use crate::kubernetes::labels::PROBER;
use crate::manifest::PLAN_ANNOTATION;
use crate::platform::request_limit::RequestLimit;

/// The time limit of a request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a request is repeated: an API server that is restarted is away for some seconds.
pub(super) const RETRY_TIMEOUT: Duration = Duration::from_secs(20);

/// The first and the longest pause between two attempts, before they are lengthened at random.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// The pod that a plan is written to.
#[derive(Clone, Debug)]
pub(super) struct PlanTarget {
    /// Its name.
    pub(super) pod: String,
    /// Its uid, if the pod is not the run's own: a later pod of the same name gets no plan.
    pub(super) uid: Option<String>,
}

/// Sends the requests of one run. Clones share their limit.
#[derive(Clone)]
pub(super) struct ApiCalls {
    client: ApiClient,
    limit: RequestLimit,
}

impl ApiCalls {
    pub(super) fn new(client: ApiClient) -> Self {
        Self {
            client,
            limit: RequestLimit::default(),
        }
    }

    /// Admits no more requests of these calls and their clones, and waits until none is open. Returns calls for the requests that
    /// follow.
    pub(super) async fn end(&self) -> Self {
        self.limit.close().await;
        Self::new(self.client.clone())
    }

    /// The API of one kind of objects in the run's namespace.
    pub(super) fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.kube.clone(), &self.client.namespace)
    }

    /// Creates or updates an object by server-side apply, which may be repeated.
    ///
    /// <https://kubernetes.io/docs/reference/using-api/server-side-apply/>
    pub(super) async fn apply<K>(&self, object: &K) -> Result<K, ApiError>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + Clone
            + Debug
            + Serialize
            + DeserializeOwned,
    {
        let name = object.name_any();
        let task = format!("create the {} {name}", K::kind(&()));
        let api = self.api::<K>();
        let params = PatchParams::apply(PROBER);
        let patch = Patch::Apply(object);
        self.repeat(&task, || api.patch(&name, &params, &patch))
            .await
    }

    /// Writes a plan to the annotation that the agent in a pod reads.
    pub(super) async fn write_plan(&self, target: &PlanTarget, plan: &str) -> Result<(), ApiError> {
        let task = format!("write the plan of the Pod {}", target.pod);
        self.annotate(&task, target, json!(plan)).await
    }

    /// Removes the annotation with the plan. A pod that is gone has none.
    pub(super) async fn remove_plan(&self, target: &PlanTarget) -> Result<(), ApiError> {
        let task = format!("remove the plan of the Pod {}", target.pod);
        self.annotate(&task, target, Value::Null).await
    }

    async fn annotate(&self, task: &str, target: &PlanTarget, plan: Value) -> Result<(), ApiError> {
        let PlanTarget { pod, uid } = target;
        let mut metadata = json!({"annotations": {PLAN_ANNOTATION: plan}});
        if let Some(uid) = uid {
            metadata["uid"] = json!(uid);
        }
        let patch = Patch::Merge(json!({"metadata": metadata}));
        let params = PatchParams {
            field_manager: Some(PROBER.to_owned()),
            ..PatchParams::default()
        };
        let pods: Api<Pod> = self.api();
        self.repeat(task, || pods.patch(pod, &params, &patch))
            .await
            .map(drop)
    }

    /// Lists the events of a pod.
    pub(super) async fn pod_events(&self, pod: &str) -> Result<Vec<Event>, ApiError> {
        let of_pod = ListParams::default().fields(&format!(
            "involvedObject.kind=Pod,involvedObject.name={pod}"
        ));
        let events: Api<Event> = self.api();
        self.request(
            &format!("list the events of the Pod {pod}"),
            events.list(&of_pod),
        )
        .await
        .map(|list| list.items)
    }

    /// Requests the version of the API server, to find out whether it responds.
    pub(super) async fn check_liveness(&self) -> Result<(), ApiError> {
        let version = self.client.kube.apiserver_version();
        let task = "report its version";
        let version = self.client.request_within(REQUEST_TIMEOUT, task, version);
        version.await.map(drop)
    }

    /// The error of a response that lacks required data.
    pub(super) fn invalid_response(&self, task: &str, cause: &str) -> ApiError {
        ApiError::InvalidResponse {
            server: self.client.server.clone(),
            task: task.to_owned(),
            cause: cause.to_owned(),
        }
    }

    /// Sends a request to do `task` once the limit admits it, and returns its response.
    pub(super) async fn request<T>(
        &self,
        task: &str,
        request: impl Future<Output = kube::Result<T>>,
    ) -> Result<T, ApiError> {
        let _permit = self.limit.admit().await;
        self.client
            .request_within(REQUEST_TIMEOUT, task, request)
            .await
    }

    /// Sends a request that may be repeated, for [`RETRY_TIMEOUT`] while it fails and may succeed later.
    pub(super) async fn repeat<T, F>(
        &self,
        task: &str,
        request: impl Fn() -> F,
    ) -> Result<T, ApiError>
    where
        F: Future<Output = kube::Result<T>>,
    {
        let mut pauses = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
        let mut failing_since: Option<Instant> = None;
        loop {
            // On the heap, because futures of requests are large.
            match self.request(task, Box::pin(request())).await {
                Err(error)
                    if error.is_retryable()
                        && failing_since.get_or_insert_with(Instant::now).elapsed()
                            < RETRY_TIMEOUT =>
                {
                    sleep(pauses.pause()).await;
                }
                response => return response,
            }
        }
    }
}
