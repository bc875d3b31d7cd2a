//! Writes the status of checks and the conditions of nodes by server-side apply, and creates Events.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Node, NodeCondition, ObjectReference};
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Resource as _};
use prober_core::topology::NodeName;
use serde_json::json;

use crate::canary::controller::event_queue::PendingEvent;
use crate::canary::crd::{ConnectivityCheck, ConnectivityCheckStatus, GROUP};
use crate::canary::events::Regarding;
use crate::canary::inventory::SERVICE_CONNECTIVITY;
use crate::kubernetes::api_client::ApiClient;
use crate::kubernetes::api_error::ApiError;
use crate::kubernetes::api_time::micro_time;

/// The field manager of the status, and the reporting controller of the Events.
const CONTROLLER: &str = "prober-controller";

/// The timeout of a request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// The namespace of Events about objects that have no namespace.
const NAMESPACE: &str = "default";

/// The longest note of an Event, bytes
/// (<https://kubernetes.io/docs/reference/kubernetes-api/cluster-resources/event-v1/>).
const LONGEST_NOTE: usize = 1_024;

/// Sends the requests that write results to the API server.
#[derive(Clone)]
pub(super) struct StatusWriter {
    connection: ApiClient,
    /// The identity of this controller.
    identity: String,
}

impl StatusWriter {
    pub(super) fn new(connection: ApiClient, identity: String) -> Self {
        Self {
            connection,
            identity,
        }
    }

    /// Writes the whole status.
    pub(super) async fn write_status(
        &self,
        name: &str,
        status: &ConnectivityCheckStatus,
    ) -> Result<(), ApiError> {
        let api: Api<ConnectivityCheck> = Api::all(self.connection.kube.clone());
        let patch = Patch::Apply(json!({
            "apiVersion": ConnectivityCheck::api_version(&()),
            "kind": ConnectivityCheck::kind(&()),
            "metadata": {"name": name},
            "status": status,
        }));
        let params = PatchParams::apply(CONTROLLER).force();
        // The object in the response may not parse, where the check is invalid.
        let request = async {
            match api.patch_status(name, &params, &patch).await {
                Ok(_) | Err(kube::Error::SerdeError(_)) => Ok(()),
                Err(error) => Err(error),
            }
        };
        let task = format!("write the status of the ConnectivityCheck {name}");
        (self.connection)
            .request_within(REQUEST_TIMEOUT, &task, request)
            .await
    }

    /// Writes a node's condition, and no other field: server-side apply leaves conditions of other managers alone.
    pub(super) async fn write_condition(
        &self,
        node: &NodeName,
        condition: &NodeCondition,
    ) -> Result<(), ApiError> {
        self.patch_node_status(node, json!({"conditions": [condition]}))
            .await
    }

    /// Clears the condition: server-side apply removes fields that their manager does not apply any more
    /// (<https://kubernetes.io/docs/reference/using-api/server-side-apply/#field-management>).
    pub(super) async fn clear_condition(&self, node: &NodeName) -> Result<(), ApiError> {
        self.patch_node_status(node, json!({})).await
    }

    async fn patch_node_status(
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
            .request_within(REQUEST_TIMEOUT, &task, request)
            .await
            .map(drop)
    }

    /// Creates one Event; `node_uid` is the uid of the node that it regards, if it regards one. One that exists already was created by an earlier request whose response was lost.
    pub(super) async fn create_event(
        &self,
        check: &ConnectivityCheck,
        node_uid: Option<String>,
        pending: &PendingEvent,
    ) -> Result<(), ApiError> {
        let PendingEvent {
            event: content,
            at,
            nonce,
        } = pending;
        let check = check.object_ref(&());
        let (regarding, related) = match &content.regarding {
            Regarding::Check => (check, None),
            Regarding::Node(node) => {
                let regarding = ObjectReference {
                    api_version: Some("v1".to_owned()),
                    kind: Some("Node".to_owned()),
                    name: Some(node.to_string()),
                    uid: node_uid,
                    ..ObjectReference::default()
                };
                (regarding, Some(check))
            }
        };
        let mut note = content.note.clone();
        note.truncate(note.floor_char_boundary(LONGEST_NOTE));
        let subject = regarding.name.clone().unwrap_or_default();
        let event = Event {
            metadata: ObjectMeta {
                // Transitions are rare, and each is a new Event: none is counted into a series.
                name: Some(format!("{subject}.{nonce:016x}")),
                namespace: Some(NAMESPACE.to_owned()),
                ..ObjectMeta::default()
            },
            event_time: Some(micro_time(*at)),
            type_: Some(content.event_type.as_str().to_owned()),
            reason: Some(content.reason.to_owned()),
            note: Some(note),
            action: Some(content.action.to_owned()),
            regarding: Some(regarding),
            related,
            reporting_controller: Some(format!("{GROUP}/{CONTROLLER}")),
            reporting_instance: Some(self.identity.clone()),
            ..Event::default()
        };
        let api: Api<Event> = Api::namespaced(self.connection.kube.clone(), NAMESPACE);
        let task = format!("report the Event {}", content.reason);
        let params = PostParams::default();
        let request = async {
            match api.create(&params, &event).await {
                Ok(_) => Ok(()),
                Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
                Err(error) => Err(error),
            }
        };
        (self.connection)
            .request_within(REQUEST_TIMEOUT, &task, request)
            .await
    }
}
