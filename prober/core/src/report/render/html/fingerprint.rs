//! The fingerprint of a diagnosis: which access paths fail between which nodes, and which work. The pattern shows the
//! cause at a glance.

use std::collections::{BTreeMap, BTreeSet};

use maud::{Markup, html};

use super::state;
use crate::packet::family::Family;
use crate::report::{DiagnosisReport, Health, Report};
use crate::topology::{AccessPath, NodeName, PathId, Scope};

/// The location of a path, relative to the node of the diagnosis.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    Within,
    From,
    To,
    AnyEndpoint,
    Elsewhere,
}

/// The state of a path in a fingerprint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CellState {
    /// It fails as the diagnosis explains.
    Fails,
    /// It fails, and the diagnosis does not explain it.
    FailsOtherwise,
    /// It works, and needed more than one SYN or opened late.
    Late,
    /// It works.
    Works,
    /// It was not probed.
    NotProbed,
}

/// A path in a fingerprint.
#[derive(Clone, Copy, Debug)]
pub struct CellPath<'a> {
    /// The client's node.
    pub client: Option<&'a NodeName>,
    /// The server's node.
    pub server: Option<&'a NodeName>,
    /// How the server is addressed.
    pub access_path: AccessPath,
    /// Where the two ends are.
    pub scope: Scope,
    /// The IP family.
    pub family: Family,
}

/// The number of paths of one cell in each state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Tally {
    fails: usize,
    others: usize,
    late: usize,
    works: usize,
    not_probed: usize,
}

impl Tally {
    fn add(&mut self, state: CellState) {
        let count = match state {
            CellState::Fails => &mut self.fails,
            CellState::FailsOtherwise => &mut self.others,
            CellState::Late => &mut self.late,
            CellState::Works => &mut self.works,
            CellState::NotProbed => &mut self.not_probed,
        };
        *count += 1;
    }
}

/// The states of paths by place and access path: one row for each place and family, one column for each access path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fingerprint {
    node: Option<NodeName>,
    cells: BTreeMap<(Family, Place, usize), Tally>,
}

impl Fingerprint {
    /// A fingerprint without paths, around the node of a failure.
    pub const fn new(node: Option<NodeName>) -> Self {
        Self {
            node,
            cells: BTreeMap::new(),
        }
    }

    /// The fingerprint of a diagnosis.
    pub fn of(report: &Report, diagnosis: &DiagnosisReport) -> Self {
        let explained: BTreeSet<PathId> = diagnosis.paths.iter().copied().collect();
        let mut fingerprint = Self::new(diagnosis.node.clone());
        for path in &report.paths {
            let state = match path.health {
                Health::Failing if explained.contains(&path.id) => CellState::Fails,
                Health::Failing => CellState::FailsOtherwise,
                Health::Late | Health::Opened => CellState::Late,
                Health::Healthy => CellState::Works,
                Health::NotProbed => CellState::NotProbed,
            };
            let path = CellPath {
                client: path.client.node.as_ref(),
                server: path.server.node.as_ref(),
                access_path: path.access_path,
                scope: path.scope,
                family: path.family,
            };
            fingerprint.add(path, state);
        }
        for path in &report.unprobed {
            let path = CellPath {
                client: path.client.node.as_ref(),
                server: path.server.node.as_ref(),
                access_path: path.access_path,
                scope: path.scope,
                family: path.family,
            };
            fingerprint.add(path, CellState::NotProbed);
        }
        fingerprint
    }

    /// Adds a path.
    pub fn add(&mut self, path: CellPath<'_>, state: CellState) {
        let place = place(path.scope, [path.client, path.server], self.node.as_ref());
        let key = (path.family, place, state::order(path.access_path));
        self.cells.entry(key).or_default().add(state);
    }

    /// Whether it has no path.
    pub fn is_empty(&self) -> bool {
        self.cells.is_empty()
    }

    /// Its table.
    pub fn table(&self, caption: &str) -> Markup {
        let columns: BTreeSet<usize> = self.cells.keys().map(|(_, _, column)| *column).collect();
        let rows: BTreeSet<(Family, Place)> = (self.cells.keys())
            .map(|(family, place, _)| (*family, *place))
            .collect();
        let families: BTreeSet<Family> = rows.iter().map(|(family, _)| *family).collect();
        let content = html! {
            table class="fingerprint" {
                caption { (caption) }
                thead {
                    tr {
                        th scope="col" { "where" }
                        @for column in &columns {
                            th scope="col" { (AccessPath::ALL.get(*column).map_or("", |access_path| access_path.as_str())) }
                        }
                    }
                }
                tbody {
                    @for (family, place) in &rows {
                        tr {
                            th scope="row" {
                                (heading(*place, self.node.as_ref()))
                                @if families.len() > 1 { ", " (family.to_string()) }
                            }
                            @for column in &columns { (cell(self.cells.get(&(*family, *place, *column)))) }
                        }
                    }
                }
            }
        };
        super::scrolled(caption, &content)
    }
}

fn place(scope: Scope, ends: [Option<&NodeName>; 2], node: Option<&NodeName>) -> Place {
    let [is_client, is_server] = ends.map(|end| end.is_some() && end == node);
    match scope {
        Scope::SameNode if is_client || node.is_none() => Place::Within,
        Scope::CrossNode if is_client || node.is_none() => Place::From,
        Scope::CrossNode if is_server => Place::To,
        Scope::Any if is_client || node.is_none() => Place::AnyEndpoint,
        Scope::SameNode | Scope::CrossNode | Scope::Any => Place::Elsewhere,
    }
}

fn heading(place: Place, node: Option<&NodeName>) -> String {
    match (place, node) {
        (Place::Within, Some(node)) => format!("within {node}"),
        (Place::Within, None) => "same node".to_owned(),
        (Place::From, Some(node)) => format!("from {node}"),
        (Place::From, None) => "across nodes".to_owned(),
        (Place::To, Some(node)) => format!("to {node}"),
        (Place::To, None) => "to the node".to_owned(),
        (Place::AnyEndpoint, Some(node)) => format!("from {node} to any endpoint"),
        (Place::AnyEndpoint, None) => "to any endpoint".to_owned(),
        (Place::Elsewhere, _) => "elsewhere".to_owned(),
    }
}

/// The table of the fingerprint; empty if the report has fewer than two paths.
pub(super) fn table(report: &Report, diagnosis: &DiagnosisReport, number: usize) -> Markup {
    if report.paths.len() < 2 {
        return html! {};
    }
    let caption = format!("What fails where: diagnosis {number}");
    Fingerprint::of(report, diagnosis).table(&caption)
}

fn cell(tally: Option<&Tally>) -> Markup {
    let Some(Tally {
        fails,
        others,
        late,
        works,
        not_probed,
    }) = tally.copied()
    else {
        // The report has no path for this cell.
        return html! { td class="absent" {} };
    };
    let whole = fails + others + late + works + not_probed;
    let of = |part: usize, one: &str, several: &str| match (part, whole) {
        (1, 1) => one.to_owned(),
        (part, whole) if part == whole => format!("all {whole} {several}"),
        (part, whole) => format!("{part} of {whole} {several}"),
    };
    let (class, text) = if fails > 0 {
        ("failing", format!("✕ {}", of(fails, "fails", "fail")))
    } else if others > 0 {
        let failing = of(others, "fails", "fail");
        ("affected", format!("△ {failing}, not by this"))
    } else if late > 0 {
        ("late", format!("◔ {}", of(late, "late", "late")))
    } else if works > 0 {
        ("works", format!("✓ {}", of(works, "works", "work")))
    } else {
        let missing = of(not_probed, "not probed", "not probed");
        ("not-probed", format!("○ {missing}"))
    };
    html! { td class=(class) { (text) } }
}
