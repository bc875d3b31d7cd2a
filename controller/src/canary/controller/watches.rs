//! Watches the nodes of the cluster and the pods of its agents, and keeps the inventory.

use std::sync::Arc;

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::Api;
use kube::runtime::{WatchStreamExt as _, watcher};

use super::shared::Shared;
use crate::canary::inventory::WatchEvent;
use crate::manifest::standing::AGENT_SELECTOR;

/// Objects in a page of a list: the memory for a page is used once.
const PAGE_SIZE: u32 = 250;

/// Applies the events of the nodes; never ends. After an error the watch begins again, with growing pauses: the inventory
/// stays as it is.
pub(super) async fn nodes(shared: Arc<Shared>) {
    let api: Api<Node> = Api::all(shared.client.kube.clone());
    let config = watcher::Config::default().page_size(PAGE_SIZE);
    let events = watcher(api, config).default_backoff();
    let mut events = std::pin::pin!(events);
    while let Some(event) = events.next().await {
        match event {
            Ok(event) => shared.change_inventory(|inventory| inventory.apply_node(plain(event))),
            Err(error) => tracing::warn!(%error, "the watch of nodes failed, and begins again"),
        }
    }
}

/// Applies the events of the agents' pods; never ends.
pub(super) async fn pods(shared: Arc<Shared>) {
    let client = &shared.client;
    let api: Api<Pod> = Api::namespaced(client.kube.clone(), &client.namespace);
    let config = watcher::Config::default()
        .labels(AGENT_SELECTOR)
        .page_size(PAGE_SIZE);
    let events = watcher(api, config).default_backoff();
    let mut events = std::pin::pin!(events);
    while let Some(event) = events.next().await {
        match event {
            Ok(event) => shared.change_inventory(|inventory| inventory.apply_pod(plain(event))),
            Err(error) => {
                tracing::warn!(%error, "the watch of agents' pods failed, and begins again");
            }
        }
    }
}

fn plain<K>(event: watcher::Event<K>) -> WatchEvent<K> {
    match event {
        watcher::Event::Init => WatchEvent::ListBegins,
        watcher::Event::InitApply(object) => WatchEvent::Listed(object),
        watcher::Event::InitDone => WatchEvent::ListEnds,
        watcher::Event::Apply(object) => WatchEvent::Applied(object),
        watcher::Event::Delete(object) => WatchEvent::Deleted(object),
    }
}
