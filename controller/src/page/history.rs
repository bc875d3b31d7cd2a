//! The time line of outages: those that last, then those that have ended.

use std::time::Duration;

use maud::{Markup, html};
use prober_core::report::render::html::scrolled;
use prober_core::time::Timestamp;

use super::age::age;
use super::answer::View;
use super::layout::{self, Page};
use super::links;
use super::state::OutageView;
use super::summary::label;

/// The most rows.
const ROWS: usize = 200;

/// The time that a strip covers.
const STRIP: Duration = Duration::from_hours(24);

/// The units of a strip's width: a quarter of an hour each.
const WIDTH: u64 = 96;

/// The page.
pub(super) fn history(view: &View<'_>) -> String {
    let state = view.state;
    let content = html! {
        section id="history" data-swap="" {
            @if state.outages.is_empty() && state.ended.is_empty() {
                p { "No outage is known." }
            } @else {
                (table(view, state.outages.iter().chain(&state.ended)))
                @if state.outages.len() + state.ended.len() > ROWS {
                    p class="soft" { "The first " (ROWS) " are shown: the JSON has every one." }
                }
            }
            p class="soft" { "The last 20 of each check are remembered." }
        }
    };
    layout::page(
        view,
        &Page {
            path: "/outages",
            title: Some("Outages"),
            content,
        },
    )
}

/// A row for each outage, with a strip of the last 24 hours.
pub(super) fn table<'a>(view: &View<'_>, outages: impl Iterator<Item = &'a OutageView>) -> Markup {
    let content = html! {
        table {
            caption { "Outages, those that last first" }
            thead {
                tr {
                    @for name in ["state", "outage", "began (UTC)", "duration", "last 24 h"] {
                        th scope="col" { (name) }
                    }
                }
            }
            tbody {
                @for outage in outages.take(ROWS) { (row(view, outage)) }
            }
        }
    };
    scrolled("Outages", &content)
}

fn row(view: &View<'_>, outage: &OutageView) -> Markup {
    let since = outage.since.to_rfc3339();
    let ended = outage.end;
    let (class, state) = match ended {
        None => ("failing", "✕ lasts".to_owned()),
        Some(_) => ("not-probed", format!("○ over: {}", outage.ended_because)),
    };
    html! {
        tr {
            td class=(class) { (state) }
            td { a class=[ended.is_none().then_some("failing")] href=(links::outage(&outage.id)) { (label(outage)) } }
            td { (since.get(..16).unwrap_or(&since).replace('T', " ")) }
            td { (age(ended.unwrap_or(view.now).since(outage.since))) }
            td { (strip(view.now, outage)) }
        }
    }
}

fn strip(now: Timestamp, outage: &OutageView) -> Markup {
    let place = |at: Timestamp| {
        let ago = now.since(at).min(STRIP);
        WIDTH - (ago.as_secs() * WIDTH).div_ceil(STRIP.as_secs())
    };
    let (from, to) = (place(outage.since), outage.end.map_or(WIDTH, place));
    html! {
        svg class="strip" viewBox={ "0 0 " (WIDTH) " 8" } preserveAspectRatio="none" aria-hidden="true" {
            rect class="day" x="0" y="0" width=(WIDTH) height="8" {}
            @if to > 0 { rect class="bad" x=(from) y="0" width=((to - from).max(1)) height="8" {} }
        }
    }
}
