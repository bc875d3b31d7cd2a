//! One self-contained page: no network, no script, dark and light, for screen, paper and readers.

/// Round trips as maps of nodes.
mod heat;
/// One probe as a drawing.
mod ladder;
/// Every path as a row.
mod table;

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::text;
use crate::report::{DiagnosisReport, Report};

/// All that the page looks like.
const STYLE: &str = include_str!("html/page.css");

/// Nothing but the page itself may be loaded.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'";

/// The page.
pub fn report(report: &Report) -> String {
    let title = format!("prober: {}", text::verdict(report));
    let remarks = text::remarks(report);
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(POLICY);
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (title) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                header {
                    span class={ "badge " (report.verdict.as_str()) } { (report.verdict.as_str().to_uppercase()) }
                    h1 { (text::verdict(report)) }
                    p class="soft" { (text::circumstances(report)) }
                }
                main {
                    @for diagnosis in &report.diagnoses {
                        (told(report, diagnosis))
                    }
                    @if !report.diagnoses.is_empty() && !report.command.is_empty() {
                        h2 { "Proof" }
                        p { "It is mended when this ends with exit status 0:" }
                        pre class="command" { (text::proof(&report.command)) }
                    }
                    h2 { "Round trips" }
                    p class="soft" {
                        "Median from SYN to SYN+ACK in microseconds, from the node of the row to the node of the column; "
                        "a stronger colour is slower, ✕ fails, a dashed frame needed more than one SYN."
                    }
                    (heat::maps(report))
                    h2 { "Paths" }
                    (table::paths(report))
                    @if !remarks.is_empty() {
                        h2 { "Notes" }
                        ul { @for remark in &remarks { li { (remark) } } }
                    }
                }
                footer {
                    "Made by prober " (report.prober) " with "
                    code { (super::shell(&report.command)) }
                    ". This page loads nothing and runs nothing."
                }
            }
        }
    }
    .into_string()
}

fn told(report: &Report, diagnosis: &DiagnosisReport) -> Markup {
    html! {
        article {
            h2 class="failing" { (text::title(report, diagnosis)) }
            p { (diagnosis.meaning) }
            (list("Seen", &diagnosis.evidence))
            @if let Some((path, probe)) = report.exhibit(diagnosis) {
                h3 { "Packets" }
                (ladder::figure(path, probe))
            }
            (list("Ruled out", &diagnosis.excluded.iter().map(|exclusion| {
                format!("{}: {}", exclusion.cause, exclusion.because)
            }).collect::<Vec<_>>()))
            (list("Would decide", &diagnosis.would_decide))
            @if !diagnosis.remedy.is_empty() {
                h3 { "Remedy" }
                @for remedy in &diagnosis.remedy {
                    p { (remedy.summary) }
                    @if !remedy.commands.is_empty() {
                        pre class="command" { (remedy.commands.join("\n")) }
                    }
                }
            }
        }
    }
}

fn list(heading: &str, items: &[String]) -> Markup {
    html! {
        @if !items.is_empty() {
            h3 { (heading) }
            ul { @for item in items { li { (item) } } }
        }
    }
}
