//! A report for people: 100 columns, no meaning by colour alone, fit for an incident channel.
//!
//! First what is wrong and where, then every path that matters, then for each diagnosis the
//! packets, the reasons and the commands.

/// One probe, packet by packet.
mod ladder;
/// The paths as rows.
mod paths;

pub(super) use ladder::{counted, summary, telling};
pub(super) use paths::{first_outcome, lost, outcomes, percent};

use std::collections::BTreeMap;

use super::{Text, Tone, shell};
use crate::diagnosis::{Confidence, PathSegment};
use crate::evidence::Source;
use crate::probe::outcome::EngineKind;
use crate::probe::tier::Tier;
use crate::report::{AgentReport, Completion, DiagnosisReport, Health, Report, Verdict};

/// The whole report.
pub fn report(report: &Report) -> Text {
    let mut text = Text::new();
    headline(&mut text, report);
    text.end();
    paths::paths(&mut text, report);
    let count = report.diagnoses.len();
    for (place, diagnosis) in report.diagnoses.iter().enumerate() {
        // Of a foreign host an unnamed cause tells no more than its row does.
        if report.source == Source::Host && diagnosis.cause.0.is_none() {
            continue;
        }
        text.end();
        if count > 1 {
            text.put(Tone::Faint, format!("Diagnosis {} of {count}\n", place + 1));
        }
        told(&mut text, report, diagnosis);
    }
    if report.verdict == Verdict::Faulty && count == 0 {
        text.end().wrapped(
            Tone::Odd,
            "",
            "Paths fail, and no diagnosis was made: the report's JSON has every packet.",
        );
    }
    proved(&mut text, report);
    notes(&mut text, report);
    text
}

/// The verdict in one line, for a terminal's last line or a chat message.
pub fn verdict(report: &Report) -> String {
    let failing = count(report, Health::Failing);
    let late = count(report, Health::Late);
    let all = paths_of(report.paths.len());
    match report.verdict {
        Verdict::Healthy if late > 0 => {
            format!("all {all} work; on {late} some handshakes took more than one SYN")
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
                    "no failure seen, but not everybody who asked came to the end of it".to_owned()
                }
                Completion::Complete => {
                    let meant = paths_of(report.paths.len() + report.unprobed.len());
                    format!("no failure seen, but {unprobed} of {meant} were not probed")
                }
                Completion::Interrupted => {
                    format!("interrupted before every probe of {all} was answered")
                }
                Completion::CouldNotRun { reason } => {
                    format!("the run could not be done: {reason}")
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
            if causes.is_empty() {
                what
            } else {
                format!("{what}: {}", causes.join(", "))
            }
        }
    }
}

/// The cause, where, and how sure: `bridge-netfilter-off on node-1 (proven, T2)`.
pub fn title(report: &Report, diagnosis: &DiagnosisReport) -> String {
    let place = place(&diagnosis.segment);
    let is_told_apart = |family| report.paths.iter().any(|path| path.family != family);
    let family = diagnosis
        .family
        .filter(|family| is_told_apart(*family))
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

/// Where on the way.
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

pub(super) const fn sure(confidence: Confidence) -> &'static str {
    match confidence {
        Confidence::Proven => "proven",
        Confidence::Consistent => "consistent",
    }
}

/// How it was looked at: version, time, engines, tier.
pub(super) fn circumstances(report: &Report) -> String {
    let engines: Vec<&str> = report
        .engines
        .iter()
        .map(|engine| engine_name(*engine))
        .collect();
    let engines = if engines.is_empty() {
        "no engine".to_owned()
    } else {
        engines.join(" + ")
    };
    let started = report.started.split('.').next().unwrap_or_default();
    let tier = match report.tier {
        Tier::T0 => "T0 (connect() and counters only)",
        Tier::T1 => "T1 (packets)",
        Tier::T2 => "T2 (packets and node facts)",
    };
    let (seconds, tenths) = (report.duration_ms / 1_000, report.duration_ms / 100 % 10);
    format!(
        "prober {}, {started}Z, {seconds}.{tenths} s, {engines}, {tier}",
        report.prober
    )
}

const fn engine_name(engine: EngineKind) -> &'static str {
    match engine {
        EngineKind::Kernel => "kernel",
        EngineKind::Raw => "raw",
    }
}

/// The command that shows that the fix works: the one that was used, without a fault that it
/// injected itself.
pub(super) fn proof(command: &[String]) -> String {
    // What breaks the lab, and what only says in which form to tell.
    let dropped = ["--fault", "--pcapng", "--output", "-o"];
    let mut words = Vec::new();
    let mut rest = command.iter();
    while let Some(word) = rest.next() {
        let name = word.split_once('=').map_or(word.as_str(), |(name, _)| name);
        if dropped.contains(&word.as_str()) {
            rest.next();
        } else if !dropped.contains(&name) && !["-q", "--quiet"].contains(&name) {
            words.push(word.clone());
        }
    }
    shell(&words)
}

fn headline(text: &mut Text, report: &Report) {
    let (tone, word) = match report.verdict {
        Verdict::Healthy => (Tone::Good, "HEALTHY"),
        Verdict::Faulty => (Tone::Bad, "FAULTY"),
        Verdict::Inconclusive => (Tone::Odd, "INCONCLUSIVE"),
    };
    text.put(tone, word).plain("  ");
    text.put(Tone::Heading, verdict(report)).end();
    text.put(Tone::Faint, circumstances(report)).end();
}

fn told(text: &mut Text, report: &Report, diagnosis: &DiagnosisReport) {
    let tone = if diagnosis.cause.0.is_some() {
        Tone::Bad
    } else {
        Tone::Odd
    };
    text.put(tone, title(report, diagnosis)).end();
    text.wrapped(Tone::Plain, "", &diagnosis.meaning);
    list(text, "Seen", diagnosis.evidence.iter().map(String::as_str));
    if let Some((path, probe)) = report.sample(diagnosis) {
        ladder::ladder(text, path, probe);
    }
    let excluded: Vec<String> = diagnosis
        .excluded
        .iter()
        .map(|exclusion| format!("{}: {}", exclusion.cause, exclusion.because))
        .collect();
    list(text, "Ruled out", excluded.iter().map(String::as_str));
    list(
        text,
        "Would decide",
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

fn proved(text: &mut Text, report: &Report) {
    let is_told = |one: &DiagnosisReport| one.cause.0.is_some() || report.source != Source::Host;
    if report.command.is_empty() || !report.diagnoses.iter().any(is_told) {
        return;
    }
    let again = match report.source {
        Source::Run | Source::Host => "It is mended when this ends with exit status 0",
        Source::Capture => "It is mended when a new capture ends with exit status 0",
    };
    text.end().put(Tone::Heading, "Proof").end();
    text.wrapped(Tone::Plain, "  ", again);
    commands(text, [proof(&report.command).as_str()]);
}

fn list<'a>(text: &mut Text, heading: &str, items: impl Iterator<Item = &'a str>) {
    for (place, item) in items.enumerate() {
        if place == 0 {
            text.end().put(Tone::Heading, heading).end();
        }
        text.wrapped(Tone::Plain, "  - ", item);
    }
}

/// Commands, a line each, never wrapped: they are to be pasted.
fn commands<'a>(text: &mut Text, commands: impl IntoIterator<Item = &'a str>) {
    for line in commands.into_iter().flat_map(str::lines) {
        text.plain("      ").put(Tone::Command, line).end();
    }
}

/// What limits the verdict, and what a person should know besides.
pub(super) fn remarks(report: &Report) -> Vec<String> {
    let mut remarks = Vec::new();
    match &report.completion {
        Completion::Complete => {}
        Completion::Interrupted => remarks
            .push("The run was interrupted: this is what was measured until then.".to_owned()),
        Completion::CouldNotRun { reason } => remarks.push(format!(
            "The run could not be done to its end: {reason}. This is what was measured until then."
        )),
    }
    remarks.extend(unprobed(report));
    let unfinished: u64 = report.paths.iter().map(|path| path.unfinished).sum();
    if unfinished > 0 {
        remarks.push(format!(
            "{unfinished} probes were asked for and have no outcome: they were in flight, or not sent yet."
        ));
    }
    if report.socket_level {
        remarks.push(
            "Socket-level load balancing: connect() itself translates a Service's address, and nothing translates crafted packets. This is no fault; these paths are judged by the kernel engine alone.".to_owned(),
        );
    }
    remarks.extend(report.notes.iter().cloned());
    // That a host could not run is told with the facts that it should have read.
    let is_told = |agent: &AgentReport| {
        let mut nodes = report.nodes.iter();
        agent.failed.is_some()
            && nodes.any(|node| node.node == agent.node && node.unread == agent.failed)
    };
    for agent in report.agents.iter().filter(|agent| !is_told(agent)) {
        remarks.extend(of_agent(agent));
    }
    for node in &report.nodes {
        if let Some(why) = &node.unread {
            remarks.push(format!("Facts of {} were not read: {why}.", node.node));
        }
    }
    let few = |path: &&crate::report::PathReport| (1..100).contains(&path.rtt_us.count);
    if report.verdict == Verdict::Faulty && report.paths.iter().any(|path| few(&path)) {
        remarks.push(
            "p99 of fewer than 100 round trips is the longest of them; lost has its 95 % interval."
                .to_owned(),
        );
    }
    remarks
}

/// Paths that were not probed, by the reason.
fn unprobed(report: &Report) -> Vec<String> {
    let mut by_reason: BTreeMap<&str, usize> = BTreeMap::new();
    for path in &report.unprobed {
        *by_reason.entry(path.reason.as_str()).or_default() += 1;
    }
    by_reason
        .into_iter()
        .map(|(reason, count)| {
            let paths = paths_of(count);
            format!("Not probed, {paths}: {reason}. That says nothing of the network.")
        })
        .collect()
}

fn of_agent(agent: &AgentReport) -> Vec<String> {
    let who = format!("{} on {}", agent.pod, agent.node);
    let mut remarks = Vec::new();
    if let Some(why) = &agent.failed {
        remarks.push(format!("Agent {who} could not run: {why}"));
    } else if !agent.heard {
        remarks.push(format!(
            "Agent {who} did not report to its end: what its end saw is not known."
        ));
    }
    for limit in &agent.limits {
        remarks.push(format!("Agent {who}: {limit}"));
    }
    for notice in &agent.notices {
        remarks.push(format!("Agent {who}: {notice}"));
    }
    if agent.capture_dropped > 0 {
        remarks.push(format!(
            "The capture of {who} lost {} packets: what it did not see may have been there.",
            agent.capture_dropped
        ));
    }
    if agent.starved_ms >= 100 {
        remarks.push(format!(
            "Agent {who} was up to {} ms late for its own timers: that machine is busy.",
            agent.starved_ms
        ));
    }
    remarks
}

fn notes(text: &mut Text, report: &Report) {
    let remarks = remarks(report);
    list(text, "Notes", remarks.iter().map(String::as_str));
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
