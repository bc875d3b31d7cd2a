//! The state of one check: its nodes, its examinations, and its health. Events of the cluster and results of examinations
//! go in; transitions come out.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::ResourceExt as _;
use prober_core::time::Timestamp;
use prober_core::topology::NodeName;

use super::crd::{ConnectivityCheck, ConnectivityCheckSpec};
use super::examinations::{Examinations, Urgency};
use super::health::{HealthTracker, Outage, Transition};
use super::inventory::Inventory;
use super::node_state::{NodeState, NotMeasured, START_UP};
use super::restored_outages::restore;
use super::round_result::RoundResult;

/// A point in time by both clocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moment {
    /// By the wall clock, for times that people read and that other clocks have written.
    pub wall: Timestamp,
    /// By the monotonic clock, for pauses.
    pub steady: Timestamp,
}

/// The state of one check.
#[derive(Clone, Debug)]
pub struct CheckState {
    /// Its uid: a check that is deleted and created again has another.
    uid: String,
    spec: ConnectivityCheckSpec,
    /// `metadata.generation` of the spec.
    generation: Option<i64>,
    /// The conditions in its status before this controller wrote any.
    conditions_before: Vec<Condition>,
    /// The selected nodes.
    nodes: BTreeMap<NodeName, NodeState>,
    /// Since when nodes with results are not measured, by the wall clock. Their outages end after a while.
    not_measured_since: BTreeMap<NodeName, Timestamp>,
    health: HealthTracker,
    examinations: Examinations,
    /// Nodes that alert, with no outage since; those that end so are counted.
    unexplained_alerts: BTreeSet<NodeName>,
    /// How many alerts ended without an outage.
    transient_alerts: u64,
    /// When the nodes were first known, by the wall clock.
    began: Option<Timestamp>,
}

/// The number of nodes in each state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NodeCounts {
    /// [`NodeState::Working`].
    pub working: usize,
    /// [`NodeState::Alerting`].
    pub alerting: usize,
    /// [`NodeState::Starting`].
    pub starting: usize,
    /// [`NodeState::NotMeasured`].
    pub not_measured: usize,
}

impl NodeCounts {
    /// All nodes.
    pub const fn total(self) -> usize {
        self.measured() + self.starting + self.not_measured
    }

    /// The nodes whose agents probe.
    pub const fn measured(self) -> usize {
        self.working + self.alerting
    }
}

impl CheckState {
    /// The state of a check that this controller has just found, with the outages that its status holds.
    pub fn new(check: &ConnectivityCheck) -> Self {
        let restored = check.status.as_ref().map(restore).unwrap_or_default();
        let spec = check.spec.clone();
        Self {
            uid: check.uid().unwrap_or_default(),
            generation: check.metadata.generation,
            conditions_before: (check.status.as_ref())
                .map(|status| status.conditions.clone())
                .unwrap_or_default(),
            nodes: BTreeMap::new(),
            not_measured_since: BTreeMap::new(),
            health: HealthTracker::resume(spec.confirm.into(), restored.open, restored.ended),
            examinations: Examinations::new(spec.interval.duration()),
            unexplained_alerts: BTreeSet::new(),
            transient_alerts: 0,
            began: None,
            spec,
        }
    }

    /// Applies the check's current spec; `false` if this is another check of the same name.
    pub fn set_spec(&mut self, check: &ConnectivityCheck) -> bool {
        if check.uid().unwrap_or_default() != self.uid {
            return false;
        }
        self.generation = check.metadata.generation;
        if check.spec != self.spec {
            self.spec = check.spec.clone();
            self.health.set_rule(self.spec.confirm.into());
            self.examinations
                .set_interval(self.spec.interval.duration());
        }
        true
    }

    /// Applies the nodes and agents of a complete inventory. `claimed` are the nodes of the checks before this one by name,
    /// each with its check; this one adds those of its own.
    pub fn observe(
        &mut self,
        name: &str,
        inventory: &Inventory,
        claimed: &mut BTreeMap<NodeName, String>,
        now: Moment,
    ) -> Vec<Transition> {
        let mut nodes = BTreeMap::new();
        for (node, record) in inventory.nodes() {
            if !record.is_selected(&self.spec.node_selector) {
                continue;
            }
            let state = if self.spec.paused {
                NodeState::NotMeasured(NotMeasured::Paused)
            } else if let Some(other) = claimed.get(node) {
                NodeState::NotMeasured(NotMeasured::OfOtherCheck(other.clone()))
            } else {
                claimed.insert(node.clone(), name.to_owned());
                NodeState::of(inventory, node, record, now.wall)
            };
            nodes.insert(node.clone(), state);
        }
        let began = *self.began.get_or_insert(now.wall);
        let mut transitions = self.health.expire_restored(began, now.wall);
        self.nodes = nodes;
        for node in self.no_longer_probed(now.wall) {
            transitions.extend(self.health.remove_node(&node, now.wall));
        }
        self.count_alerts();
        self.set_wanted(now);
        transitions
    }

    /// The nodes with results that are not probed any more: they have left, or are not measured for longer than a pod takes
    /// to start again. Those of a paused check keep their results.
    fn no_longer_probed(&mut self, now: Timestamp) -> BTreeSet<NodeName> {
        let known = self.health.nodes();
        let mut since = std::mem::take(&mut self.not_measured_since);
        let mut gone = BTreeSet::new();
        for node in known {
            match self.nodes.get(&node) {
                Some(
                    NodeState::Working
                    | NodeState::Alerting(_)
                    | NodeState::Starting
                    | NodeState::NotMeasured(NotMeasured::Paused),
                ) => {}
                Some(NodeState::NotMeasured(
                    NotMeasured::NodeNotReady(_)
                    | NotMeasured::NoPod(_)
                    | NotMeasured::PodDoesNotRun(..),
                )) => {
                    let since = since.remove(&node).unwrap_or(now);
                    if now.since(since) >= START_UP {
                        gone.insert(node);
                    } else {
                        self.not_measured_since.insert(node, since);
                    }
                }
                Some(NodeState::NotMeasured(
                    NotMeasured::Deleted | NotMeasured::OfOtherCheck(_),
                ))
                | None => {
                    gone.insert(node);
                }
            }
        }
        gone
    }

    fn count_alerts(&mut self) {
        for (node, state) in &self.nodes {
            let is_explained = !self.health.is_healthy(node);
            match state {
                NodeState::Alerting(_) if !is_explained => {
                    self.unexplained_alerts.insert(node.clone());
                }
                NodeState::Working => {
                    if self.unexplained_alerts.remove(node) && !is_explained {
                        self.transient_alerts += 1;
                    }
                }
                NodeState::Alerting(_) | NodeState::Starting | NodeState::NotMeasured(_) => {
                    self.unexplained_alerts.remove(node);
                }
            }
        }
        let nodes = &self.nodes;
        self.unexplained_alerts
            .retain(|node| nodes.contains_key(node));
    }

    /// Sets which nodes are to be examined: those that can be, and alert, or are of an outage, or are suspected.
    fn set_wanted(&mut self, now: Moment) {
        let mut wanted: BTreeMap<NodeName, Urgency> = BTreeMap::new();
        let mut want = |node: &NodeName, urgency: Urgency| {
            let known = wanted.entry(node.clone()).or_insert(urgency);
            *known = urgency.max(*known);
        };
        for (node, state) in &self.nodes {
            match state {
                NodeState::Alerting(_) if self.health.is_healthy(node) => {
                    want(node, Urgency::Alert);
                }
                NodeState::Alerting(_)
                | NodeState::Working
                | NodeState::Starting
                | NodeState::NotMeasured(_) => {}
            }
        }
        for node in self.health.open().iter().flat_map(Outage::nodes) {
            want(&node, Urgency::Outage);
        }
        for path in self.health.suspected() {
            want(&path.client, Urgency::Suspicion);
        }
        for node in self.health.falling_silent() {
            want(node, Urgency::Outage);
        }
        let nodes = &self.nodes;
        wanted.retain(|node, _| nodes.get(node).is_some_and(NodeState::is_measured));
        self.examinations.set_wanted(&wanted, now.steady);
    }

    /// Begins an examination, if one is due: the nodes to examine.
    pub fn begin_examination(&mut self, now: Moment) -> BTreeSet<NodeName> {
        self.examinations.begin(now.steady)
    }

    /// The nodes at the other ends of paths of these nodes that fail or are suspected: an examination should include them.
    pub fn wanted_peers(&self, examined: &BTreeSet<NodeName>) -> BTreeSet<NodeName> {
        let failing = self.health.open().iter().flat_map(|outage| &outage.paths);
        let paths = failing.chain(self.health.suspected());
        let ends = paths.flat_map(|path| {
            let client = examined.contains(&path.client);
            let server = (path.server.as_ref()).filter(|_| client);
            let other = (path.server.as_ref())
                .filter(|server| !client && examined.contains(*server))
                .map(|_| &path.client);
            server.into_iter().chain(other)
        });
        let nodes = ends.filter(|node| !examined.contains(*node));
        nodes.cloned().collect()
    }

    /// Ends the examination that is under way. Results of nodes that are not measured any more are dropped.
    pub fn end_examination(&mut self, mut result: RoundResult, now: Moment) -> Vec<Transition> {
        let own = &self.nodes;
        let is_not_measured = |node: &NodeName| {
            own.get(node)
                .is_some_and(|state| matches!(state, NodeState::NotMeasured(_)))
        };
        result.remove_nodes(is_not_measured);
        result.liveness.retain(|node, _| own.contains_key(node));
        let alerting = own.iter().filter_map(|(node, state)| match state {
            NodeState::Alerting(since) => Some((node.clone(), *since)),
            NodeState::Working | NodeState::Starting | NodeState::NotMeasured(_) => None,
        });
        result.alerts = alerting.collect();
        self.examinations.end(&result.with_finding(), now.steady);
        let transitions = self.health.update(&result, now.wall);
        self.count_alerts();
        self.set_wanted(now);
        transitions
    }

    /// Ends the examination that is under way, which had no result.
    pub fn abandon_examination(&mut self, now: Moment) {
        self.examinations.end(&BTreeSet::new(), now.steady);
    }

    /// When the next examination is due, by the steady clock.
    pub fn next_at(&self) -> Option<Timestamp> {
        self.examinations.next_at()
    }

    /// Whether a node may change its state without an event: its agents start, or its outage ends with time.
    pub fn changes_with_time(&self) -> bool {
        let is_starting = |state: &NodeState| *state == NodeState::Starting;
        !self.not_measured_since.is_empty()
            || self.nodes.values().any(is_starting)
            || !self.health.open().is_empty()
    }

    /// Whether a node is healthy: no confirmed failure involves it, and its agents' last results are healthy. `None` where
    /// that is not known.
    pub fn is_healthy(&self, node: &NodeName) -> Option<bool> {
        if !self.health.is_healthy(node) {
            return Some(false);
        }
        match self.nodes.get(node)? {
            NodeState::Working => Some(true),
            NodeState::Alerting(_) | NodeState::Starting | NodeState::NotMeasured(_) => None,
        }
    }

    /// The number of nodes in each state.
    pub fn counts(&self) -> NodeCounts {
        let mut counts = NodeCounts::default();
        for state in self.nodes.values() {
            match state {
                NodeState::Working => counts.working += 1,
                NodeState::Alerting(_) => counts.alerting += 1,
                NodeState::Starting => counts.starting += 1,
                NodeState::NotMeasured(_) => counts.not_measured += 1,
            }
        }
        counts
    }

    /// The selected nodes.
    pub const fn nodes(&self) -> &BTreeMap<NodeName, NodeState> {
        &self.nodes
    }

    /// The health of its paths.
    pub const fn health(&self) -> &HealthTracker {
        &self.health
    }

    /// Its spec.
    pub const fn spec(&self) -> &ConnectivityCheckSpec {
        &self.spec
    }

    /// `metadata.generation` of its spec.
    pub const fn generation(&self) -> Option<i64> {
        self.generation
    }

    /// The conditions that an earlier controller has written.
    pub fn conditions_before(&self) -> &[Condition] {
        &self.conditions_before
    }

    /// Whether its nodes are known: before, nothing can be said about it.
    pub const fn has_begun(&self) -> bool {
        self.began.is_some()
    }

    /// How many nodes wait for their first examination.
    pub fn waiting(&self) -> usize {
        self.examinations.waiting()
    }

    /// How many alerts ended without an outage since the controller started.
    pub const fn transient_alerts(&self) -> u64 {
        self.transient_alerts
    }
}

#[cfg(test)]
mod tests;
