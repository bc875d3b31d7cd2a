//! The ordered pairs of nodes whose last probe gave a result: a bit matrix, indexed by positions in the ring.

/// The bit matrix: a row for each client, a bit for each server. Rows grow as bits are set: of thousands of nodes, most pairs
/// wait for days.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct CoveredPairs {
    rows: Vec<Vec<u64>>,
    count: usize,
}

impl CoveredPairs {
    /// Adds a position at the end.
    pub(super) fn push(&mut self) {
        self.rows.push(Vec::new());
    }

    /// Removes a position, which the node of the last position takes.
    pub(super) fn swap_remove(&mut self, position: usize) {
        let last = self.rows.len().saturating_sub(1);
        for other in 0..self.rows.len() {
            let moved = self.get(other, last);
            self.set(other, last, false);
            self.set(other, position, moved && position != last);
        }
        if position < self.rows.len() {
            let left = self.rows.swap_remove(position);
            self.count -= ones(&left);
        }
    }

    /// Records whether a pair gave a result.
    pub(super) fn set(&mut self, client: usize, server: usize, gave_result: bool) {
        if self.get(client, server) == gave_result {
            return;
        }
        let Some(row) = self.rows.get_mut(client) else {
            return;
        };
        let (word, bit) = (server / 64, 1 << (server % 64));
        if row.len() <= word {
            row.resize(word + 1, 0);
        }
        if let Some(word) = row.get_mut(word) {
            *word ^= bit;
        }
        if gave_result {
            self.count += 1;
        } else {
            self.count -= 1;
        }
    }

    /// The number of pairs that gave a result.
    pub(super) const fn count(&self) -> usize {
        self.count
    }

    /// Whether a pair gave a result.
    pub(super) fn get(&self, client: usize, server: usize) -> bool {
        let word = self.rows.get(client).and_then(|row| row.get(server / 64));
        word.is_some_and(|word| word >> (server % 64) & 1 == 1)
    }
}

fn ones(row: &[u64]) -> usize {
    row.iter().map(|word| word.count_ones() as usize).sum()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn removing_a_position_removes_its_own_pairs_and_no_others(
            n in 1_usize..140,
            pairs in proptest::collection::btree_set((0_usize..140, 0_usize..140), 0..60),
            removed in 0_usize..140,
        ) {
            let removed = removed % n;
            let mut covered = CoveredPairs::default();
            let mut names: Vec<usize> = (0..n).collect();
            for _ in &names {
                covered.push();
            }
            let pairs: BTreeSet<_> = pairs.into_iter().filter(|(a, b)| a.max(b) < &n).collect();
            for (client, server) in &pairs {
                covered.set(*client, *server, true);
                covered.set(*client, *server, true);
            }
            prop_assert_eq!(covered.count(), pairs.len());
            covered.swap_remove(removed);
            names.swap_remove(removed);
            for (i, client) in names.iter().enumerate() {
                for (j, server) in names.iter().enumerate() {
                    prop_assert_eq!(covered.get(i, j), pairs.contains(&(*client, *server)));
                }
            }
            let left = pairs.iter().filter(|(a, b)| *a != removed && *b != removed).count();
            prop_assert_eq!(covered.count(), left);
        }
    }
}
