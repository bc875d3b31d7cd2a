//! The partition of the nodes where there are more than may have agents at once: the ring is cut into parts, and any two parts
//! have agents together once, as teams meet in a round-robin tournament.
//!
//! Every part has agents once before any has them again: so every node's path to itself is probed long before all pairs are.

use std::ops::Range;

/// The partition of the ring of nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Partition {
    nodes: usize,
    /// The number of parts, even.
    parts: usize,
}

/// Two parts that have agents together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PartitionPair {
    /// Positions in the ring of the nodes of one part.
    pub(super) left: Range<usize>,
    /// Positions in the ring of the nodes of the other.
    pub(super) right: Range<usize>,
    /// The pairs of theirs to probe.
    pub(super) coverage: Coverage,
}

/// The pairs of two parts to probe, besides each node with itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Coverage {
    /// Those across the two parts and those within each.
    All,
    /// Those across the two parts.
    Across,
    /// None.
    SelfOnly,
}

impl Partition {
    /// Cuts a ring of `nodes` so that two parts have at most `slots` nodes, or two nodes if `slots` is less.
    pub(super) const fn new(nodes: usize, slots: usize) -> Self {
        let half = if slots < 2 { 1 } else { slots / 2 };
        Self {
            nodes,
            parts: nodes.div_ceil(half).next_multiple_of(2),
        }
    }

    /// The number of pairs of parts, after which every pair of nodes had agents together.
    pub(super) const fn pairs(self) -> usize {
        self.parts / 2 * self.parts.saturating_sub(1)
    }

    /// The number of pairs of parts until every node had agents once.
    pub(super) const fn pairs_per_pass(self) -> usize {
        self.parts / 2
    }

    /// The pair of parts of this number; after the last comes the first again.
    ///
    /// One part keeps its place and the others move by one with each pass: the circle method
    /// (<https://en.wikipedia.org/wiki/Round-robin_tournament#Circle_method>).
    pub(super) fn pair(self, number: usize) -> PartitionPair {
        let circle = self.parts.saturating_sub(1);
        let number = number.checked_rem(self.pairs()).unwrap_or(0);
        let pass = number.checked_div(self.pairs_per_pass()).unwrap_or(0);
        let place = number.checked_rem(self.pairs_per_pass()).unwrap_or(0);
        let moved = |by: usize| (pass + by).checked_rem(circle).unwrap_or(0);
        let (left, right) = if place == 0 {
            (circle, moved(0))
        } else {
            (moved(place), moved(circle - place))
        };
        PartitionPair {
            left: self.part(left),
            right: self.part(right),
            // Pairs within parts take longer and come in the last pass: in the first, all nodes wait for their first probe.
            coverage: if pass + 1 == circle {
                Coverage::All
            } else {
                Coverage::Across
            },
        }
    }

    /// The positions of the nodes of a part. Parts differ by one node at most.
    fn part(self, number: usize) -> Range<usize> {
        let edge = |number: usize| (number * self.nodes).checked_div(self.parts).unwrap_or(0);
        edge(number)..edge(number + 1)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_two_parts_have_agents_together_once_and_each_once_before_any_again(
            nodes in 1_usize..5_000, slots in 2_usize..64,
        ) {
            let slots = slots.max(nodes / 100);
            let partition = Partition::new(nodes, slots);
            let mut times = BTreeMap::new();
            for number in 0..partition.pairs() {
                let PartitionPair { left, right, .. } = partition.pair(number);
                prop_assert!(left.len() + right.len() <= slots);
                let two = (left.start.min(right.start), left.end.max(right.end), left.len().min(right.len()));
                if left.len().min(right.len()) > 0 {
                    *times.entry(two).or_insert(0) += 1;
                }
            }
            prop_assert!(times.values().all(|count| *count == 1));
            let assigned: BTreeSet<usize> = (0..partition.pairs_per_pass())
                .flat_map(|number| {
                    let PartitionPair { left, right, .. } = partition.pair(number);
                    left.chain(right)
                })
                .collect();
            prop_assert_eq!(assigned.len(), nodes);
        }
    }
}
