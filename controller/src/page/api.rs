//! The data of the pages as JSON.

use serde::Serialize;

use super::answer::View;
use super::state::{CheckView, ControllerView, NodeHealth, NodeView, OutageView};
use super::summary;

/// When the data was read, and whether it is current.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Freshness {
    read_at: String,
    is_current: bool,
}

impl Freshness {
    fn of(view: &View<'_>) -> Self {
        Self {
            read_at: view.read_at.to_rfc3339(),
            is_current: !view.is_stale(),
        }
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Summary<'a> {
    #[serde(flatten)]
    freshness: Freshness,
    health: &'static str,
    sentence: String,
    controller: &'a ControllerView,
    nodes: Counts,
    outages: usize,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Counts {
    total: usize,
    failing: usize,
    alerting: usize,
    not_measured: usize,
    starting: usize,
    working: usize,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Nodes<'a> {
    #[serde(flatten)]
    freshness: Freshness,
    nodes: &'a [NodeView],
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Outages<'a> {
    #[serde(flatten)]
    freshness: Freshness,
    open: &'a [OutageView],
    ended: &'a [OutageView],
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Coverage<'a> {
    #[serde(flatten)]
    freshness: Freshness,
    checks: &'a [CheckView],
    not_measured: Vec<&'a NodeView>,
}

/// The document with this name, without its extension.
pub(super) fn document(view: &View<'_>, name: &str) -> Option<serde_json::Result<Vec<u8>>> {
    let state = view.state;
    let freshness = Freshness::of(view);
    match name {
        "summary" => Some(serde_json::to_vec(&Summary {
            freshness,
            health: summary::health(view).as_str(),
            sentence: summary::sentence(view),
            controller: &state.controller,
            nodes: Counts {
                total: state.nodes.len(),
                failing: state.count(NodeHealth::Failing),
                alerting: state.count(NodeHealth::Alerting),
                not_measured: state.count(NodeHealth::NotMeasured),
                starting: state.count(NodeHealth::Starting),
                working: state.count(NodeHealth::Working),
            },
            outages: state.outages.len(),
        })),
        "nodes" => Some(serde_json::to_vec(&Nodes {
            freshness,
            nodes: &state.nodes,
        })),
        "outages" => Some(serde_json::to_vec(&Outages {
            freshness,
            open: &state.outages,
            ended: &state.ended,
        })),
        "coverage" => Some(serde_json::to_vec(&Coverage {
            freshness,
            checks: &state.checks,
            not_measured: (state.nodes.iter())
                .filter(|node| node.health == NodeHealth::NotMeasured)
                .collect(),
        })),
        _ => None,
    }
}
