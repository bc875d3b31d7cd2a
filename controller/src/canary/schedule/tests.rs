//! Rounds come in time but not in step, cost no more than was allowed, and skip who cannot be probed.

use std::num::NonZeroUsize;

use proptest::prelude::*;

use super::*;

const INTERVAL: Duration = Duration::from_secs(10);

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_nanos(seconds * 1_000_000_000)
}

fn node(i: usize) -> NodeName {
    NodeName::new(format!("node-{i}"))
}

fn candidates(n: usize) -> Vec<Candidate> {
    (0..n)
        .map(|i| Candidate {
            node: node(i),
            zone: String::new(),
            skipped: None,
        })
        .collect()
}

fn schedule(pairs: usize) -> Schedule {
    let budget = Budget {
        peers: 3,
        pairs: NonZeroUsize::new(pairs).unwrap(),
        nodes: NonZeroUsize::new(64).unwrap(),
    };
    Schedule::new(budget, INTERVAL, 7)
}

fn begin(schedule: &mut Schedule, seconds: u64) -> BTreeSet<NodePair> {
    if schedule.seated().next().is_none() || schedule.wants_to_sit(true) {
        schedule.sit();
    }
    let pairs = schedule.begin(at(seconds));
    schedule.cover(&pairs, &pairs);
    pairs
}

#[test]
fn without_nodes_there_is_no_round() {
    let mut schedule = schedule(10);
    schedule.see(&[], at(0));
    assert_eq!(schedule.next_at(), None);
}

#[test]
fn the_first_round_begins_at_once_and_covers_a_small_cluster() {
    let mut schedule = schedule(400);
    schedule.see(&candidates(3), at(5));
    assert_eq!(schedule.next_at(), Some(at(5)));
    assert_eq!(begin(&mut schedule, 5).len(), 9);
    let expected = Coverage {
        pairs: 9,
        total: 9,
        cycle: INTERVAL,
    };
    assert_eq!(schedule.coverage(), expected);
}

#[test]
fn a_node_that_joins_does_not_wait_for_its_turn() {
    let mut schedule = schedule(400);
    schedule.see(&candidates(3), at(0));
    begin(&mut schedule, 0);
    schedule.see(&candidates(4), at(1));
    assert_eq!(schedule.next_at(), Some(at(1)));
    assert!(begin(&mut schedule, 1).contains(&(node(3), node(3))));
}

#[test]
fn nodes_that_cannot_be_probed_are_skipped_and_said() {
    let mut schedule = schedule(400);
    let mut nodes = candidates(4);
    nodes[1].skipped = Some(Skip::Cordoned);
    nodes[2].skipped = Some(Skip::NotReady);
    nodes[3].skipped = Some(Skip::Tainted("dedicated".to_owned()));
    schedule.see(&nodes, at(0));
    assert_eq!(begin(&mut schedule, 0), [(node(0), node(0))].into());
    let told: Vec<String> = schedule
        .skipped()
        .iter()
        .map(|(node, why)| format!("{node}: {why}"))
        .collect();
    assert_eq!(
        told,
        [
            "node-1: it is cordoned",
            "node-2: it is not Ready",
            "node-3: its taint dedicated is not among spec.tolerations"
        ]
    );
}

#[test]
fn a_node_that_comes_back_is_probed_at_once() {
    let mut schedule = schedule(400);
    let all = candidates(3);
    let mut without = all.clone();
    without[2].skipped = Some(Skip::NotReady);
    schedule.see(&all, at(0));
    begin(&mut schedule, 0);
    schedule.see(&without, at(1));
    assert_ne!(schedule.next_at(), Some(at(1)));
    schedule.see(&all, at(2));
    assert_eq!(schedule.next_at(), Some(at(2)));
}

#[test]
fn suspects_are_looked_at_again_soon_and_once() {
    let mut schedule = schedule(4);
    schedule.see(&candidates(9), at(0));
    for _ in 0..9 {
        begin(&mut schedule, 0);
    }
    let suspect = (node(8), node(2));
    schedule.suspect([suspect.clone()], at(3));
    assert_eq!(schedule.next_at(), Some(at(4)));
    assert!(begin(&mut schedule, 4).contains(&suspect));
    assert!(schedule.suspected.is_empty());
}

#[test]
fn who_is_not_there_is_never_suspected() {
    let mut schedule = schedule(4);
    schedule.see(&candidates(2), at(0));
    begin(&mut schedule, 0);
    schedule.suspect([(node(0), node(7))], at(1));
    assert!(schedule.suspected.is_empty());
    assert_ne!(schedule.next_at(), Some(at(2)));
}

#[test]
fn those_who_sit_go_on_until_nothing_is_suspected_and_whoever_fails_keeps_a_seat() {
    let mut schedule = schedule(400);
    schedule.see(&candidates(1_000), at(0));
    begin(&mut schedule, 0);
    let before: Vec<NodeName> = schedule.seated().cloned().collect();
    let failing = (before[0].clone(), before[1].clone());
    while !schedule.wants_to_sit(true) {
        schedule.begin(at(1));
    }
    assert!(!schedule.wants_to_sit(false));
    schedule.suspect([failing.clone()], at(2));
    assert!(!schedule.wants_to_sit(true));
    schedule.watch([failing.clone()]);
    assert!(schedule.begin(at(3)).contains(&failing));
    assert!(schedule.wants_to_sit(true));
    assert!(begin(&mut schedule, 4).contains(&failing));
    let stayed: Vec<&NodeName> = schedule
        .seated()
        .filter(|node| before.contains(node))
        .collect();
    assert_eq!(stayed, [&failing.0, &failing.1]);
}

#[test]
fn of_a_thousand_nodes_coverage_counts_what_was_probed_and_the_cycle_what_is_promised() {
    let mut schedule = schedule(400);
    schedule.see(&candidates(1_000), at(0));
    let pairs = begin(&mut schedule, 0);
    let coverage = schedule.coverage();
    assert_eq!((coverage.pairs, coverage.total), (pairs.len(), 1_000_000));
    // 42 benches of 24 nodes: 21 tables of 16 rounds, 840 of 8, and 10 s to place the agents of each.
    let seconds = (21 * 16 + 840 * 8) * 10 + 861 * 10;
    assert_eq!(coverage.cycle, Duration::from_secs(seconds));
}

#[test]
fn a_round_without_results_covers_nothing() {
    let mut schedule = schedule(400);
    schedule.see(&candidates(3), at(0));
    schedule.sit();
    let pairs = schedule.begin(at(0));
    schedule.cover(&pairs, &BTreeSet::new());
    assert_eq!(schedule.coverage().pairs, 0);
}

/// So many rounds without a finding.
fn calm(schedule: &mut Schedule, rounds: usize) {
    for _ in 0..rounds {
        begin(schedule, 0);
        assert_eq!(schedule.end_rounds(true, at(0)), Ended::Whole);
    }
}

/// How many turns the rounds that begin now have; 1: they are read.
fn turns(schedule: &mut Schedule, seconds: u64) -> usize {
    match schedule.begin_turns(at(seconds)) {
        CycleSpec::Attended(_) => 1,
        CycleSpec::Unattended {
            periods: turns,
            period: each,
        } => {
            assert_eq!(each, INTERVAL);
            turns.len()
        }
    }
}

#[test]
fn the_longer_all_is_well_the_longer_nobody_is_read_and_never_longer_than_a_minute() {
    let mut schedule = schedule(400);
    schedule.see(&candidates(3), at(0));
    schedule.sit();
    let mut now = 0;
    let lengths = [(); 6].map(|()| {
        let turns = turns(&mut schedule, now);
        now += 10 * turns as u64;
        assert_eq!(schedule.end_rounds(true, at(now)), Ended::Whole);
        turns
    });
    assert_eq!(lengths, [1, 2, 4, 6, 6, 6]);
    // The next begins at once.
    assert_eq!(schedule.next_at(), Some(at(now)));
}

#[test]
fn what_is_found_is_read_until_all_is_well_again() {
    let mut schedule = schedule(400);
    schedule.see(&candidates(3), at(0));
    calm(&mut schedule, 3);
    assert_eq!(turns(&mut schedule, 0), 6);
    assert_eq!(schedule.end_rounds(false, at(12)), Ended::CutShort);
    assert_eq!(schedule.next_at(), Some(at(12)));
    let suspect = (node(1), node(2));
    schedule.suspect([suspect.clone()], at(12));
    assert_eq!(turns(&mut schedule, 12), 1);
    assert_eq!(schedule.end_rounds(false, at(15)), Ended::Whole);
    calm(&mut schedule, 3);
    schedule.watch([suspect]);
    assert_eq!(turns(&mut schedule, 20), 1, "while it is watched");
    schedule.watch([]);
    assert_eq!(turns(&mut schedule, 30), 6);
}

#[test]
fn nothing_that_is_cut_short_is_calm() {
    let mut schedule = schedule(400);
    schedule.see(&candidates(3), at(0));
    calm(&mut schedule, 3);
    assert_eq!(turns(&mut schedule, 0), 6);
    assert_eq!(schedule.end_rounds(true, at(1)), Ended::CutShort);
    assert_eq!(turns(&mut schedule, 1), 1);
}

proptest! {
    #[test]
    fn turns_meet_everybody_as_rounds_do_and_fit_a_plan(n in 1_usize..64, most in 2_usize..400, rounds in 0_usize..4) {
        let mut read = schedule(most);
        read.see(&candidates(n), at(0));
        calm(&mut read, rounds);
        let mut unread = read.clone();
        if let CycleSpec::Unattended { periods, .. } = unread.begin_turns(at(0)) {
            prop_assert!(periods.len() <= 6);
            let rounds: Vec<_> = periods.iter().map(|_| read.begin(at(0))).collect();
            let named: usize = rounds.iter().map(BTreeSet::len).sum();
            prop_assert_eq!(periods, rounds);
            prop_assert!(named <= n * PLANNED + most || n <= 4, "{named}");
        }
    }

    #[test]
    fn a_round_comes_within_the_interval_and_not_much_earlier(seed in any::<u64>()) {
        let mut schedule = schedule(9);
        schedule.random = Random::new(seed);
        schedule.see(&candidates(3), at(0));
        begin(&mut schedule, 100);
        let step = schedule.next_at().unwrap().since(at(100));
        prop_assert!(step >= INTERVAL * 8 / 10 && step <= INTERVAL, "{step:?}");
    }

    #[test]
    fn no_round_costs_more_than_was_allowed(n in 1_usize..20, most in 1_usize..40, suspects in 0_usize..60) {
        let mut schedule = schedule(most);
        schedule.see(&candidates(n), at(0));
        for i in 0..4 {
            schedule.suspect((0..suspects).map(|j| (node(j % n), node((j * 3) % n))), at(i));
            prop_assert!(begin(&mut schedule, i).len() <= most);
        }
    }
}
