//! A report as JUnit XML for CI pipelines: a test case for each path.

use std::collections::BTreeMap;

use maud::{Markup, html};

use super::text;
use crate::printable::printable;
use crate::report::{
    Completion, DiagnosisReport, End, Health, PathReport, Report, UnprobedReport, Verdict,
};
use crate::topology::PathId;

/// The report as a JUnit XML document that ends with a newline.
///
/// A failing path is a failed test case with its causes and their evidence; a path that was not probed is a skipped one
/// with the reason. An inconclusive run, or one that was not completed, adds a test case in error, so that a pipeline does
/// not take it for healthy. The elements are those that Jenkins and GitLab read (<https://llg.cubic.org/docs/junit/>).
pub fn junit(report: &Report) -> String {
    let causes = causes(report);
    let failures = count(report, Health::Failing);
    let skipped = count(report, Health::NotProbed) + report.unprobed.len();
    let is_partial = match report.completion {
        Completion::Complete | Completion::Interrupted => report.verdict == Verdict::Inconclusive,
        Completion::CouldNotRun { .. } => true,
    };
    let errors = usize::from(is_partial);
    let tests = report.paths.len() + report.unprobed.len() + errors;
    let (seconds, millis) = (report.duration_ms / 1_000, report.duration_ms % 1_000);
    let time = format!("{seconds}.{millis:03}");
    let document = html! {
        testsuites name="prober" tests=(tests) failures=(failures) skipped=(skipped) errors=(errors) time=(time) {
            testsuite name="prober" tests=(tests) failures=(failures) skipped=(skipped) errors=(errors) time=(time)
                timestamp=(report.started.split('.').next().unwrap_or_default().trim_end_matches('Z')) {
                properties {
                    property name="verdict" value=(report.verdict.as_str()) {}
                    property name="summary" value=(text::verdict(report)) {}
                }
                @for path in &report.paths { (probed(report, path, causes.get(&path.id))) }
                @for path in &report.unprobed { (unprobed(path)) }
                @if is_partial {
                    testcase classname="prober" name="verdict" {
                        error type="inconclusive" message=(text::verdict(report)) {}
                    }
                }
                @if !report.notes.is_empty() {
                    system-out { (report.notes.join("\n")) }
                }
            }
        }
    };
    let document = printable(&document.into_string()).into_owned();
    let is_allowed = |char: &char| matches!(char, '\t' | '\n' | '\r' | ' '..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..);
    let document: String = document.chars().filter(is_allowed).collect();
    format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n{document}\n")
}

/// The diagnoses that explain each path.
fn causes(report: &Report) -> BTreeMap<PathId, Vec<&DiagnosisReport>> {
    let mut causes: BTreeMap<PathId, Vec<&DiagnosisReport>> = BTreeMap::new();
    for diagnosis in &report.diagnoses {
        for path in &diagnosis.paths {
            causes.entry(*path).or_default().push(diagnosis);
        }
    }
    causes
}

fn probed(report: &Report, path: &PathReport, causes: Option<&Vec<&DiagnosisReport>>) -> Markup {
    let name = format!(
        "{} -> {} ({}, {}, {})",
        end(&path.client),
        end(&path.server),
        path.scope,
        path.family,
        path.target
    );
    let causes = causes.map(Vec::as_slice).unwrap_or_default();
    html! {
        testcase classname={ "prober." (path.access_path) } name=(name) {
            @match path.health {
                Health::Healthy | Health::Late | Health::Opened => {}
                Health::NotProbed => { skipped message="no probe has an outcome" {} }
                Health::Failing => { (failure(report, path, causes)) }
            }
        }
    }
}

fn failure(report: &Report, path: &PathReport, causes: &[&DiagnosisReport]) -> Markup {
    let titles: Vec<String> = (causes.iter())
        .map(|diagnosis| text::title(report, diagnosis))
        .collect();
    let kinds: Vec<&str> = causes
        .iter()
        .map(|diagnosis| diagnosis.cause.as_str())
        .collect();
    let message = if titles.is_empty() {
        text::outcomes(path)
    } else {
        titles.join(", ")
    };
    let kind = if kinds.is_empty() {
        "unexplained".to_owned()
    } else {
        kinds.join(" ")
    };
    let mut lines = vec![text::outcomes(path)];
    for diagnosis in causes {
        lines.push(diagnosis.meaning.clone());
        lines.extend(diagnosis.evidence.iter().map(|seen| format!("- {seen}")));
        lines.extend((diagnosis.conntrack_lines().iter()).map(|line| format!("- {line}")));
    }
    html! {
        failure type=(kind) message=(message) { (lines.join("\n")) }
    }
}

fn unprobed(path: &UnprobedReport) -> Markup {
    let name = format!(
        "{} -> {} ({}, {})",
        end(&path.client),
        end(&path.server),
        path.scope,
        path.family
    );
    html! {
        testcase classname={ "prober." (path.access_path) } name=(name) {
            skipped message=(path.reason) {}
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

fn count(report: &Report, health: Health) -> usize {
    let alike = report.paths.iter().filter(|path| path.health == health);
    alike.count()
}
