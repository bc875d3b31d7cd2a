//! The fingerprint of a diagnosis: which access paths fail between which nodes, and which work. The pattern shows the
//! cause at a glance.

use std::collections::{BTreeMap, BTreeSet};

use maud::{Markup, html};

use super::state;
use crate::packet::family::Family;
use crate::report::{DiagnosisReport, Health, PathReport, Report, UnprobedReport};
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

/// The states of the paths of one cell.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    /// Failing, and explained by this diagnosis.
    fails: usize,
    /// Failing, and not explained by this diagnosis.
    others: usize,
    late: usize,
    works: usize,
    not_probed: usize,
}

impl Tally {
    fn add(&mut self, health: Health, is_explained: bool) {
        let count = match health {
            Health::Failing if is_explained => &mut self.fails,
            Health::Failing => &mut self.others,
            Health::Late | Health::Opened => &mut self.late,
            Health::Healthy => &mut self.works,
            Health::NotProbed => &mut self.not_probed,
        };
        *count += 1;
    }
}

/// One row for each access path and family, one column for each place.
#[derive(Default)]
struct Fingerprint {
    cells: BTreeMap<(Family, usize, Place), Tally>,
}

impl Fingerprint {
    fn of(report: &Report, diagnosis: &DiagnosisReport) -> Self {
        let explained: BTreeSet<PathId> = diagnosis.paths.iter().copied().collect();
        let node = diagnosis.node.as_ref();
        let mut cells: BTreeMap<_, Tally> = BTreeMap::new();
        for path in &report.paths {
            let PathReport {
                access_path,
                scope,
                family,
                ..
            } = path;
            let ends = [path.client.node.as_ref(), path.server.node.as_ref()];
            let key = (
                *family,
                state::order(*access_path),
                place(*scope, ends, node),
            );
            let is_explained = explained.contains(&path.id);
            cells.entry(key).or_default().add(path.health, is_explained);
        }
        for path in &report.unprobed {
            let UnprobedReport {
                client,
                server,
                access_path,
                scope,
                family,
                reason: _,
            } = path;
            let ends = [client.node.as_ref(), server.node.as_ref()];
            let key = (
                *family,
                state::order(*access_path),
                place(*scope, ends, node),
            );
            cells.entry(key).or_default().add(Health::NotProbed, false);
        }
        Self { cells }
    }

    fn places(&self) -> BTreeSet<Place> {
        self.cells.keys().map(|(_, _, place)| *place).collect()
    }

    fn rows(&self) -> BTreeSet<(Family, usize)> {
        let keys = self.cells.keys();
        keys.map(|(family, access_path, _)| (*family, *access_path))
            .collect()
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
    let fingerprint = Fingerprint::of(report, diagnosis);
    let node = diagnosis.node.as_ref();
    let places = fingerprint.places();
    let rows = fingerprint.rows();
    let families: BTreeSet<Family> = rows.iter().map(|(family, _)| *family).collect();
    let content = html! {
        table class="fingerprint" {
            caption { "What fails where: diagnosis " (number) }
            thead {
                tr {
                    th scope="col" { "access path" }
                    @for place in &places { th scope="col" { (heading(*place, node)) } }
                }
            }
            tbody {
                @for (family, access_path) in &rows {
                    tr {
                        th scope="row" {
                            (AccessPath::ALL.get(*access_path).map_or("", |access_path| access_path.as_str()))
                            @if families.len() > 1 { ", " (family.to_string()) }
                        }
                        @for place in &places {
                            (cell(fingerprint.cells.get(&(*family, *access_path, *place))))
                        }
                    }
                }
            }
        }
    };
    super::scrolled(&format!("What fails where: diagnosis {number}"), &content)
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
