//! The paths as rows: pairs of nodes with a path that fails in full, all that works a row for each kind of path.

use std::collections::{BTreeMap, BTreeSet};

use super::super::{Text, Tone};
use super::Options;
use super::rows::{Row, Table};
use crate::evidence::Source;
use crate::packet::family::Family;
use crate::probe::event::OutcomeCounts;
use crate::probe::outcome::OutcomeKind;
use crate::report::share::{interval, share};
use crate::report::{End, Health, PathReport, Report, RttReport};
use crate::topology::{AccessPath, NodeName, Scope};
use crate::units::micros;

/// Pairs of nodes that are shown in full, and addresses that work and are.
const SHOWN: usize = 12;

/// Outcomes, most telling first.
const TELLING: [OutcomeKind; 6] = [
    OutcomeKind::Mismatched,
    OutcomeKind::Timeout,
    OutcomeKind::Unreachable,
    OutcomeKind::RefusedLocally,
    OutcomeKind::Reset,
    OutcomeKind::Established,
];

/// By client's node, then by server's, those that the Service picks last.
type PairOrder<'a> = (Option<&'a NodeName>, (bool, Option<&'a NodeName>));

/// What paths have in common that share a row.
type Kind = (AccessPath, Scope, Family);

/// The table.
pub(super) fn paths(text: &mut Text, report: &Report, options: Options) {
    match report.source {
        Source::Run => pairs(text, report, options),
        Source::Host | Source::Capture => targets(text, report, options),
    }
}

/// Grouped by pair of nodes.
fn pairs(text: &mut Text, report: &Report, options: Options) {
    let mut pairs: BTreeMap<PairOrder<'_>, Vec<&PathReport>> = BTreeMap::new();
    for path in &report.paths {
        let server = path.server.node.as_ref();
        pairs
            .entry((path.client.node.as_ref(), (server.is_none(), server)))
            .or_default()
            .push(path);
    }
    let is_open = |paths: &[&PathReport]| options.wide || !paths.iter().all(|path| is_fine(path));
    let (open, fine): (Vec<_>, Vec<_>) = pairs.into_iter().partition(|(_, paths)| is_open(paths));
    let room = if options.wide { usize::MAX } else { SHOWN };
    let left_out = open.get(room..).unwrap_or_default();
    let mut table = Table::new(["access path", "scope", "family", "server"]);
    if !has_both_families(report) {
        table.hide_family();
    }
    for ((client, (_, server)), paths) in open.iter().take(room) {
        let name =
            |node: Option<&NodeName>| node.map_or_else(|| "any".to_owned(), ToString::to_string);
        table.heading(
            Tone::Heading,
            format!("{} -> {}", name(*client), name(*server)),
        );
        for path in paths {
            table.row(pair_row(path));
        }
    }
    let folded: Vec<&PathReport> = fine.into_iter().flat_map(|(_, paths)| paths).collect();
    if !left_out.is_empty() {
        let failing = left_out.iter().flat_map(|(_, paths)| paths);
        let failing = failing.filter(|path| !is_fine(path)).count();
        table.heading(
            Tone::Bad,
            format!(
                "and {} more pairs of nodes with {} that do not work (-o wide shows them)",
                left_out.len(),
                super::paths_of(failing)
            ),
        );
    }
    if !folded.is_empty() {
        let nodes: BTreeSet<_> = folded.iter().map(|path| &path.client.node).collect();
        let nodes = match nodes.len() {
            1 => "1 node".to_owned(),
            count => format!("{count} nodes"),
        };
        let other = if open.is_empty() { "" } else { "the other " };
        table.heading(
            Tone::Good,
            format!("ok: {other}{}, from {nodes}", super::paths_of(folded.len())),
        );
        for row in kinds(&folded) {
            table.row(row);
        }
    }
    table.write(text, options.width);
}

fn has_both_families(report: &Report) -> bool {
    let mut families = report.paths.iter().map(|path| path.family);
    let first = families.next();
    families.any(|family| Some(family) != first)
}

fn pair_row(path: &PathReport) -> Row {
    let names = [
        path.access_path.to_string(),
        path.scope.to_string(),
        path.family.to_string(),
        server_of(path),
    ];
    path_row(path, names)
}

/// The server's pod without the name of its node, which the heading has.
fn server_of(path: &PathReport) -> String {
    let End { node, pod } = &path.server;
    let Some(pod) = pod else {
        return "any".to_owned();
    };
    let after_node = node
        .as_ref()
        .and_then(|node| pod.rsplit_once(&format!("{node}-")));
    after_node.map_or_else(|| pod.clone(), |(_, rest)| rest.to_owned())
}

fn path_row(path: &PathReport, names: [String; 4]) -> Row {
    let (sign, tone) = match path.health {
        Health::Healthy => ("  ", Tone::Good),
        Health::Late => ("~ ", Tone::Odd),
        Health::Failing => ("x ", Tone::Bad),
        Health::NotProbed => ("? ", Tone::Odd),
    };
    let first_syn = path
        .first_syn_success
        .map_or_else(|| "-".to_owned(), percent);
    Row {
        sign,
        tone,
        names,
        outcome: outcomes(path),
        lost: lost(path),
        first_syn,
        rtt: rtt(&path.rtt_us),
        remark: if path.socket_level {
            "socket-level"
        } else {
            ""
        },
    }
}

/// Healthy paths, a row for each kind of them.
fn kinds(paths: &[&PathReport]) -> Vec<Row> {
    let mut kinds: BTreeMap<Kind, Vec<&PathReport>> = BTreeMap::new();
    for path in paths {
        kinds
            .entry((path.access_path, path.scope, path.family))
            .or_default()
            .push(path);
    }
    kinds
        .iter()
        .map(|(kind, paths)| kind_row(*kind, paths))
        .collect()
}

fn kind_row((access_path, scope, family): Kind, paths: &[&PathReport]) -> Row {
    let mut outcomes = OutcomeCounts::default();
    for path in paths {
        outcomes.add(&path.outcomes);
    }
    let total = outcomes.total();
    let medians = || paths.iter().filter_map(|path| path.rtt_us.p50);
    let low = medians().fold(f64::INFINITY, f64::min);
    let high = medians().fold(0.0, f64::max);
    let worst = paths
        .iter()
        .filter_map(|path| path.rtt_us.p99)
        .fold(0.0, f64::max);
    let rtt = if high <= 0.0 {
        "-".to_owned()
    } else if micros(low) == micros(high) {
        format!("{} / {}", micros(high), micros(worst))
    } else {
        format!("{} to {} / {}", micros(low), micros(high), micros(worst))
    };
    Row {
        sign: "  ",
        tone: Tone::Good,
        names: [
            access_path.to_string(),
            scope.to_string(),
            family.to_string(),
            super::paths_of(paths.len()),
        ],
        outcome: counted(&outcomes, 0),
        lost: lost_share(share(0, total), interval(0, total)),
        first_syn: share(total, total).map_or_else(|| "-".to_owned(), percent),
        rtt,
        remark: if paths.iter().any(|path| path.socket_level) {
            "socket-level"
        } else {
            ""
        },
    }
}

/// One row for each address that was asked.
fn targets(text: &mut Text, report: &Report, options: Options) {
    let mut table = Table::new(["client", "", "", "target"]);
    let works = report.paths.iter().filter(|path| is_fine(path)).count();
    let is_folded = works > SHOWN && !options.wide;
    for path in &report.paths {
        if is_folded && is_fine(path) {
            continue;
        }
        let End { node, pod } = &path.client;
        let client = pod
            .as_deref()
            .filter(|pod| !pod.is_empty())
            .or(node.as_ref().map(NodeName::as_str))
            .unwrap_or("?");
        let names = [
            client.to_owned(),
            String::new(),
            String::new(),
            path.target.to_string(),
        ];
        table.row(path_row(path, names));
    }
    if is_folded {
        table.heading(
            Tone::Good,
            format!("ok: {} (-o wide shows them)", super::paths_of(works)),
        );
    }
    table.write(text, options.width);
}

/// The outcome that says most about what is wrong.
pub(in crate::report::render) fn first_outcome(path: &PathReport) -> &'static str {
    let first = TELLING.into_iter().find(|kind| path.outcomes.of(*kind) > 0);
    first.map_or("not probed", OutcomeKind::as_str)
}

/// The outcomes that happened, most telling first, and how many probes have none.
pub(in crate::report::render) fn outcomes(path: &PathReport) -> String {
    counted(&path.outcomes, path.unfinished)
}

fn counted(outcomes: &OutcomeCounts, unfinished: u64) -> String {
    let counts = TELLING
        .into_iter()
        .map(|kind| (kind.as_str(), outcomes.of(kind)))
        .chain([("unfinished", unfinished)]);
    let told: Vec<String> = counts
        .filter(|(_, count)| *count > 0)
        .map(|(name, count)| format!("{name} {count}"))
        .collect();
    if told.is_empty() {
        "not probed".to_owned()
    } else {
        told.join(", ")
    }
}

/// The share of lost probes with its interval.
pub(in crate::report::render) fn lost(path: &PathReport) -> String {
    lost_share(path.loss, path.loss_interval)
}

fn lost_share(loss: Option<f64>, interval: Option<[f64; 2]>) -> String {
    match (loss, interval) {
        (Some(loss), Some([low, high])) => {
            let (low, high) = (percent(low), percent(high));
            format!("{} ({}-{})", percent(loss), low.trim_end_matches('%'), high)
        }
        (Some(loss), None) => percent(loss),
        (None, _) => "-".to_owned(),
    }
}

/// The median and the 99th percentile, each in the unit that fits.
pub(in crate::report::render) fn rtt(rtt: &RttReport) -> String {
    match (rtt.p50, rtt.p99) {
        (Some(p50), Some(p99)) => format!("{} / {}", micros(p50), micros(p99)),
        (Some(only), None) | (None, Some(only)) => micros(only),
        (None, None) => "-".to_owned(),
    }
}

/// Percent in few digits: whole ones, but two decimals next to 0 and 100.
pub(in crate::report::render) fn percent(share: f64) -> String {
    let value = share * 100.0;
    if value <= 0.0 || value >= 100.0 || (1.0..=99.0).contains(&value) {
        format!("{value:.0}%")
    } else {
        format!("{value:.2}%")
    }
}

const fn is_fine(path: &PathReport) -> bool {
    matches!(path.health, Health::Healthy)
}
