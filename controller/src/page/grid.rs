//! Every node as one cell, grouped by a property, the worst group first: a broken image or zone shows as a block.
//!
//! Where nodes are many, those that work are dots without a name, and only the others are named.

use std::collections::BTreeMap;

use maud::{Markup, PreEscaped, html};
use prober_core::report::render::html::node_cell;

use super::age::grouped;
use super::bounded::{CELL, bounded};
use super::links;
use super::state::{Grouping, NodeHealth, NodeView, PageState};

/// The most nodes that all have a name in the grid.
const NAMED: usize = 200;

/// The most named nodes of a grid with dots.
const CELLS: usize = 300;

/// The most named nodes of a group with dots.
const CELLS_OF_GROUP: usize = 60;

/// The most groups with a heading each.
const GROUPS: usize = 30;

/// Nodes with the same value of a property.
struct Group<'a> {
    value: Option<&'a str>,
    /// The worst first.
    nodes: Vec<&'a NodeView>,
}

impl Group<'_> {
    fn count(&self, health: NodeHealth) -> usize {
        let nodes = self.nodes.iter();
        nodes.filter(|node| node.health == health).count()
    }

    /// How bad it is: the share of its nodes that fail, then of those that do not work, in thousandths.
    fn badness(&self) -> (usize, usize) {
        let share = |count: usize| count * 1_000 / self.nodes.len().max(1);
        let others = self.nodes.len() - self.count(NodeHealth::Working);
        (share(self.count(NodeHealth::Failing)), share(others))
    }
}

/// The grid. Without a chosen property it is the one that separates failing nodes from the others best.
pub(super) fn grid(state: &PageState, chosen: Option<Grouping>) -> Markup {
    let useful: Vec<Grouping> = (Grouping::ALL.into_iter())
        .filter(|grouping| groups(state, *grouping).len() > 1)
        .collect();
    let grouping = chosen
        .filter(|grouping| useful.contains(grouping))
        .or_else(|| most_significant(state, &useful));
    let all = match grouping {
        Some(grouping) => groups(state, grouping),
        None => vec![Group {
            value: None,
            nodes: sorted(state.nodes.iter().collect()),
        }],
    };
    let are_named = state.nodes.len() <= NAMED;
    let mut cells = CELLS;
    html! {
        @if useful.len() > 1 {
            p class="soft" {
                "By "
                @for one in &useful {
                    a href=(links::grouped(*one)) aria-current=[(Some(*one) == grouping).then_some("true")] { (one.words()) } " "
                }
            }
        }
        @for group in all.iter().take(GROUPS) {
            @if let Some(grouping) = grouping { h3 { (heading(grouping, group)) } }
            @if are_named {
                (named(&group.nodes))
            } @else {
                (dotted(group, grouping, &mut cells))
            }
        }
        @if all.len() > GROUPS {
            p { (grouped(all.len() - GROUPS)) " more groups, none of them worse: " a href="/nodes" { "search for a node" } }
        }
    }
}

fn groups(state: &PageState, grouping: Grouping) -> Vec<Group<'_>> {
    let mut groups: BTreeMap<Option<&str>, Vec<&NodeView>> = BTreeMap::new();
    for node in &state.nodes {
        groups.entry(node.group(grouping)).or_default().push(node);
    }
    let mut groups: Vec<Group<'_>> = (groups.into_iter())
        .map(|(value, nodes)| Group {
            value,
            nodes: sorted(nodes),
        })
        .collect();
    groups.sort_by_key(|group| std::cmp::Reverse(group.badness()));
    groups
}

/// The nodes with the worst first, each state in natural order.
fn sorted(mut nodes: Vec<&NodeView>) -> Vec<&NodeView> {
    nodes.sort_by_key(|node| node.health);
    nodes
}

/// The property whose worst group fails most: of equals the first.
fn most_significant(state: &PageState, useful: &[Grouping]) -> Option<Grouping> {
    let worst = |grouping: Grouping| {
        let groups = groups(state, grouping);
        groups.first().map_or(0, |group| group.badness().0)
    };
    let ranked = useful.iter().map(|grouping| (worst(*grouping), *grouping));
    let best = ranked.reduce(|best, next| if next.0 > best.0 { next } else { best });
    best.map(|(_, grouping)| grouping)
}

fn heading(grouping: Grouping, group: &Group<'_>) -> String {
    let value = group.value.unwrap_or("not known");
    let total = grouped(group.nodes.len());
    let words = grouping.words();
    match group.count(NodeHealth::Failing) {
        0 => {
            let working = grouped(group.count(NodeHealth::Working));
            format!("{words} {value}: {working} of {total} work")
        }
        failing => format!("{words} {value}: {} of {total} fail", grouped(failing)),
    }
}

fn named(nodes: &[&NodeView]) -> Markup {
    html! {
        ul class="nodes" { @for node in nodes { (cell(node)) } }
    }
}

fn cell(node: &NodeView) -> Markup {
    let name = bounded(&node.name, CELL);
    let href = links::node(&node.name);
    node_cell(node.health.class(), &name, node.health.words(), Some(&href))
}

fn dotted(group: &Group<'_>, grouping: Option<Grouping>, cells: &mut usize) -> Markup {
    let others = group.nodes.len() - group.count(NodeHealth::Working);
    let shown = others.min(CELLS_OF_GROUP).min(*cells);
    *cells -= shown;
    let working = group.nodes.len() - others;
    html! {
        @if shown > 0 { (named(group.nodes.get(..shown).unwrap_or_default())) }
        @if others > shown {
            p { (grouped(others - shown)) " more do not work: "
                @for health in NodeHealth::ALL {
                    @let count = group.count(health);
                    @if health != NodeHealth::Working && count > 0 {
                        @let href = match (grouping, group.value) {
                            (Some(grouping), Some(value)) => links::nodes(health, grouping, value),
                            (Some(_) | None, _) => format!("/nodes?state={}", health.as_str()),
                        };
                        a class=(health.class()) href=(href) { (grouped(count)) " " (health.words()) } " "
                    }
                }
            }
        }
        @if working > 0 {
            p class="works" { "✓ " (grouped(working)) " work" }
            p class="dots" aria-hidden="true" { (PreEscaped("<b></b>".repeat(working))) }
        }
    }
}
