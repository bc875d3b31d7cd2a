//! What is failing, over time: K of N looks make a failure and K good ones in a row end it, failures become outages, and
//! an outage whose cause changes is the same outage.

/// K of N looks at one thing.
mod history;
/// What is said of an outage.
mod outage;
/// Whose fault it is, by counting.
mod voting;

use std::collections::{BTreeMap, BTreeSet};

use prober_core::diagnosis::Confidence;
use prober_core::report::CauseName;
use prober_core::time::Timestamp;
use prober_core::topology::NodeName;

use crate::canary::round_result::{Finding, Look, NodePath, Seen, Voice};
pub use history::Rule;
use history::{History, State};
pub use outage::{Blame, Ending, Outage, Transition, What};
pub use voting::{Cleared, Place, vote};

/// Ended outages that are remembered.
const REMEMBERED: usize = 20;

/// What is failing.
#[derive(Clone, Debug)]
pub struct Judgement {
    rule: Rule,
    paths: BTreeMap<NodePath, Verdict>,
    voices: BTreeMap<NodeName, History>,
    open: Vec<Outage>,
    ended: Vec<Outage>,
    /// How many looks are left in which what an earlier controller knew may be seen again. One that saw nothing is none.
    grace: u8,
}

/// One path, as it is judged.
#[derive(Clone, Debug, Default)]
struct Verdict {
    history: History,
    /// What explains its failure.
    blame: Option<Blame>,
    /// Another explanation, and how many looks in a row gave it.
    contender: Option<(Blame, u8)>,
}

impl Judgement {
    /// Nothing is known yet.
    pub const fn new(rule: Rule) -> Self {
        Self {
            rule,
            paths: BTreeMap::new(),
            voices: BTreeMap::new(),
            open: Vec::new(),
            ended: Vec::new(),
            grace: 0,
        }
    }

    /// What an earlier controller knew of outages that last: none of them is lost, and none is told twice.
    pub fn resume(rule: Rule, open: Vec<Outage>, ended: Vec<Outage>) -> Self {
        let mut judgement = Self::new(rule);
        for outage in &open {
            for path in &outage.paths {
                let verdict = judgement.paths.entry(path.clone()).or_default();
                verdict.history = History::confirmed(outage.start);
                verdict.blame = Some(outage.blame.clone());
            }
            if let (What::AgentSilent, Some(node)) = (outage.blame.what, &outage.blame.node) {
                (judgement.voices).insert(node.clone(), History::confirmed(outage.start));
            }
        }
        judgement.open = open;
        judgement.ended = ended;
        judgement.grace = rule.of();
        judgement
    }

    /// Takes a changed rule, which holds from the next look on.
    pub const fn respec(&mut self, rule: Rule) {
        self.rule = rule;
    }

    /// Takes a round, and says what has changed.
    pub fn see(&mut self, look: &Look, now: Timestamp) -> Vec<Transition> {
        for (path, seen) in &look.paths {
            let verdict = self.paths.entry(path.clone()).or_default();
            match seen {
                Seen::Healthy => verdict.history.add(State::Good, self.rule, now),
                Seen::Failing => verdict.history.add(State::Bad, self.rule, now),
                // It was looked at twice, as the spec's `confirm` says.
                Seen::Dead => {
                    verdict.history.add(State::Bad, self.rule, now);
                    verdict.history.add(State::Bad, self.rule, now);
                }
                Seen::Inconclusive(_) => {}
            }
            if !verdict.history.is_bad() && verdict.history.is_calm() {
                verdict.blame = None;
                verdict.contender = None;
            }
        }
        for (node, voice) in &look.voices {
            let history = self.voices.entry(node.clone()).or_default();
            let state = match voice {
                Voice::Heard => State::Good,
                Voice::Silent => State::Bad,
            };
            history.add(state, self.rule, now);
        }
        for finding in &look.findings {
            self.blame(finding);
        }
        let mut resumed = self.open.iter().filter(|outage| outage.is_resumed());
        if resumed.all(|outage| look.settles(outage.blame.node.as_ref())) {
            self.grace = self.grace.saturating_sub(1);
        }
        self.settle(now, Ending::Recovered)
    }

    /// A node is not probed any more: what was said of its paths ends.
    pub fn forget(&mut self, node: &NodeName, now: Timestamp) -> Vec<Transition> {
        self.voices.remove(node);
        self.paths
            .retain(|path, _| path.client != *node && path.server.as_ref() != Some(node));
        self.settle(now, Ending::NoLongerProbed)
    }

    /// Agents are on these nodes alone from now on: what is not looked at any more is forgotten, but for outages of which
    /// nothing at all is looked at. Those stay as they were seen last.
    pub fn look_at(&mut self, nodes: &BTreeSet<NodeName>) {
        let is_seen = |path: &NodePath| path.is_between(nodes);
        let unseen = (self.open.iter()).filter(|outage| !outage.paths.iter().any(is_seen));
        let kept: BTreeSet<NodePath> = unseen.flat_map(|outage| outage.paths.clone()).collect();
        (self.paths).retain(|path, _| is_seen(path) || kept.contains(path));
        (self.voices).retain(|node, history| nodes.contains(node) || history.is_bad());
        for outage in &mut self.open {
            if outage.paths.iter().any(is_seen) {
                outage.paths.retain(is_seen);
            }
        }
    }

    /// Paths that have failed and are neither confirmed nor cleared: to be looked at again at once.
    pub fn suspected(&self) -> impl Iterator<Item = &NodePath> {
        self.paths
            .iter()
            .filter(|(_, verdict)| verdict.history.is_suspected())
            .map(|(path, _)| path)
    }

    /// What fails now.
    pub fn open(&self) -> &[Outage] {
        &self.open
    }

    /// What failed, the newest first.
    pub fn ended(&self) -> &[Outage] {
        &self.ended
    }

    /// Whether no failure is confirmed where this node has part in it.
    pub fn is_healthy(&self, node: &NodeName) -> bool {
        !self.open.iter().any(|outage| outage.touches(node))
    }

    /// Remembers what explains the paths of a finding. A better explanation replaces a worse one at once; one that is
    /// no better must be given by as many looks in a row as make a failure.
    fn blame(&mut self, finding: &Finding) {
        let blame = Blame {
            what: What::Cause(finding.cause),
            confidence: finding.confidence,
            node: finding.node.clone(),
        };
        for path in &finding.paths {
            if let Some(verdict) = self.paths.get_mut(path) {
                verdict.consider(&blame, self.rule);
            }
        }
    }

    /// From what is confirmed to outages.
    fn settle(&mut self, now: Timestamp, ending: Ending) -> Vec<Transition> {
        let mut groups = self.groups();
        let mut transitions = Vec::new();
        let mut lasting = Vec::new();
        let mut adrift = Vec::new();
        for mut outage in std::mem::take(&mut self.open) {
            match groups.remove(&outage.key()) {
                Some(group) => {
                    transitions.extend(outage.go_on(group));
                    lasting.push(outage);
                }
                None => adrift.push(outage),
            }
        }
        for group in groups.into_values() {
            let same = adrift.iter().position(|outage| outage.is_of(&group));
            let outage = if let Some(place) = same {
                let mut outage = adrift.remove(place);
                transitions.extend(outage.go_on(group));
                outage
            } else {
                transitions.push(Transition::Opened(group.clone()));
                group
            };
            lasting.push(outage);
        }
        for mut outage in adrift {
            if self.grace > 0 && outage.is_resumed() {
                lasting.push(outage);
                continue;
            }
            outage.end = Some((now, ending));
            transitions.push(Transition::Closed(outage.clone()));
            self.ended.insert(0, outage);
        }
        self.ended.truncate(REMEMBERED);
        lasting.sort_by_key(Outage::key);
        self.open = lasting;
        transitions
    }

    /// What is confirmed, by what and where it is.
    fn groups(&self) -> BTreeMap<(What, Option<NodeName>), Outage> {
        let mut groups: BTreeMap<(What, Option<NodeName>), Outage> = BTreeMap::new();
        let mut unexplained = BTreeSet::new();
        for (path, verdict) in &self.paths {
            let Some(since) = verdict.history.bad_since() else {
                continue;
            };
            match &verdict.blame {
                Some(blame) if blame.node.is_some() => {
                    gather(&mut groups, blame, path, since);
                }
                Some(_) | None => {
                    unexplained.insert(path.clone());
                }
            }
        }
        let working = (self.paths.iter())
            .filter(|(_, verdict)| !verdict.history.is_bad())
            .map(|(path, _)| path);
        let cleared = Cleared::by(working);
        for (place, paths) in vote(&unexplained, &cleared) {
            for path in &paths {
                let Some(verdict) = self.paths.get(path) else {
                    continue;
                };
                let blame = verdict.blame.clone().unwrap_or(Blame {
                    what: What::Cause(CauseName(None)),
                    confidence: Confidence::Consistent,
                    node: None,
                });
                let blame = Blame {
                    node: place.node().cloned(),
                    ..blame
                };
                let since = verdict.history.bad_since().unwrap_or_default();
                gather(&mut groups, &blame, path, since);
            }
        }
        for (node, history) in &self.voices {
            if let Some(since) = history.bad_since() {
                let outage = Outage::silent(node, since);
                groups.insert(outage.key(), outage);
            }
        }
        for group in groups.values_mut() {
            group.place = vote(&group.paths, &cleared)
                .into_iter()
                .next()
                .map(|(place, _)| place);
        }
        groups
    }
}

fn gather(
    groups: &mut BTreeMap<(What, Option<NodeName>), Outage>,
    blame: &Blame,
    path: &NodePath,
    since: Timestamp,
) {
    let group = groups
        .entry((blame.what, blame.node.clone()))
        .or_insert_with(|| Outage::new(blame.clone(), since));
    group.paths.insert(path.clone());
    group.start = group.start.min(since);
    // The surer word is the smaller one.
    group.blame.confidence = group.blame.confidence.min(blame.confidence);
}

impl Verdict {
    fn consider(&mut self, new: &Blame, rule: Rule) {
        let Some(old) = &self.blame else {
            self.blame = Some(new.clone());
            return;
        };
        if old.is_same(new) {
            if new.rank() > old.rank() {
                self.blame = Some(new.clone());
            }
            self.contender = None;
            return;
        }
        let times = match self.contender.take() {
            Some((contender, times)) if contender.is_same(new) => times.saturating_add(1),
            Some(_) | None => 1,
        };
        let is_named = new.rank() > 0;
        if new.rank() > old.rank() || (is_named && times >= rule.failures()) {
            self.blame = Some(new.clone());
        } else {
            self.contender = Some((new.clone(), times));
        }
    }
}

#[cfg(test)]
mod tests;
