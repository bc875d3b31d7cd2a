//! A report as one self-contained HTML page: no network, no script, dark and light, for screens, paper and screen readers.

/// The connections of a capture.
mod connections;
/// The fingerprint of a diagnosis: which access paths fail where.
pub mod fingerprint;
/// Matrices of round trips between few nodes.
mod heat;
/// The state of each node, for many nodes.
mod nodes;
/// The packets of one probe as a sequence diagram.
mod sequence;
/// The symbol, word and colour of each state.
mod state;
/// The table of paths.
mod table;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use maud::{DOCTYPE, Markup, PreEscaped, html};
use sha2::{Digest as _, Sha256};

use self::nodes::NodeOverview;
pub use self::nodes::node_cell;
use super::text;
use crate::printable::printable;
use crate::report::{DiagnosisReport, Report, Verdict};

/// The style sheet of the page, and of the components in it.
pub const STYLE: &str = include_str!("html/page.css");

/// The most notes that are shown unfolded.
const NOTES: usize = 8;

/// The page's Content-Security-Policy. It allows no requests and no scripts, and the one style sheet by its hash, so that
/// the page also opens where inline styles are refused.
fn policy() -> String {
    let hash = BASE64_STANDARD.encode(Sha256::digest(STYLE));
    format!("default-src 'none'; style-src 'sha256-{hash}'; base-uri 'none'; form-action 'none'")
}

/// The report as an HTML page.
pub fn report(report: &Report) -> String {
    let overview = NodeOverview::of(report);
    let verdict = report.verdict.as_str();
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(policy());
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { "prober: " (verdict) ", " (state::paths(report.paths.len())) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                header {
                    span class={ "badge " (verdict) } {
                        (match report.verdict {
                            Verdict::Healthy => "✓ ",
                            Verdict::Faulty => "✕ ",
                            Verdict::Inconclusive => "? ",
                        })
                        (verdict.to_uppercase())
                    }
                    h1 { (text::verdict(report)) }
                    p class="soft" { (text::circumstances(report)) }
                    @for sentence in text::data_planes(report) { p class="soft" { (sentence) } }
                    (counts(report, &overview))
                }
                main {
                    @for (place, diagnosis) in report.diagnoses.iter().enumerate() {
                        (explained(report, diagnosis, place + 1))
                    }
                    @if let Some(confirmation) = text::confirmation(report) {
                        h2 { (confirmation.heading) }
                        @if let Some(note) = confirmation.note { p { (note) } }
                        pre class="command" { (confirmation.commands.join("\n")) }
                    }
                    (map(report, &overview))
                    h2 { "Paths" }
                    (table::paths(report))
                    @if let Some(connections) = &report.connections { (connections::table(connections)) }
                    (notes(&report.notes))
                }
                footer {
                    "Made by prober " (report.prober)
                    @if !report.command.is_empty() {
                        " with " code { (super::shell(&report.command)) }
                    }
                    ". This page loads nothing and runs nothing."
                }
            }
        }
    };
    printable(&page.into_string()).into_owned()
}

/// The number of nodes, and the number of paths in each state.
fn counts(report: &Report, overview: &NodeOverview<'_>) -> Markup {
    let nodes = overview.len();
    html! {
        ul class="counts" {
            @if nodes > 0 {
                li { (nodes) @if nodes == 1 { " node" } @else { " nodes" } }
            }
            @for (state, count) in state::counts(report) {
                li class=(state.class) {
                    span aria-hidden="true" { (state.symbol) " " }
                    (state::paths(count)) " " (state.word)
                }
            }
        }
    }
}

/// The map of round trips: a matrix for each access path if few nodes are densely probed, otherwise one cell for each
/// node.
fn map(report: &Report, overview: &NodeOverview<'_>) -> Markup {
    let maps = heat::maps(report, overview);
    html! {
        @if let Some(maps) = maps {
            h2 { "Round trips" }
            p class="soft" {
                "Median from SYN to SYN+ACK, from the node of the row to the node of the column. "
                "A stronger colour is slower, ✕ fails, a dashed frame (◔) needed more than one SYN, ○ was not probed."
            }
            (maps)
        } @else if overview.len() > 1 {
            h2 { "Nodes" }
            p class="soft" {
                "Each node with its slowest median from SYN to SYN+ACK; a stronger colour is slower. "
                "✕ fails, △ fails only where another node is at fault, ◔ needed more than one SYN, ○ was not probed."
            }
            (overview.grid())
        }
    }
}

fn explained(report: &Report, diagnosis: &DiagnosisReport, number: usize) -> Markup {
    html! {
        article {
            h2 class="failing" { span aria-hidden="true" { "✕ " } (text::title(report, diagnosis)) }
            p { (diagnosis.meaning) }
            (fingerprint::table(report, diagnosis, number))
            (details(report, diagnosis, number))
        }
    }
}

/// What supports a diagnosis, and what to do: its evidence, the packets of both ends of its sample, what is ruled out, what
/// would confirm it, and its remedy. `number` distinguishes the diagnoses of a page.
pub fn details(report: &Report, diagnosis: &DiagnosisReport, number: usize) -> Markup {
    html! {
            (list("Evidence", &diagnosis.evidence))
            (conntrack(diagnosis))
            @if let Some((path, probe)) = report.sample(diagnosis) {
                h3 { "Packets" }
                (sequence::diagram(path, probe, number))
            }
            (list("Ruled out", &diagnosis.excluded.iter().map(|exclusion| {
                format!("{}: {}", exclusion.cause, exclusion.because)
            }).collect::<Vec<_>>()))
            (list("To confirm", &diagnosis.would_decide))
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

/// The conntrack entries of the sample.
fn conntrack(diagnosis: &DiagnosisReport) -> Markup {
    let lines = diagnosis.conntrack_lines();
    html! {
        @if !lines.is_empty() {
            pre { (lines.join("\n")) }
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

/// The notes, folded if there are more than [`NOTES`].
fn notes(notes: &[String]) -> Markup {
    let items = html! { ul { @for note in notes { li { (note) } } } };
    html! {
        @if !notes.is_empty() {
            h2 { "Notes" }
            @if notes.len() > NOTES {
                details { summary { (notes.len()) " notes" } (items) }
            } @else {
                (items)
            }
        }
    }
}

/// A box that scrolls, also by keyboard, if `content` is wider than the screen; `name` is its accessible name.
pub fn scrolled(name: &str, content: &Markup) -> Markup {
    html! { section class="scroll" tabindex="0" aria-label=(name) { (content) } }
}
