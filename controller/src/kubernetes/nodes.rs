//! Lists the nodes of a cluster, with as few requests as the choice of nodes allows.

use futures::future::try_join_all;
use k8s_openapi::api::core::v1::Node;
use kube::Api;
use kube::api::ListParams;

use crate::kubernetes::api_client::ApiClient;
use crate::kubernetes::api_error::ApiError;
use crate::kubernetes::node_choice::NodeChoice;

/// Nodes in one page of a list.
const PAGE_SIZE: u32 = 500;

/// Nodes from which peers are chosen. A longer list costs more in a larger cluster and adds no information.
const PEER_CANDIDATES: u32 = 50;

/// The nodes that a search returned.
#[derive(Clone, Debug, Default)]
pub struct FoundNodes {
    /// The chosen nodes that exist, and candidates for their peers, sorted by name.
    pub nodes: Vec<Node>,
    /// The names of all nodes if a chosen node does not exist; else empty.
    pub names: Vec<String>,
}

/// Reads the nodes of `choice` and, unless `peers` is 0, candidates for their peers.
///
/// # Errors
///
/// If the API server fails or refuses one of the requests.
pub async fn find(
    client: &ApiClient,
    choice: &NodeChoice,
    peers: usize,
) -> Result<FoundNodes, ApiError> {
    let api = Api::<Node>::all(client.kube.clone());
    let named = match choice {
        NodeChoice::All | NodeChoice::Labelled(_) => {
            return Ok(FoundNodes {
                nodes: list_nodes(client, &api, choice).await?,
                names: Vec::new(),
            });
        }
        NodeChoice::Named(named) => named,
    };
    let chosen = try_join_all(named.iter().map(|name| get_node(client, &api, name)));
    let (chosen, candidates) =
        futures::try_join!(chosen, list_peer_candidates(client, &api, peers))?;
    let mut nodes: Vec<Node> = chosen.into_iter().flatten().collect();
    let is_complete = nodes.len() == named.len();
    nodes.extend(candidates.into_iter().filter(|node| {
        let name = node.metadata.name.as_deref();
        name.is_some_and(|name| !named.contains(name))
    }));
    nodes.sort_by(|one, other| one.metadata.name.cmp(&other.metadata.name));
    let names = if is_complete {
        Vec::new()
    } else {
        list_node_names(client, &api).await?
    };
    Ok(FoundNodes { nodes, names })
}

async fn get_node(
    client: &ApiClient,
    api: &Api<Node>,
    name: &str,
) -> Result<Option<Node>, ApiError> {
    let task = format!("get node {name}");
    client.request(&task, api.get_opt(name)).await
}

async fn list_peer_candidates(
    client: &ApiClient,
    api: &Api<Node>,
    peers: usize,
) -> Result<Vec<Node>, ApiError> {
    if peers == 0 {
        return Ok(Vec::new());
    }
    let page = ListParams::default().limit(PEER_CANDIDATES);
    let list = client.request("list nodes", api.list(&page)).await?;
    Ok(list.items)
}

async fn list_nodes(
    client: &ApiClient,
    api: &Api<Node>,
    choice: &NodeChoice,
) -> Result<Vec<Node>, ApiError> {
    let mut nodes = Vec::new();
    let mut page = ListParams::default().limit(PAGE_SIZE);
    if let NodeChoice::Labelled(selector) = choice {
        page = page.labels(selector);
    }
    loop {
        let list = client.request("list nodes", api.list(&page)).await?;
        nodes.extend(list.items);
        match list.metadata.continue_ {
            Some(token) if !token.is_empty() => page = page.continue_token(&token),
            Some(_) | None => return Ok(nodes),
        }
    }
}

async fn list_node_names(client: &ApiClient, api: &Api<Node>) -> Result<Vec<String>, ApiError> {
    let mut names = Vec::new();
    let mut page = ListParams::default().limit(PAGE_SIZE);
    loop {
        let list = client
            .request("list nodes", api.list_metadata(&page))
            .await?;
        names.extend(list.items.into_iter().filter_map(|node| node.metadata.name));
        match list.metadata.continue_ {
            Some(token) if !token.is_empty() => page = page.continue_token(&token),
            Some(_) | None => return Ok(names),
        }
    }
}
