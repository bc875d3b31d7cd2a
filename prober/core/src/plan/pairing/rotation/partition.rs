//! Whose agents stand at the same time where there are more nodes than agents may be on: the ring is cut into benches, and
//! any two of them sit together once, as in a tournament.
//!
//! All benches have sat once before any sits again: so every node's path to itself is looked at long before everybody has met
//! everybody.

use std::ops::Range;

/// How a ring is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Benches {
    nodes: usize,
    /// How many benches, an even number.
    benches: usize,
}

/// Two benches that sit together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Table {
    /// The seats of the one.
    pub(super) left: Range<usize>,
    /// And of the other.
    pub(super) right: Range<usize>,
    /// Whether this is when those of one bench meet each other.
    pub(super) acquaint: Acquaintance,
}

/// Whom the nodes of a bench meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Acquaintance {
    /// The other bench, and each other.
    Everybody,
    /// The other bench.
    Opposite,
    /// Themselves.
    Nobody,
}

impl Benches {
    /// Cuts a ring so that two benches have at most so many nodes, at least two.
    pub(super) const fn cut(nodes: usize, of_two: usize) -> Self {
        let half = if of_two < 2 { 1 } else { of_two / 2 };
        Self {
            nodes,
            benches: nodes.div_ceil(half).next_multiple_of(2),
        }
    }

    /// How many tables it takes until everybody has met everybody.
    pub(super) const fn tables(self) -> usize {
        self.benches / 2 * self.benches.saturating_sub(1)
    }

    /// How many tables it takes until everybody has sat once.
    pub(super) const fn round(self) -> usize {
        self.benches / 2
    }

    /// The table of a number, which goes on from the start after the last.
    ///
    /// One bench stays where it is and the others move on by one each round: the circle method
    /// (<https://en.wikipedia.org/wiki/Round-robin_tournament#Circle_method>).
    pub(super) fn table(self, number: usize) -> Table {
        let circle = self.benches.saturating_sub(1);
        let number = number.checked_rem(self.tables()).unwrap_or(0);
        let round = number.checked_div(self.round()).unwrap_or(0);
        let place = number.checked_rem(self.round()).unwrap_or(0);
        let moved = |by: usize| (round + by).checked_rem(circle).unwrap_or(0);
        let (left, right) = if place == 0 {
            (circle, moved(0))
        } else {
            (moved(place), moved(circle - place))
        };
        Table {
            left: self.bench(left),
            right: self.bench(right),
            // In the last round: that takes longer, and in the first everybody waits to be seen at all.
            acquaint: if round + 1 == circle {
                Acquaintance::Everybody
            } else {
                Acquaintance::Opposite
            },
        }
    }

    /// Benches differ by one node at most.
    fn bench(self, number: usize) -> Range<usize> {
        let edge = |number: usize| (number * self.nodes).checked_div(self.benches).unwrap_or(0);
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
        fn any_two_benches_sit_together_once_and_all_have_sat_before_any_sits_again(
            nodes in 1_usize..5_000, of_two in 2_usize..64,
        ) {
            let of_two = of_two.max(nodes / 100);
            let cut = Benches::cut(nodes, of_two);
            let mut met = BTreeMap::new();
            for number in 0..cut.tables() {
                let Table { left, right, .. } = cut.table(number);
                prop_assert!(left.len() + right.len() <= of_two);
                let two = (left.start.min(right.start), left.end.max(right.end), left.len().min(right.len()));
                if left.len().min(right.len()) > 0 {
                    *met.entry(two).or_insert(0) += 1;
                }
            }
            prop_assert!(met.values().all(|times| *times == 1));
            let sat: BTreeSet<usize> = (0..cut.round())
                .flat_map(|number| {
                    let Table { left, right, .. } = cut.table(number);
                    left.chain(right)
                })
                .collect();
            prop_assert_eq!(sat.len(), nodes);
        }
    }
}
