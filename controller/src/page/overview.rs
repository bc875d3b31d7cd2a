//! The overview: the outages first, then every node.

use maud::{Markup, html};

use super::age::grouped;
use super::answer::View;
use super::grid::grid;
use super::layout::{self, Page};
use super::matrix::matrix;
use super::outage_card::{Detail, card};
use super::state::Grouping;

/// The most outages with a fingerprint.
const FINGERPRINTS: usize = 8;

/// The most outages of the overview.
const CARDS: usize = 40;

/// The page.
pub(super) fn overview(view: &View<'_>, grouping: Option<Grouping>) -> String {
    let state = view.state;
    let content = html! {
        section id="outages" data-swap="" { (outages(view)) }
        section id="matrix" data-swap="" { (matrix(state)) }
        section id="nodes" data-swap="" {
            @if !state.nodes.is_empty() {
                h2 { "Nodes" }
                p { a href="/nodes" { "Search for a node" } }
                (grid(state, grouping))
            }
        }
    };
    layout::page(
        view,
        &Page {
            path: "/",
            title: None,
            content,
        },
    )
}

fn outages(view: &View<'_>) -> Markup {
    let open = &view.state.outages;
    html! {
        @if !open.is_empty() {
            h2 { "Outages" }
            @for (place, outage) in open.iter().take(CARDS).enumerate() {
                (card(view, outage, if place < FINGERPRINTS { Detail::Fingerprint } else { Detail::Lines }))
            }
            @if open.len() > CARDS {
                p { a href="/outages" { (grouped(open.len() - CARDS)) " more outages" } }
            }
        }
    }
}
