//! The page of one node: its state, its outages, and how to examine it.

use maud::{Markup, html};
use prober_core::report::render::shell;

use super::age::age;
use super::answer::View;
use super::bounded::{CELL, bounded};
use super::history;
use super::layout::{self, Page};
use super::outage_card::{Detail, card};
use super::state::{NodeHealth, NodeView, OutageView};

/// The page.
pub(super) fn node_page(view: &View<'_>, node: &NodeView) -> String {
    let of_node = |outage: &&OutageView| outage.nodes.contains(&node.name);
    let open: Vec<&OutageView> = (view.state.outages.iter())
        .filter(|outage| node.outages.contains(&outage.id))
        .collect();
    let ended: Vec<&OutageView> = view.state.ended.iter().filter(of_node).collect();
    let content = html! {
        section id="node" data-swap="" {
            p class=(node.health.class()) { strong { (node.health.words()) } (reason(view, node)) }
            @if !open.is_empty() {
                h2 { "Outages" }
                @for outage in &open { (card(view, outage, Detail::Fingerprint)) }
            }
            h2 { "The last 24 hours" }
            @if open.is_empty() && ended.is_empty() {
                p { "No outage of this node is known." }
            } @else {
                (history::table(view, open.iter().chain(&ended).copied()))
            }
        }
        section id="properties" data-swap="" {
            h2 { "The node" }
            (properties(node))
        }
        h2 { "Examine it now" }
        p { "A run of its own, with its own agents:" }
        pre class="command" { (shell(&["kubectl", "prober", "run", "--node", &node.name].map(str::to_owned))) }
    };
    let title = format!("Node {}", bounded(&node.name, 2 * CELL));
    layout::page(
        view,
        &Page {
            path: "/node",
            title: Some(&title),
            content,
        },
    )
}

fn reason(view: &View<'_>, node: &NodeView) -> String {
    match node.health {
        NodeHealth::Working => ": the last results of its own paths are healthy".to_owned(),
        NodeHealth::Starting => ": its agents start".to_owned(),
        NodeHealth::NotMeasured => format!(": {}", node.why),
        NodeHealth::Failing => ": an outage involves it".to_owned(),
        NodeHealth::Alerting => {
            let since = node.alerting_since.unwrap_or(view.now);
            let since = age(view.now.since(since));
            format!(": an agent has reported a failure for {since}, which is not confirmed")
        }
    }
}

fn properties(node: &NodeView) -> Markup {
    html! {
        table {
            caption { "What it is" }
            tbody {
                tr { th scope="row" { "check" } td { (node.check) } }
                @for (grouping, value) in &node.groups {
                    tr { th scope="row" { (grouping.words()) } td { (value) } }
                }
            }
        }
    }
}
