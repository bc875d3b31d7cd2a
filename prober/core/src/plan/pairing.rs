//! Which pairs of nodes are probed: a pure function of the nodes, the selection and the round.

use std::collections::BTreeSet;

use crate::topology::NodeName;

/// An ordered pair of nodes: the client's and the server's.
pub type NodePair = (NodeName, NodeName);

/// The pairs of one round: each selected node with itself, and in both directions with `peers` others. These rotate with the
/// round, so that in time every pair is probed.
///
/// The nodes are taken in the order of their names: the choice depends on nothing else.
pub fn pairs(
    nodes: &[NodeName],
    selected: &[NodeName],
    peers: usize,
    round: usize,
) -> BTreeSet<NodePair> {
    let ring: Vec<&NodeName> = nodes.iter().collect::<BTreeSet<_>>().into_iter().collect();
    let mut pairs = BTreeSet::new();
    for node in selected {
        pairs.insert((node.clone(), node.clone()));
        let Some(position) = ring.iter().position(|other| *other == node) else {
            continue;
        };
        let others: Vec<&NodeName> = ring
            .iter()
            .cycle()
            .skip(position + 1)
            .take(ring.len() - 1)
            .copied()
            .collect();
        let first = if others.is_empty() {
            0
        } else {
            round * peers % others.len()
        };
        for peer in others
            .iter()
            .cycle()
            .skip(first)
            .take(peers.min(others.len()))
        {
            pairs.insert((node.clone(), (*peer).clone()));
            pairs.insert(((*peer).clone(), node.clone()));
        }
    }
    pairs
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn nodes(n: usize) -> Vec<NodeName> {
        (1..=n)
            .map(|i| NodeName::new(format!("node-{i:02}")))
            .collect()
    }

    #[test]
    fn one_node_is_paired_only_with_itself() {
        assert_eq!(pairs(&nodes(1), &nodes(1), 3, 7).len(), 1);
    }

    #[test]
    fn a_selected_node_is_paired_with_its_peers_in_both_directions() {
        let all = nodes(5);
        let chosen = pairs(&all, &all[1..2], 2, 0);
        assert_eq!(chosen.len(), 1 + 2 * 2);
        assert!(chosen.contains(&(all[1].clone(), all[2].clone())));
        assert!(chosen.contains(&(all[2].clone(), all[1].clone())));
    }

    proptest! {
        #[test]
        fn every_ordered_pair_comes_within_a_known_number_of_rounds(n in 1_usize..12, k in 1_usize..5) {
            let all = nodes(n);
            let rounds = n.div_ceil(k) * k;
            let paired: BTreeSet<_> = (0..rounds).flat_map(|round| pairs(&all, &all, k, round)).collect();
            prop_assert_eq!(paired.len(), n * n);
        }

        #[test]
        fn the_order_in_which_nodes_are_named_changes_nothing(n in 1_usize..9, round in 0_usize..9) {
            let all = nodes(n);
            let reversed: Vec<_> = all.iter().rev().cloned().collect();
            prop_assert_eq!(pairs(&all, &all, 2, round), pairs(&reversed, &reversed, 2, round));
        }
    }
}
