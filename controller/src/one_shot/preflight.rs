//! Checks whether a run can start, before it places any object: permissions, nodes, admission of its pods, policies.
//! This module sends the requests; [`crate::one_shot::rbac`], [`crate::one_shot::node_selection`] and
//! [`crate::one_shot::admission`] evaluate the responses.

use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::Api;
use kube::api::PostParams;
use kube::core::Status;
use prober_core::evidence::policies::ApiPolicies;
use thiserror::Error;

use crate::kubernetes::api_client::ApiClient;
use crate::kubernetes::api_error::ApiError;
use crate::kubernetes::labels::{self, PROBER};
use crate::kubernetes::node_choice::NodeChoice;
use crate::kubernetes::node_summary::NodeSummary;
use crate::kubernetes::nodes;
use crate::kubernetes::policies;
use crate::kubernetes::policy_list;
use crate::one_shot::admission::rejection::PodRejection;
use crate::one_shot::admission::{
    Admission, AdmissionError, DryRunPods, DryRunResult, DryRunResults, EvidenceRequest, evaluate,
};
use crate::one_shot::node_selection::{NodeSelection, SelectionError, select};
use crate::one_shot::rbac::role_bindings::{self, Subject};
use crate::one_shot::rbac::{MissingPermissions, Permission, required_permissions};

/// Access reviews that are open at a time. Each has its own connection, which costs more than the request.
const MAX_CONCURRENT_REVIEWS: usize = 6;

/// The task of an access review.
const REVIEW_TASK: &str = "review permissions (SelfSubjectAccessReview)";

/// The properties of a run that its cluster can reject.
#[derive(Clone, Debug)]
pub struct PreflightRequest {
    /// The name of the run.
    pub run: String,
    /// The chosen nodes.
    pub node_choice: NodeChoice,
    /// How many other nodes each of them is paired with.
    pub peers: usize,
    /// The evidence that the run gathers and requires.
    pub evidence: EvidenceRequest,
    /// The pods that it would place.
    pub dry_run_pods: DryRunPods,
}

/// The conditions under which a run can start.
#[derive(Clone, Debug)]
pub struct PreflightResult {
    /// The nodes under test and their possible peers.
    pub selection: NodeSelection,
    /// The Node objects of the chosen nodes and the candidates for their peers.
    pub nodes: Vec<Node>,
    /// The evidence that the namespace admits.
    pub admission: Admission,
    /// The policies of the API that may deny packets of the agents.
    pub policies: ApiPolicies,
    /// Notes for the reader of the report, one sentence each.
    pub notes: Vec<String>,
}

/// Why a run does not start.
#[derive(Debug, Error)]
pub enum PreflightError {
    /// A request to the API server failed.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// Permissions are missing.
    #[error(
        "{server}: {user} lacks permissions that a run in namespace {namespace} needs, so nothing was placed. Missing:\n\
         {missing}\
         This grants what a run needs, and to read policies; a cluster administrator applies it (`kubectl apply -f -`):\n\n{yaml}"
    )]
    MissingPermissions {
        /// The URL of the API server.
        server: String,
        /// The user of the client.
        user: String,
        /// The namespace.
        namespace: String,
        /// The missing permissions.
        missing: MissingPermissions,
        /// The YAML that grants them.
        yaml: String,
    },
    /// The nodes cannot be probed.
    #[error(transparent)]
    Nodes(#[from] SelectionError),
    /// The namespace does not admit the pods.
    #[error(transparent)]
    Admission(#[from] AdmissionError),
}

/// Checks permissions, nodes, admission and policies at the same time.
///
/// # Errors
///
/// If a check fails, or a request to the API server does.
pub async fn preflight(
    client: &ApiClient,
    request: &PreflightRequest,
) -> Result<PreflightResult, PreflightError> {
    let labels = labels::run_labels(&request.run);
    let (missing, found, policies, admission) = futures::join!(
        missing_permissions(client),
        nodes::find(client, &request.node_choice, request.peers),
        policy_list::read(client, &labels),
        check_admission(client, &request.evidence, &request.dry_run_pods),
    );
    // A missing permission makes the other requests fail, too. The list of all missing permissions is the better error.
    let missing = missing?;
    if !missing.is_empty() {
        return Err(missing_permissions_error(client, missing).await);
    }
    let found = found?;
    let summaries: Vec<NodeSummary> = found.nodes.iter().map(NodeSummary::from_node).collect();
    let selection = select(&request.node_choice, &summaries, &found.names)?;
    let admission = admission?;
    let policy_notes = policies::notes(&policies, &client.namespace);
    let notes = admission.notes.iter().chain(&selection.notes).cloned();
    Ok(PreflightResult {
        notes: notes.chain(policy_notes).collect(),
        policies,
        nodes: found.nodes,
        selection,
        admission,
    })
}

/// Finds out what evidence the namespace admits, by dry runs of `pods`.
///
/// # Errors
///
/// If the namespace admits less than `evidence` requires, or a request to the API server fails.
pub async fn check_admission(
    client: &ApiClient,
    evidence: &EvidenceRequest,
    pods: &DryRunPods,
) -> Result<Admission, PreflightError> {
    let (capture, host) = futures::join!(
        dry_run(client, evidence.needs_capture().then_some(&pods.capture)),
        dry_run(client, evidence.needs_host_network().then_some(&pods.host)),
    );
    let capture = capture?;
    let unprivileged = match &capture {
        Some(Ok(())) => None,
        Some(Err(_)) | None => Some(&pods.unprivileged),
    };
    let results = DryRunResults {
        unprivileged: dry_run(client, unprivileged).await?,
        capture,
        host: host?,
    };
    Ok(evaluate(&client.namespace, evidence, results)?)
}

/// Returns the permissions that the user of the client lacks.
async fn missing_permissions(client: &ApiClient) -> Result<Vec<Permission>, ApiError> {
    let api = Api::all(client.kube.clone());
    let params = PostParams::default();
    let reviewed: Vec<(Permission, bool)> = futures::stream::iter(required_permissions())
        .map(|permission| {
            let (api, params) = (&api, &params);
            async move {
                let review = permission.review(&client.namespace);
                let response = client
                    .request(REVIEW_TASK, api.create(params, &review))
                    .await?;
                let is_allowed = response.status.is_some_and(|status| status.allowed);
                Ok((permission, is_allowed))
            }
        })
        .buffered(MAX_CONCURRENT_REVIEWS)
        .try_collect()
        .await?;
    let missing = reviewed.into_iter().filter(|(_, is_allowed)| !is_allowed);
    Ok(missing.map(|(permission, _)| permission).collect())
}

async fn missing_permissions_error(client: &ApiClient, missing: Vec<Permission>) -> PreflightError {
    let user = username(client).await;
    let subject = Subject::new(user.as_deref().unwrap_or("REPLACE-WITH-YOUR-USER"));
    PreflightError::MissingPermissions {
        server: client.server.clone(),
        user: user.unwrap_or_else(|| "this user".to_owned()),
        namespace: client.namespace.clone(),
        missing: MissingPermissions(missing),
        yaml: role_bindings::yaml(&client.namespace, &subject),
    }
}

/// Returns the username of the client; `None` in clusters older than Kubernetes 1.28.
async fn username(client: &ApiClient) -> Option<String> {
    let api = Api::<SelfSubjectReview>::all(client.kube.clone());
    let (params, review) = (PostParams::default(), SelfSubjectReview::default());
    let response = client.request(
        "report the user (SelfSubjectReview)",
        api.create(&params, &review),
    );
    response.await.ok()?.status?.user_info?.username
}

/// Creates a pod in a dry run, which stores nothing; `None` without a pod.
///
/// <https://kubernetes.io/docs/reference/using-api/api-concepts/#dry-run>
async fn dry_run(client: &ApiClient, pod: Option<&Pod>) -> Result<Option<DryRunResult>, ApiError> {
    let Some(pod) = pod else {
        return Ok(None);
    };
    let api = Api::<Pod>::namespaced(client.kube.clone(), &client.namespace);
    let params = PostParams {
        dry_run: true,
        field_manager: Some(PROBER.to_owned()),
    };
    let creation = async {
        match api.create(&params, pod).await {
            Ok(_) => Ok(Ok(())),
            Err(kube::Error::Api(status)) if is_pod_rejection(&status) => Ok(Err(status)),
            Err(error) => Err(error),
        }
    };
    let result = client
        .request("create a probe pod in a dry run", creation)
        .await?;
    Ok(Some(result.map_err(|status| {
        PodRejection::from_status(&client.namespace, &status)
    })))
}

/// Whether the status rejects the pod, and neither the credentials nor the rate of requests, and is no error of the server.
fn is_pod_rejection(status: &Status) -> bool {
    status.code != 401 && status.code != 429 && (400..500).contains(&status.code)
}
