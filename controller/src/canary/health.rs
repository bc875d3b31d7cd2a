//! Which paths and agents fail over time. K of the last N results confirm a failure, K successful results in a row end
//! it; confirmed failures with one explanation are one outage, also when the explanation changes.

/// Locates unexplained failures by counting paths.
mod fault_location;
/// The last N results of one path or agent.
mod history;
/// Outages and their explanations.
mod outage;
/// The results of one path, and what explains them.
mod tracked_path;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use prober_core::diagnosis::Confidence;
use prober_core::report::CauseName;
use prober_core::time::Timestamp;
use prober_core::topology::NodeName;

use crate::canary::round_result::{Finding, Liveness, NodePath, PathState, RoundResult};
pub use fault_location::{Place, WorkingPlaces, locate};
pub use history::ConfirmationRule;
use history::{History, Verdict};
pub use outage::{EndReason, Explanation, FailureKind, Outage, Transition};
use tracked_path::TrackedPath;

/// The number of ended outages that are kept.
const REMEMBERED: usize = 20;

/// How long an agent must be silent before its silence is an outage. A node that has lost its power is reported as not
/// ready only after 50 s (`--node-monitor-grace-period` of kube-controller-manager), and one that is overloaded answers late.
pub const SILENCE: Duration = Duration::from_mins(3);

/// How long an outage of an earlier controller lasts of which no node is known, unless it is found again.
const RESTORED_PATIENCE: Duration = Duration::from_mins(5);

/// The results of the last rounds per path and agent, and the outages that follow from them.
#[derive(Clone, Debug)]
pub struct HealthTracker {
    rule: ConfirmationRule,
    paths: BTreeMap<NodePath, TrackedPath>,
    /// The nodes whose agents are silent, and since when.
    silent: BTreeMap<NodeName, Timestamp>,
    open: Vec<Outage>,
    ended: Vec<Outage>,
    /// By the key of an outage of an earlier controller: in how many more conclusive results of its nodes it may reappear
    /// before it ends.
    restored: BTreeMap<OutageKey, u8>,
}

/// What distinguishes an outage from others at the same time.
type OutageKey = (FailureKind, Option<NodeName>);

impl HealthTracker {
    /// A tracker without results.
    pub const fn new(rule: ConfirmationRule) -> Self {
        Self {
            rule,
            paths: BTreeMap::new(),
            silent: BTreeMap::new(),
            open: Vec::new(),
            ended: Vec::new(),
            restored: BTreeMap::new(),
        }
    }

    /// Restores the outages of an earlier controller, so that none is lost and none is reported again.
    pub fn resume(rule: ConfirmationRule, open: Vec<Outage>, ended: Vec<Outage>) -> Self {
        let mut health = Self::new(rule);
        for outage in &open {
            for path in &outage.paths {
                let tracked = health.paths.entry(path.clone()).or_default();
                tracked.history = History::confirmed(outage.start);
                tracked.explanation = Some(outage.explanation.clone());
            }
            if let (FailureKind::AgentSilent, Some(node)) =
                (outage.explanation.kind, &outage.explanation.node)
            {
                (health.silent).insert(node.clone(), outage.start);
            }
        }
        let restored = open.iter().filter(|outage| outage.is_restored());
        health.restored = restored.map(|outage| (outage.key(), rule.of())).collect();
        health.open = open;
        health.ended = ended;
        health
    }

    /// Sets the rule, which applies from the next result on.
    pub const fn set_rule(&mut self, rule: ConfirmationRule) {
        self.rule = rule;
    }

    /// Adds the results of an examination, and returns what has changed.
    pub fn update(&mut self, result: &RoundResult, now: Timestamp) -> Vec<Transition> {
        for (path, state) in &result.paths {
            let tracked = self.paths.entry(path.clone()).or_default();
            let bad = Verdict::Bad(result.alerting_since(path));
            match state {
                PathState::Healthy => tracked.history.add(Verdict::Good, self.rule, now),
                PathState::Failing => tracked.history.add(bad, self.rule, now),
                // The path was probed twice, see `confirm` in the spec.
                PathState::Dead => {
                    tracked.history.add(bad, self.rule, now);
                    tracked.history.add(bad, self.rule, now);
                }
                PathState::Inconclusive(_) => {}
            }
            if !tracked.history.is_failing() && tracked.history.is_clean() {
                tracked.explanation = None;
                tracked.alternative = None;
            }
        }
        for (node, liveness) in &result.liveness {
            match liveness {
                Liveness::Reporting => {
                    self.silent.remove(node);
                }
                Liveness::Silent => {
                    self.silent.entry(node.clone()).or_insert(now);
                }
            }
        }
        for finding in &result.findings {
            self.apply_finding(finding);
        }
        self.forget_unprobed(result);
        for (key, grace) in &mut self.restored {
            let nodes = (self.open.iter())
                .find(|outage| outage.key() == *key)
                .map(Outage::nodes)
                .unwrap_or_default();
            if !nodes.is_empty() && nodes.iter().all(|node| result.is_conclusive_for(node)) {
                *grace = grace.saturating_sub(1);
            }
        }
        self.update_outages(now, EndReason::Recovered)
    }

    /// Removes a node that is not probed any more: the outages of its paths end.
    pub fn remove_node(&mut self, node: &NodeName, now: Timestamp) -> Vec<Transition> {
        self.silent.remove(node);
        self.paths
            .retain(|path, _| path.client != *node && path.server.as_ref() != Some(node));
        for outage in self.open.iter_mut().filter(|outage| outage.is_restored()) {
            if outage.forget_node(node) {
                self.restored.remove(&outage.key());
            }
        }
        self.update_outages(now, EndReason::NoLongerProbed)
    }

    /// Ends what an earlier controller has recorded, names no node, and was not found again: when the canary starts, and
    /// once in a while.
    pub fn expire_restored(&mut self, began: Timestamp, now: Timestamp) -> Vec<Transition> {
        if now.since(began) < RESTORED_PATIENCE {
            return Vec::new();
        }
        let has_nodes = |outage: &&Outage| outage.is_restored() && outage.nodes().is_empty();
        for outage in self.open.iter().filter(has_nodes) {
            self.restored.remove(&outage.key());
        }
        self.update_outages(now, EndReason::NoLongerProbed)
    }

    /// Drops the paths of examined nodes that this examination did not probe, because the peers are others now. An outage
    /// stays unchanged if none of its paths was probed.
    fn forget_unprobed(&mut self, result: &RoundResult) {
        let is_probed = |path: &NodePath| result.paths.contains_key(path);
        let unseen = (self.open.iter()).filter(|outage| !outage.paths.iter().any(is_probed));
        let kept: BTreeSet<NodePath> = unseen.flat_map(|outage| outage.paths.clone()).collect();
        let is_examined = |path: &NodePath| {
            result.examined.contains(&path.client)
                || (path.server.as_ref()).is_some_and(|server| result.examined.contains(server))
        };
        self.paths.retain(|path, tracked| {
            let is_idle = !tracked.history.is_failing() && tracked.history.is_clean();
            is_probed(path) || kept.contains(path) || !(is_idle || is_examined(path))
        });
    }

    /// The nodes that are silent, and whose silence is no outage yet.
    pub fn falling_silent(&self) -> impl Iterator<Item = &NodeName> {
        let is_open = |node: &NodeName| {
            let mut open = self.open.iter();
            open.any(|outage| {
                outage.explanation.kind == FailureKind::AgentSilent
                    && outage.explanation.node.as_ref() == Some(node)
            })
        };
        self.silent.keys().filter(move |node| !is_open(node))
    }

    /// The paths that have failed and are neither confirmed nor recovered: they are examined again soon.
    pub fn suspected(&self) -> impl Iterator<Item = &NodePath> {
        self.paths
            .iter()
            .filter(|(_, tracked)| tracked.history.is_suspected())
            .map(|(path, _)| path)
    }

    /// Every node of which there is a result, or an outage.
    pub fn nodes(&self) -> BTreeSet<NodeName> {
        let ends = (self.paths.keys())
            .flat_map(|path| std::iter::once(&path.client).chain(&path.server))
            .chain(self.silent.keys());
        let involved = self.open.iter().flat_map(Outage::nodes);
        ends.cloned().chain(involved).collect()
    }

    /// The paths with results, and whether their last results are all healthy; `None` while a failure is neither confirmed nor
    /// over.
    pub fn path_results(&self) -> impl Iterator<Item = (&NodePath, Option<bool>)> {
        (self.paths.iter()).map(|(path, tracked)| (path, tracked.works()))
    }

    /// The outages that last.
    pub fn open(&self) -> &[Outage] {
        &self.open
    }

    /// The outages that have ended, the newest first.
    pub fn ended(&self) -> &[Outage] {
        &self.ended
    }

    /// Whether no confirmed failure involves this node.
    pub fn is_healthy(&self, node: &NodeName) -> bool {
        !self.open.iter().any(|outage| outage.involves(node))
    }

    /// Applies an explanation to the paths of a finding. A better one replaces a worse one at once; one that is no
    /// better must be found as many times in a row as confirm a failure.
    fn apply_finding(&mut self, finding: &Finding) {
        let explanation = Explanation {
            kind: FailureKind::Cause(finding.cause),
            confidence: finding.confidence,
            node: finding.node.clone(),
        };
        for path in &finding.paths {
            if let Some(tracked) = self.paths.get_mut(path) {
                tracked.consider(&explanation, self.rule);
            }
        }
    }

    /// Updates the outages to the confirmed failures, and returns the transitions.
    fn update_outages(&mut self, now: Timestamp, ending: EndReason) -> Vec<Transition> {
        let mut groups = self.groups(now);
        let mut transitions = Vec::new();
        let mut lasting = Vec::new();
        let mut unmatched = Vec::new();
        for mut outage in std::mem::take(&mut self.open) {
            match groups.remove(&outage.key()) {
                Some(group) => {
                    self.restored.remove(&outage.key());
                    transitions.extend(outage.update(group));
                    lasting.push(outage);
                }
                None => unmatched.push(outage),
            }
        }
        for group in groups.into_values() {
            let same = unmatched
                .iter()
                .position(|outage| outage.shares_paths_with(&group));
            let outage = if let Some(place) = same {
                let mut outage = unmatched.remove(place);
                transitions.extend(outage.update(group));
                outage
            } else {
                transitions.push(Transition::Opened(group.clone()));
                group
            };
            lasting.push(outage);
        }
        for mut outage in unmatched {
            if self
                .restored
                .get(&outage.key())
                .is_some_and(|grace| *grace > 0)
            {
                lasting.push(outage);
                continue;
            }
            self.restored.remove(&outage.key());
            outage.end = Some((now, ending));
            transitions.push(Transition::Closed(outage.clone()));
            self.ended.insert(0, outage);
        }
        self.ended.truncate(REMEMBERED);
        lasting.sort_by_key(Outage::key);
        self.open = lasting;
        transitions
    }

    /// The confirmed failures, grouped by kind and node.
    fn groups(&self, now: Timestamp) -> BTreeMap<OutageKey, Outage> {
        let mut groups: BTreeMap<OutageKey, Outage> = BTreeMap::new();
        let mut unexplained = BTreeSet::new();
        for (path, tracked) in &self.paths {
            let Some(since) = tracked.history.failing_since() else {
                continue;
            };
            match &tracked.explanation {
                Some(explanation) if explanation.node.is_some() => {
                    add_to_group(&mut groups, explanation, path, since);
                }
                Some(_) | None => {
                    unexplained.insert(path.clone());
                }
            }
        }
        let working = (self.paths.iter())
            .filter(|(_, tracked)| !tracked.history.is_failing())
            .map(|(path, _)| path);
        let cleared = WorkingPlaces::of(working);
        for (place, paths) in locate(&unexplained, &cleared) {
            for path in &paths {
                let Some(tracked) = self.paths.get(path) else {
                    continue;
                };
                let explanation = tracked.explanation.clone().unwrap_or(Explanation {
                    kind: FailureKind::Cause(CauseName(None)),
                    confidence: Confidence::Consistent,
                    node: None,
                });
                let explanation = Explanation {
                    node: place.node().cloned(),
                    ..explanation
                };
                let since = tracked.history.failing_since().unwrap_or_default();
                add_to_group(&mut groups, &explanation, path, since);
            }
        }
        for (node, since) in &self.silent {
            if now.since(*since) >= SILENCE {
                let outage = Outage::agent_silent(node, *since);
                groups.insert(outage.key(), outage);
            }
        }
        for group in groups.values_mut() {
            group.place = locate(&group.paths, &cleared)
                .into_iter()
                .next()
                .map(|(place, _)| place);
        }
        groups
    }
}

fn add_to_group(
    groups: &mut BTreeMap<OutageKey, Outage>,
    explanation: &Explanation,
    path: &NodePath,
    since: Timestamp,
) {
    let group = groups
        .entry((explanation.kind, explanation.node.clone()))
        .or_insert_with(|| Outage::new(explanation.clone(), since));
    group.paths.insert(path.clone());
    group.start = group.start.min(since);
    // `Proven` is less than `Consistent`.
    group.explanation.confidence = group.explanation.confidence.min(explanation.confidence);
}

#[cfg(test)]
mod tests;
