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

use crate::kubernetes::api_error::AnswerError;
use crate::kubernetes::connection::Connection;
use crate::kubernetes::labels::{self, PROBER};
use crate::kubernetes::network_policy;
use crate::kubernetes::nodes;
use crate::one_shot::admission::refusal::Refusal;
use crate::one_shot::admission::{Answers, Posture, PostureError, Shapes, Tried, Wish, decide};
use crate::one_shot::node_selection::{NodeChoice, NodeSeen, Selection, SelectionError, select};
use crate::one_shot::rbac::grant::{self, Subject};
use crate::one_shot::rbac::{Missing, Need, needs};

/// Questions that are open at a time: each has a connection of its own, and a connection costs more than a question.
const AT_ONCE: usize = 6;

/// The question for a right.
const ASK_RIGHTS: &str = "say what is allowed (SelfSubjectAccessReview)";

/// What a run is going to do, as far as its cluster can object.
#[derive(Clone, Debug)]
pub struct Intent {
    /// The run's name.
    pub run: String,
    /// The nodes under test.
    pub choice: NodeChoice,
    /// How many other nodes each of them is paired with.
    pub peers: usize,
    /// What it wants to see.
    pub wish: Wish,
    /// The pods that it would place.
    pub shapes: Shapes,
}

/// A run that may start.
#[derive(Clone, Debug)]
pub struct Cleared {
    /// The nodes under test, and those that may be their peers.
    pub selection: Selection,
    /// What the API server says of each of them.
    pub nodes: Vec<Node>,
    /// The evidence that can be had.
    pub posture: Posture,
    /// The NetworkPolicies that close the agents.
    pub policies: Vec<String>,
    /// Everything that the reader is to know of the run before its results, one sentence each.
    pub notes: Vec<String>,
}

/// Why a run does not start.
#[derive(Debug, Error)]
pub enum PreflightError {
    /// The API server does not answer, or not to us.
    #[error(transparent)]
    Answer(#[from] AnswerError),
    /// Rights are missing.
    #[error(
        "{server}: {who} may not do all that a run in namespace {namespace} does, so nothing was placed. Missing:\n\
         {missing}\
         This grants exactly what a run needs, to be applied by whoever may (`kubectl apply -f -`):\n\n{yaml}"
    )]
    Rights {
        /// The API server.
        server: String,
        /// Who asked.
        who: String,
        /// Where.
        namespace: String,
        /// The rights that are missing.
        missing: Missing,
        /// What grants them.
        yaml: String,
    },
    /// The nodes cannot be probed.
    #[error(transparent)]
    Nodes(#[from] SelectionError),
    /// The namespace does not admit the pods.
    #[error(transparent)]
    Posture(#[from] PostureError),
}

/// Asks everything at once, and decides.
pub async fn preflight(
    connection: &Connection,
    intent: &Intent,
) -> Result<Cleared, PreflightError> {
    let (missing, found, policies, posture) = futures::join!(
        missing(connection),
        nodes::find(connection, &intent.choice, intent.peers),
        policies(connection),
        posture(connection, &intent.wish, &intent.shapes),
    );
    // Whoever lacks a right is refused elsewhere as well: the whole list is the better answer.
    let missing = missing?;
    if !missing.is_empty() {
        return Err(denied(connection, missing).await);
    }
    let found = found?;
    let seen: Vec<NodeSeen> = found.nodes.iter().map(NodeSeen::of).collect();
    let selection = select(&intent.choice, &seen, &found.names)?;
    let posture = posture?;
    let labels = labels::of_run(&intent.run);
    let closing = network_policy::closing(&policies, &labels);
    let closed = (closing.iter()).map(|closing| closing.note(&connection.namespace));
    let notes = posture.notes.iter().chain(&selection.notes).cloned();
    Ok(Cleared {
        notes: notes.chain(closed).collect(),
        policies: closing.map_or_else(Vec::new, |closing| closing.policies),
        nodes: found.nodes,
        selection,
        posture,
    })
}

/// What evidence the namespace admits, asked for pods of these shapes and nothing else.
pub async fn posture(
    connection: &Connection,
    wish: &Wish,
    shapes: &Shapes,
) -> Result<Posture, PreflightError> {
    let (capture, host) = futures::join!(
        tried(connection, wish.captures().then_some(&shapes.capture)),
        tried(connection, wish.asks_nodes().then_some(&shapes.host)),
    );
    let capture = capture?;
    let plain = match &capture {
        Some(Ok(())) => None,
        Some(Err(_)) | None => Some(&shapes.plain),
    };
    let answers = Answers {
        plain: tried(connection, plain).await?,
        capture,
        host: host?,
    };
    Ok(decide(&connection.namespace, wish, answers)?)
}

/// The rights that are missing.
async fn missing(connection: &Connection) -> Result<Vec<Need>, AnswerError> {
    let api = Api::all(connection.client.clone());
    let post = PostParams::default();
    let answers: Vec<(Need, bool)> = futures::stream::iter(needs())
        .map(|need| {
            let (api, post) = (&api, &post);
            async move {
                let review = need.review(&connection.namespace);
                let answer = api.create(post, &review);
                let answer = connection.ask(ASK_RIGHTS, answer).await?;
                Ok((need, answer.status.is_some_and(|status| status.allowed)))
            }
        })
        .buffered(AT_ONCE)
        .try_collect()
        .await?;
    let missing = answers.into_iter().filter(|(_, allowed)| !allowed);
    Ok(missing.map(|(need, _)| need).collect())
}

async fn denied(connection: &Connection, missing: Vec<Need>) -> PreflightError {
    let who = username(connection).await;
    let subject = Subject::new(who.as_deref().unwrap_or("REPLACE-WITH-YOUR-USER"));
    PreflightError::Rights {
        server: connection.server.clone(),
        who: who.unwrap_or_else(|| "this user".to_owned()),
        namespace: connection.namespace.clone(),
        missing: Missing(missing),
        yaml: grant::yaml(&connection.namespace, &subject),
    }
}

/// Who asks; clusters older than 1.28 do not say.
async fn username(connection: &Connection) -> Option<String> {
    let api = Api::<SelfSubjectReview>::all(connection.client.clone());
    let (post, review) = (PostParams::default(), SelfSubjectReview::default());
    let answer = connection.ask("say who asks", api.create(&post, &review));
    answer.await.ok()?.status?.user_info?.username
}

/// The NetworkPolicies of the namespace. Whoever may not list them runs without the warning.
async fn policies(connection: &Connection) -> Vec<NetworkPolicy> {
    let api = Api::namespaced(connection.client.clone(), &connection.namespace);
    let all = ListParams::default();
    let list = connection.ask("list networkpolicies", api.list(&all)).await;
    list.map(|list| list.items).unwrap_or_default()
}

/// What the admission chain says to a pod, if it is to be tried. Nothing is stored:
/// <https://kubernetes.io/docs/reference/using-api/api-concepts/#dry-run>
async fn tried(connection: &Connection, pod: Option<&Pod>) -> Result<Option<Tried>, AnswerError> {
    let Some(pod) = pod else {
        return Ok(None);
    };
    let api = Api::<Pod>::namespaced(connection.client.clone(), &connection.namespace);
    let dry = PostParams {
        dry_run: true,
        field_manager: Some(PROBER.to_owned()),
    };
    let attempt = async {
        match api.create(&dry, pod).await {
            Ok(_) => Ok(Ok(())),
            Err(kube::Error::Api(status)) if is_refusal(&status) => Ok(Err(status)),
            Err(error) => Err(error),
        }
    };
    let tried = connection.ask("try a probe pod (dry run)", attempt).await?;
    Ok(Some(tried.map_err(|status| {
        Refusal::new(&connection.namespace, &status)
    })))
}

/// Whether it is the pod that is refused, not who asks, and not because the server is in trouble.
fn is_refusal(status: &Status) -> bool {
    status.code != 401 && status.code != 429 && (400..500).contains(&status.code)
}
