//! The rotation: the pairs of round after round, such that every ordered pair is probed within a known number of rounds.
//!
//! The budget limits how many nodes have agents at once. If all nodes fit, they are one batch; otherwise one batch of nodes
//! follows the other. Each round takes the next pairs of the batch's schedule.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;

use super::NodePair;
use crate::topology::NodeName;
use batch::{Batch, PairSchedule, rounds};
use covered_pairs::CoveredPairs;
use partition::{Coverage, Partition};

/// The limits of the probing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Other nodes that each node probes in a round.
    pub peers: usize,
    /// Maximum number of pairs in a round, over all nodes.
    pub pairs: NonZeroUsize,
    /// Maximum number of nodes with agents at once.
    pub nodes: NonZeroUsize,
}

impl Budget {
    /// Agent slots for priority nodes, which do not wait for their batch: those that are new, and those that are watched.
    const fn priority_slots(self) -> usize {
        self.nodes.get() / 4
    }

    /// The partition of `nodes` nodes, if they are more than may have agents at once.
    const fn partition(self, nodes: usize) -> Partition {
        Partition::new(nodes, self.nodes.get() - self.priority_slots())
    }

    /// The same coverage, if nodes probe any other at all.
    const fn coverage(self, coverage: Coverage) -> Coverage {
        if self.peers == 0 {
            Coverage::SelfOnly
        } else {
            coverage
        }
    }
}

/// The state of the rotation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rotation {
    /// All nodes, by position.
    ring: Vec<NodeName>,
    positions: BTreeMap<NodeName, usize>,
    covered: CoveredPairs,
    batch: Batch,
    /// The nodes of the batch.
    extent: Extent,
    priority_nodes: Vec<NodeName>,
    /// The number of the pair of parts that has agents, or had them last.
    partition_pair: usize,
    /// Nodes that have joined and have not been probed since.
    new_nodes: BTreeSet<NodeName>,
}

/// The nodes of a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Extent {
    /// None: only priority nodes have agents, if there are any.
    #[default]
    PriorityNodes,
    /// All nodes.
    All,
    /// The nodes of two parts.
    PartitionPair,
}

impl Rotation {
    /// Sets the nodes, by name with their zones. A node that stays keeps its position in the ring; the position of one that
    /// leaves goes to the node of the last position, so that no other moves; a node that joins is probed in the next round.
    ///
    /// The first time, zones alternate, so that neighbours are of different zones.
    pub fn set_nodes(&mut self, nodes: &BTreeMap<NodeName, String>) {
        let is_first = self.ring.is_empty();
        let mut at = 0;
        while let Some(node) = self.ring.get(at) {
            if nodes.contains_key(node) {
                at += 1;
                continue;
            }
            let left = self.ring.swap_remove(at);
            self.covered.swap_remove(at);
            self.new_nodes.remove(&left);
            self.positions.remove(&left);
            if let Some(moved) = self.ring.get(at) {
                self.positions.insert(moved.clone(), at);
            }
        }
        for node in alternating(nodes) {
            if !self.positions.contains_key(&node) {
                self.positions.insert(node.clone(), self.ring.len());
                self.covered.push();
                if !is_first {
                    self.new_nodes.insert(node.clone());
                }
                self.ring.push(node);
            }
        }
    }

    /// All nodes, by position.
    pub fn nodes(&self) -> &[NodeName] {
        &self.ring
    }

    /// Chooses the nodes that get agents, never more than the budget allows: all of them; or the new ones, the `watched`
    /// ones, and the pair of parts that is not done, or else the next one.
    pub fn assign(&mut self, budget: Budget, watched: &[NodeName]) {
        let nodes = self.ring.len();
        self.priority_nodes.clear();
        if nodes <= budget.nodes.get() {
            self.extent = Extent::All;
            let schedule = PairSchedule::of(nodes, 0, budget.coverage(Coverage::All));
            self.batch = Batch::of(self.ring.clone(), schedule).resuming(&self.batch);
            return;
        }
        if self.new_nodes.len() > budget.priority_slots() {
            self.extent = Extent::PriorityNodes;
            self.batch = Batch::default();
            self.priority_nodes = self
                .new_nodes
                .iter()
                .take(budget.nodes.get())
                .cloned()
                .collect();
            return;
        }
        let partition = budget.partition(nodes);
        if self.is_batch_done() && self.extent == Extent::PartitionPair {
            self.partition_pair = (self.partition_pair + 1)
                .checked_rem(partition.pairs())
                .unwrap_or(0);
        }
        let pair = partition.pair(self.partition_pair);
        let part = |part: &std::ops::Range<usize>| self.ring.get(part.clone()).unwrap_or_default();
        let nodes: Vec<NodeName> = [part(&pair.left), part(&pair.right)].concat();
        let coverage = budget.coverage(pair.coverage);
        let schedule = PairSchedule::of(pair.left.len(), pair.right.len(), coverage);
        if self.extent != Extent::PartitionPair || !self.batch.is_same(&nodes, &schedule) {
            self.batch = Batch::of(nodes, schedule);
        }
        self.extent = Extent::PartitionPair;
        for node in self.new_nodes.iter().chain(watched) {
            let is_assigned =
                self.batch.nodes().contains(node) || self.priority_nodes.contains(node);
            if self.priority_nodes.len() < budget.priority_slots()
                && !is_assigned
                && self.positions.contains_key(node)
            {
                self.priority_nodes.push(node.clone());
            }
        }
        // The schedule has no pairs of priority nodes: they get pairs with nodes of the batch as a new node does.
        self.new_nodes.extend(self.priority_nodes.iter().cloned());
    }

    /// The nodes that get agents.
    pub fn assigned(&self) -> impl Iterator<Item = &NodeName> {
        let all = self.batch.nodes().iter().chain(&self.priority_nodes);
        all.filter(|node| self.positions.contains_key(*node))
    }

    /// Whether a new node gets no agent yet.
    pub fn is_new_node_waiting(&self) -> bool {
        let assigned: BTreeSet<&NodeName> = self.assigned().collect();
        self.new_nodes.iter().any(|node| !assigned.contains(node))
    }

    /// Whether all pairs of the batch were taken, and other nodes wait.
    pub const fn is_batch_done(&self) -> bool {
        match self.extent {
            Extent::All => false,
            Extent::PriorityNodes | Extent::PartitionPair => self.batch.is_done(),
        }
    }

    /// The number of ordered pairs to probe, including each node with itself.
    pub const fn total_pairs(&self, budget: Budget) -> usize {
        match budget.coverage(Coverage::All) {
            Coverage::All | Coverage::Across => self.ring.len() * self.ring.len(),
            Coverage::SelfOnly => self.ring.len(),
        }
    }

    /// The number of pairs whose last probe gave a result.
    pub const fn covered_pairs(&self) -> usize {
        self.covered.count()
    }

    /// The number of rounds until every pair was probed, if no node joins or leaves and none is watched.
    pub fn rounds(&self, budget: Budget) -> usize {
        let nodes = self.ring.len();
        let all = budget.coverage(Coverage::All);
        if nodes <= budget.nodes.get() {
            return rounds(nodes, 0, all, budget);
        }
        let partition = budget.partition(nodes);
        let pass: Vec<_> = (0..partition.pairs_per_pass())
            .map(|number| partition.pair(number))
            .collect();
        let parts = pass.iter().flat_map(|pair| [&pair.left, &pair.right]);
        // At most two.
        let sizes: BTreeSet<usize> = parts.map(ExactSizeIterator::len).collect();
        let longest = |coverage| {
            let with = |left| {
                sizes
                    .iter()
                    .map(move |right| rounds(left, *right, coverage, budget))
            };
            sizes.iter().flat_map(|left| with(*left)).max().unwrap_or(0)
        };
        let later = partition.pairs() - partition.pairs_per_pass();
        partition.pairs_per_pass() * longest(all)
            + later * longest(budget.coverage(Coverage::Across))
    }

    /// The number of batches of these rounds; one if all nodes may have agents at once.
    pub fn batches(&self, budget: Budget) -> usize {
        let nodes = self.ring.len();
        if nodes <= budget.nodes.get() {
            1
        } else {
            budget.partition(nodes).pairs()
        }
    }

    /// The pairs of the next round, never more than the budget allows nor than `room`: first those of new nodes, with
    /// themselves and their first peers in both directions; then the next stretch of the batch's schedule. Pairs that find no
    /// room come in a later round.
    pub fn next_pairs(&mut self, budget: Budget, room: usize) -> BTreeSet<NodePair> {
        let most = budget.pairs.get().min(room);
        let mut pairs = BTreeSet::new();
        let assigned: Vec<NodeName> = self.assigned().cloned().collect();
        for node in &assigned {
            if !self.new_nodes.contains(node) {
                continue;
            }
            let wanted = first_pairs(&assigned, node, budget.peers);
            if pairs.len() + wanted.len() > most && !pairs.is_empty() {
                continue;
            }
            self.new_nodes.remove(node);
            pairs.extend(wanted.into_iter().take(most - pairs.len()));
        }
        self.batch.take(budget, most, &mut pairs);
        let is_present = |node: &NodeName| self.positions.contains_key(node);
        pairs.retain(|(client, server)| is_present(client) && is_present(server));
        pairs
    }

    /// Records the result of a round: which pairs were probed, and which of them gave a result.
    pub fn record(&mut self, probed: &BTreeSet<NodePair>, measured: &BTreeSet<NodePair>) {
        for pair in probed {
            let positions = (self.positions.get(&pair.0), self.positions.get(&pair.1));
            if let (Some(client), Some(server)) = positions {
                (self.covered).set(*client, *server, measured.contains(pair));
            }
        }
    }
}

/// A node with itself, and with its first peers among these in both directions.
fn first_pairs(among: &[NodeName], node: &NodeName, peers: usize) -> Vec<NodePair> {
    let mut pairs = vec![(node.clone(), node.clone())];
    let Some(position) = among.iter().position(|other| other == node) else {
        return pairs;
    };
    let others = among.iter().cycle().skip(position + 1);
    for peer in others.take(peers.min(among.len() - 1)) {
        pairs.push((node.clone(), peer.clone()));
        pairs.push((peer.clone(), node.clone()));
    }
    pairs
}

/// One node of each zone after the other, by name.
fn alternating(nodes: &BTreeMap<NodeName, String>) -> Vec<NodeName> {
    let mut zones: BTreeMap<&str, usize> = BTreeMap::new();
    let mut order: Vec<(usize, &str, &NodeName)> = Vec::new();
    for (node, zone) in nodes {
        let number = zones.entry(zone).or_default();
        order.push((*number, zone, node));
        *number += 1;
    }
    order.sort();
    order.into_iter().map(|(_, _, node)| node.clone()).collect()
}

/// The nodes that have agents at the same time, and the schedule of their pairs.
mod batch;
/// Which pairs gave a result.
mod covered_pairs;
/// Which nodes have agents together where not all can.
mod partition;
#[cfg(test)]
mod tests;
