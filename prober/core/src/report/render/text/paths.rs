//! The paths as rows: those of implicated nodes in full, the others a line for each pair of nodes.

use std::collections::{BTreeMap, BTreeSet};

use super::super::{Text, Tone};
use crate::evidence::Source;
use crate::probe::outcome::OutcomeKind;
use crate::report::{End, Health, PathReport, Report, RttReport};
use crate::topology::NodeName;

/// Pairs of nodes told in full although all their paths work.
const WHOLE_PAIRS: usize = 12;

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

/// The table.
pub(super) fn paths(text: &mut Text, report: &Report) {
    match report.source {
        Source::Run => pairs(text, report),
        Source::Host | Source::Capture => targets(text, report),
    }
}

/// Grouped by pair of nodes.
fn pairs(text: &mut Text, report: &Report) {
    let mut pairs: BTreeMap<PairOrder<'_>, Vec<&PathReport>> = BTreeMap::new();
    for path in &report.paths {
        let server = path.server.node.as_ref();
        pairs
            .entry((path.client.node.as_ref(), (server.is_none(), server)))
            .or_default()
            .push(path);
    }
    let implicated: BTreeSet<&NodeName> = report
        .diagnoses
        .iter()
        .filter_map(|diagnosis| diagnosis.node.as_ref())
        .chain(
            report
                .paths
                .iter()
                .filter(|path| !is_fine(path))
                .filter_map(|path| path.client.node.as_ref()),
        )
        .collect();
    let widths = Widths::of(&report.paths);
    let mut room = WHOLE_PAIRS;
    let mut has_columns = false;
    for ((client, (_, server)), paths) in pairs {
        let is_bad = paths.iter().any(|path| !is_fine(path));
        let concerns = [client, server]
            .into_iter()
            .flatten()
            .any(|node| implicated.contains(node));
        let name = |node: Option<&NodeName>| {
            node.map_or_else(|| "any".to_owned(), |node| node.as_str().to_owned())
        };
        let pair = format!("{} -> {}", name(client), name(server));
        if !is_bad && (!concerns || room == 0) {
            text.plain(format!("{pair:<24} "));
            text.put(Tone::Good, "ok")
                .plain(format!("  {}", briefly(&paths)));
            text.end();
            continue;
        }
        if !is_bad {
            room -= 1;
        }
        if !has_columns {
            let names = format!("{:<16} {:<11} {:<6}", "access path", "scope", "family");
            columns(text, &names, widths);
            has_columns = true;
        }
        text.put(Tone::Heading, pair).end();
        for path in paths {
            let what = format!(
                "{:<16} {:<11} {:<6}",
                path.access_path,
                path.scope,
                path.family.to_string()
            );
            row(text, path, &what, widths);
        }
    }
}

/// Columns that the outcomes and the lost shares of these paths take.
#[derive(Clone, Copy)]
struct Widths {
    outcome: usize,
    lost: usize,
}

impl Widths {
    fn of(paths: &[PathReport]) -> Self {
        let longest = |of: fn(&PathReport) -> String, least| {
            let all = paths.iter().map(|path| of(path).chars().count());
            all.max().unwrap_or(0).max(least)
        };
        Self {
            outcome: longest(outcomes, 12),
            lost: longest(lost, 8),
        }
    }
}

fn columns(text: &mut Text, names: &str, Widths { outcome, lost }: Widths) {
    let rest = format!(
        "{:<outcome$} {:<lost$} first SYN p50/p99 us",
        "outcome", "lost"
    );
    text.put(Tone::Faint, format!("  {names} {rest}")).end();
}

/// One row for each address that was asked.
fn targets(text: &mut Text, report: &Report) {
    let widths = Widths::of(&report.paths);
    columns(text, &format!("{:<33}", "client -> target"), widths);
    for path in &report.paths {
        let End { node, pod } = &path.client;
        let client = pod
            .as_deref()
            .filter(|pod| !pod.is_empty())
            .or(node.as_ref().map(NodeName::as_str))
            .unwrap_or("?");
        let what = format!("{client} -> {}", path.target);
        row(text, path, &format!("{what:<33}"), widths);
    }
}

fn row(text: &mut Text, path: &PathReport, what: &str, widths: Widths) {
    let Widths {
        outcome,
        lost: share,
    } = widths;
    let (sign, tone) = match path.health {
        Health::Healthy => ("  ", Tone::Good),
        Health::Late => ("~ ", Tone::Odd),
        Health::Failing => ("x ", Tone::Bad),
        Health::NotProbed => ("? ", Tone::Odd),
    };
    text.put(tone, sign).plain(format!("{what} "));
    text.put(tone, format!("{:<outcome$} ", outcomes(path)));
    text.plain(format!(
        "{:<share$} {:<9} {}",
        lost(path),
        path.first_syn_success
            .map_or_else(|| "-".to_owned(), percent),
        rtt(&path.rtt_us)
    ));
    if path.socket_level {
        text.put(Tone::Faint, "  socket-level");
    }
    text.end();
}

/// What all these healthy paths have in common.
fn briefly(paths: &[&PathReport]) -> String {
    let medians = || paths.iter().filter_map(|path| path.rtt_us.p50);
    let low = medians().fold(f64::INFINITY, f64::min);
    let high = medians().fold(0.0, f64::max);
    let worst = paths
        .iter()
        .filter_map(|path| path.rtt_us.p99)
        .fold(0.0, f64::max);
    let count = super::paths_of(paths.len());
    if high == 0.0 {
        count
    } else if low < high {
        format!("{count}, p50 {low} to {high} us, p99 at most {worst} us")
    } else {
        format!("{count}, p50 {high} us, p99 at most {worst} us")
    }
}

/// The outcome that says most about what is wrong.
pub(in crate::report::render) fn first_outcome(path: &PathReport) -> &'static str {
    let first = TELLING.into_iter().find(|kind| path.outcomes.of(*kind) > 0);
    first.map_or("not probed", OutcomeKind::as_str)
}

/// The outcomes that happened, most telling first, and how many probes have none.
pub(in crate::report::render) fn outcomes(path: &PathReport) -> String {
    let counts = TELLING
        .into_iter()
        .map(|kind| (kind.as_str(), path.outcomes.of(kind)))
        .chain([("unfinished", path.unfinished)]);
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
    match (path.loss, path.loss_interval) {
        (Some(loss), Some([low, high])) => {
            let (low, high) = (percent(low), percent(high));
            format!("{} ({}-{})", percent(loss), low.trim_end_matches('%'), high)
        }
        (Some(loss), None) => percent(loss),
        (None, _) => "-".to_owned(),
    }
}

pub(in crate::report::render) fn rtt(rtt: &RttReport) -> String {
    match (rtt.p50, rtt.p99) {
        (Some(p50), Some(p99)) => format!("{p50} / {p99}"),
        (Some(only), None) | (None, Some(only)) => format!("{only}"),
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
