//! A batch: the nodes that have agents at the same time, and the schedule of the pairs that are to be probed among them.
//!
//! The schedule lists all pairs across nodes as a sequence of matchings: in a matching each node is the client of one pair at
//! most, and the server of one. A round takes the next stretch of the schedule, whole matchings where it can: where the batch
//! holds all nodes, no node has two pairs more than any other.

use std::collections::BTreeSet;

use super::partition::Coverage;
use super::{Budget, NodePair};
use crate::topology::NodeName;

/// A client and a server, by their positions in the batch.
type Positions = (usize, usize);

/// Nodes that have agents at the same time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Batch {
    nodes: Vec<NodeName>,
    schedule: PairSchedule,
    /// The index of the next pair in the schedule.
    next_cross: usize,
    /// The index of the next node to be probed from itself.
    next_self: usize,
    /// The number of pairs taken: of nodes with themselves, and of the schedule.
    taken: (usize, usize),
}

/// The pairs across nodes, in the order in which they are probed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct PairSchedule {
    pairs: Vec<Positions>,
    /// The number of pairs in a matching.
    matching: usize,
}

impl PairSchedule {
    /// Every node with every other: a matching for each distance in the ring.
    fn ring(nodes: usize) -> Self {
        let matching = |distance: usize| (0..nodes).map(move |at| (at, (at + distance) % nodes));
        Self {
            pairs: (1..nodes).flat_map(matching).collect(),
            matching: nodes,
        }
    }

    /// Every node of one part with every node of the other; the left part comes first in the batch.
    fn between(left: usize, right: usize) -> Self {
        let (most, least) = (left.max(right), left.min(right));
        let matching = |distance: usize| {
            (0..most).flat_map(move |at| {
                let (one, other) = (at, (at + distance) % most);
                let meet = one < left && other < right;
                let two = [(one, left + other), (left + other, one)];
                two.into_iter().filter(move |_| meet)
            })
        };
        Self {
            pairs: (0..most).flat_map(matching).collect(),
            matching: 2 * least,
        }
    }

    /// The schedule of two parts of these sizes.
    pub(super) fn of(left: usize, right: usize, coverage: Coverage) -> Self {
        match coverage {
            Coverage::All => Self::ring(left + right),
            Coverage::Across => Self::between(left, right),
            Coverage::SelfOnly => Self::default(),
        }
    }

    /// The number of pairs in a schedule, and in one matching, without building it.
    const fn size(left: usize, right: usize, coverage: Coverage) -> (usize, usize) {
        let nodes = left + right;
        match coverage {
            Coverage::All => (nodes * nodes.saturating_sub(1), nodes),
            Coverage::Across if left < right => (2 * left * right, 2 * left),
            Coverage::Across => (2 * left * right, 2 * right),
            Coverage::SelfOnly => (0, 0),
        }
    }
}

impl Batch {
    /// A new batch: none of its pairs is taken.
    pub(super) const fn of(nodes: Vec<NodeName>, schedule: PairSchedule) -> Self {
        Self {
            nodes,
            schedule,
            next_cross: 0,
            next_self: 0,
            taken: (0, 0),
        }
    }

    /// This batch, continued at the matching where `before` was interrupted: a cluster with ever-changing nodes still gets
    /// through its schedule.
    pub(super) fn resuming(self, before: &Self) -> Self {
        if before.is_same(&self.nodes, &self.schedule) {
            return before.clone();
        }
        let matchings = before
            .next_cross
            .checked_div(before.schedule.matching)
            .unwrap_or(0);
        let cross = matchings * self.schedule.matching;
        Self {
            next_cross: if cross < self.schedule.pairs.len() {
                cross
            } else {
                0
            },
            ..self
        }
    }

    /// Whether it has these nodes and this schedule.
    pub(super) fn is_same(&self, nodes: &[NodeName], schedule: &PairSchedule) -> bool {
        self.nodes == nodes && self.schedule == *schedule
    }

    /// Its nodes, by position.
    pub(super) fn nodes(&self) -> &[NodeName] {
        &self.nodes
    }

    /// Whether all of its pairs were taken once.
    pub(super) const fn is_done(&self) -> bool {
        self.taken.0 >= self.nodes.len() && self.taken.1 >= self.schedule.pairs.len()
    }

    /// Adds the pairs of its next round to `pairs` until these are `most`.
    pub(super) fn take(&mut self, budget: Budget, most: usize, pairs: &mut BTreeSet<NodePair>) {
        let (own, cross) = shares(self.nodes.len(), self.schedule.matching, budget);
        for _ in 0..own {
            if pairs.len() >= most {
                return;
            }
            if let Some(node) = self.nodes.get(self.next_self) {
                pairs.insert((node.clone(), node.clone()));
            }
            self.next_self = next(self.next_self, self.nodes.len());
            self.taken.0 += 1;
        }
        for _ in 0..self.whole_matchings(cross).min(self.schedule.pairs.len()) {
            if pairs.len() >= most {
                return;
            }
            pairs.extend(self.pair_at(self.next_cross));
            self.next_cross = next(self.next_cross, self.schedule.pairs.len());
            self.taken.1 += 1;
        }
    }

    /// Shortens whole matchings so that they end where a matching ends, also where the round before stopped within one.
    fn whole_matchings(&self, cross: usize) -> usize {
        if cross < self.schedule.matching {
            return cross;
        }
        cross
            - self
                .next_cross
                .checked_rem(self.schedule.matching)
                .unwrap_or(0)
    }

    fn pair_at(&self, index: usize) -> Option<NodePair> {
        let (client, server) = *self.schedule.pairs.get(index)?;
        Some((
            self.nodes.get(client)?.clone(),
            self.nodes.get(server)?.clone(),
        ))
    }
}

/// The number of rounds until all pairs of two parts of these sizes were taken.
pub(super) fn rounds(left: usize, right: usize, coverage: Coverage, budget: Budget) -> usize {
    let (pairs, matching) = PairSchedule::size(left, right, coverage);
    let (own, cross) = shares(left + right, matching, budget);
    let rounds = |all: usize, each: usize| if each == 0 { 0 } else { all.div_ceil(each) };
    rounds(left + right, own).max(rounds(pairs, cross))
}

/// The number of nodes that a round probes from themselves, and the number of its pairs across nodes.
///
/// All nodes and all their peers where the budget allows it. Where not, up to half of it goes to pairs of a node with itself,
/// and the rest to whole matchings, or to less than one.
fn shares(nodes: usize, matching: usize, budget: Budget) -> (usize, usize) {
    let most = budget.pairs.get();
    if budget.peers.min(matching) == 0 {
        return (nodes.min(most), 0);
    }
    let own = nodes.min(most.div_ceil(2));
    let left = (most - own).min(matching * budget.peers);
    let cross = if left >= matching {
        left - left % matching
    } else {
        left
    };
    (own, cross)
}

/// The index after this one, which wraps at `len`.
const fn next(index: usize, len: usize) -> usize {
    if index + 1 >= len { 0 } else { index + 1 }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_schedule_has_every_pair_once_and_a_matching_each_client_and_server_once_at_most(
            left in 0_usize..34, right in 0_usize..34, all in any::<bool>(),
        ) {
            let coverage = if all { Coverage::All } else { Coverage::Across };
            let size = PairSchedule::size(left, right, coverage);
            let schedule = PairSchedule::of(left, right, coverage);
            let listed: BTreeSet<Positions> = schedule.pairs.iter().copied().collect();
            prop_assert_eq!((listed.len(), schedule.matching), size);
            prop_assert_eq!(listed.len(), schedule.pairs.len());
            let wanted = match coverage {
                Coverage::All => (left + right) * (left + right).saturating_sub(1),
                Coverage::Across => 2 * left * right,
                Coverage::SelfOnly => 0,
            };
            prop_assert_eq!(listed.len(), wanted);
            for matching in schedule.pairs.chunks(schedule.matching.max(1)) {
                let clients: BTreeSet<usize> = matching.iter().map(|pair| pair.0).collect();
                let servers: BTreeSet<usize> = matching.iter().map(|pair| pair.1).collect();
                prop_assert_eq!(clients.len(), matching.len());
                prop_assert_eq!(servers.len(), matching.len());
            }
        }
    }
}
