//! Matrices of round trips between few nodes: one for each access path and family, and one table for the access paths on
//! which a node has a single path.

use std::collections::{BTreeMap, BTreeSet};

use maud::{Markup, html};

use super::nodes::NodeOverview;
use super::state::{self, Grouped, Range};
use crate::packet::family::Family;
use crate::report::{Health, PathReport, Report};
use crate::topology::{AccessPath, NodeName, Scope};
use crate::units::micros;

/// The most nodes for which a matrix is readable.
const NODES: usize = 12;

/// The most nodes for which no map is folded.
const UNFOLDED: usize = 4;

/// The paths of each cell, by the client's node and the column.
type Cells<'a> = Grouped<'a, (&'a NodeName, Column<'a>)>;

/// The server's node, or the access path, of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Column<'a> {
    Server(&'a NodeName),
    AccessPath(usize),
}

/// One map: its name, its columns, the paths of its cells, and the cells whose paths were not probed.
struct Map<'a> {
    name: String,
    columns: Vec<Column<'a>>,
    cells: Cells<'a>,
    unprobed: BTreeSet<(&'a NodeName, Column<'a>)>,
}

/// All maps; `None` for a single node, for more than [`NODES`], or if most cells are empty.
pub(super) fn maps(report: &Report, overview: &NodeOverview<'_>) -> Option<Markup> {
    let nodes = overview.names();
    if nodes.len() < 2 || nodes.len() > NODES {
        return None;
    }
    let maps = gather(report, &nodes);
    let cells: usize = maps.iter().map(|map| map.columns.len() * nodes.len()).sum();
    let filled: usize = maps.iter().map(Map::filled).sum();
    if filled == 0 || filled * 2 < cells {
        return None;
    }
    let range = Range::of(report);
    Some(html! {
        div class="maps" {
            @for map in &maps {
                @if nodes.len() > UNFOLDED && map.is_quiet() {
                    details { summary { (map.name) ": " (map.summary()) } (drawn(map, &nodes, range)) }
                } @else {
                    (drawn(map, &nodes, range))
                }
            }
        }
    })
}

/// The maps of every family: one for each access path between nodes, then one for all other access paths.
fn gather<'a>(report: &'a Report, nodes: &[&'a NodeName]) -> Vec<Map<'a>> {
    let across: BTreeSet<AccessPath> = report
        .paths
        .iter()
        .map(|path| (path.access_path, path.scope))
        .chain(
            report
                .unprobed
                .iter()
                .map(|path| (path.access_path, path.scope)),
        )
        .filter(|(_, scope)| *scope == Scope::CrossNode)
        .map(|(access_path, _)| access_path)
        .collect();
    // The map that a path belongs to, and its column there.
    let locate = |access_path: AccessPath, server: Option<&'a NodeName>| match server {
        Some(server) if across.contains(&access_path) => {
            (state::order(access_path), Column::Server(server))
        }
        Some(_) | None => (
            AccessPath::ALL.len(),
            Column::AccessPath(state::order(access_path)),
        ),
    };
    let mut maps: BTreeMap<(Family, usize), Map<'a>> = BTreeMap::new();
    for path in &report.paths {
        let Some(client) = &path.client.node else {
            continue;
        };
        let (place, column) = locate(path.access_path, path.server.node.as_ref());
        let map = maps
            .entry((path.family, place))
            .or_insert_with(|| Map::new(place, path.family));
        map.cells.entry((client, column)).or_default().push(path);
    }
    for path in &report.unprobed {
        let Some(client) = &path.client.node else {
            continue;
        };
        let (place, column) = locate(path.access_path, path.server.node.as_ref());
        let map = maps
            .entry((path.family, place))
            .or_insert_with(|| Map::new(place, path.family));
        map.unprobed.insert((client, column));
    }
    for map in maps.values_mut() {
        map.columns = columns(map, nodes);
    }
    maps.into_values().collect()
}

/// The columns of a map, nodes first, each kind in its usual order.
fn columns<'a>(map: &Map<'a>, nodes: &[&'a NodeName]) -> Vec<Column<'a>> {
    let used: BTreeSet<Column<'a>> = map
        .cells
        .keys()
        .chain(&map.unprobed)
        .map(|(_, column)| *column)
        .collect();
    let servers = nodes.iter().map(|node| Column::Server(node));
    servers
        .chain((0..AccessPath::ALL.len()).map(Column::AccessPath))
        .filter(|column| used.contains(column))
        .collect()
}

impl Map<'_> {
    fn new(place: usize, family: Family) -> Self {
        let access_path = AccessPath::ALL.get(place);
        let name = access_path.map_or("from each node", |access_path| access_path.as_str());
        Self {
            name: format!("{name}, {family}"),
            columns: Vec::new(),
            cells: BTreeMap::new(),
            unprobed: BTreeSet::new(),
        }
    }

    fn filled(&self) -> usize {
        let all: BTreeSet<_> = self.cells.keys().chain(&self.unprobed).collect();
        all.len()
    }

    /// Whether no path fails or is late.
    fn is_quiet(&self) -> bool {
        let mut paths = self.cells.values().flatten();
        paths.all(|path| match path.health {
            Health::Healthy | Health::NotProbed => true,
            Health::Failing | Health::Late | Health::Opened => false,
        })
    }

    /// The summary of a folded map.
    fn summary(&self) -> String {
        let paths = || self.cells.values().flatten();
        let working = paths().filter(|path| path.health == Health::Healthy);
        let (all, working) = (paths().count() + self.unprobed.len(), working.count());
        let medians = || paths().filter_map(|path| path.rtt_us.p50);
        let works = if working == all {
            format!("all {} work", state::paths(all))
        } else {
            format!(
                "{working} of {} work, the others are not probed",
                state::paths(all)
            )
        };
        match (medians().reduce(f64::min), medians().reduce(f64::max)) {
            (Some(low), Some(high)) => format!("{works}, {} to {}", micros(low), micros(high)),
            (None, _) | (_, None) => works,
        }
    }
}

fn drawn(map: &Map<'_>, nodes: &[&NodeName], range: Range) -> Markup {
    let is_matrix = map
        .columns
        .iter()
        .any(|column| matches!(column, Column::Server(_)));
    let table = html! {
        table class="heat" {
            caption { (map.name) }
            thead {
                tr {
                    th scope="col" { (if is_matrix { "from \\ to" } else { "from" }) }
                    @for column in &map.columns {
                        th scope="col" {
                            (match column {
                                Column::Server(node) => node.as_str(),
                                Column::AccessPath(access_path) => AccessPath::ALL.get(*access_path).map_or("", |access_path| access_path.as_str()),
                            })
                        }
                    }
                }
            }
            tbody {
                @for client in nodes {
                    tr {
                        th scope="row" { (client) }
                        @for column in &map.columns {
                            (cell(map, (client, *column), range))
                        }
                    }
                }
            }
        }
    };
    super::scrolled(&format!("Round trips, {}", map.name), &table)
}

/// The cell at `place`: the state of its worst path.
fn cell(map: &Map<'_>, place: (&NodeName, Column<'_>), range: Range) -> Markup {
    let paths: &[&PathReport] = map.cells.get(&place).map_or(&[], Vec::as_slice);
    let worst = paths.iter().max_by_key(|path| state::severity(path.health));
    let Some(worst) = worst else {
        return if map.unprobed.contains(&place) {
            html! { td class="not-probed" { "○ not probed" } }
        } else {
            html! { td class="absent" {} }
        };
    };
    let slowest = paths
        .iter()
        .filter_map(|path| path.rtt_us.p50)
        .reduce(f64::max);
    let heat = slowest.map_or("heat-0", |slowest| range.class(slowest));
    let shown = slowest.map(micros);
    match worst.health {
        Health::NotProbed => html! { td class="not-probed" { "○ not probed" } },
        Health::Failing => html! { td class="failing" { "✕ " (state::outcome(worst)) } },
        Health::Late | Health::Opened => html! {
            td class={ "late " (heat) } { "◔ " (shown.unwrap_or_default()) " late" }
        },
        Health::Healthy => html! {
            td class={ "works " (heat) } { (shown.unwrap_or_else(|| "✓ works".to_owned())) }
        },
    }
}
