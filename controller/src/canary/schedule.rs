//! Which pairs of nodes the next round probes, and when it begins: suspected pairs first, then those of lasting
//! outages, then the rotation over all pairs. The seed of its jitter is an argument.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use prober_core::plan::pairing::NodePair;
use prober_core::plan::pairing::rotation::{Budget, Rotation};
use prober_core::random::Random;
use prober_core::run::CycleSpec;
use prober_core::time::Timestamp;
use prober_core::topology::NodeName;

/// Rounds begin earlier by up to this part of the interval, in thousandths; never later.
const JITTER: u64 = 200;

/// The usual time to place agents on other nodes.
const PLACEMENT_TIME: Duration = Duration::from_secs(10);

/// A suspected pair is probed again after the interval divided by this.
const FOLLOW_UP_PART: u32 = 10;

/// How often agents are read while no failure is found.
const READ_INTERVAL: Duration = Duration::from_mins(1);

/// The most pairs per node in a plan of several rounds: a plan is an annotation, whose size is limited.
const MAX_PLANNED_PAIRS: usize = 32;

/// A node that the check selects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SelectedNode {
    /// Its name.
    pub name: NodeName,
    /// Its zone; empty where it has none.
    pub zone: String,
    /// Why it is skipped; `None` where it is probed.
    pub skipped: Option<SkipReason>,
}

/// Why a node is skipped. None of these is a fault of the network.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SkipReason {
    /// It is cordoned.
    Cordoned,
    /// Its kubelet does not answer, or reports that it is not ready.
    NotReady,
    /// It is being deleted.
    Deleted,
    /// It has a taint that the check does not tolerate.
    Tainted(String),
}

impl fmt::Display for SkipReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cordoned => f.write_str("it is cordoned"),
            Self::NotReady => f.write_str("it is not Ready"),
            Self::Deleted => f.write_str("it is being deleted"),
            Self::Tainted(key) => write!(f, "its taint {key} is not among spec.tolerations"),
        }
    }
}

/// How many of all pairs were probed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Coverage {
    /// Ordered pairs of nodes, including each node with itself, whose probes had a result in the last round that
    /// included them.
    pub pairs: usize,
    /// All pairs.
    pub total: usize,
    /// The duration of a full rotation over all pairs.
    pub cycle: Duration,
}

/// The schedule of a check.
#[derive(Clone, Debug)]
pub struct Schedule {
    rotation: Rotation,
    budget: Budget,
    interval: Duration,
    random: Random,
    skipped: BTreeMap<NodeName, SkipReason>,
    /// The pairs of paths that have failed and are not confirmed: the next round probes them first.
    suspected: BTreeSet<NodePair>,
    /// The pairs of lasting outages, which every round probes.
    watched: BTreeSet<NodePair>,
    next: Option<Timestamp>,
    /// How many rounds in a row found no failure: the more, the more rounds are probed before the agents are read.
    healthy_rounds: u32,
    /// When the rounds end that are not read meanwhile.
    unattended_until: Option<Timestamp>,
}

/// How a sequence of rounds has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RoundsEnd {
    /// Every pair was probed.
    Complete,
    /// An alert ended it early.
    CutShort,
}

impl Schedule {
    /// A schedule without nodes. `seed` is that of its jitter.
    pub fn new(budget: Budget, interval: Duration, seed: u64) -> Self {
        Self {
            rotation: Rotation::default(),
            budget,
            interval,
            random: Random::new(seed),
            skipped: BTreeMap::new(),
            suspected: BTreeSet::new(),
            watched: BTreeSet::new(),
            next: None,
            healthy_rounds: 0,
            unattended_until: None,
        }
    }

    /// Sets the limits; the coverage so far is kept.
    pub const fn set_budget(&mut self, budget: Budget, interval: Duration) {
        self.budget = budget;
        self.interval = interval;
    }

    /// Assigns agents to nodes, or to some of them where there are too many: new nodes first; nodes of watched pairs
    /// keep their agents.
    pub fn assign_nodes(&mut self) {
        let ends = |(client, server): &NodePair| [client.clone(), server.clone()];
        let watched: Vec<NodeName> = self.watched.iter().flat_map(ends).collect();
        self.rotation.assign(self.budget, &watched);
        let assigned: BTreeSet<&NodeName> = self.rotation.assigned().collect();
        (self.suspected)
            .retain(|(client, server)| assigned.contains(client) && assigned.contains(server));
    }

    /// The nodes that are assigned agents.
    pub fn assigned_nodes(&self) -> impl Iterator<Item = &NodeName> {
        self.rotation.assigned()
    }

    /// Whether agents should move to other nodes: a node has joined; or, where the last round was evaluated, all pairs
    /// of the assigned nodes were probed and none is suspected.
    pub fn needs_reassignment(&self, is_judged: bool) -> bool {
        let is_through = is_judged && self.suspected.is_empty() && self.rotation.is_batch_done();
        is_through || self.rotation.is_new_node_waiting()
    }

    /// Sets the nodes of the check. If a node joins or can be probed again, the next round begins at once.
    pub fn set_nodes(&mut self, nodes: &[SelectedNode], now: Timestamp) {
        let mut probed = BTreeMap::new();
        let mut skipped = BTreeMap::new();
        for node in nodes {
            match &node.skipped {
                Some(why) => {
                    skipped.insert(node.name.clone(), why.clone());
                }
                None => {
                    probed.insert(node.name.clone(), node.zone.clone());
                }
            }
        }
        let assigned: BTreeSet<&NodeName> = self.rotation.nodes().iter().collect();
        let has_joined = probed.keys().any(|node| !assigned.contains(node));
        self.rotation.set_nodes(&probed);
        self.skipped = skipped;
        self.suspected
            .retain(|(client, server)| probed.contains_key(client) && probed.contains_key(server));
        if has_joined {
            self.next = Some(now);
        }
    }

    /// Adds pairs for the next round, which begins soon. A path that keeps failing does not make rounds follow each
    /// other without a pause.
    pub fn suspect(&mut self, pairs: impl IntoIterator<Item = NodePair>, now: Timestamp) {
        self.suspected.extend(self.assigned_only(pairs));
        if !self.suspected.is_empty() {
            let soon = now + self.interval / FOLLOW_UP_PART;
            self.next = Some(self.next.map_or(soon, |next| next.min(soon)));
        }
    }

    /// When the next round begins; `None` while no node can be probed.
    pub fn next_at(&self) -> Option<Timestamp> {
        self.next.filter(|_| !self.rotation.nodes().is_empty())
    }

    /// Begins a round and returns its pairs, within the budget; suspected pairs first.
    pub fn begin_round(&mut self, now: Timestamp) -> BTreeSet<NodePair> {
        let most = self.budget.pairs.get();
        let mut pairs: BTreeSet<NodePair> = BTreeSet::new();
        while pairs.len() < most
            && let Some(pair) = self.suspected.pop_first()
        {
            pairs.insert(pair);
        }
        for pair in self.assigned_only(self.watched.iter().cloned()) {
            if pairs.len() < most.div_ceil(2) {
                pairs.insert(pair);
            }
        }
        let room = most - pairs.len();
        pairs.extend(self.rotation.next_pairs(self.budget, room));
        self.next = Some(now + self.jittered_interval());
        pairs
    }

    /// Begins rounds and returns their pairs: several while no failure is found, whose agents are not read before the
    /// last one is over.
    pub fn begin_rounds(&mut self, now: Timestamp) -> CycleSpec {
        let is_suspicious = !self.suspected.is_empty() || !self.watched.is_empty();
        let ahead = if is_suspicious {
            1
        } else {
            self.rounds_ahead()
        };
        let room = self.rotation.assigned().count() * MAX_PLANNED_PAIRS;
        let first = self.begin_round(now);
        let mut planned = first.len();
        let mut rounds = vec![first];
        while rounds.len() < ahead && planned <= room && !self.rotation.is_batch_done() {
            let round = self.begin_round(now);
            if rounds.last() != Some(&round) {
                planned += round.len();
            }
            rounds.push(round);
        }
        if rounds.len() == 1 {
            return CycleSpec::Attended(rounds.into_iter().flatten().collect());
        }
        let over = now + self.interval * u32::try_from(rounds.len()).unwrap_or(u32::MAX);
        self.unattended_until = Some(over);
        CycleSpec::Unattended {
            periods: rounds,
            period: self.interval,
        }
    }

    /// How many rounds are probed before the agents are read: twice as many after each sequence without a failure.
    fn rounds_ahead(&self) -> usize {
        let most = prober_core::time::nanos(READ_INTERVAL)
            / prober_core::time::nanos(self.interval).max(1);
        let doubled = 1_u64.checked_shl(self.healthy_rounds).unwrap_or(u64::MAX);
        usize::try_from(doubled.min(most)).unwrap_or(usize::MAX)
    }

    /// Ends the rounds that were begun last. After a failure or an alert every round is read again; after rounds that
    /// were not read the next one begins at once.
    pub fn end_rounds(&mut self, is_healthy: bool, now: Timestamp) -> RoundsEnd {
        let until = self.unattended_until.take();
        let ended = match until {
            Some(until) if now < until => RoundsEnd::CutShort,
            Some(_) | None => RoundsEnd::Complete,
        };
        if until.is_some() {
            self.next = Some(now);
        }
        self.healthy_rounds = match ended {
            RoundsEnd::Complete if is_healthy => self.healthy_rounds.saturating_add(1),
            RoundsEnd::Complete | RoundsEnd::CutShort => 0,
        };
        ended
    }

    /// Begins a round of the same pairs as the last, as far as their nodes are `available`, on agents that are about to
    /// be replaced. The rotation does not advance.
    pub fn repeat_round(
        &mut self,
        pairs: &mut BTreeSet<NodePair>,
        available: &BTreeSet<NodeName>,
        now: Timestamp,
    ) {
        pairs.retain(|(client, server)| available.contains(client) && available.contains(server));
        self.suspected.clear();
        self.next = Some(now + self.jittered_interval());
    }

    /// Records the results of a round: the pairs that were requested, and those that had a result.
    pub fn record_results(
        &mut self,
        requested: &BTreeSet<NodePair>,
        measured: &BTreeSet<NodePair>,
    ) {
        self.rotation.record(requested, measured);
    }

    /// Sets the pairs that every round probes.
    pub fn set_watched(&mut self, pairs: impl IntoIterator<Item = NodePair>) {
        self.watched = pairs.into_iter().collect();
    }

    fn assigned_only(&self, pairs: impl IntoIterator<Item = NodePair>) -> Vec<NodePair> {
        let assigned: BTreeSet<&NodeName> = self.rotation.assigned().collect();
        let are_assigned =
            |(client, server): &NodePair| assigned.contains(client) && assigned.contains(server);
        pairs.into_iter().filter(are_assigned).collect()
    }

    /// The nodes that are probed, now or later in the rotation.
    pub fn nodes(&self) -> &[NodeName] {
        self.rotation.nodes()
    }

    /// How many of all pairs were probed.
    pub fn coverage(&self) -> Coverage {
        let times = |length: Duration, times: usize| {
            length.saturating_mul(u32::try_from(times).unwrap_or(u32::MAX))
        };
        let rounds = times(self.interval, self.rotation.rounds(self.budget));
        let placings = match self.rotation.batches(self.budget) {
            0 | 1 => Duration::ZERO,
            batches => times(PLACEMENT_TIME, batches),
        };
        Coverage {
            pairs: self.rotation.covered_pairs(),
            total: self.rotation.total_pairs(self.budget),
            cycle: rounds.saturating_add(placings),
        }
    }

    /// The nodes that are skipped, and why.
    pub const fn skipped(&self) -> &BTreeMap<NodeName, SkipReason> {
        &self.skipped
    }

    /// The interval or a little less, so that checks do not synchronise.
    fn jittered_interval(&mut self) -> Duration {
        let nanos = prober_core::time::nanos(self.interval);
        let early = self.random.below(nanos / 1000 * JITTER + 1);
        Duration::from_nanos(nanos - early)
    }
}

#[cfg(test)]
mod tests;
