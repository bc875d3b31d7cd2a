//! Every path as a row, failing ones first.

use maud::{Markup, html};

use super::super::text::{lost, outcomes, percent, rtt};
use crate::report::{End, Health, PathReport, Report};

/// The table.
pub(super) fn paths(report: &Report) -> Markup {
    let mut paths: Vec<&PathReport> = report.paths.iter().collect();
    paths.sort_by_key(|path| match path.health {
        Health::Failing => 0,
        Health::Late => 1,
        Health::NotProbed => 2,
        Health::Healthy => 3,
    });
    html! {
        div class="scroll" {
            table {
                thead {
                    tr {
                        @for name in ["", "client", "server", "route", "scope", "family", "target", "outcome", "lost", "first SYN", "p50/p99 µs"] {
                            th scope="col" { (name) }
                        }
                    }
                }
                tbody { @for path in paths { (row(path)) } }
            }
        }
    }
}

fn row(path: &PathReport) -> Markup {
    let (class, word) = match path.health {
        Health::Healthy => ("healthy", "ok"),
        Health::Late => ("late", "late"),
        Health::Failing => ("failing", "fails"),
        Health::NotProbed => ("not-probed", "?"),
    };
    html! {
        tr class={ "is-" (class) } {
            td class=(class) { (word) }
            td { (end(&path.client)) }
            td { (end(&path.server)) }
            td { (path.route) }
            td { (path.scope) }
            td { (path.family.to_string()) }
            td class="mono" { (path.target) }
            td { (outcomes(path)) }
            td class="number" { (lost(path)) }
            td class="number" { (path.first_syn_success.map_or_else(|| "–".to_owned(), percent)) }
            td class="number" { (rtt(&path.rtt_us)) }
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
