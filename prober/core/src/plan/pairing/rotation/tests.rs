//! Everybody meets everybody in time, nobody costs too much, and who comes or goes disturbs few.

use proptest::prelude::*;

use super::*;

fn zone(i: usize) -> String {
    format!("zone-{}", i % 3)
}

fn named(names: impl IntoIterator<Item = usize>) -> BTreeMap<NodeName, String> {
    names.into_iter().map(|i| (node(i), zone(i))).collect()
}

fn settled(n: usize) -> Rotation {
    let mut rotation = Rotation::default();
    rotation.seat(&named(0..n));
    rotation
}

/// A budget that seats everybody.
fn budget(peers: usize, pairs: usize) -> Budget {
    seating(64, peers, pairs)
}

fn seating(seats: usize, peers: usize, pairs: usize) -> Budget {
    Budget {
        peers,
        pairs: NonZeroUsize::new(pairs).unwrap(),
        seats: NonZeroUsize::new(seats).unwrap(),
    }
}

/// The next round, on other nodes where those who sat have met; all of it gives a result.
fn round(rotation: &mut Rotation, budget: Budget) -> BTreeSet<NodePair> {
    if rotation.seated().next().is_none() || rotation.is_spent() || rotation.is_awaited() {
        rotation.sit(budget, &[]);
    }
    let pairs = rotation.next_pairs(budget, usize::MAX);
    rotation.see(&pairs, &pairs);
    pairs
}

fn node(i: usize) -> NodeName {
    NodeName::new(format!("node-{i:03}"))
}

/// The most and the least that a node of those who sit asks, or answers, across nodes.
fn degrees(rotation: &Rotation, of: impl Fn(&NodeName) -> usize) -> (usize, usize) {
    let all: Vec<usize> = rotation.sitting.nodes().iter().map(of).collect();
    (
        all.iter().max().copied().unwrap_or(0),
        all.iter().min().copied().unwrap_or(0),
    )
}

#[test]
fn a_small_cluster_is_whole_in_one_round() {
    let mut rotation = settled(3);
    assert_eq!(rotation.rounds(budget(3, 400)), 1);
    assert_eq!(round(&mut rotation, budget(3, 400)).len(), 9);
    assert!(!rotation.is_spent());
}

#[test]
fn neighbours_are_of_different_zones() {
    let zones = named(0..9);
    let rotation = settled(9);
    for two in rotation.nodes().windows(2) {
        assert_ne!(zones[&two[0]], zones[&two[1]]);
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
    rotation.sit(budget, &[]);
    let mut met = rotation.next_pairs(budget, 7);
    assert_eq!(met.len(), 7);
    for _ in 0..rotation.rounds(budget) {
        met.extend(rotation.next_pairs(budget, 400));
    }
    assert_eq!(met.len(), 25);
}

#[test]
fn an_empty_cluster_has_no_pairs() {
    let mut rotation = Rotation::default();
    rotation.sit(budget(3, 10), &[]);
    assert!(rotation.next_pairs(budget(3, 10), 10).is_empty());
    assert_eq!(rotation.rounds(budget(3, 10)), 0);
}

#[test]
fn what_gave_no_result_is_not_covered_nor_what_was_before_and_is_not_now() {
    let mut rotation = settled(3);
    let budget = budget(3, 400);
    let asked = round(&mut rotation, budget);
    assert_eq!(rotation.covered(), 9);
    let heard = asked.iter().filter(|(client, _)| *client != node(1));
    rotation.see(&asked, &heard.cloned().collect());
    assert_eq!(rotation.covered(), 6);
    rotation.seat(&named([0, 1]));
    assert_eq!(rotation.covered(), 2);
}

#[test]
fn without_peers_there_is_nothing_but_each_node_itself() {
    let budget = seating(8, 0, 6);
    let mut rotation = settled(30);
    for _ in 0..rotation.rounds(budget) {
        round(&mut rotation, budget);
    }
    assert_eq!(rotation.covered(), rotation.total(budget));
}

#[test]
fn who_is_watched_keeps_a_seat() {
    let budget = seating(8, 3, 40);
    let mut rotation = settled(100);
    for _ in 0..20 {
        rotation.sit(budget, &[node(7), node(99)]);
        let seated: Vec<_> = rotation.seated().cloned().collect();
        assert!(seated.contains(&node(7)) && seated.contains(&node(99)));
        while !rotation.is_spent() {
            rotation.next_pairs(budget, usize::MAX);
        }
    }
}

#[test]
fn a_crowd_that_joins_is_seen_before_all_others_and_the_table_goes_on_where_it_was() {
    let budget = seating(8, 3, 400);
    let mut rotation = settled(20);
    rotation.sit(budget, &[]);
    rotation.seat(&named(0..40));
    let mut met = BTreeSet::new();
    let mut sittings = 0;
    while rotation.joined.iter().next().is_some() {
        sittings += 1;
        met.extend(round(&mut rotation, budget));
    }
    assert_eq!(sittings, 3);
    assert!((20..40).all(|i| met.contains(&(node(i), node(i)))));
    assert_eq!(rotation.table, 0);
    assert!(rotation.is_spent());
    rotation.sit(budget, &[]);
    assert_eq!((rotation.table, rotation.extent), (0, Extent::Table));
}

#[test]
fn hundreds_of_nodes_are_covered_within_the_promised_rounds_and_themselves_long_before() {
    let budget = seating(64, 16, 2_000);
    let mut rotation = settled(300);
    let all = rotation.rounds(budget);
    let first = all * 2 / (rotation.sittings(budget) / budget.cut(300).round());
    for done in 0..all {
        round(&mut rotation, budget);
        if done == first {
            let own = rotation.nodes().iter();
            let place = |node| rotation.places[node];
            assert!(own.map(place).all(|i| rotation.covered.get(i, i)));
        }
    }
    assert_eq!(rotation.covered(), 300 * 300);
}

proptest! {
    #[test]
    fn every_ordered_pair_is_met_within_the_promised_rounds_by_no_more_agents_than_seats(
        n in 1_usize..40, seats in 2_usize..24, peers in 1_usize..5, most in 2_usize..80,
    ) {
        let mut rotation = settled(n);
        let budget = seating(seats, peers, most);
        let mut met = BTreeSet::new();
        for _ in 0..rotation.rounds(budget) {
            let pairs = round(&mut rotation, budget);
            let seated: BTreeSet<_> = rotation.seated().cloned().collect();
            prop_assert!(seated.len() <= seats);
            prop_assert!(pairs.len() <= most);
            prop_assert!(pairs.iter().all(|(client, server)| seated.contains(client) && seated.contains(server)));
            met.extend(pairs);
        }
        prop_assert_eq!(met.len(), n * n);
        prop_assert_eq!(rotation.covered(), n * n);
        prop_assert_eq!(rotation.total(budget), n * n);
    }

    #[test]
    fn where_all_sit_nobody_asks_or_answers_two_more_than_another(
        n in 2_usize..20, peers in 1_usize..5, most in 2_usize..120, skip in 0_usize..9,
    ) {
        let mut rotation = settled(n);
        let budget = budget(peers, most);
        for _ in 0..skip {
            round(&mut rotation, budget);
        }
        let pairs: Vec<_> = round(&mut rotation, budget).into_iter().filter(|(client, server)| client != server).collect();
        let (most_out, least_out) = degrees(&rotation, |node| pairs.iter().filter(|pair| pair.0 == *node).count());
        let (most_in, least_in) = degrees(&rotation, |node| pairs.iter().filter(|pair| pair.1 == *node).count());
        prop_assert!(most_out - least_out <= 1, "asks {least_out}..{most_out}");
        prop_assert!(most_in - least_in <= 1, "answers {least_in}..{most_in}");
    }

    #[test]
    fn who_joins_is_probed_in_the_next_round_with_peers_in_both_directions(
        n in 2_usize..90, peers in 1_usize..4, skip in 0_usize..9,
    ) {
        let budget = seating(16, peers, 20);
        let mut rotation = settled(n);
        for _ in 0..skip {
            round(&mut rotation, budget);
        }
        rotation.seat(&named(0..=n));
        prop_assert!(rotation.is_awaited());
        let new = node(n);
        let pairs = round(&mut rotation, budget);
        prop_assert!(pairs.contains(&(new.clone(), new.clone())));
        prop_assert!(pairs.iter().any(|(client, server)| *client == new && *server != new));
        prop_assert!(pairs.iter().any(|(client, server)| *client != new && *server == new));
    }
}

proptest! {
    // Thousands of nodes take their time.
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn of_thousands_each_meets_itself_before_any_sits_again(n in 65_usize..5_000, most in 2_usize..2_000) {
        let budget = seating(64, 3, most);
        let mut rotation = settled(n);
        let mut seen = BTreeSet::new();
        for _ in 0..budget.cut(n).round() {
            rotation.sit(budget, &[]);
            let seated: BTreeSet<_> = rotation.seated().cloned().collect();
            prop_assert!(seated.len() <= 64);
            prop_assert!(seated.iter().all(|node| !seen.contains(node)));
            let mut own = BTreeSet::new();
            for _ in 0..seated.len().div_ceil(most.div_ceil(2)) {
                let pairs = rotation.next_pairs(budget, usize::MAX);
                prop_assert!(pairs.len() <= most);
                own.extend(pairs.into_iter().filter(|(client, server)| client == server).map(|pair| pair.0));
            }
            prop_assert_eq!(&own, &seated);
            seen.extend(own);
            while !rotation.is_spent() {
                rotation.next_pairs(budget, usize::MAX);
            }
        }
        prop_assert_eq!(seen.len(), n);
    }
}
