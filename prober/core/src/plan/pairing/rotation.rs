//! Pairs for ever: a ring of nodes in which everybody meets everybody within a known number of rounds.
//!
//! Agents stand on so many nodes at once as a budget says: on all of them where they are no more, else on one sitting of them
//! after the other. Within a sitting each round takes the next pairs of its row.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;

use super::NodePair;
use crate::topology::NodeName;
use batch::{Row, Sitting, rounds};
use covered_pairs::Covered;
use partition::{Acquaintance, Benches};

/// How much probing may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Other nodes that each node asks in a round.
    pub peers: usize,
    /// Pairs of a round, of all nodes together.
    pub pairs: NonZeroUsize,
    /// Nodes that agents are on at once.
    pub seats: NonZeroUsize,
}

impl Budget {
    /// Seats for those who do not wait for their turn: who has joined, and who is watched.
    const fn guests(self) -> usize {
        self.seats.get() / 4
    }

    const fn cut(self, nodes: usize) -> Benches {
        Benches::cut(nodes, self.seats.get() - self.guests())
    }

    /// Whom nodes meet, if they meet any other at all.
    const fn of(self, acquaint: Acquaintance) -> Acquaintance {
        if self.peers == 0 {
            Acquaintance::Nobody
        } else {
            acquaint
        }
    }
}

/// Where the rotation stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rotation {
    /// Who has which place.
    ring: Vec<NodeName>,
    places: BTreeMap<NodeName, usize>,
    covered: Covered,
    sitting: Sitting,
    /// Which nodes those are.
    extent: Extent,
    guests: Vec<NodeName>,
    /// The number of the table that sits, or did last.
    table: usize,
    /// Who has joined and was not probed since.
    joined: BTreeSet<NodeName>,
}

/// Which nodes sit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Extent {
    /// None yet, or none but guests.
    #[default]
    Guests,
    /// All.
    Everybody,
    /// Those of one table.
    Table,
}

impl Rotation {
    /// Takes the nodes, whose zones are told with them. Who stays keeps the place in the ring; who leaves gives it to whoever is
    /// last, so that nobody else moves; who joins is probed in the next round.
    ///
    /// The first time the zones alternate, so that neighbours are of different zones.
    pub fn seat(&mut self, nodes: &BTreeMap<NodeName, String>) {
        let is_first = self.ring.is_empty();
        let mut at = 0;
        while let Some(node) = self.ring.get(at) {
            if nodes.contains_key(node) {
                at += 1;
                continue;
            }
            let left = self.ring.swap_remove(at);
            self.covered.swap_remove(at);
            self.joined.remove(&left);
            self.places.remove(&left);
            if let Some(moved) = self.ring.get(at) {
                self.places.insert(moved.clone(), at);
            }
        }
        for node in alternating(nodes) {
            if !self.places.contains_key(&node) {
                self.places.insert(node.clone(), self.ring.len());
                self.covered.push();
                if !is_first {
                    self.joined.insert(node.clone());
                }
                self.ring.push(node);
            }
        }
    }

    /// Everybody.
    pub fn nodes(&self) -> &[NodeName] {
        &self.ring
    }

    /// Lets nodes sit down, never more than the budget has seats: all of them; or who has joined, who is `watched`, and the
    /// table that is not through, or the next one.
    pub fn sit(&mut self, budget: Budget, watched: &[NodeName]) {
        let nodes = self.ring.len();
        self.guests.clear();
        if nodes <= budget.seats.get() {
            self.extent = Extent::Everybody;
            let row = Row::of(nodes, 0, budget.of(Acquaintance::Everybody));
            let sitting = Sitting::of(self.ring.clone(), row);
            self.sitting = sitting.following(&self.sitting);
            return;
        }
        if self.joined.len() > budget.guests() {
            self.extent = Extent::Guests;
            self.sitting = Sitting::default();
            self.guests = self
                .joined
                .iter()
                .take(budget.seats.get())
                .cloned()
                .collect();
            return;
        }
        let cut = budget.cut(nodes);
        if self.is_spent() && self.extent == Extent::Table {
            self.table = (self.table + 1).checked_rem(cut.tables()).unwrap_or(0);
        }
        let table = cut.table(self.table);
        let of = |bench: &std::ops::Range<usize>| self.ring.get(bench.clone()).unwrap_or_default();
        let seated: Vec<NodeName> = [of(&table.left), of(&table.right)].concat();
        let acquaint = budget.of(table.acquaint);
        let row = Row::of(table.left.len(), table.right.len(), acquaint);
        if self.extent != Extent::Table || !self.sitting.is_of(&seated, &row) {
            self.sitting = Sitting::of(seated, row);
        }
        self.extent = Extent::Table;
        for node in self.joined.iter().chain(watched) {
            let sits = self.sitting.nodes().contains(node) || self.guests.contains(node);
            if self.guests.len() < budget.guests() && !sits && self.places.contains_key(node) {
                self.guests.push(node.clone());
            }
        }
        // A table owes its guests nothing: they meet some of it as one who joins does.
        self.joined.extend(self.guests.iter().cloned());
    }

    /// Whoever sits: the nodes that are to have agents.
    pub fn seated(&self) -> impl Iterator<Item = &NodeName> {
        let all = self.sitting.nodes().iter().chain(&self.guests);
        all.filter(|node| self.places.contains_key(*node))
    }

    /// Whether somebody has joined who has no seat.
    pub fn is_awaited(&self) -> bool {
        let seated: BTreeSet<&NodeName> = self.seated().collect();
        self.joined.iter().any(|node| !seated.contains(node))
    }

    /// Whether those who sit have met, and others wait.
    pub const fn is_spent(&self) -> bool {
        match self.extent {
            Extent::Everybody => false,
            Extent::Guests | Extent::Table => self.sitting.is_spent(),
        }
    }

    /// How many ordered pairs there are to be probed, each node with itself among them.
    pub const fn total(&self, budget: Budget) -> usize {
        match budget.of(Acquaintance::Everybody) {
            Acquaintance::Everybody | Acquaintance::Opposite => self.ring.len() * self.ring.len(),
            Acquaintance::Nobody => self.ring.len(),
        }
    }

    /// How many of them gave a result the last time that it was their turn.
    pub const fn covered(&self) -> usize {
        self.covered.count()
    }

    /// How many rounds it takes until every pair was probed, if nobody joins or leaves and nobody is suspected.
    pub fn rounds(&self, budget: Budget) -> usize {
        let nodes = self.ring.len();
        let everybody = budget.of(Acquaintance::Everybody);
        if nodes <= budget.seats.get() {
            return rounds(nodes, 0, everybody, budget);
        }
        let cut = budget.cut(nodes);
        let tables: Vec<_> = (0..cut.round()).map(|number| cut.table(number)).collect();
        let benches = tables.iter().flat_map(|table| [&table.left, &table.right]);
        let sizes: BTreeSet<usize> = benches.map(ExactSizeIterator::len).collect();
        // Benches are of two sizes at most.
        let longest = |acquaint| {
            let opposite = |left| {
                sizes
                    .iter()
                    .map(move |right| rounds(left, *right, acquaint, budget))
            };
            sizes
                .iter()
                .flat_map(|left| opposite(*left))
                .max()
                .unwrap_or(0)
        };
        let later = cut.tables() - cut.round();
        cut.round() * longest(everybody) + later * longest(budget.of(Acquaintance::Opposite))
    }

    /// How often other nodes sit down meanwhile; one where everybody has a seat.
    pub fn sittings(&self, budget: Budget) -> usize {
        let nodes = self.ring.len();
        if nodes <= budget.seats.get() {
            1
        } else {
            budget.cut(nodes).tables()
        }
    }

    /// The pairs of the next round of those who sit, never more than the budget nor than there is room: first those
    /// who have joined, with themselves and their first peers in both directions; then the stretch whose turn it is. What
    /// finds no room comes next time.
    pub fn next_pairs(&mut self, budget: Budget, room: usize) -> BTreeSet<NodePair> {
        let most = budget.pairs.get().min(room);
        let mut pairs = BTreeSet::new();
        let seated: Vec<NodeName> = self.seated().cloned().collect();
        for node in &seated {
            if !self.joined.contains(node) {
                continue;
            }
            let wanted = first_pairs(&seated, node, budget.peers);
            if pairs.len() + wanted.len() > most && !pairs.is_empty() {
                continue;
            }
            self.joined.remove(node);
            pairs.extend(wanted.into_iter().take(most - pairs.len()));
        }
        self.sitting.take(budget, most, &mut pairs);
        let is_there = |node: &NodeName| self.places.contains_key(node);
        pairs.retain(|(client, server)| is_there(client) && is_there(server));
        pairs
    }

    /// Takes what came of a round: which pairs were asked, and which of them gave a result.
    pub fn see(&mut self, asked: &BTreeSet<NodePair>, measured: &BTreeSet<NodePair>) {
        for pair in asked {
            let places = (self.places.get(&pair.0), self.places.get(&pair.1));
            if let (Some(client), Some(server)) = places {
                (self.covered).set(*client, *server, measured.contains(pair));
            }
        }
    }
}

/// A node with itself, and with its first peers among these in both directions.
fn first_pairs(among: &[NodeName], node: &NodeName, peers: usize) -> Vec<NodePair> {
    let mut pairs = vec![(node.clone(), node.clone())];
    let Some(place) = among.iter().position(|other| other == node) else {
        return pairs;
    };
    let others = among.iter().cycle().skip(place + 1);
    for peer in others.take(peers.min(among.len() - 1)) {
        pairs.push((node.clone(), peer.clone()));
        pairs.push((peer.clone(), node.clone()));
    }
    pairs
}

/// One node of each zone in turn, by name.
fn alternating(nodes: &BTreeMap<NodeName, String>) -> Vec<NodeName> {
    let mut zones: BTreeMap<&str, usize> = BTreeMap::new();
    let mut turns: Vec<(usize, &str, &NodeName)> = Vec::new();
    for (node, zone) in nodes {
        let turn = zones.entry(zone).or_default();
        turns.push((*turn, zone, node));
        *turn += 1;
    }
    turns.sort();
    turns.into_iter().map(|(_, _, node)| node.clone()).collect()
}

/// Those who sit together, and whom they owe a look.
mod batch;
/// What was covered.
mod covered_pairs;
/// Who sits together where not everybody can.
mod partition;
#[cfg(test)]
mod tests;
