//! What is probed, how often, and what is not and why.

use std::collections::BTreeMap;

use maud::{Markup, html};
use prober_core::report::render::html::scrolled;

use super::age::grouped;
use super::answer::View;
use super::layout::{self, Page};
use super::links;
use super::state::{NodeHealth, NodeView};

/// The most reasons with a row each.
const REASONS: usize = 50;

/// The most nodes that are named for a reason.
const NAMES: usize = 10;

/// The page.
pub(super) fn coverage(view: &View<'_>) -> String {
    let content = html! {
        section id="coverage" data-swap="" {
            @if view.state.checks.is_empty() {
                p { "There is no ConnectivityCheck, or its nodes are not known yet." }
            } @else {
                (scrolled("Checks", &checks(view)))
                p class="soft" {
                    "Each node probes its own paths in every interval, and those to other nodes in turn: all pairs within a cycle."
                }
            }
            h2 { "Not measured" }
            (reasons(view))
        }
    };
    layout::page(
        view,
        &Page {
            path: "/coverage",
            title: Some("Coverage"),
            content,
        },
    )
}

fn checks(view: &View<'_>) -> Markup {
    html! {
        table {
            caption { "Checks" }
            thead {
                tr {
                    @for name in ["check", "state", "interval"] { th scope="col" { (name) } }
                    @for name in ["nodes", "measured", "working", "pairs", "servers with a slot"] {
                        th scope="col" class="number" { (name) }
                    }
                    th scope="col" { "cycle" }
                }
            }
            tbody {
                @for check in &view.state.checks {
                    tr {
                        td { (check.name) }
                        td { @if check.paused { "paused" } @else { "probes" } }
                        td { (check.interval) }
                        @for count in [check.nodes, check.measured, check.working] {
                            td class="number" { (grouped(count)) }
                        }
                        td class="number" { (grouped(usize::try_from(check.pairs).unwrap_or_default())) }
                        td class="number" { (grouped(check.slots)) }
                        td { (check.cycle) }
                    }
                }
            }
        }
    }
}

fn reasons(view: &View<'_>) -> Markup {
    let mut reasons: BTreeMap<&str, Vec<&NodeView>> = BTreeMap::new();
    for node in &view.state.nodes {
        if node.health == NodeHealth::NotMeasured {
            reasons.entry(&node.why).or_default().push(node);
        }
    }
    let mut reasons: Vec<_> = reasons.into_iter().collect();
    reasons.sort_by_key(|(_, nodes)| std::cmp::Reverse(nodes.len()));
    if reasons.is_empty() {
        return html! { p { "Every selected node is measured, or its agents start." } };
    }
    let table = html! {
        table {
            caption { "Nodes where nothing is measured" }
            thead {
                tr {
                    th scope="col" class="number" { "nodes" }
                    th scope="col" { "why" }
                    th scope="col" { "which" }
                }
            }
            tbody {
                @for (why, nodes) in reasons.iter().take(REASONS) {
                    tr {
                        td class="number" { (grouped(nodes.len())) }
                        td { (why) }
                        td {
                            @for node in nodes.iter().take(NAMES) { a href=(links::node(&node.name)) { (node.name) } " " }
                            @if nodes.len() > NAMES { "and " (grouped(nodes.len() - NAMES)) " more" }
                        }
                    }
                }
            }
        }
    };
    scrolled("Nodes where nothing is measured", &table)
}
