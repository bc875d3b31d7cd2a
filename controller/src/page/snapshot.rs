//! From the state of the canary to that of the page.

use std::collections::{BTreeMap, BTreeSet};

use prober_core::report::CauseName;
use prober_core::report::render::html::fingerprint::{CellPath, CellState, Fingerprint};
use prober_core::time::Timestamp;
use prober_core::topology::NodeName;

use super::bounded::{NAME, SENTENCE, bounded};
use super::failure_reports::{FailureReports, outage_id};
use super::state::{
    CheckView, ControllerView, Grouping, NodeHealth, NodeView, OutageView, PageState, PairView,
};
use crate::canary::check_state::CheckState;
use crate::canary::health::{EndReason, FailureKind, HealthTracker, Outage};
use crate::canary::inventory::{Inventory, NodeRecord};
use crate::canary::node_state::NodeState;
use crate::canary::round_result::NodePath;
use crate::canary::status::{StatusContext, status};

/// The most nodes of which the results of each pair are shown.
pub const MATRIX_NODES: usize = 12;

/// The most nodes that an outage lists.
const INVOLVED: usize = 16;

/// The labels that name a node's pool, of the providers and of Karpenter.
const POOLS: [&str; 5] = [
    "karpenter.sh/nodepool",
    "eks.amazonaws.com/nodegroup",
    "cloud.google.com/gke-nodepool",
    "kubernetes.azure.com/agentpool",
    "node.kubernetes.io/pool",
];

/// What a snapshot is made of.
#[derive(Clone, Copy, Debug)]
pub struct Sources<'a> {
    /// The identity of this controller in the Lease.
    pub identity: &'a str,
    /// Whether it leads.
    pub leads: bool,
    /// The nodes of the cluster.
    pub inventory: &'a Inventory,
    /// The number of servers with a slot of the test Service, and how many of them each node meets in a round.
    pub slots: (usize, usize),
    /// The current time, by the wall clock.
    pub now: Timestamp,
}

/// Makes the state of the page. `reports` keeps only those of outages that the page shows.
pub fn snapshot<'a>(
    sources: Sources<'_>,
    checks: impl IntoIterator<Item = (&'a str, &'a CheckState)>,
    reports: &mut FailureReports,
) -> PageState {
    let mut state = PageState {
        controller: ControllerView {
            identity: bounded(sources.identity, NAME),
            leads: sources.leads,
            version: env!("CARGO_PKG_VERSION").to_owned(),
        },
        ..PageState::default()
    };
    let mut nodes: BTreeMap<&NodeName, NodeView> = BTreeMap::new();
    let mut trackers = Vec::new();
    for (name, check) in checks {
        if !check.has_begun() {
            continue;
        }
        let name = bounded(name, NAME);
        state.checks.push(check_view(&name, check, sources));
        for (node, node_state) in check.nodes() {
            let view = node_view(&name, node, node_state, sources.inventory.node(node));
            // A node that a check before this one probes is reported there.
            nodes.entry(node).or_insert(view);
        }
        let health = check.health();
        trackers.push(health);
        for outage in health.open() {
            let view = outage_view(&name, outage, Some(health), reports);
            for node in outage.nodes() {
                if let Some(known) = nodes.get_mut(&node) {
                    known.health = NodeHealth::Failing;
                    known.outages.push(view.id.clone());
                }
            }
            state.outages.push(view);
        }
        let ended = health.ended().iter();
        state
            .ended
            .extend(ended.map(|outage| outage_view(&name, outage, None, reports)));
    }
    state.outages.sort_by_key(|outage| outage.since);
    state
        .ended
        .sort_by_key(|outage| std::cmp::Reverse(outage.end));
    state.pairs = pairs(&trackers, &shown_in_matrix(&nodes));
    state.nodes = nodes.into_values().collect();
    let known: BTreeSet<&str> = (state.outages.iter().chain(&state.ended))
        .map(|outage| outage.id.as_str())
        .collect();
    reports.retain(|id| known.contains(id));
    state
}

fn check_view(name: &str, check: &CheckState, sources: Sources<'_>) -> CheckView {
    let (slots, peers) = sources.slots;
    let context = StatusContext {
        before: None,
        slots,
        peers,
        now: sources.now,
    };
    let coverage = status(check, context).coverage;
    let counts = check.counts();
    CheckView {
        name: name.to_owned(),
        paused: check.spec().paused,
        interval: check.spec().interval.to_string(),
        nodes: counts.total(),
        measured: counts.measured(),
        working: counts.working,
        pairs: coverage.as_ref().map_or(0, |coverage| coverage.pairs),
        cycle: coverage
            .map(|coverage| coverage.cycle.to_string())
            .unwrap_or_default(),
        slots,
    }
}

fn node_view(
    check: &str,
    name: &NodeName,
    state: &NodeState,
    record: Option<&NodeRecord>,
) -> NodeView {
    let (health, why, alerting_since) = match state {
        NodeState::Working => (NodeHealth::Working, String::new(), None),
        NodeState::Alerting(since) => (NodeHealth::Alerting, String::new(), Some(*since)),
        NodeState::Starting => (NodeHealth::Starting, String::new(), None),
        NodeState::NotMeasured(why) => {
            let why = bounded(&why.to_string(), SENTENCE);
            (NodeHealth::NotMeasured, why, None)
        }
    };
    NodeView {
        name: bounded(name.as_str(), NAME),
        check: check.to_owned(),
        health,
        why,
        alerting_since,
        groups: record.map(groups).unwrap_or_default(),
        outages: Vec::new(),
    }
}

fn groups(record: &NodeRecord) -> BTreeMap<Grouping, String> {
    let label = |key: &str| record.labels.get(key).map(String::as_str);
    let value = |grouping| match grouping {
        Grouping::Zone => label("topology.kubernetes.io/zone"),
        Grouping::Pool => POOLS.iter().find_map(|key| label(key)),
        Grouping::InstanceType => label("node.kubernetes.io/instance-type"),
        Grouping::Kernel => Some(record.system.kernel.as_str()),
        Grouping::OsImage => Some(record.system.os_image.as_str()),
        Grouping::Kubelet => Some(record.system.kubelet.as_str()),
    };
    let known = Grouping::ALL.into_iter().filter_map(|grouping| {
        let value = value(grouping).filter(|value| !value.is_empty())?;
        Some((grouping, bounded(value, NAME)))
    });
    known.collect()
}

fn outage_view(
    check: &str,
    outage: &Outage,
    health: Option<&HealthTracker>,
    reports: &FailureReports,
) -> OutageView {
    let id = outage_id(check, outage);
    let explanation = &outage.explanation;
    let nodes = outage.nodes();
    let kinds: BTreeSet<String> = (outage.paths.iter())
        .map(|path| format!("{}, {}", path.access_path, path.scope()))
        .collect();
    OutageView {
        check: check.to_owned(),
        node: (explanation.node.as_ref()).map(|node| bounded(node.as_str(), NAME)),
        cause: explanation.kind.as_str().to_owned(),
        meaning: meaning(explanation.kind).to_owned(),
        confidence: explanation.sureness().to_owned(),
        place: (outage.place.as_ref())
            .map(|place| bounded(&place.to_string(), SENTENCE))
            .unwrap_or_default(),
        since: outage.start,
        end: outage.end.map(|(at, _)| at),
        ended_because: match outage.end {
            Some((_, EndReason::Recovered)) => "its paths work again".to_owned(),
            Some((_, EndReason::NoLongerProbed)) => "it is no longer probed".to_owned(),
            None => String::new(),
        },
        kinds: kinds.into_iter().collect(),
        paths: outage.paths.len(),
        node_count: nodes.len(),
        nodes: (nodes.iter().take(INVOLVED))
            .map(|node| bounded(node.as_str(), NAME))
            .collect(),
        fingerprint: health.map_or_else(Fingerprint::default, |health| {
            fingerprint(outage, &nodes, health)
        }),
        report: reports.get(&id).cloned(),
        id,
    }
}

fn meaning(kind: FailureKind) -> &'static str {
    match kind {
        FailureKind::Cause(CauseName(Some(cause))) => cause.meaning(),
        FailureKind::Cause(CauseName(None)) => "No known cause matches this evidence.",
        FailureKind::AgentSilent => "An agent runs and does not report.",
    }
}

/// The paths of the nodes that an outage involves.
fn fingerprint(outage: &Outage, nodes: &BTreeSet<NodeName>, health: &HealthTracker) -> Fingerprint {
    let mut fingerprint = Fingerprint::new(outage.explanation.node.clone());
    for (path, works) in health.path_results() {
        let mut ends = std::iter::once(&path.client).chain(&path.server);
        if !ends.any(|end| nodes.contains(end)) {
            continue;
        }
        match works {
            Some(true) => fingerprint.add(cell_path(path), CellState::Works),
            Some(false) if outage.paths.contains(path) => {
                fingerprint.add(cell_path(path), CellState::Fails);
            }
            Some(false) => fingerprint.add(cell_path(path), CellState::FailsOtherwise),
            // Neither is confirmed.
            None => {}
        }
    }
    fingerprint
}

fn cell_path(path: &NodePath) -> CellPath<'_> {
    CellPath {
        client: Some(&path.client),
        server: path.server.as_ref(),
        access_path: path.access_path,
        scope: path.scope(),
        family: path.family,
    }
}

/// The nodes of the matrix: all of them if they are few, else those that fail if these are few.
fn shown_in_matrix<'a>(nodes: &BTreeMap<&'a NodeName, NodeView>) -> BTreeSet<&'a NodeName> {
    if nodes.len() <= MATRIX_NODES {
        return nodes.keys().copied().collect();
    }
    let failing = (nodes.iter()).filter(|(_, node)| node.health == NodeHealth::Failing);
    let failing: BTreeSet<&NodeName> = failing.map(|(name, _)| *name).collect();
    if failing.len() > MATRIX_NODES {
        return BTreeSet::new();
    }
    failing
}

fn pairs(trackers: &[&HealthTracker], nodes: &BTreeSet<&NodeName>) -> Vec<PairView> {
    let mut pairs: BTreeMap<(&NodeName, &NodeName), PairView> = BTreeMap::new();
    for tracker in trackers {
        for (path, works) in tracker.path_results() {
            let Some(server) = &path.server else { continue };
            if !nodes.contains(&path.client) || !nodes.contains(server) {
                continue;
            }
            let pair = (pairs.entry((&path.client, server))).or_insert_with(|| PairView {
                client: bounded(path.client.as_str(), NAME),
                server: bounded(server.as_str(), NAME),
                ..PairView::default()
            });
            match works {
                Some(true) => pair.working += 1,
                Some(false) => pair.failing.push(path.access_path.to_string()),
                None => {}
            }
        }
    }
    let mut pairs: Vec<PairView> = pairs.into_values().collect();
    for pair in &mut pairs {
        pair.failing.sort();
        pair.failing.dedup();
    }
    pairs
}

#[cfg(test)]
mod tests;
