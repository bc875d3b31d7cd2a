//! Everybody meets everybody in time, nobody costs too much, and who comes or goes disturbs few.

use proptest::prelude::*;

use super::*;

fn named(names: impl IntoIterator<Item = usize>) -> BTreeMap<NodeName, String> {
    names
        .into_iter()
        .map(|i| {
            (
                NodeName::new(format!("node-{i:03}")),
                format!("zone-{}", i % 3),
            )
        })
        .collect()
}

fn settled(n: usize) -> Rotation {
    let mut rotation = Rotation::default();
    rotation.seat(&named(0..n));
    rotation.joined.clear();
    rotation
}

fn budget(peers: usize, pairs: usize) -> Budget {
    Budget {
        peers,
        pairs: NonZeroUsize::new(pairs).unwrap(),
    }
}

/// The most and the least that a node asks, or answers, across nodes.
fn degrees(rotation: &Rotation, of: impl Fn(&NodeName) -> usize) -> (usize, usize) {
    let all: Vec<usize> = rotation.nodes().iter().map(of).collect();
    (
        all.iter().max().copied().unwrap_or(0),
        all.iter().min().copied().unwrap_or(0),
    )
}

#[test]
fn a_small_cluster_is_whole_in_one_epoch() {
    let mut rotation = settled(3);
    assert_eq!(rotation.epochs(budget(3, 400)), 1);
    assert_eq!(rotation.next_pairs(budget(3, 400), 400).len(), 9);
}

#[test]
fn neighbours_are_of_different_zones() {
    let rotation = settled(9);
    for two in rotation.nodes().windows(2) {
        assert_ne!(rotation.zones[&two[0]], rotation.zones[&two[1]]);
    }
}

#[test]
fn who_leaves_moves_one_other_at_most() {
    let mut rotation = settled(20);
    let before = rotation.nodes().to_vec();
    rotation.seat(&named((0..20).filter(|i| *i != 4)));
    let moved = rotation
        .nodes()
        .iter()
        .enumerate()
        .filter(|(seat, node)| before[*seat] != **node)
        .count();
    assert_eq!(moved, 1);
}

#[test]
fn what_finds_no_room_comes_next_time() {
    let mut rotation = settled(5);
    let budget = budget(2, 400);
    let mut met = rotation.next_pairs(budget, 7);
    assert_eq!(met.len(), 7);
    for _ in 0..rotation.epochs(budget) {
        met.extend(rotation.next_pairs(budget, 400));
    }
    assert_eq!(met.len(), 25);
}

#[test]
fn an_empty_cluster_has_no_pairs() {
    assert!(Rotation::default().next_pairs(budget(3, 10), 10).is_empty());
    assert_eq!(Rotation::default().epochs(budget(3, 10)), 0);
}

#[test]
fn thousands_of_nodes_take_as_many_epochs_as_the_budget_says() {
    let rotation = settled(5000);
    let epochs = rotation.epochs(budget(3, 400));
    assert_eq!(epochs, (5000 * 4999_usize).div_ceil(200));
}

proptest! {
    #[test]
    fn every_ordered_pair_is_met_within_the_promised_epochs(n in 1_usize..14, peers in 1_usize..5, most in 2_usize..80) {
        let mut rotation = settled(n);
        let budget = budget(peers, most);
        let mut met = BTreeSet::new();
        for _ in 0..rotation.epochs(budget) {
            met.extend(rotation.next_pairs(budget, usize::MAX));
        }
        prop_assert_eq!(met.len(), n * n);
        prop_assert_eq!(rotation.covered(), n * n);
        prop_assert_eq!(met.len(), rotation.total());
    }

    #[test]
    fn no_epoch_costs_more_than_its_budget(n in 0_usize..30, peers in 0_usize..5, most in 1_usize..80, epochs in 1_usize..9) {
        let mut rotation = Rotation::default();
        rotation.seat(&named(0..n));
        for _ in 0..epochs {
            prop_assert!(rotation.next_pairs(budget(peers, most), usize::MAX).len() <= most);
        }
    }

    #[test]
    fn nobody_asks_or_answers_two_more_than_another(n in 2_usize..20, peers in 1_usize..5, most in 2_usize..120, skip in 0_usize..9) {
        let mut rotation = settled(n);
        let budget = budget(peers, most);
        for _ in 0..skip {
            rotation.next_pairs(budget, usize::MAX);
        }
        let pairs: Vec<_> = rotation.next_pairs(budget, usize::MAX).into_iter().filter(|(client, server)| client != server).collect();
        let (most_out, least_out) = degrees(&rotation, |node| pairs.iter().filter(|pair| pair.0 == *node).count());
        let (most_in, least_in) = degrees(&rotation, |node| pairs.iter().filter(|pair| pair.1 == *node).count());
        prop_assert!(most_out - least_out <= 1, "asks {least_out}..{most_out}");
        prop_assert!(most_in - least_in <= 1, "answers {least_in}..{most_in}");
    }

    #[test]
    fn who_joins_is_probed_in_the_next_epoch_with_peers_in_both_directions(n in 2_usize..40, peers in 1_usize..4, skip in 0_usize..9) {
        let budget = budget(peers, 20);
        let mut rotation = settled(n);
        for _ in 0..skip {
            rotation.next_pairs(budget, usize::MAX);
        }
        rotation.seat(&named(0..=n));
        let new = NodeName::new(format!("node-{n:03}"));
        let pairs = rotation.next_pairs(budget, usize::MAX);
        prop_assert!(pairs.contains(&(new.clone(), new.clone())));
        prop_assert!(pairs.iter().any(|(client, server)| *client == new && *server != new));
        prop_assert!(pairs.iter().any(|(client, server)| *client != new && *server == new));
    }
}
