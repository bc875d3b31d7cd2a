//! An outage in short: what, where, since when, how sure, and which paths fail.

use maud::{Markup, html};

use super::age::{age, grouped};
use super::answer::View;
use super::links;
use super::state::OutageView;
use super::summary::{self, label};

/// How much of an outage is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Detail {
    /// With its fingerprint.
    Fingerprint,
    /// A few lines.
    Lines,
}

/// The card of an outage that lasts.
pub(super) fn card(view: &View<'_>, outage: &OutageView, detail: Detail) -> Markup {
    let label = label(outage);
    html! {
        article class="outage" data-outage=(outage.id) data-label=(label) {
            h3 { a class="failing" href=(links::outage(&outage.id)) { span aria-hidden="true" { "✕ " } (label) } }
            p { (outage.meaning) }
            p class="soft" { (circumstances(view, outage)) }
            @if detail == Detail::Fingerprint && !outage.fingerprint.is_empty() {
                (outage.fingerprint.table(&format!("What fails where: {label}")))
            }
        }
    }
}

/// How sure it is, since when, and on which paths.
pub(super) fn circumstances(view: &View<'_>, outage: &OutageView) -> String {
    let since = outage.since.to_rfc3339();
    let minute = since.get(..16).unwrap_or(&since).replace('T', " ");
    let duration = age(outage.end.unwrap_or(view.now).since(outage.since));
    let lasts = match outage.end {
        Some(_) => format!("lasted {duration}, then {}", outage.ended_because),
        None => format!("lasts {duration}"),
    };
    let paths = match (outage.paths, outage.kinds.as_slice()) {
        (0, _) => String::new(),
        (1, kinds) => format!(". 1 path: {}", kinds.join("; ")),
        (paths, kinds) => format!(". {} paths: {}", grouped(paths), kinds.join("; ")),
    };
    let nodes = match (&outage.node, outage.node_count) {
        (Some(_), _) | (None, 0) => String::new(),
        (None, count) => format!(". Involves {}", summary::nodes(count)),
    };
    format!(
        "{}, since {minute} UTC, {lasts}{paths}{nodes}. Check {}.",
        outage.confidence, outage.check
    )
}
