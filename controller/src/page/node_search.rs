//! The list of nodes, and the search in it.

use maud::{Markup, html};
use prober_core::report::render::html::scrolled;

use super::age::grouped;
use super::answer::{Query, View};
use super::layout::{self, Page};
use super::links;
use super::state::{Grouping, NodeHealth, NodeView};

/// The most nodes of a list.
const ROWS: usize = 200;

/// What is searched for.
struct Search<'a> {
    text: &'a str,
    health: Option<NodeHealth>,
    groups: Vec<(Grouping, &'a str)>,
}

impl<'a> Search<'a> {
    fn of(query: &'a Query) -> Self {
        let groups = Grouping::ALL.into_iter().filter_map(|grouping| {
            let value = query.get(grouping.as_str())?;
            (!value.is_empty()).then_some((grouping, value))
        });
        Self {
            text: query.get("q").unwrap_or_default().trim(),
            health: query.get("state").and_then(NodeHealth::parse),
            groups: groups.collect(),
        }
    }

    /// Whether the node's name or one of its properties has the text, and it is in the state.
    fn finds(&self, node: &NodeView) -> bool {
        let has_text = self.text.is_empty()
            || node.name.contains(self.text)
            || node
                .groups
                .iter()
                .any(|(_, value)| value.contains(self.text));
        has_text
            && self.health.is_none_or(|health| node.health == health)
            && (self.groups.iter()).all(|(grouping, value)| node.group(*grouping) == Some(*value))
    }
}

/// The page.
pub(super) fn node_search(view: &View<'_>, query: &Query) -> String {
    let search = Search::of(query);
    let mut found: Vec<&NodeView> = (view.state.nodes.iter())
        .filter(|node| search.finds(node))
        .collect();
    found.sort_by_key(|node| node.health);
    let content = html! {
        form action="/nodes" {
            label for="q" { "Name or property" } " "
            input id="q" name="q" type="search" value=(search.text) maxlength="253" autocomplete="off";
            " " label for="state" { "State" } " "
            select id="state" name="state" {
                option value="" { "any" }
                @for health in NodeHealth::ALL {
                    option value=(health.as_str()) selected[search.health == Some(health)] { (health.words()) }
                }
            }
            @for (grouping, value) in &search.groups {
                input type="hidden" name=(grouping.as_str()) value=(value);
            }
            " " button type="submit" { "Search" }
        }
        section id="found" data-swap="" {
            @for (grouping, value) in &search.groups { p { (grouping.words()) " " (value) } }
            p { (grouped(found.len())) " of " (grouped(view.state.nodes.len())) " nodes" }
            @if !found.is_empty() { (scrolled("Nodes", &table(&found))) }
            @if found.len() > ROWS { p class="soft" { "The first " (ROWS) " are shown: search for fewer." } }
        }
    };
    layout::page(
        view,
        &Page {
            path: "/nodes",
            title: Some("Nodes"),
            content,
        },
    )
}

fn table(nodes: &[&NodeView]) -> Markup {
    html! {
        table {
            caption { "Nodes, the worst first" }
            thead {
                tr { @for name in ["state", "node", "check", "why"] { th scope="col" { (name) } } }
            }
            tbody {
                @for node in nodes.iter().take(ROWS) {
                    tr {
                        td class=(node.health.class()) { (node.health.words()) }
                        td { a class=(node.health.class()) href=(links::node(&node.name)) { (node.name) } }
                        td { (node.check) }
                        td { (node.why) }
                    }
                }
            }
        }
    }
}
