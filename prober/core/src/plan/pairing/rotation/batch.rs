//! The nodes that have agents at the same time, and the pairs that they owe each other.
//!
//! All pairs across nodes stand in one row made of turns: in a turn no node asks or answers more than one other. A round takes
//! the next stretch of that row, whole turns where it can: so where everybody sits no node has two pairs more than any other.

use std::collections::BTreeSet;

use super::{Budget, NodePair};
use crate::plan::pairing::rotation::partition::Acquaintance;
use crate::topology::NodeName;

/// A client and a server, by their places in the sitting.
type Places = (usize, usize);

/// Nodes that have agents at the same time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Sitting {
    nodes: Vec<NodeName>,
    row: Row,
    /// The next place of the row.
    cross: usize,
    /// The next node that asks itself.
    own: usize,
    /// How much of both was taken: of each node with itself, and of the row.
    taken: (usize, usize),
}

/// Pairs across nodes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Row {
    pairs: Vec<Places>,
    /// How many pairs a turn has.
    turn: usize,
}

impl Row {
    /// Everybody and everybody else: a turn for each distance in the ring.
    fn ring(nodes: usize) -> Self {
        let turn = |distance: usize| (0..nodes).map(move |at| (at, (at + distance) % nodes));
        Self {
            pairs: (1..nodes).flat_map(turn).collect(),
            turn: nodes,
        }
    }

    /// Two benches, the one before the other: everybody and everybody opposite.
    fn between(left: usize, right: usize) -> Self {
        let (most, least) = (left.max(right), left.min(right));
        let turn = |distance: usize| {
            (0..most).flat_map(move |at| {
                let (one, other) = (at, (at + distance) % most);
                let meet = one < left && other < right;
                let two = [(one, left + other), (left + other, one)];
                two.into_iter().filter(move |_| meet)
            })
        };
        Self {
            pairs: (0..most).flat_map(turn).collect(),
            turn: 2 * least,
        }
    }

    pub(super) fn of(left: usize, right: usize, acquaint: Acquaintance) -> Self {
        match acquaint {
            Acquaintance::Everybody => Self::ring(left + right),
            Acquaintance::Opposite => Self::between(left, right),
            Acquaintance::Nobody => Self::default(),
        }
    }

    /// Its pairs, and those of a turn, without making it.
    const fn size(left: usize, right: usize, acquaint: Acquaintance) -> (usize, usize) {
        let nodes = left + right;
        match acquaint {
            Acquaintance::Everybody => (nodes * nodes.saturating_sub(1), nodes),
            Acquaintance::Opposite if left < right => (2 * left * right, 2 * left),
            Acquaintance::Opposite => (2 * left * right, 2 * right),
            Acquaintance::Nobody => (0, 0),
        }
    }
}

impl Sitting {
    /// Nodes that have just sat down.
    pub(super) const fn of(nodes: Vec<NodeName>, row: Row) -> Self {
        Self {
            nodes,
            row,
            cross: 0,
            own: 0,
            taken: (0, 0),
        }
    }

    /// The same, where `before` was interrupted: a cluster that never rests gets through its row all the same.
    pub(super) fn following(self, before: &Self) -> Self {
        if before.is_of(&self.nodes, &self.row) {
            return before.clone();
        }
        let turns = before.cross.checked_div(before.row.turn).unwrap_or(0);
        let cross = turns * self.row.turn;
        Self {
            cross: if cross < self.row.pairs.len() {
                cross
            } else {
                0
            },
            ..self
        }
    }

    /// Whether it is this one.
    pub(super) fn is_of(&self, nodes: &[NodeName], row: &Row) -> bool {
        self.nodes == nodes && self.row == *row
    }

    pub(super) fn nodes(&self) -> &[NodeName] {
        &self.nodes
    }

    /// Whether it has nothing left that it owes.
    pub(super) const fn is_spent(&self) -> bool {
        self.taken.0 >= self.nodes.len() && self.taken.1 >= self.row.pairs.len()
    }

    /// Adds pairs of the next round until there are `most`.
    pub(super) fn take(&mut self, budget: Budget, most: usize, pairs: &mut BTreeSet<NodePair>) {
        let (own, cross) = shares(self.nodes.len(), self.row.turn, budget);
        for _ in 0..own {
            if pairs.len() >= most {
                return;
            }
            if let Some(node) = self.nodes.get(self.own) {
                pairs.insert((node.clone(), node.clone()));
            }
            self.own = next(self.own, self.nodes.len());
            self.taken.0 += 1;
        }
        for _ in 0..self.to_whole_turns(cross).min(self.row.pairs.len()) {
            if pairs.len() >= most {
                return;
            }
            pairs.extend(self.pair_at(self.cross));
            self.cross = next(self.cross, self.row.pairs.len());
            self.taken.1 += 1;
        }
    }

    /// Whole turns end where a turn ends, also when the last stretch found no room in the middle of one.
    fn to_whole_turns(&self, cross: usize) -> usize {
        if cross < self.row.turn {
            return cross;
        }
        cross - self.cross.checked_rem(self.row.turn).unwrap_or(0)
    }

    fn pair_at(&self, place: usize) -> Option<NodePair> {
        let (client, server) = *self.row.pairs.get(place)?;
        Some((
            self.nodes.get(client)?.clone(),
            self.nodes.get(server)?.clone(),
        ))
    }
}

/// How many rounds it takes until the nodes of two benches have nothing left that they owe.
pub(super) fn rounds(left: usize, right: usize, acquaint: Acquaintance, budget: Budget) -> usize {
    let (row, turn) = Row::size(left, right, acquaint);
    let (own, cross) = shares(left + right, turn, budget);
    let turns = |all: usize, each: usize| if each == 0 { 0 } else { all.div_ceil(each) };
    turns(left + right, own).max(turns(row, cross))
}

/// How many nodes ask themselves in a round, and how many pairs across nodes it has.
///
/// All nodes and all their peers where that is paid for. Where not, up to half goes to the nodes themselves; and the rest
/// is whole turns, or less than one.
fn shares(nodes: usize, turn: usize, budget: Budget) -> (usize, usize) {
    let most = budget.pairs.get();
    if budget.peers.min(turn) == 0 {
        return (nodes.min(most), 0);
    }
    let own = nodes.min(most.div_ceil(2));
    let left = (most - own).min(turn * budget.peers);
    let cross = if left >= turn {
        left - left % turn
    } else {
        left
    };
    (own, cross)
}

/// The next of `of` places in a circle.
const fn next(place: usize, of: usize) -> usize {
    if place + 1 >= of { 0 } else { place + 1 }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_row_has_every_pair_once_and_in_a_turn_everybody_asks_and_answers_once_at_most(
            left in 0_usize..34, right in 0_usize..34, everybody in any::<bool>(),
        ) {
            let acquaint = if everybody { Acquaintance::Everybody } else { Acquaintance::Opposite };
            let size = Row::size(left, right, acquaint);
            let row = Row::of(left, right, acquaint);
            let met: BTreeSet<Places> = row.pairs.iter().copied().collect();
            prop_assert_eq!((met.len(), row.turn), size);
            prop_assert_eq!(met.len(), row.pairs.len());
            let wanted = match acquaint {
                Acquaintance::Everybody => (left + right) * (left + right).saturating_sub(1),
                Acquaintance::Opposite => 2 * left * right,
                Acquaintance::Nobody => 0,
            };
            prop_assert_eq!(met.len(), wanted);
            for turn in row.pairs.chunks(row.turn.max(1)) {
                let clients: BTreeSet<usize> = turn.iter().map(|pair| pair.0).collect();
                let servers: BTreeSet<usize> = turn.iter().map(|pair| pair.1).collect();
                prop_assert_eq!(clients.len(), turn.len());
                prop_assert_eq!(servers.len(), turn.len());
            }
        }
    }
}
