//! When which pairs are probed: the rotation of the core, with the nodes that can be probed, suspicion first, and jitter
//! that comes as an argument.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use prober_core::plan::pairing::NodePair;
use prober_core::plan::pairing::rotation::{Budget, Rotation};
use prober_core::random::Random;
use prober_core::run::CycleSpec;
use prober_core::time::Timestamp;
use prober_core::topology::NodeName;

/// Rounds may begin earlier by this share of the interval, in thousandths: an interval is a promise.
const SPREAD: u64 = 200;

/// What placing agents on other nodes mostly takes.
const PLACING: Duration = Duration::from_secs(10);

/// A second look comes after this part of the interval.
const SOON: u32 = 10;

/// While all is well agents are read once in so long.
const WINDOW: Duration = Duration::from_mins(1);

/// Most pairs that the plan of a node may name, if it is for several rounds: an annotation is small.
const PLANNED: usize = 32;

/// What is known of a node before it is probed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Its name.
    pub node: NodeName,
    /// Its zone; empty where it has none.
    pub zone: String,
    /// Why it is not probed; `None` where it is.
    pub skipped: Option<Skip>,
}

/// Why a node is not probed. None of this is a fault of the network.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Skip {
    /// It is cordoned.
    Cordoned,
    /// Its kubelet does not answer, or says that it is not ready.
    NotReady,
    /// It is being deleted.
    Deleted,
    /// A taint that the check does not tolerate keeps pods away.
    Tainted(String),
}

impl fmt::Display for Skip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cordoned => f.write_str("it is cordoned"),
            Self::NotReady => f.write_str("it is not Ready"),
            Self::Deleted => f.write_str("it is being deleted"),
            Self::Tainted(key) => write!(f, "its taint {key} is not among spec.tolerations"),
        }
    }
}

/// How much of what there is to probe was probed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Coverage {
    /// Ordered pairs of nodes, each node with itself among them, whose probes had a result the last time that it was their
    /// turn.
    pub pairs: usize,
    /// All that there are.
    pub total: usize,
    /// How long it takes until each had its turn.
    pub cycle: Duration,
}

/// When which pairs are probed.
#[derive(Clone, Debug)]
pub struct Schedule {
    rotation: Rotation,
    budget: Budget,
    interval: Duration,
    random: Random,
    skipped: BTreeMap<NodeName, Skip>,
    /// Paths that have failed and are not confirmed: their pairs are looked at again at once.
    suspected: BTreeSet<NodePair>,
    /// Pairs that are looked at in each round, since they are known to fail.
    watched: BTreeSet<NodePair>,
    next: Option<Timestamp>,
    /// How many rounds in a row found nothing: the longer, the more of them are probed without being read.
    calm: u32,
    /// Until when the rounds last that are not read.
    unread_until: Option<Timestamp>,
}

/// How rounds have ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Every pair had its turn.
    Whole,
    /// Something has happened before all had theirs.
    CutShort,
}

impl Schedule {
    /// A schedule that has not begun. `seed` names its jitter.
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
            calm: 0,
            unread_until: None,
        }
    }

    /// Takes a changed spec; what was probed stays probed.
    pub const fn respec(&mut self, budget: Budget, interval: Duration) {
        self.budget = budget;
        self.interval = interval;
    }

    /// Lets the nodes sit down that are to have agents: some of them where they are too many. Who has joined goes first, and
    /// who is watched stays.
    pub fn sit(&mut self) {
        let ends = |(client, server): &NodePair| [client.clone(), server.clone()];
        let watched: Vec<NodeName> = self.watched.iter().flat_map(ends).collect();
        self.rotation.assign(self.budget, &watched);
        let seated: BTreeSet<&NodeName> = self.rotation.assigned().collect();
        (self.suspected)
            .retain(|(client, server)| seated.contains(client) && seated.contains(server));
    }

    /// The nodes that are to have agents.
    pub fn seated(&self) -> impl Iterator<Item = &NodeName> {
        self.rotation.assigned()
    }

    /// Whether other nodes should sit down as soon as may be: somebody has joined; or, where the last round is judged, those
    /// who sit have met and nothing is suspected.
    pub fn wants_to_sit(&self, is_judged: bool) -> bool {
        let is_through = is_judged && self.suspected.is_empty() && self.rotation.is_batch_done();
        is_through || self.rotation.is_new_node_waiting()
    }

    /// Takes the nodes as they are now. A node that joins, or can be probed again, is probed at once: the next round
    /// does not wait for its time.
    pub fn see(&mut self, candidates: &[Candidate], now: Timestamp) {
        let mut seats = BTreeMap::new();
        let mut skipped = BTreeMap::new();
        for candidate in candidates {
            match &candidate.skipped {
                Some(why) => {
                    skipped.insert(candidate.node.clone(), why.clone());
                }
                None => {
                    seats.insert(candidate.node.clone(), candidate.zone.clone());
                }
            }
        }
        let seated: BTreeSet<&NodeName> = self.rotation.nodes().iter().collect();
        let has_joined = seats.keys().any(|node| !seated.contains(node));
        self.rotation.set_nodes(&seats);
        self.skipped = skipped;
        self.suspected
            .retain(|(client, server)| seats.contains_key(client) && seats.contains_key(server));
        if has_joined {
            self.next = Some(now);
        }
    }

    /// Pairs that are to be looked at again soon, and before all others. A path that fails now and then does not
    /// make one round chase the other.
    pub fn suspect(&mut self, pairs: impl IntoIterator<Item = NodePair>, now: Timestamp) {
        self.suspected.extend(self.those_seated(pairs));
        if !self.suspected.is_empty() {
            let soon = now + self.interval / SOON;
            self.next = Some(self.next.map_or(soon, |next| next.min(soon)));
        }
    }

    /// When the next round begins; `None` while no node can be probed.
    pub fn next_at(&self) -> Option<Timestamp> {
        self.next.filter(|_| !self.rotation.nodes().is_empty())
    }

    /// The pairs of the round that begins now, never more than the budget: suspects first.
    pub fn begin(&mut self, now: Timestamp) -> BTreeSet<NodePair> {
        let most = self.budget.pairs.get();
        let mut pairs: BTreeSet<NodePair> = BTreeSet::new();
        while pairs.len() < most
            && let Some(pair) = self.suspected.pop_first()
        {
            pairs.insert(pair);
        }
        for pair in self.those_seated(self.watched.iter().cloned()) {
            if pairs.len() < most.div_ceil(2) {
                pairs.insert(pair);
            }
        }
        let room = most - pairs.len();
        pairs.extend(self.rotation.next_pairs(self.budget, room));
        self.next = Some(now + self.step());
        pairs
    }

    /// The pairs of the rounds that begin now: while all is well several, whose agents are not read before the last is over.
    pub fn begin_turns(&mut self, now: Timestamp) -> CycleSpec {
        let is_suspicious = !self.suspected.is_empty() || !self.watched.is_empty();
        let ahead = if is_suspicious {
            1
        } else {
            self.rounds_ahead()
        };
        let room = self.rotation.assigned().count() * PLANNED;
        let first = self.begin(now);
        let mut planned = first.len();
        let mut turns = vec![first];
        while turns.len() < ahead && planned <= room && !self.rotation.is_batch_done() {
            let turn = self.begin(now);
            if turns.last() != Some(&turn) {
                planned += turn.len();
            }
            turns.push(turn);
        }
        if turns.len() == 1 {
            return CycleSpec::Attended(turns.into_iter().flatten().collect());
        }
        let each = self.interval;
        let over = now + each * u32::try_from(turns.len()).unwrap_or(u32::MAX);
        self.unread_until = Some(over);
        CycleSpec::Unattended {
            periods: turns,
            period: each,
        }
    }

    /// How many rounds may be probed before anybody is read: twice as many each time that nothing was found.
    fn rounds_ahead(&self) -> usize {
        let most =
            prober_core::time::nanos(WINDOW) / prober_core::time::nanos(self.interval).max(1);
        let doubled = 1_u64.checked_shl(self.calm).unwrap_or(u64::MAX);
        usize::try_from(doubled.min(most)).unwrap_or(usize::MAX)
    }

    /// Takes how the rounds ended that were begun last: where something was found, or before their time, each of the next
    /// is read again. After some that were not read the next begins at once.
    pub fn end_rounds(&mut self, is_calm: bool, now: Timestamp) -> Ended {
        let until = self.unread_until.take();
        let ended = match until {
            Some(until) if now < until => Ended::CutShort,
            Some(_) | None => Ended::Whole,
        };
        if until.is_some() {
            self.next = Some(now);
        }
        self.calm = match ended {
            Ended::Whole if is_calm => self.calm.saturating_add(1),
            Ended::Whole | Ended::CutShort => 0,
        };
        ended
    }

    /// A round like the last on agents that are about to be replaced and `stand` on these nodes, which takes no turn of the
    /// rotation: `pairs` become those that can still be probed.
    pub fn repeat(
        &mut self,
        pairs: &mut BTreeSet<NodePair>,
        stand: &BTreeSet<NodeName>,
        now: Timestamp,
    ) {
        pairs.retain(|(client, server)| stand.contains(client) && stand.contains(server));
        self.suspected.clear();
        self.next = Some(now + self.step());
    }

    /// Takes what came of a round: which pairs were asked, and which of them had a result.
    pub fn cover(&mut self, asked: &BTreeSet<NodePair>, measured: &BTreeSet<NodePair>) {
        self.rotation.record(asked, measured);
    }

    /// Pairs that are to be looked at in each round from now on, and no others.
    pub fn watch(&mut self, pairs: impl IntoIterator<Item = NodePair>) {
        self.watched = pairs.into_iter().collect();
    }

    fn those_seated(&self, pairs: impl IntoIterator<Item = NodePair>) -> Vec<NodePair> {
        let seated: BTreeSet<&NodeName> = self.rotation.assigned().collect();
        let are_seated =
            |(client, server): &NodePair| seated.contains(client) && seated.contains(server);
        pairs.into_iter().filter(are_seated).collect()
    }

    /// The nodes that are probed, now or in their turn.
    pub fn nodes(&self) -> &[NodeName] {
        self.rotation.nodes()
    }

    /// How much of what there is to probe was probed.
    pub fn coverage(&self) -> Coverage {
        let times = |length: Duration, times: usize| {
            length.saturating_mul(u32::try_from(times).unwrap_or(u32::MAX))
        };
        let rounds = times(self.interval, self.rotation.rounds(self.budget));
        let placings = match self.rotation.batches(self.budget) {
            0 | 1 => Duration::ZERO,
            sittings => times(PLACING, sittings),
        };
        Coverage {
            pairs: self.rotation.covered_pairs(),
            total: self.rotation.total_pairs(self.budget),
            cycle: rounds.saturating_add(placings),
        }
    }

    /// The nodes that are not probed, and why.
    pub const fn skipped(&self) -> &BTreeMap<NodeName, Skip> {
        &self.skipped
    }

    /// The interval or a little less, so that nothing marches in step with anything.
    fn step(&mut self) -> Duration {
        let nanos = prober_core::time::nanos(self.interval);
        let early = self.random.below(nanos / 1000 * SPREAD + 1);
        Duration::from_nanos(nanos - early)
    }
}

#[cfg(test)]
mod tests;
