//! Every pair is probed in time, no round costs more than its budget, and a node that joins or leaves moves few others.

use proptest::prelude::*;

use super::*;

fn zone(i: usize) -> String {
    format!("zone-{}", i % 3)
}

fn named(names: impl IntoIterator<Item = usize>) -> BTreeMap<NodeName, String> {
    names.into_iter().map(|i| (node(i), zone(i))).collect()
}

fn rotation(n: usize) -> Rotation {
    let mut rotation = Rotation::default();
    rotation.set_nodes(&named(0..n));
    rotation
}

/// A budget for all nodes at once.
fn budget(peers: usize, pairs: usize) -> Budget {
    budget_of(64, peers, pairs)
}

fn budget_of(nodes: usize, peers: usize, pairs: usize) -> Budget {
    Budget {
        peers,
        pairs: NonZeroUsize::new(pairs).unwrap(),
        nodes: NonZeroUsize::new(nodes).unwrap(),
    }
}

/// The next round, of the next batch where this one is done; all of its pairs give a result.
fn run_round(rotation: &mut Rotation, budget: Budget) -> BTreeSet<NodePair> {
    if rotation.assigned().next().is_none()
        || rotation.is_batch_done()
        || rotation.is_new_node_waiting()
    {
        rotation.assign(budget, &[]);
    }
    let pairs = rotation.next_pairs(budget, usize::MAX);
    rotation.record(&pairs, &pairs);
    pairs
}

fn node(i: usize) -> NodeName {
    NodeName::new(format!("node-{i:03}"))
}

/// The most and the least pairs that a node of the batch is client, or server, of.
fn degrees(rotation: &Rotation, of: impl Fn(&NodeName) -> usize) -> (usize, usize) {
    let all: Vec<usize> = rotation.batch.nodes().iter().map(of).collect();
    (
        all.iter().max().copied().unwrap_or(0),
        all.iter().min().copied().unwrap_or(0),
    )
}

#[test]
fn a_small_cluster_is_covered_in_one_round() {
    let mut rotation = rotation(3);
    assert_eq!(rotation.rounds(budget(3, 400)), 1);
    assert_eq!(run_round(&mut rotation, budget(3, 400)).len(), 9);
    assert!(!rotation.is_batch_done());
}

#[test]
fn neighbours_are_of_different_zones() {
    let zones = named(0..9);
    let rotation = rotation(9);
    for two in rotation.nodes().windows(2) {
        assert_ne!(zones[&two[0]], zones[&two[1]]);
    }
}

#[test]
fn a_node_that_leaves_moves_one_other_at_most() {
    let mut rotation = rotation(20);
    let before = rotation.nodes().to_vec();
    rotation.set_nodes(&named((0..20).filter(|i| *i != 4)));
    let moved = rotation
        .nodes()
        .iter()
        .enumerate()
        .filter(|(position, node)| before[*position] != **node)
        .count();
    assert_eq!(moved, 1);
}

#[test]
fn pairs_that_find_no_room_come_in_a_later_round() {
    let mut rotation = rotation(5);
    let budget = budget(2, 400);
    rotation.assign(budget, &[]);
    let mut probed = rotation.next_pairs(budget, 7);
    assert_eq!(probed.len(), 7);
    for _ in 0..rotation.rounds(budget) {
        probed.extend(rotation.next_pairs(budget, 400));
    }
    assert_eq!(probed.len(), 25);
}

#[test]
fn an_empty_cluster_has_no_pairs() {
    let mut rotation = Rotation::default();
    rotation.assign(budget(3, 10), &[]);
    assert!(rotation.next_pairs(budget(3, 10), 10).is_empty());
    assert_eq!(rotation.rounds(budget(3, 10)), 0);
}

#[test]
fn pairs_without_a_result_or_of_removed_nodes_are_not_covered() {
    let mut rotation = rotation(3);
    let budget = budget(3, 400);
    let probed = run_round(&mut rotation, budget);
    assert_eq!(rotation.covered_pairs(), 9);
    let measured = probed.iter().filter(|(client, _)| *client != node(1));
    rotation.record(&probed, &measured.cloned().collect());
    assert_eq!(rotation.covered_pairs(), 6);
    rotation.set_nodes(&named([0, 1]));
    assert_eq!(rotation.covered_pairs(), 2);
}

#[test]
fn without_peers_each_node_is_paired_only_with_itself() {
    let budget = budget_of(8, 0, 6);
    let mut rotation = rotation(30);
    for _ in 0..rotation.rounds(budget) {
        run_round(&mut rotation, budget);
    }
    assert_eq!(rotation.covered_pairs(), rotation.total_pairs(budget));
}

#[test]
fn a_watched_node_keeps_its_agents() {
    let budget = budget_of(8, 3, 40);
    let mut rotation = rotation(100);
    for _ in 0..20 {
        rotation.assign(budget, &[node(7), node(99)]);
        let assigned: Vec<_> = rotation.assigned().cloned().collect();
        assert!(assigned.contains(&node(7)) && assigned.contains(&node(99)));
        while !rotation.is_batch_done() {
            rotation.next_pairs(budget, usize::MAX);
        }
    }
}

#[test]
fn many_new_nodes_are_probed_before_all_others_and_the_batch_then_continues() {
    let budget = budget_of(8, 3, 400);
    let mut rotation = rotation(20);
    rotation.assign(budget, &[]);
    rotation.set_nodes(&named(0..40));
    let mut probed = BTreeSet::new();
    let mut batches = 0;
    while rotation.new_nodes.iter().next().is_some() {
        batches += 1;
        probed.extend(run_round(&mut rotation, budget));
    }
    assert_eq!(batches, 3);
    assert!((20..40).all(|i| probed.contains(&(node(i), node(i)))));
    assert_eq!(rotation.partition_pair, 0);
    assert!(rotation.is_batch_done());
    rotation.assign(budget, &[]);
    assert_eq!(
        (rotation.partition_pair, rotation.extent),
        (0, Extent::PartitionPair)
    );
}

#[test]
fn hundreds_of_nodes_are_covered_within_the_promised_rounds_and_themselves_long_before() {
    let budget = budget_of(64, 16, 2_000);
    let mut rotation = rotation(300);
    let all = rotation.rounds(budget);
    let first = all * 2 / (rotation.batches(budget) / budget.partition(300).pairs_per_pass());
    for done in 0..all {
        run_round(&mut rotation, budget);
        if done == first {
            let own = rotation.nodes().iter();
            let position = |node| rotation.positions[node];
            assert!(own.map(position).all(|i| rotation.covered.get(i, i)));
        }
    }
    assert_eq!(rotation.covered_pairs(), 300 * 300);
}

proptest! {
    #[test]
    fn every_ordered_pair_is_probed_within_the_promised_rounds_by_no_more_nodes_than_allowed(
        n in 1_usize..40, nodes in 2_usize..24, peers in 1_usize..5, most in 2_usize..80,
    ) {
        let mut rotation = rotation(n);
        let budget = budget_of(nodes, peers, most);
        let mut probed = BTreeSet::new();
        for _ in 0..rotation.rounds(budget) {
            let pairs = run_round(&mut rotation, budget);
            let assigned: BTreeSet<_> = rotation.assigned().cloned().collect();
            prop_assert!(assigned.len() <= nodes);
            prop_assert!(pairs.len() <= most);
            prop_assert!(pairs.iter().all(|(client, server)| assigned.contains(client) && assigned.contains(server)));
            probed.extend(pairs);
        }
        prop_assert_eq!(probed.len(), n * n);
        prop_assert_eq!(rotation.covered_pairs(), n * n);
        prop_assert_eq!(rotation.total_pairs(budget), n * n);
    }

    #[test]
    fn in_one_batch_no_node_is_client_or_server_of_two_pairs_more_than_another(
        n in 2_usize..20, peers in 1_usize..5, most in 2_usize..120, skip in 0_usize..9,
    ) {
        let mut rotation = rotation(n);
        let budget = budget(peers, most);
        for _ in 0..skip {
            run_round(&mut rotation, budget);
        }
        let pairs: Vec<_> = run_round(&mut rotation, budget).into_iter().filter(|(client, server)| client != server).collect();
        let (most_out, least_out) = degrees(&rotation, |node| pairs.iter().filter(|pair| pair.0 == *node).count());
        let (most_in, least_in) = degrees(&rotation, |node| pairs.iter().filter(|pair| pair.1 == *node).count());
        prop_assert!(most_out - least_out <= 1, "client of {least_out}..{most_out}");
        prop_assert!(most_in - least_in <= 1, "server of {least_in}..{most_in}");
    }

    #[test]
    fn a_new_node_is_probed_in_the_next_round_with_peers_in_both_directions(
        n in 2_usize..90, peers in 1_usize..4, skip in 0_usize..9,
    ) {
        let budget = budget_of(16, peers, 20);
        let mut rotation = rotation(n);
        for _ in 0..skip {
            run_round(&mut rotation, budget);
        }
        rotation.set_nodes(&named(0..=n));
        prop_assert!(rotation.is_new_node_waiting());
        let new = node(n);
        let pairs = run_round(&mut rotation, budget);
        prop_assert!(pairs.contains(&(new.clone(), new.clone())));
        prop_assert!(pairs.iter().any(|(client, server)| *client == new && *server != new));
        prop_assert!(pairs.iter().any(|(client, server)| *client != new && *server == new));
    }
}

proptest! {
    // Thousands of nodes take long.
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn of_thousands_each_is_probed_from_itself_before_any_has_agents_again(n in 65_usize..5_000, most in 2_usize..2_000) {
        let budget = budget_of(64, 3, most);
        let mut rotation = rotation(n);
        let mut seen = BTreeSet::new();
        for _ in 0..budget.partition(n).pairs_per_pass() {
            rotation.assign(budget, &[]);
            let assigned: BTreeSet<_> = rotation.assigned().cloned().collect();
            prop_assert!(assigned.len() <= 64);
            prop_assert!(assigned.iter().all(|node| !seen.contains(node)));
            let mut own = BTreeSet::new();
            for _ in 0..assigned.len().div_ceil(most.div_ceil(2)) {
                let pairs = rotation.next_pairs(budget, usize::MAX);
                prop_assert!(pairs.len() <= most);
                own.extend(pairs.into_iter().filter(|(client, server)| client == server).map(|pair| pair.0));
            }
            prop_assert_eq!(&own, &assigned);
            seen.extend(own);
            while !rotation.is_batch_done() {
                rotation.next_pairs(budget, usize::MAX);
            }
        }
        prop_assert_eq!(seen.len(), n);
    }
}
