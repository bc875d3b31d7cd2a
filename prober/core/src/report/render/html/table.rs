//! The table of paths, those that do not work first; many healthy paths share a row for each access path.

use std::collections::BTreeMap;

use maud::{Markup, html};

use super::super::text::{lost, outcomes, percent};
use super::state;
use crate::evidence::Comparison;
use crate::packet::family::Family;
use crate::report::{End, Health, PathReport, Report, RttReport};
use crate::topology::Scope;
use crate::units::micros;

/// The most healthy paths with a row each; more of them are summed up by access path, scope and family.
const WORKING: usize = 60;

/// The most rows of one health other than healthy, to limit the size of the page.
const ROWS: usize = 100;

/// The tables of paths, and the number of paths that they leave out.
pub(super) fn paths(report: &Report) -> Markup {
    let of = |health: Health| -> Vec<&PathReport> {
        let paths = report.paths.iter().filter(|path| path.health == health);
        let mut paths: Vec<&PathReport> = paths.collect();
        paths.sort_by_key(|path| (&path.client.node, &path.server.node));
        paths
    };
    let working = of(Health::Healthy);
    let is_summed = working.len() > WORKING;
    let mut rows = Vec::new();
    let mut omitted = 0;
    for health in [
        Health::Failing,
        Health::Late,
        Health::Opened,
        Health::NotProbed,
    ] {
        let paths = of(health);
        omitted += paths.len().saturating_sub(ROWS);
        rows.extend(paths.into_iter().take(ROWS));
    }
    if !is_summed {
        rows.extend(&working);
    }
    let what = if is_summed {
        "Paths that do not work"
    } else {
        "Every path"
    };
    html! {
        @if !rows.is_empty() { (super::scrolled("Every path", &each(&rows, what))) }
        @if omitted > 0 {
            p class="soft" { "And " (state::paths(omitted)) " more: the report's JSON has every one." }
        }
        @if is_summed { (super::scrolled("Working paths by access path", &summed(&working))) }
        @for kind in [Comparison::SecondClient, Comparison::SecondServer] {
            @let of_kind = report.comparisons.iter().filter(|one| one.kind == kind);
            @let compared: Vec<&PathReport> = of_kind.map(|one| &one.path).collect();
            @if !compared.is_empty() {
                @let name = format!("For comparison, by a {}: another pod of the same node", kind.words());
                (super::scrolled(&name, &each(&compared, &name)))
            }
        }
    }
}

fn each(rows: &[&PathReport], what: &str) -> Markup {
    html! {
        table {
            caption { (what) }
            thead {
                tr {
                    @for name in ["state", "client", "server", "access path", "scope", "family", "target", "outcome"] {
                        th scope="col" { (name) }
                    }
                    @for name in ["lost", "first SYN", "p50 / p99"] {
                        th scope="col" class="number" { (name) }
                    }
                }
            }
            tbody { @for path in rows { (row(path)) } }
        }
    }
}

fn row(path: &PathReport) -> Markup {
    let state = state::of(path.health, true);
    html! {
        tr class={ "is-" (state.class) } {
            td class=(state.class) { (state.symbol) " " (state.word) }
            td { (end(&path.client)) }
            td { (end(&path.server)) }
            td { (path.access_path) }
            td { (path.scope) }
            td { (path.family.to_string()) }
            td class="mono" { (path.target) }
            td {
                @if path.health == Health::Failing && path.outcomes.total() == 0 {
                    "no outcome"
                    @if path.unfinished > 0 { ", unfinished " (path.unfinished) }
                } @else {
                    (outcomes(path))
                }
            }
            td class="number" { (lost(path)) }
            td class="number" { (path.first_syn_success.map_or_else(|| "–".to_owned(), percent)) }
            td class="number" { (round_trip(&path.rtt_us)) }
        }
    }
}

fn end(end: &End) -> String {
    match (&end.node, &end.pod) {
        (_, Some(pod)) => pod.clone(),
        (Some(node), None) => node.to_string(),
        (None, None) => "any".to_owned(),
    }
}

fn round_trip(rtt: &RttReport) -> String {
    match (rtt.p50, rtt.p99) {
        (Some(p50), Some(p99)) => format!("{} / {}", micros(p50), micros(p99)),
        (Some(only), None) | (None, Some(only)) => micros(only),
        (None, None) => "–".to_owned(),
    }
}

/// One row for each access path, scope and family.
fn summed(working: &[&PathReport]) -> Markup {
    let mut groups: BTreeMap<(usize, Scope, Family), Vec<&PathReport>> = BTreeMap::new();
    for path in working {
        let key = (state::order(path.access_path), path.scope, path.family);
        groups.entry(key).or_default().push(path);
    }
    html! {
        table {
            caption { "Paths that work, by access path" }
            thead {
                tr {
                    @for name in ["state", "access path", "scope", "family"] {
                        th scope="col" { (name) }
                    }
                    @for name in ["paths", "p50", "p99 at most"] {
                        th scope="col" class="number" { (name) }
                    }
                }
            }
            tbody {
                @for ((_, scope, family), paths) in &groups {
                    tr {
                        td class="works" { "✓ works" }
                        td { (paths.first().map_or("", |path| path.access_path.as_str())) }
                        td { (scope) }
                        td { (family.to_string()) }
                        td class="number" { (paths.len()) }
                        td class="number" { (medians(paths)) }
                        td class="number" {
                            (paths.iter().filter_map(|path| path.rtt_us.p99).reduce(f64::max).map_or_else(|| "–".to_owned(), micros))
                        }
                    }
                }
            }
        }
    }
}

/// The range of the medians of `paths`, from the fastest to the slowest.
fn medians(paths: &[&PathReport]) -> String {
    let medians = || paths.iter().filter_map(|path| path.rtt_us.p50);
    match (medians().reduce(f64::min), medians().reduce(f64::max)) {
        (Some(low), Some(high)) if low < high => format!("{} to {}", micros(low), micros(high)),
        (Some(one), _) => micros(one),
        (None, _) => "–".to_owned(),
    }
}
