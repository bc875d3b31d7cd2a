//! The frame of every page: head, navigation, sentence, footer.

use maud::{DOCTYPE, Markup, html};

use super::answer::View;
use super::bounded::bounded;
use super::summary::{self, Health};

/// The most characters of a title: browsers show no more.
const TITLE: usize = 60;

/// The pages of the navigation.
const PAGES: [(&str, &str); 4] = [
    ("/", "Overview"),
    ("/nodes", "Nodes"),
    ("/outages", "Outages"),
    ("/coverage", "Coverage"),
];

/// A page.
pub(super) struct Page<'a> {
    /// Its address, without a query.
    pub(super) path: &'a str,
    /// Its title; `None` for the overview, whose heading is the sentence.
    pub(super) title: Option<&'a str>,
    /// Its content. Elements with `data-swap` and an id are replaced when the state changes.
    pub(super) content: Markup,
}

/// A whole page.
pub(super) fn page(view: &View<'_>, page: &Page<'_>) -> String {
    let sentence = summary::sentence(view);
    let title = page.title.unwrap_or(&sentence);
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (bounded(title, TITLE)) " – prober" }
                link rel="icon" href="data:,";
                link rel="stylesheet" href="/style.css";
                script src="/script.js" defer {}
                noscript { meta http-equiv="refresh" content="30"; }
            }
            body class=[view.is_stale().then_some("stale")] data-version=(view.version) {
                header {
                    nav aria-label="Pages" {
                        strong { "prober" }
                        @for (path, name) in PAGES {
                            " " a href=(path) aria-current=[(path == page.path).then_some("page")] { (name) }
                        }
                    }
                    div id="summary" data-swap="" {
                        @if page.title.is_none() {
                            h1 { (badge(view)) " " (sentence) }
                        } @else {
                            p { (badge(view)) " " a href="/" { (sentence) } }
                        }
                        p class="soft" { (summary::circumstances(view)) }
                    }
                }
                main {
                    p id="news" class="unseen" role="status" {}
                    @if let Some(title) = page.title { h1 { (title) } }
                    (page.content)
                }
                footer {
                    p {
                        "prober " (view.state.controller.version) ". The same data as JSON: "
                        @for name in ["summary", "nodes", "outages", "coverage"] {
                            a href={ "/api/v1/" (name) ".json" } { (name) } " "
                        }
                    }
                    p { "Reading a page starts no probe." }
                }
            }
        }
    }
    .into_string()
}

fn badge(view: &View<'_>) -> Markup {
    let (class, text) = match summary::health(view) {
        Health::Failing => ("faulty", "✕ FAILS"),
        Health::Working => ("healthy", "✓ WORKS"),
        Health::Unknown => ("inconclusive", "? UNKNOWN"),
    };
    html! { span class={ "badge " (class) } { (text) } }
}
