//! The connections of a capture that were not simply established, one by one.

use maud::{Markup, html};

use crate::evidence::connections::{ConnectionOutcome, ConnectionReport, Connections};

/// The most connections with a row each.
const ROWS: usize = 200;

/// The table of connections that failed, were late, or could not be judged; empty where there are none.
pub(super) fn table(connections: &Connections) -> Markup {
    let odd: Vec<&ConnectionReport> = (connections.listed.iter())
        .filter(|connection| connection.outcome != ConnectionOutcome::Established)
        .collect();
    let more = odd.len().saturating_sub(ROWS);
    let rows = html! {
        table {
            caption { "Connections that were not simply established" }
            thead {
                tr {
                    @for name in ["outcome", "client", "target", "first packet", "what happened"] {
                        th scope="col" { (name) }
                    }
                }
            }
            tbody {
                @for connection in odd.iter().take(ROWS) {
                    tr class=[connection.outcome.is_failure().then_some("failing")] {
                        td { (connection.outcome.as_str()) }
                        td { (connection.client) }
                        td { (connection.target) }
                        td { (connection.started.to_rfc3339()) }
                        td { (connection.summary) }
                    }
                }
            }
        }
    };
    html! {
        @if !odd.is_empty() {
            h2 { "Connections" }
            (super::scrolled("Connections that were not simply established", &rows))
            @if more > 0 {
                p class="soft" { "And " (more) " more: the report's JSON has every one." }
            }
        }
    }
}
