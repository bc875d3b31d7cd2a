//! Pairs for ever: a ring of nodes in which everybody meets everybody within a known number of epochs.
//!
//! All ordered pairs of nodes stand in one long row: node `i` asks the node `d` seats further on, for every `i`, then for the
//! next distance `d`. An epoch takes the next stretch of that row. So within an epoch no node asks or answers two more
//! others than any other does, and after the row's end every node has asked every other exactly once.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;

use super::NodePair;
use crate::topology::NodeName;

/// How much one epoch may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Other nodes that each node asks.
    pub peers: usize,
    /// Pairs of all nodes together.
    pub pairs: NonZeroUsize,
}

/// Where the rotation stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rotation {
    /// Who sits where.
    ring: Vec<NodeName>,
    zones: BTreeMap<NodeName, String>,
    /// The next place of the row of cross-node pairs.
    cross: usize,
    /// The next seat whose node asks itself.
    own: usize,
    /// How much of both was taken since the ring has its size, until all of it was.
    taken: (usize, usize),
    /// Who has joined and was not probed since.
    joined: BTreeSet<NodeName>,
}

impl Rotation {
    /// Seats these nodes, whose zones are told with them. Who stays keeps the seat; who leaves gives it to whoever sits last, so that nobody else
    /// moves; who joins is probed in the next epoch.
    ///
    /// The first time the zones alternate, so that neighbours are of different zones.
    pub fn seat(&mut self, nodes: &BTreeMap<NodeName, String>) {
        let before = self.ring.len();
        let mut at = 0;
        while let Some(node) = self.ring.get(at) {
            if nodes.contains_key(node) {
                at += 1;
            } else {
                let left = self.ring.swap_remove(at);
                self.joined.remove(&left);
            }
        }
        let seated: BTreeSet<NodeName> = self.ring.iter().cloned().collect();
        for node in alternating(nodes) {
            if !seated.contains(&node) {
                self.joined.insert(node.clone());
                self.ring.push(node);
            }
        }
        self.zones.clone_from(nodes);
        let now = self.ring.len();
        if now != before {
            // The turn of the same distance begins anew: a cluster that never rests gets through its row all the same.
            let distance = self.cross.checked_div(before).unwrap_or(0);
            self.cross = if distance + 1 < now {
                distance * now
            } else {
                0
            };
            self.own = 0;
            self.taken = (0, 0);
        }
    }

    /// A node has come back and is to be probed at once.
    pub fn hurry(&mut self, node: &NodeName) {
        if self.zones.contains_key(node) {
            self.joined.insert(node.clone());
        }
    }

    /// Whoever is seated.
    pub fn nodes(&self) -> &[NodeName] {
        &self.ring
    }

    /// How many ordered pairs there are, each node with itself among them.
    pub fn total(&self) -> usize {
        self.ring.len() * self.ring.len()
    }

    /// How many of them were probed since the ring has its size.
    pub const fn covered(&self) -> usize {
        self.taken.0 + self.taken.1
    }

    /// How many epochs it takes until every pair was probed, if nobody joins or leaves.
    pub fn epochs(&self, budget: Budget) -> usize {
        let (own, cross) = self.shares(budget);
        let nodes = self.ring.len();
        let row = nodes * nodes.saturating_sub(1);
        let turns = |all: usize, each: usize| if each == 0 { 0 } else { all.div_ceil(each) };
        turns(nodes, own).max(turns(row, cross))
    }

    /// The pairs of the next epoch, never more than the budget nor than there is room: first those who have joined,
    /// with themselves and their first peers in both directions; then the stretch whose turn it is. What finds no room
    /// comes next time.
    pub fn next_pairs(&mut self, budget: Budget, room: usize) -> BTreeSet<NodePair> {
        let most = budget.pairs.get().min(room);
        let mut pairs = BTreeSet::new();
        let joined = std::mem::take(&mut self.joined);
        for node in joined {
            let wanted = self.first_pairs(&node, budget.peers);
            if pairs.len() + wanted.len() > most && !pairs.is_empty() {
                self.joined.insert(node);
                continue;
            }
            pairs.extend(wanted.into_iter().take(most - pairs.len()));
        }
        let (own, cross) = self.shares(budget);
        for _ in 0..own.min(self.ring.len()) {
            if pairs.len() >= most {
                return pairs;
            }
            if let Some(node) = self.ring.get(self.own) {
                pairs.insert((node.clone(), node.clone()));
            }
            self.own = next(self.own, self.ring.len());
            self.taken.0 = (self.taken.0 + 1).min(self.ring.len());
        }
        let row = self.ring.len() * self.ring.len().saturating_sub(1);
        for _ in 0..self.to_whole_turns(cross).min(row) {
            if pairs.len() >= most {
                return pairs;
            }
            pairs.extend(self.pair_at(self.cross));
            self.cross = next(self.cross, row);
            self.taken.1 = (self.taken.1 + 1).min(row);
        }
        pairs
    }

    /// How many nodes ask themselves in an epoch, and how many pairs across nodes it has.
    ///
    /// All nodes and all their peers where that is paid for. Where not, up to half goes to the nodes themselves; and the
    /// rest is whole turns of the ring, or less than one, so that nobody has two pairs more than another.
    fn shares(&self, budget: Budget) -> (usize, usize) {
        let nodes = self.ring.len();
        let most = budget.pairs.get();
        let peers = budget.peers.min(nodes.saturating_sub(1));
        if peers == 0 {
            return (nodes.min(most), 0);
        }
        let own = if nodes <= most.div_ceil(2) {
            nodes
        } else {
            most.div_ceil(2)
        };
        let left = (most - own).min(nodes * peers);
        let cross = if left >= nodes {
            left - left % nodes
        } else {
            left
        };
        (own, cross)
    }

    /// Whole turns end where a turn ends, also when the last stretch found no room in the middle of one.
    fn to_whole_turns(&self, cross: usize) -> usize {
        let nodes = self.ring.len();
        if cross < nodes {
            return cross;
        }
        cross - self.cross.checked_rem(nodes).unwrap_or(0)
    }

    /// The pair at a place of the row of cross-node pairs.
    fn pair_at(&self, place: usize) -> Option<NodePair> {
        let nodes = self.ring.len();
        let client = place.checked_rem(nodes)?;
        let distance = 1 + place.checked_div(nodes)?;
        let server = (client + distance) % nodes;
        Some((
            self.ring.get(client)?.clone(),
            self.ring.get(server)?.clone(),
        ))
    }

    /// A node with itself, and with its first peers in both directions.
    fn first_pairs(&self, node: &NodeName, peers: usize) -> Vec<NodePair> {
        let mut pairs = vec![(node.clone(), node.clone())];
        let Some(seat) = self.ring.iter().position(|other| other == node) else {
            return pairs;
        };
        let others = self.ring.iter().cycle().skip(seat + 1);
        for peer in others.take(peers.min(self.ring.len() - 1)) {
            pairs.push((node.clone(), peer.clone()));
            pairs.push((peer.clone(), node.clone()));
        }
        pairs
    }
}

/// The next of `of` places in a circle.
const fn next(place: usize, of: usize) -> usize {
    if place + 1 >= of { 0 } else { place + 1 }
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

#[cfg(test)]
mod tests;
