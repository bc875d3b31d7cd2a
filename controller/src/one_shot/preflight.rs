//! What can be known before anything is placed: whether a run may do all that it does, which nodes it probes, which of
//! its pods are admitted, and what will hold them in. Asks; what follows from the answers is decided elsewhere.

use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::Api;
use kube::api::{ListParams, PostParams};
use kube::core::Status;
use thiserror::Error;

use crate::kubernetes::api_client::ApiClient;
use crate::kubernetes::api_error::ApiError;
use crate::kubernetes::labels::{self, PROBER};
use crate::kubernetes::network_policy;
use crate::kubernetes::node_choice::NodeChoice;
use crate::kubernetes::node_summary::NodeSummary;
use crate::kubernetes::nodes;
use crate::one_shot::admission::rejection::PodRejection;
use crate::one_shot::admission::{
    Admission, AdmissionError, DryRunPods, DryRunResult, DryRunResults, EvidenceRequest, evaluate,
};
use crate::one_shot::node_selection::{NodeSelection, SelectionError, select};
use crate::one_shot::rbac::role_bindings::{self, Subject};
use crate::one_shot::rbac::{MissingPermissions, Permission, required_permissions};

/// Questions that are open at a time: each has a connection of its own, and a connection costs more than a question.
const MAX_CONCURRENT_REVIEWS: usize = 6;

/// The question for a right.
const REVIEW_TASK: &str = "say what is allowed (SelfSubjectAccessReview)";

/// What a run is going to do, as far as its cluster can object.
#[derive(Clone, Debug)]
pub struct PreflightRequest {
    /// The run's name.
    pub run: String,
    /// The nodes under test.
    pub node_choice: NodeChoice,
    /// How many other nodes each of them is paired with.
    pub peers: usize,
    /// What it wants to see.
    pub evidence: EvidenceRequest,
    /// The pods that it would place.
    pub dry_run_pods: DryRunPods,
}

/// A run that may start.
#[derive(Clone, Debug)]
pub struct PreflightResult {
    /// The nodes under test, and those that may be their peers.
    pub selection: NodeSelection,
    /// What the API server says of each of them.
    pub nodes: Vec<Node>,
    /// The evidence that can be had.
    pub admission: Admission,
    /// The NetworkPolicies that close the agents.
    pub network_policies: Vec<String>,
    /// Everything that the reader is to know of the run before its results, one sentence each.
    pub notes: Vec<String>,
}

/// Why a run does not start.
#[derive(Debug, Error)]
pub enum PreflightError {
    /// The API server does not answer, or not to us.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// Rights are missing.
    #[error(
        "{server}: {who} may not do all that a run in namespace {namespace} does, so nothing was placed. MissingPermissions:\n\
         {missing}\
         This grants exactly what a run needs, to be applied by whoever may (`kubectl apply -f -`):\n\n{yaml}"
    )]
    MissingPermissions {
        /// The API server.
        server: String,
        /// Who asked.
        who: String,
        /// Where.
        namespace: String,
        /// The rights that are missing.
        missing: MissingPermissions,
        /// What grants them.
        yaml: String,
    },
    /// The nodes cannot be probed.
    #[error(transparent)]
    Nodes(#[from] SelectionError),
    /// The namespace does not admit the pods.
    #[error(transparent)]
    Admission(#[from] AdmissionError),
}

/// Asks everything at once, and decides.
pub async fn preflight(
    connection: &ApiClient,
    intent: &PreflightRequest,
) -> Result<PreflightResult, PreflightError> {
    let (missing, found, policies, posture) = futures::join!(
        missing_permissions(connection),
        nodes::find(connection, &intent.node_choice, intent.peers),
        list_network_policies(connection),
        check_admission(connection, &intent.evidence, &intent.dry_run_pods),
    );
    // Whoever lacks a right is refused elsewhere as well: the whole list is the better answer.
    let missing = missing?;
    if !missing.is_empty() {
        return Err(missing_permissions_error(connection, missing).await);
    }
    let found = found?;
    let seen: Vec<NodeSummary> = found.nodes.iter().map(NodeSummary::from_node).collect();
    let selection = select(&intent.node_choice, &seen, &found.names)?;
    let admission = posture?;
    let labels = labels::run_labels(&intent.run);
    let closing = network_policy::isolation(&policies, &labels);
    let closed = (closing.iter()).map(|closing| closing.note(&connection.namespace));
    let notes = admission.notes.iter().chain(&selection.notes).cloned();
    Ok(PreflightResult {
        notes: notes.chain(closed).collect(),
        network_policies: closing.map_or_else(Vec::new, |closing| closing.policies),
        nodes: found.nodes,
        selection,
        admission,
    })
}

/// What evidence the namespace admits, asked for pods of these shapes and nothing else.
pub async fn check_admission(
    connection: &ApiClient,
    wish: &EvidenceRequest,
    shapes: &DryRunPods,
) -> Result<Admission, PreflightError> {
    let (capture, host) = futures::join!(
        dry_run(connection, wish.needs_capture().then_some(&shapes.capture)),
        dry_run(
            connection,
            wish.needs_host_network().then_some(&shapes.host)
        ),
    );
    let capture = capture?;
    let plain = match &capture {
        Some(Ok(())) => None,
        Some(Err(_)) | None => Some(&shapes.unprivileged),
    };
    let answers = DryRunResults {
        unprivileged: dry_run(connection, plain).await?,
        capture,
        host: host?,
    };
    Ok(evaluate(&connection.namespace, wish, answers)?)
}

/// The rights that are missing.
async fn missing_permissions(connection: &ApiClient) -> Result<Vec<Permission>, ApiError> {
    let api = Api::all(connection.kube.clone());
    let post = PostParams::default();
    let answers: Vec<(Permission, bool)> = futures::stream::iter(required_permissions())
        .map(|need| {
            let (api, post) = (&api, &post);
            async move {
                let review = need.review(&connection.namespace);
                let answer = api.create(post, &review);
                let answer = connection.request(REVIEW_TASK, answer).await?;
                Ok((need, answer.status.is_some_and(|status| status.allowed)))
            }
        })
        .buffered(MAX_CONCURRENT_REVIEWS)
        .try_collect()
        .await?;
    let missing = answers.into_iter().filter(|(_, allowed)| !allowed);
    Ok(missing.map(|(need, _)| need).collect())
}

async fn missing_permissions_error(
    connection: &ApiClient,
    missing: Vec<Permission>,
) -> PreflightError {
    let who = username(connection).await;
    let subject = Subject::new(who.as_deref().unwrap_or("REPLACE-WITH-YOUR-USER"));
    PreflightError::MissingPermissions {
        server: connection.server.clone(),
        who: who.unwrap_or_else(|| "this user".to_owned()),
        namespace: connection.namespace.clone(),
        missing: MissingPermissions(missing),
        yaml: role_bindings::yaml(&connection.namespace, &subject),
    }
}

/// Who asks; clusters older than 1.28 do not say.
async fn username(connection: &ApiClient) -> Option<String> {
    let api = Api::<SelfSubjectReview>::all(connection.kube.clone());
    let (post, review) = (PostParams::default(), SelfSubjectReview::default());
    let answer = connection.request("say who asks", api.create(&post, &review));
    answer.await.ok()?.status?.user_info?.username
}

/// The NetworkPolicies of the namespace. Whoever may not list them runs without the warning.
async fn list_network_policies(connection: &ApiClient) -> Vec<NetworkPolicy> {
    let api = Api::namespaced(connection.kube.clone(), &connection.namespace);
    let all = ListParams::default();
    let list = connection
        .request("list networkpolicies", api.list(&all))
        .await;
    list.map(|list| list.items).unwrap_or_default()
}

/// What the admission chain says to a pod, if it is to be tried. Nothing is stored:
/// <https://kubernetes.io/docs/reference/using-api/api-concepts/#dry-run>
async fn dry_run(
    connection: &ApiClient,
    pod: Option<&Pod>,
) -> Result<Option<DryRunResult>, ApiError> {
    let Some(pod) = pod else {
        return Ok(None);
    };
    let api = Api::<Pod>::namespaced(connection.kube.clone(), &connection.namespace);
    let dry = PostParams {
        dry_run: true,
        field_manager: Some(PROBER.to_owned()),
    };
    let attempt = async {
        match api.create(&dry, pod).await {
            Ok(_) => Ok(Ok(())),
            Err(kube::Error::Api(status)) if is_pod_rejection(&status) => Ok(Err(status)),
            Err(error) => Err(error),
        }
    };
    let tried = connection
        .request("try a probe pod (dry run)", attempt)
        .await?;
    Ok(Some(tried.map_err(|status| {
        PodRejection::from_status(&connection.namespace, &status)
    })))
}

/// Whether it is the pod that is refused, not who asks, and not because the server is in trouble.
fn is_pod_rejection(status: &Status) -> bool {
    status.code != 401 && status.code != 429 && (400..500).contains(&status.code)
}
