//! A report as text for people: as wide as the terminal, with no meaning by colour alone.
//!
//! First the verdict, then the paths that matter, then for each diagnosis its evidence, packets and remedy.

/// How to confirm that the fault is repaired.
mod confirm;
/// The packets of one probe at both ends.
mod packets;
/// The table of paths.
mod paths;
/// A table whose columns fit the terminal.
mod rows;

pub(super) use confirm::confirmation;
pub(super) use packets::{counted, significant, summary};
pub(super) use paths::{first_outcome, lost, outcomes, percent};

use std::borrow::Cow;
use std::collections::BTreeSet;

use super::{Text, Tone, WIDTH};
use crate::diagnosis::{Confidence, PathSegment};
use crate::evidence::Source;
use crate::probe::outcome::EngineKind;
use crate::probe::tier::Tier;
use crate::report::notes::unfolded_notes;
use crate::report::{
    Completion, ConntrackReport, DiagnosisReport, Health, MIN_HANDSHAKES, Report, Verdict,
};

/// The most diagnoses that are shown in full, or named in one sentence.
const MAX_SECTIONS: usize = 5;

/// Options of the text form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// The width of the terminal, in columns. Commands, packets and conntrack entries are not wrapped.
    pub width: usize,
    /// Whether healthy paths also have a row each, and notes name every agent and node.
    pub wide: bool,
}

impl Default for Options {
    /// 100 columns, and one row for each kind of healthy path.
    fn default() -> Self {
        Self {
            width: WIDTH,
            wide: false,
        }
    }
}

/// The report as text.
pub fn report(report: &Report, options: Options) -> Text {
    let mut text = Text::of_width(options.width);
    headline(&mut text, report);
    text.end();
    paths::paths(&mut text, report, options);
    let count = report.diagnoses.len();
    let shown = if options.wide { count } else { MAX_SECTIONS };
    for (place, diagnosis) in report.diagnoses.iter().enumerate().take(shown) {
        // For a target that is no agent, an unnamed cause adds nothing to the path's row.
        if report.source == Source::Host && diagnosis.cause.0.is_none() {
            continue;
        }
        text.end();
        if count > 1 {
            text.put(Tone::Faint, format!("Diagnosis {} of {count}\n", place + 1));
        }
        diagnosis_section(&mut text, report, diagnosis);
    }
    let more: Vec<String> = (report.diagnoses.iter().skip(shown))
        .map(|diagnosis| title(report, diagnosis))
        .collect();
    if !more.is_empty() {
        text.end().wrapped(
            Tone::Bad,
            "",
            &format!(
                "{} more diagnoses (-o wide shows them): {}",
                more.len(),
                some_of(&more)
            ),
        );
    }
    if report.verdict == Verdict::Faulty && count == 0 {
        text.end().wrapped(
            Tone::Odd,
            "",
            "Paths fail, and no diagnosis was made: the report's JSON has every packet.",
        );
    }
    confirm(&mut text, report);
    notes(&mut text, report, options);
    text
}

/// The verdict in one line, for a terminal's last line or a chat message.
pub fn verdict(report: &Report) -> String {
    let failing = count(report, Health::Failing);
    let late = count(report, Health::Late);
    let opened = count(report, Health::Opened);
    let all = paths_of(report.paths.len());
    match report.verdict {
        Verdict::Healthy if late > 0 => {
            format!("all {all} work; on {late} some handshakes took more than one SYN")
        }
        Verdict::Healthy if opened > 0 => {
            format!("all {all} work; {opened} opened after their pods were ready")
        }
        Verdict::Healthy if report.paths.len() == 1 => "the path works".to_owned(),
        Verdict::Healthy => format!("all {all} work"),
        Verdict::Inconclusive => {
            let unprobed = count(report, Health::NotProbed) + report.unprobed.len();
            match &report.completion {
                Completion::Complete if report.paths.is_empty() => {
                    "there was no path to judge".to_owned()
                }
                Completion::Complete if unprobed == 0 => {
                    too_few_handshakes(report).unwrap_or_else(|| {
                        "no failure seen, but not every client came to the end of its probes"
                            .to_owned()
                    })
                }
                Completion::Complete => {
                    let meant = paths_of(report.paths.len() + report.unprobed.len());
                    format!("no failure seen, but {unprobed} of {meant} were not probed")
                }
                Completion::Interrupted => {
                    format!("interrupted before every probe of {all} was answered")
                }
                Completion::CouldNotRun { reason } => {
                    format!("the run could not be completed: {reason}")
                }
            }
        }
        Verdict::Faulty => {
            let causes: Vec<String> = report
                .diagnoses
                .iter()
                .map(|diagnosis| title(report, diagnosis))
                .collect();
            let fail = if failing == 1 { "fails" } else { "fail" };
            let what = format!("{failing} of {all} {fail}");
            let named = if causes.is_empty() {
                what
            } else {
                format!("{what}: {}", some_of(&causes))
            };
            match report.completion {
                Completion::Complete | Completion::Interrupted => named,
                Completion::CouldNotRun { .. } => format!("{named}; and others were not probed"),
            }
        }
    }
}

/// The first [`MAX_SECTIONS`] of these, and the number of the others.
fn some_of(names: &[String]) -> String {
    let shown = names.get(..MAX_SECTIONS).unwrap_or(names).join(", ");
    match names.len().saturating_sub(MAX_SECTIONS) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// The verdict's sentence if paths have fewer than [`MIN_HANDSHAKES`] handshakes.
fn too_few_handshakes(report: &Report) -> Option<String> {
    let sparse = report.sparsely_probed().count();
    (sparse > 0).then(|| {
        let of = if sparse == report.paths.len() {
            paths_of(sparse)
        } else {
            format!("{sparse} of {}", paths_of(report.paths.len()))
        };
        format!(
            "no failure seen, but fewer than {MIN_HANDSHAKES} handshakes on {of}: too few to say"
        )
    })
}

/// The cause, location and confidence of a diagnosis: `bridge-netfilter-off on node-1 (proven, T2)`.
pub fn title(report: &Report, diagnosis: &DiagnosisReport) -> String {
    let place = place(&diagnosis.segment);
    let has_other_family = |family| report.paths.iter().any(|path| path.family != family);
    let family = diagnosis
        .family
        .filter(|family| has_other_family(*family))
        .map(|family| format!(", {family}"))
        .unwrap_or_default();
    let space = if place.is_empty() { "" } else { " " };
    let sure = match diagnosis.cause.0 {
        Some(_) => format!("{}, ", sure(diagnosis.confidence)),
        None => String::new(),
    };
    format!(
        "{}{space}{place} ({sure}{:?}{family})",
        diagnosis.cause.as_str(),
        diagnosis.tier
    )
}

/// The location of `segment` as words; empty if it is unknown.
pub(super) fn place(segment: &PathSegment) -> String {
    match segment {
        PathSegment::Pod { pod } => format!("in pod {} on {}", pod.pod, pod.node),
        PathSegment::Node { node } => format!("on {node}"),
        PathSegment::Between { from, to } => format!("from {from} to {to}"),
        PathSegment::Service => "in the Service".to_owned(),
        PathSegment::Namespace => "in the agents' namespace".to_owned(),
        PathSegment::Unknown => String::new(),
    }
}

/// The confidence as a word.
pub(super) const fn sure(confidence: Confidence) -> &'static str {
    match confidence {
        Confidence::Proven => "proven",
        Confidence::Consistent => "consistent",
    }
}

/// The circumstances of the run: version, start, duration, engines, IP families, tier.
pub(super) fn circumstances(report: &Report) -> String {
    let engines: Vec<&str> = report
        .engines
        .iter()
        .map(|engine| engine_name(*engine))
        .collect();
    let engines = match (report.source, engines.as_slice()) {
        (Source::Capture, _) => "captured".to_owned(),
        (Source::Run | Source::Host, []) => "no engine".to_owned(),
        (Source::Run | Source::Host, engines) => engines.join(" + "),
    };
    let started = report.started.split('.').next().unwrap_or_default();
    let tier = match report.tier {
        Tier::T0 => "T0 (connect() and counters only)",
        Tier::T1 => "T1 (packets)",
        Tier::T2 => "T2 (packets and node facts)",
    };
    let (seconds, tenths) = (report.duration_ms / 1_000, report.duration_ms / 100 % 10);
    let families: BTreeSet<String> = (report.paths.iter())
        .map(|path| path.family.to_string())
        .collect();
    let families: Vec<String> = families.into_iter().collect();
    let families = families.join(" + ");
    let families = if families.is_empty() {
        families
    } else {
        families + ", "
    };
    format!(
        "prober {}, {started}Z, {seconds}.{tenths} s, {engines}, {families}{tier}",
        report.prober
    )
}

const fn engine_name(engine: EngineKind) -> &'static str {
    match engine {
        EngineKind::Kernel => "kernel",
        EngineKind::Raw => "raw",
    }
}

fn headline(text: &mut Text, report: &Report) {
    let (tone, word) = match report.verdict {
        Verdict::Healthy => (Tone::Good, "HEALTHY"),
        Verdict::Faulty => (Tone::Bad, "FAULTY"),
        Verdict::Inconclusive => (Tone::Odd, "INCONCLUSIVE"),
    };
    text.put(tone, word).plain("  ");
    text.put(Tone::Heading, verdict(report)).end();
    text.wrapped(Tone::Faint, "", &circumstances(report));
    for sentence in data_planes(report) {
        text.wrapped(Tone::Faint, "", &sentence);
    }
}

/// The data planes of the nodes, a line for each kind of node, and the number of further kinds.
pub(super) fn data_planes(report: &Report) -> Vec<String> {
    const LINES: usize = 4;
    let mut sentences = report.data_planes();
    if sentences.len() > LINES {
        let more = sentences.len() - (LINES - 1);
        sentences.truncate(LINES - 1);
        sentences.push(format!(
            "and {more} other kinds of nodes: the report's JSON lists them"
        ));
    }
    sentences
}

fn diagnosis_section(text: &mut Text, report: &Report, diagnosis: &DiagnosisReport) {
    let tone = if diagnosis.cause.0.is_some() {
        Tone::Bad
    } else {
        Tone::Odd
    };
    text.put(tone, title(report, diagnosis)).end();
    text.wrapped(Tone::Plain, "", &diagnosis.meaning);
    list(
        text,
        "Evidence",
        diagnosis.evidence.iter().map(String::as_str),
    );
    for found in &diagnosis.conntrack {
        conntrack(text, found);
    }
    if let Some((path, probe)) = report.sample(diagnosis) {
        packets::packets(text, path, probe);
    }
    let excluded: Vec<String> = diagnosis
        .excluded
        .iter()
        .map(|exclusion| format!("{}: {}", exclusion.cause, exclusion.because))
        .collect();
    list(text, "Ruled out", excluded.iter().map(String::as_str));
    list(
        text,
        "To confirm",
        diagnosis.would_decide.iter().map(String::as_str),
    );
    if !diagnosis.remedy.is_empty() {
        text.end().put(Tone::Heading, "Remedy").end();
    }
    for remedy in &diagnosis.remedy {
        text.wrapped(Tone::Plain, "  ", &remedy.summary);
        commands(text, remedy.commands.iter().map(String::as_str));
    }
}

/// The conntrack entries of the sample on one node. Entries are not wrapped.
fn conntrack(text: &mut Text, found: &ConntrackReport) {
    if let Some(absence) = found.absence() {
        text.wrapped(Tone::Plain, "  - ", &absence);
    } else {
        text.wrapped(
            Tone::Plain,
            "  - ",
            &format!("conntrack on {}:", found.node),
        );
    }
    for entry in &found.entries {
        text.plain("      ").plain(entry.to_string()).end();
    }
}

fn confirm(text: &mut Text, report: &Report) {
    if let Some(confirmation) = confirmation(report) {
        text.end()
            .put(Tone::Heading, format!("{}:", confirmation.heading))
            .end();
        if let Some(note) = confirmation.note {
            text.wrapped(Tone::Plain, "  ", note);
        }
        commands(text, confirmation.commands.iter().map(String::as_str));
    }
}

fn list<'a>(text: &mut Text, heading: &str, items: impl Iterator<Item = &'a str>) {
    for (place, item) in items.enumerate() {
        if place == 0 {
            text.end().put(Tone::Heading, heading).end();
        }
        text.wrapped(Tone::Plain, "  - ", item);
    }
}

/// Adds commands, a line each and never wrapped, so that they can be pasted.
fn commands<'a>(text: &mut Text, commands: impl IntoIterator<Item = &'a str>) {
    for line in commands.into_iter().flat_map(str::lines) {
        text.plain("      ").put(Tone::Command, line).end();
    }
}

/// Adds the notes; a wide report names every agent and node of a note.
fn notes(text: &mut Text, report: &Report, options: Options) {
    let notes = if options.wide {
        Cow::Owned(unfolded_notes(report))
    } else {
        Cow::Borrowed(&report.notes)
    };
    list(text, "Notes", notes.iter().map(String::as_str));
}

fn count(report: &Report, health: Health) -> usize {
    report
        .paths
        .iter()
        .filter(|path| path.health == health)
        .count()
}

fn paths_of(count: usize) -> String {
    if count == 1 {
        "1 path".to_owned()
    } else {
        format!("{count} paths")
    }
}
