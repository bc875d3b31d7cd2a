//! The table of paths: pairs of nodes with a failing path in full, the healthy others as one row for each kind of path.

use std::collections::{BTreeMap, BTreeSet};

use super::super::{Text, Tone};
use super::Options;
use super::rows::{Row, Table};
use crate::evidence::{Comparison, Source};
use crate::packet::family::Family;
use crate::probe::event::OutcomeCounts;
use crate::probe::outcome::OutcomeKind;
use crate::report::share::{interval, share};
use crate::report::{ComparisonReport, End, Health, PathReport, Report, RttReport};
use crate::topology::{AccessPath, NodeName, Scope};
use crate::units::micros;

/// The most pairs of nodes that are shown in full, and the most healthy targets with a row each.
const SHOWN: usize = 12;

/// The outcomes, the most informative first.
const BY_RELEVANCE: [OutcomeKind; 6] = [
    OutcomeKind::Mismatched,
    OutcomeKind::Timeout,
    OutcomeKind::Unreachable,
    OutcomeKind::RefusedLocally,
    OutcomeKind::Reset,
    OutcomeKind::Established,
];

/// The order of pairs of nodes: by client's node, then by server's, paths whose endpoint the Service selects last.
type PairOrder<'a> = (Option<&'a NodeName>, (bool, Option<&'a NodeName>));

/// What the paths of one row have in common.
type Kind = (AccessPath, Scope, Family);

/// Adds the table of paths.
pub(super) fn paths(text: &mut Text, report: &Report, options: Options) {
    match report.source {
        Source::Run => pairs(text, report, options),
        Source::Host | Source::Capture => targets(text, report, options),
    }
}

/// Adds the table of a run, grouped by pair of nodes.
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
        table.heading(
            Tone::Heading,
            format!("{} -> {}", node_name(*client), node_name(*server)),
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
    for ComparisonReport { kind, path } in &report.comparisons {
        let name = |end: &End| end.pod.clone().unwrap_or_else(|| "any".to_owned());
        let pod = match kind {
            Comparison::SecondClient => &path.client,
            Comparison::SecondServer => &path.server,
        };
        let nodes = [&path.client.node, &path.server.node].map(|node| node_name(node.as_ref()));
        let [client, server] = nodes;
        table.heading(
            Tone::Heading,
            format!("{client} -> {server}, {}: {}", kind.words(), name(pod)),
        );
        table.row(pair_row(path));
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

fn node_name(node: Option<&NodeName>) -> String {
    node.map_or_else(|| "any".to_owned(), ToString::to_string)
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

/// The name of the server's pod without that of its node, which is in the heading.
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
        Health::Late | Health::Opened => ("~ ", Tone::Odd),
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

/// One row for each kind of healthy path.
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
    } else {
        format!("{} / {}", range(&micros(low), &micros(high)), micros(worst))
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

/// Returns the range from one duration to another; it names the unit once if both have the same.
fn range(low: &str, high: &str) -> String {
    match (low.split_once(' '), high.split_once(' ')) {
        _ if low == high => high.to_owned(),
        (Some((from, unit)), Some((to, other))) if unit == other => format!("{from}-{to} {unit}"),
        _ => format!("{low} to {high}"),
    }
}

/// Adds the table of a single host or a capture: one row for each target address.
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

/// The most informative outcome of a path.
pub(in crate::report::render) fn first_outcome(path: &PathReport) -> &'static str {
    let first = BY_RELEVANCE
        .into_iter()
        .find(|kind| path.outcomes.of(*kind) > 0);
    first.map_or("not probed", OutcomeKind::as_str)
}

/// The outcomes of a path with their counts, the most informative first, and the number of unfinished probes.
pub(in crate::report::render) fn outcomes(path: &PathReport) -> String {
    counted(&path.outcomes, path.unfinished)
}

fn counted(outcomes: &OutcomeCounts, unfinished: u64) -> String {
    let counts = BY_RELEVANCE
        .into_iter()
        .map(|kind| (kind.as_str(), outcomes.of(kind)))
        .chain([("unfinished", unfinished)]);
    let happened: Vec<String> = counts
        .filter(|(_, count)| *count > 0)
        .map(|(name, count)| format!("{name} {count}"))
        .collect();
    if happened.is_empty() {
        "not probed".to_owned()
    } else {
        happened.join(", ")
    }
}

/// The share of lost probes with its 95 % interval, in percent.
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

/// The median and the 99th percentile of round trips, each in a readable unit.
pub(in crate::report::render) fn rtt(rtt: &RttReport) -> String {
    match (rtt.p50, rtt.p99) {
        (Some(p50), Some(p99)) => format!("{} / {}", micros(p50), micros(p99)),
        (Some(only), None) | (None, Some(only)) => micros(only),
        (None, None) => "-".to_owned(),
    }
}

/// A share as a whole percentage, with two decimals below 1 and above 99 %.
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

#[cfg(test)]
mod tests {
    use super::range;

    #[test]
    fn a_range_names_its_unit_once_where_it_can() {
        assert_eq!(range("38 us", "43 us"), "38-43 us");
        assert_eq!(range("43 us", "43 us"), "43 us");
        assert_eq!(range("850 us", "1.2 ms"), "850 us to 1.2 ms");
    }
}
