//! The page of one outage: what supports its cause, the packets of both ends, and what to do.

use maud::{Markup, html};
use prober_core::report::render::html::details;
use prober_core::report::render::shell;

use super::answer::View;
use super::layout::{self, Page};
use super::links;
use super::outage_card::circumstances;
use super::state::{FailureReport, OutageView};
use super::summary::label;

/// The most nodes in the command that repeats an examination.
const REPEATED: usize = 4;

/// The page.
pub(super) fn outage_page(view: &View<'_>, outage: &OutageView) -> String {
    let label = label(outage);
    let content = html! {
        section id="outage" data-swap="" data-outage=(outage.id) data-label=(label) {
            p { (outage.meaning) }
            p class="soft" { (circumstances(view, outage)) }
            @if !outage.fingerprint.is_empty() { (outage.fingerprint.table("What fails where")) }
            @if !outage.nodes.is_empty() { (nodes(outage)) }
        }
        section id="found" data-swap="" {
            @match &outage.report {
                Some(report) => (found(outage, report)),
                None => {
                    h2 { "What was found" }
                    p { "No report of an examination is kept: it was found by an earlier controller, or is not about packets." }
                }
            }
        }
        @if !outage.nodes.is_empty() {
            h2 { "Examine it now" }
            p { "A run of its own, with its own agents:" }
            pre class="command" { (repeat(outage)) }
        }
        p { "What the cause means: " code { "kubectl prober explain " (outage.cause) } }
    };
    layout::page(
        view,
        &Page {
            path: "/outage",
            title: Some(&label),
            content,
        },
    )
}

fn nodes(outage: &OutageView) -> Markup {
    html! {
        p {
            "Nodes: "
            @for node in &outage.nodes { a href=(links::node(node)) { (node) } " " }
            @if outage.node_count > outage.nodes.len() {
                "and " (outage.node_count - outage.nodes.len()) " more"
            }
        }
    }
}

fn found(outage: &OutageView, report: &FailureReport) -> Markup {
    let started: &str = &report.report.started;
    html! {
        h2 { "What was found" }
        p class="soft" {
            "By the examination of " (started.get(..19).unwrap_or(started).replace('T', " ")) " UTC. "
            a href=(links::report(&outage.id)) download={ "report-" (outage.id) ".json" } { "Its report as JSON" }
            ", which " code { "prober report FILE -o html" } " and " code { "prober report FILE -o pcapng" } " show."
        }
        @if let Some(diagnosis) = report.diagnosis() { (details(&report.report, diagnosis, 1)) }
    }
}

/// The command that examines the nodes of an outage.
fn repeat(outage: &OutageView) -> String {
    let nodes = (outage.node.iter())
        .chain(
            outage
                .nodes
                .iter()
                .filter(|node| outage.node.as_ref() != Some(node)),
        )
        .take(REPEATED);
    let flags = nodes.flat_map(|node| ["--node".to_owned(), node.clone()]);
    let words: Vec<String> = ["kubectl", "prober", "run"]
        .map(str::to_owned)
        .into_iter()
        .chain(flags)
        .collect();
    shell(&words)
}
