//! The nodes of a cluster, asked for by as few requests as the question allows.

use futures::future::try_join_all;
use k8s_openapi::api::core::v1::Node;
use kube::Api;
use kube::api::ListParams;

use crate::kubernetes::api_error::AnswerError;
use crate::kubernetes::connection::Connection;
use crate::one_shot::node_selection::NodeChoice;

/// Nodes of one answer.
const PAGE: u32 = 500;

/// Nodes that peers are taken from: more would cost the more, the larger the cluster, and find nothing else.
const CANDIDATES: u32 = 50;

/// What was found.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// The nodes that were asked for, and those that may be their peers, in the order of their names.
    pub nodes: Vec<Node>,
    /// The names of all nodes, where one that was asked for is not there; else empty.
    pub names: Vec<String>,
}

/// Looks for the nodes of `choice` and, where `peers` are wanted, for others.
pub async fn find(
    connection: &Connection,
    choice: &NodeChoice,
    peers: usize,
) -> Result<Found, AnswerError> {
    let api = Api::<Node>::all(connection.client.clone());
    let named = match choice {
        NodeChoice::All => {
            return Ok(Found {
                nodes: every(connection, &api).await?,
                names: Vec::new(),
            });
        }
        NodeChoice::Named(named) => named,
    };
    let wanted = try_join_all(named.iter().map(|name| one(connection, &api, name)));
    let (wanted, others) = futures::try_join!(wanted, candidates(connection, &api, peers))?;
    let mut nodes: Vec<Node> = wanted.into_iter().flatten().collect();
    let is_complete = nodes.len() == named.len();
    nodes.extend(others.into_iter().filter(|node| {
        let name = node.metadata.name.as_deref();
        name.is_some_and(|name| !named.contains(name))
    }));
    nodes.sort_by(|one, other| one.metadata.name.cmp(&other.metadata.name));
    let names = if is_complete {
        Vec::new()
    } else {
        names(connection, &api).await?
    };
    Ok(Found { nodes, names })
}

async fn one(
    connection: &Connection,
    api: &Api<Node>,
    name: &str,
) -> Result<Option<Node>, AnswerError> {
    let task = format!("get node {name}");
    connection.ask(&task, api.get_opt(name)).await
}

async fn candidates(
    connection: &Connection,
    api: &Api<Node>,
    peers: usize,
) -> Result<Vec<Node>, AnswerError> {
    if peers == 0 {
        return Ok(Vec::new());
    }
    let page = ListParams::default().limit(CANDIDATES);
    let list = connection.ask("list nodes", api.list(&page)).await?;
    Ok(list.items)
}

async fn every(connection: &Connection, api: &Api<Node>) -> Result<Vec<Node>, AnswerError> {
    let mut nodes = Vec::new();
    let mut page = ListParams::default().limit(PAGE);
    loop {
        let list = connection.ask("list nodes", api.list(&page)).await?;
        nodes.extend(list.items);
        match list.metadata.continue_ {
            Some(token) if !token.is_empty() => page = page.continue_token(&token),
            Some(_) | None => return Ok(nodes),
        }
    }
}

async fn names(connection: &Connection, api: &Api<Node>) -> Result<Vec<String>, AnswerError> {
    let mut names = Vec::new();
    let mut page = ListParams::default().limit(PAGE);
    loop {
        let list = connection
            .ask("list nodes", api.list_metadata(&page))
            .await?;
        names.extend(list.items.into_iter().filter_map(|node| node.metadata.name));
        match list.metadata.continue_ {
            Some(token) if !token.is_empty() => page = page.continue_token(&token),
            Some(_) | None => return Ok(names),
        }
    }
}
