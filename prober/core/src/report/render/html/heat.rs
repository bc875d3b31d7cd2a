//! Round trips as maps: a grid of nodes for each route and family, darker where it takes longer.

use std::collections::{BTreeMap, BTreeSet};

use maud::{Markup, html};

use super::super::text::first_outcome;
use super::super::units::micros;
use crate::report::{End, Health, PathReport, Report};
use crate::topology::Route;

/// One grid: route and family, then client and server node.
type Grid<'a> = BTreeMap<(String, String), Vec<&'a PathReport>>;

/// All maps.
pub(super) fn maps(report: &Report) -> Markup {
    let mut grids: BTreeMap<(String, usize), Grid<'_>> = BTreeMap::new();
    let routes: Vec<&str> = Route::ALL.iter().map(|route| route.as_str()).collect();
    for path in &report.paths {
        let place = routes
            .iter()
            .position(|route| *route == path.route.as_str())
            .unwrap_or(routes.len());
        let name = |end: &End| {
            let node = end.node.as_ref().map(ToString::to_string);
            node.or_else(|| end.pod.clone())
                .unwrap_or_else(|| "any".to_owned())
        };
        grids
            .entry((path.family.to_string(), place))
            .or_default()
            .entry((name(&path.client), name(&path.server)))
            .or_default()
            .push(path);
    }
    let medians = || report.paths.iter().filter_map(|path| path.rtt_us.p50);
    let low = medians().fold(f64::INFINITY, f64::min).max(1.0);
    let high = medians().fold(1.0, f64::max);
    html! {
        div class="maps" {
            @for ((family, place), grid) in &grids {
                (map(routes.get(*place).copied().unwrap_or_default(), family, grid, (low, high)))
            }
        }
    }
}

fn map(route: &str, family: &str, grid: &Grid<'_>, range: (f64, f64)) -> Markup {
    let clients: BTreeSet<&String> = grid.keys().map(|(client, _)| client).collect();
    let servers: BTreeSet<&String> = grid.keys().map(|(_, server)| server).collect();
    html! {
        figure {
            figcaption { (route) ", " (family) }
            table class="heat" {
                thead {
                    tr {
                        th scope="col" { "from \\ to" }
                        @for server in &servers { th scope="col" { (server) } }
                    }
                }
                tbody {
                    @for client in &clients {
                        tr {
                            th scope="row" { (client) }
                            @for server in &servers {
                                (cell(grid.get(&((*client).clone(), (*server).clone())), range))
                            }
                        }
                    }
                }
            }
        }
    }
}

/// The worst of these paths.
fn cell(paths: Option<&Vec<&PathReport>>, (low, high): (f64, f64)) -> Markup {
    let paths = paths.map(Vec::as_slice).unwrap_or_default();
    let worst = paths.iter().max_by_key(|path| severity(path.health));
    let slowest = paths
        .iter()
        .filter_map(|path| path.rtt_us.p50)
        .fold(0.0, f64::max);
    let heat = if high > low && slowest > 0.0 {
        (slowest / low).ln() / (high / low).ln()
    } else {
        0.0
    };
    let deep = if heat > 0.6 { "deep" } else { "" };
    html! {
        @match worst.map(|path| path.health) {
            None => td class="none" { "–" },
            Some(Health::NotProbed) => td class="none" { "not probed" },
            Some(Health::Failing) => td class="failing" {
                "✕ "
                (worst.map(|path| first_outcome(path)).unwrap_or_default())
            },
            Some(Health::Late) => td class={ "works late " (deep) } style={ "--heat:" (format!("{heat:.2}")) } { (micros(slowest)) " late" },
            Some(Health::Healthy) => td class={ "works " (deep) } style={ "--heat:" (format!("{heat:.2}")) } { (micros(slowest)) },
        }
    }
}

const fn severity(health: Health) -> u8 {
    match health {
        Health::NotProbed => 0,
        Health::Healthy => 1,
        Health::Late => 2,
        Health::Failing => 3,
    }
}
