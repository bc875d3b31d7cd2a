//! RequestCount to the API server, each of which answers or fails within a bound, with what it was for in its error.

use std::fmt::Debug;
use std::time::Duration;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{Event, Pod};
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, Resource, ResourceExt as _};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::kubernetes::api_client::ApiClient;
use crate::kubernetes::api_error::ApiError;
use crate::kubernetes::labels::PROBER;
use crate::manifest::PLAN_ANNOTATION;

/// How long an API server may take to answer.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// Makes the requests of one run.
#[derive(Clone)]
pub(super) struct ApiCalls {
    connection: ApiClient,
}

impl ApiCalls {
    pub(super) fn new(connection: ApiClient) -> Self {
        Self { connection }
    }

    /// Objects of one kind in the run's namespace.
    pub(super) fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.connection.kube.clone(), &self.connection.namespace)
    }

    /// Makes an object as it is written: applied again, it changes nothing.
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
        self.request(&task, api.patch(&name, &params, &Patch::Apply(object)))
            .await
    }

    /// Writes an agent's plan where its pod reads it.
    pub(super) async fn write_plan(&self, pod: &str, plan: &str) -> Result<(), ApiError> {
        let patch = Patch::Merge(json!({"metadata": {"annotations": {PLAN_ANNOTATION: plan}}}));
        let params = PatchParams {
            field_manager: Some(PROBER.to_owned()),
            ..PatchParams::default()
        };
        let pods: Api<Pod> = self.api();
        self.request(
            &format!("write the plan of the Pod {pod}"),
            pods.patch(pod, &params, &patch),
        )
        .await
        .map(drop)
    }

    /// What was said about a pod, which is asked only when it is stuck.
    pub(super) async fn events_about(&self, pod: &str) -> Result<Vec<Event>, ApiError> {
        let about = ListParams::default().fields(&format!(
            "involvedObject.kind=Pod,involvedObject.name={pod}"
        ));
        let events: Api<Event> = self.api();
        self.request(
            &format!("list the events of the Pod {pod}"),
            events.list(&about),
        )
        .await
        .map(|list| list.items)
    }

    /// Whether the API server answers at all.
    pub(super) async fn check_liveness(&self) -> Result<(), ApiError> {
        let version = self.connection.kube.apiserver_version();
        let answer = self.request("ask whether it is there", version).await;
        answer.map(drop)
    }

    /// What an answer is that lacks what it must have.
    pub(super) fn invalid_response(&self, task: &str, cause: &str) -> ApiError {
        ApiError::InvalidResponse {
            server: self.connection.server.clone(),
            task: task.to_owned(),
            cause: cause.to_owned(),
        }
    }

    /// The answer to a request, or why there is none.
    pub(super) fn request<T>(
        &self,
        task: &str,
        request: impl Future<Output = kube::Result<T>>,
    ) -> impl Future<Output = Result<T, ApiError>> {
        self.connection
            .request_within(REQUEST_TIMEOUT, task, request)
    }
}
