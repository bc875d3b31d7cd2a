//! What a check tells back: its status and conditions of nodes by server-side apply, and Events on transitions.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Node, NodeCondition, ObjectReference};
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Resource as _, ResourceExt as _};
use prober_core::topology::NodeName;
use serde_json::json;

use crate::canary::controller::event_queue::Announcement;
use crate::canary::controller::node_watch::Nodes;
use crate::canary::crd::{ConnectivityCheck, ConnectivityCheckStatus, GROUP};
use crate::canary::events::About;
use crate::canary::node_condition::SERVICE_CONNECTIVITY;
use crate::clock::micro;
use crate::kubernetes::api_client::ApiClient;
use crate::kubernetes::api_error::ApiError;

/// Who wrote the status, and who reports the Events.
const CONTROLLER: &str = "prober-controller";

/// How long an API server may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Where Events about things are kept that are in no namespace.
const NAMESPACE: &str = "default";

/// The longest note that the API takes, bytes
/// (<https://kubernetes.io/docs/reference/kubernetes-api/cluster-resources/event-v1/>).
const LONGEST_NOTE: usize = 1_024;

/// Tells.
#[derive(Clone)]
pub(super) struct Teller {
    connection: ApiClient,
    /// Which controller this is.
    identity: String,
}

impl Teller {
    pub(super) fn new(connection: ApiClient, identity: String) -> Self {
        Self {
            connection,
            identity,
        }
    }

    /// Writes the status, the whole of it.
    pub(super) async fn status(
        &self,
        check: &ConnectivityCheck,
        status: &ConnectivityCheckStatus,
    ) -> Result<(), ApiError> {
        let name = check.name_any();
        let api: Api<ConnectivityCheck> = Api::all(self.connection.kube.clone());
        let patch = Patch::Apply(json!({
            "apiVersion": ConnectivityCheck::api_version(&()),
            "kind": ConnectivityCheck::kind(&()),
            "metadata": {"name": name},
            "status": status,
        }));
        let params = PatchParams::apply(CONTROLLER).force();
        let request = api.patch_status(&name, &params, &patch);
        let task = format!("write the status of the ConnectivityCheck {name}");
        (self.connection)
            .request_within(PATIENCE, &task, request)
            .await
            .map(drop)
    }

    /// Tells a node its condition. Only that field is written: whoever writes the node's other conditions is not met.
    pub(super) async fn mark(
        &self,
        node: &NodeName,
        condition: &NodeCondition,
    ) -> Result<(), ApiError> {
        self.node_status(node, json!({"conditions": [condition]}))
            .await
    }

    /// Takes the condition back: what its manager does not apply any more goes.
    ///
    /// <https://kubernetes.io/docs/reference/using-api/server-side-apply/#field-management>
    pub(super) async fn unmark(&self, node: &NodeName) -> Result<(), ApiError> {
        self.node_status(node, json!({})).await
    }

    async fn node_status(
        &self,
        node: &NodeName,
        status: serde_json::Value,
    ) -> Result<(), ApiError> {
        let api: Api<Node> = Api::all(self.connection.kube.clone());
        let patch = Patch::Apply(json!({
            "apiVersion": Node::api_version(&()),
            "kind": Node::kind(&()),
            "metadata": {"name": node.as_str()},
            "status": status,
        }));
        let params = PatchParams::apply(CONTROLLER).force();
        let request = api.patch_status(node.as_str(), &params, &patch);
        let task = format!("write the condition {SERVICE_CONNECTIVITY} of the Node {node}");
        (self.connection)
            .request_within(PATIENCE, &task, request)
            .await
            .map(drop)
    }

    /// Reports one Event; one that is there already was reported before, by a request whose answer was lost.
    pub(super) async fn event(
        &self,
        check: &ConnectivityCheck,
        nodes: &Nodes,
        announcement: &Announcement,
    ) -> Result<(), ApiError> {
        let Announcement { notice, at, nonce } = announcement;
        let check = check.object_ref(&());
        let (regarding, related) = match &notice.about {
            About::Check => (check, None),
            About::Node(node) => {
                let known = nodes.get(node);
                let regarding = ObjectReference {
                    api_version: Some("v1".to_owned()),
                    kind: Some("Node".to_owned()),
                    name: Some(node.to_string()),
                    uid: known.and_then(|node| node.metadata.uid.clone()),
                    ..ObjectReference::default()
                };
                (regarding, Some(check))
            }
        };
        let mut note = notice.note.clone();
        note.truncate(note.floor_char_boundary(LONGEST_NOTE));
        let subject = regarding.name.clone().unwrap_or_default();
        let event = Event {
            metadata: ObjectMeta {
                // Transitions are rare, and each is another: none is counted with one before.
                name: Some(format!("{subject}.{nonce:016x}")),
                namespace: Some(NAMESPACE.to_owned()),
                ..ObjectMeta::default()
            },
            event_time: Some(micro(*at)),
            type_: Some(notice.weight.as_str().to_owned()),
            reason: Some(notice.reason.to_owned()),
            note: Some(note),
            action: Some(notice.action.to_owned()),
            regarding: Some(regarding),
            related,
            reporting_controller: Some(format!("{GROUP}/{CONTROLLER}")),
            reporting_instance: Some(self.identity.clone()),
            ..Event::default()
        };
        let api: Api<Event> = Api::namespaced(self.connection.kube.clone(), NAMESPACE);
        let task = format!("report the Event {}", notice.reason);
        let params = PostParams::default();
        let request = async {
            match api.create(&params, &event).await {
                Ok(_) => Ok(()),
                Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
                Err(error) => Err(error),
            }
        };
        (self.connection)
            .request_within(PATIENCE, &task, request)
            .await
    }
}
