//! The state of everything in one sentence, at every size.

use super::age::{age, grouped};
use super::answer::View;
use super::state::{NodeHealth, OutageView};

/// The health of everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Health {
    /// An outage lasts.
    Failing,
    /// Nodes are measured, and no failure is confirmed.
    Working,
    /// Nothing current is known.
    Unknown,
}

impl Health {
    /// Its name in the API.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Failing => "failing",
            Self::Working => "working",
            Self::Unknown => "unknown",
        }
    }
}

/// The health, as far as the data is current.
pub(super) fn health(view: &View<'_>) -> Health {
    if view.is_stale() || view.state.measured() == 0 && view.state.outages.is_empty() {
        Health::Unknown
    } else if view.state.outages.is_empty() {
        Health::Working
    } else {
        Health::Failing
    }
}

/// The sentence.
pub(super) fn sentence(view: &View<'_>) -> String {
    let state = view.state;
    if !state.controller.leads {
        return "This controller does not lead, or has just begun to, and knows nothing yet"
            .to_owned();
    }
    if state.checks.is_empty() {
        return "Nothing is probed: there is no ConnectivityCheck, or its nodes are not known yet"
            .to_owned();
    }
    let total = state.nodes.len();
    let Some(first) = state.outages.first() else {
        return without_outage(view, total);
    };
    let failing = state.count(NodeHealth::Failing);
    let what = label(first);
    let since = age(view.now.since(first.since));
    let more = match state.outages.len() - 1 {
        0 => String::new(),
        1 => ", and 1 more outage".to_owned(),
        more => format!(", and {} more outages", grouped(more)),
    };
    format!(
        "{} of {} fail{}: {what} ({}, {since}){more}",
        grouped(failing),
        nodes(total),
        if failing == 1 { "s" } else { "" },
        first.confidence
    )
}

fn without_outage(view: &View<'_>, total: usize) -> String {
    let measured = view.state.measured();
    let working = view.state.count(NodeHealth::Working);
    if measured == 0 {
        return format!("Nothing is measured: agents probe on 0 of {}", nodes(total));
    }
    if working == total {
        return match total {
            1 => "The only node works".to_owned(),
            2 => "Both nodes work".to_owned(),
            more => format!("All {} work", nodes(more)),
        };
    }
    let others = [
        (NodeHealth::Alerting, "alert"),
        (NodeHealth::Starting, "start"),
        (NodeHealth::NotMeasured, "are not measured"),
    ];
    let others = (others.into_iter())
        .map(|(health, words)| (view.state.count(health), words))
        .filter(|(count, _)| *count > 0)
        .map(|(count, words)| format!(", {} {words}", grouped(count)));
    let others: String = others.collect();
    format!("{} of {} work{others}", grouped(working), nodes(total))
}

/// A number of nodes in words.
pub(super) fn nodes(count: usize) -> String {
    match count {
        1 => "1 node".to_owned(),
        more => format!("{} nodes", grouped(more)),
    }
}

/// An outage in a few words, such as `bridge-netfilter-off on node-17`.
pub(super) fn label(outage: &OutageView) -> String {
    match (&outage.node, outage.place.as_str()) {
        (Some(node), _) => format!("{} on {node}", outage.cause),
        (None, "") => outage.cause.clone(),
        (None, place) => format!("{}, {place}", outage.cause),
    }
}

/// How much is measured, and how old that is.
pub(super) fn circumstances(view: &View<'_>) -> String {
    let state = view.state;
    if !state.controller.leads {
        return format!("{} is a standby.", state.controller.identity);
    }
    let data = if view.is_stale() {
        format!("The data is {} old", age(view.age))
    } else {
        "The data is current".to_owned()
    };
    format!(
        "{data}. {} of {} measured. {} leads.",
        grouped(state.measured()),
        nodes(state.nodes.len()),
        state.controller.identity
    )
}
