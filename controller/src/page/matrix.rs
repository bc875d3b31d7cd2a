//! What is known between each two of a few nodes, from the client's node of the row to the server's node of the column.

use std::collections::BTreeSet;

use maud::{Markup, html};
use prober_core::report::render::html::scrolled;

use super::bounded::{CELL, bounded};
use super::links;
use super::snapshot::MATRIX_NODES;
use super::state::{NodeHealth, NodeView, PageState, PairView};

/// The matrix; empty where no nodes, or too many, are to be shown.
pub(super) fn matrix(state: &PageState) -> Markup {
    let is_whole = state.nodes.len() <= MATRIX_NODES;
    let named: BTreeSet<&str> = (state.pairs.iter())
        .flat_map(|pair| [pair.client.as_str(), pair.server.as_str()])
        .collect();
    let shown: Vec<&NodeView> = (state.nodes.iter())
        .filter(|node| is_whole || named.contains(node.name.as_str()))
        .collect();
    if shown.len() < 2 || shown.len() > MATRIX_NODES {
        return html! {};
    }
    let table = html! {
        table class="fingerprint" {
            caption { "From the node of the row to the node of the column" }
            thead {
                tr {
                    th scope="col" { "from" }
                    @for node in &shown { th scope="col" { (bounded(&node.name, CELL)) } }
                }
            }
            tbody {
                @for client in &shown {
                    tr {
                        th scope="row" { a href=(links::node(&client.name)) { (bounded(&client.name, CELL)) } }
                        @for server in &shown { (cell(state, client, server)) }
                    }
                }
            }
        }
    };
    html! {
        h2 { @if is_whole { "Between nodes" } @else { "Between nodes that fail" } }
        (scrolled("Between nodes", &table))
    }
}

fn cell(state: &PageState, client: &NodeView, server: &NodeView) -> Markup {
    let pair =
        (state.pairs.iter()).find(|pair| pair.client == client.name && pair.server == server.name);
    let (class, text) = words(pair, client, server);
    html! { td class=(class) { (text) } }
}

/// What the last examination says of a pair, else what the client's agent says of its node.
fn words(pair: Option<&PairView>, client: &NodeView, server: &NodeView) -> (&'static str, String) {
    match pair {
        Some(pair) if !pair.failing.is_empty() => {
            return ("failing", format!("✕ {}", pair.failing.join(", ")));
        }
        Some(pair) if pair.working > 0 => return ("works", "✓ works".to_owned()),
        Some(_) | None => {}
    }
    match (client.health, server.health) {
        // Its own paths are probed in every round; those to other nodes take turns.
        (NodeHealth::Working, _) if client.name == server.name => ("works", "✓ works".to_owned()),
        (NodeHealth::Working, NodeHealth::Working) => ("works", "✓ no failure".to_owned()),
        (
            NodeHealth::Failing
            | NodeHealth::Alerting
            | NodeHealth::NotMeasured
            | NodeHealth::Starting
            | NodeHealth::Working,
            _,
        ) => ("not-probed", "○ not known".to_owned()),
    }
}
