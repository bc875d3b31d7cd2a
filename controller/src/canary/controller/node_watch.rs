//! The nodes of the cluster, from one watch that all checks share.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::{Stream, StreamExt as _};
use k8s_openapi::api::core::v1::Node;
use kube::Api;
use kube::runtime::{WatchStreamExt as _, watcher};
use prober_core::topology::NodeName;
use tokio::sync::watch;

use crate::kubernetes::api_client::ApiClient;
use crate::kubernetes::node_info;

/// Every node of the cluster.
pub(super) type Nodes = Arc<BTreeMap<NodeName, Arc<Node>>>;

/// Publishes the nodes after each change, beginning with the complete list; never ends.
pub(super) async fn follow(connection: ApiClient, nodes: watch::Sender<Nodes>) {
    let api: Api<Node> = Api::all(connection.kube);
    let events = watcher(api, watcher::Config::default()).default_backoff();
    publish(std::pin::pin!(events), &nodes).await;
}

async fn publish(
    mut events: impl Stream<Item = Result<watcher::Event<Node>, watcher::Error>> + Unpin,
    nodes: &watch::Sender<Nodes>,
) {
    let mut listed = BTreeMap::new();
    while let Some(event) = events.next().await {
        match event {
            Ok(watcher::Event::Init) => listed.clear(),
            Ok(watcher::Event::InitApply(node)) => {
                listed.insert(node_info::node_name(&node), Arc::new(trimmed(node)));
            }
            Ok(watcher::Event::InitDone) => {
                nodes.send_replace(Arc::new(std::mem::take(&mut listed)));
            }
            Ok(watcher::Event::Apply(node)) => nodes.send_modify(|nodes| {
                Arc::make_mut(nodes).insert(node_info::node_name(&node), Arc::new(trimmed(node)));
            }),
            Ok(watcher::Event::Delete(node)) => nodes.send_modify(|nodes| {
                Arc::make_mut(nodes).remove(&node_info::node_name(&node));
            }),
            Err(error) => tracing::warn!(%error, "the watch of nodes failed, and is restarted"),
        }
    }
}

/// Removes the largest fields that no check reads: managed fields, images and volumes.
fn trimmed(mut node: Node) -> Node {
    node.metadata.managed_fields = None;
    if let Some(status) = &mut node.status {
        status.images = None;
        status.volumes_attached = None;
        status.volumes_in_use = None;
    }
    node
}
