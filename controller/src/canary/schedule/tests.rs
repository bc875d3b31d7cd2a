//! Rounds begin in time, are never larger than the budget, and leave out skipped nodes.

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

fn selected_nodes(n: usize) -> Vec<SelectedNode> {
    (0..n)
        .map(|i| SelectedNode {
            name: node(i),
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
    if schedule.assigned_nodes().next().is_none() || schedule.needs_reassignment(true) {
        schedule.assign_nodes();
    }
    let pairs = schedule.begin_round(at(seconds));
    schedule.record_results(&pairs, &pairs);
    pairs
}

#[test]
fn without_nodes_there_is_no_round() {
    let mut schedule = schedule(10);
    schedule.set_nodes(&[], at(0));
    assert_eq!(schedule.next_at(), None);
}

#[test]
fn the_first_round_begins_at_once_and_covers_a_small_cluster() {
    let mut schedule = schedule(400);
    schedule.set_nodes(&selected_nodes(3), at(5));
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
fn a_node_that_joins_is_probed_at_once() {
    let mut schedule = schedule(400);
    schedule.set_nodes(&selected_nodes(3), at(0));
    begin(&mut schedule, 0);
    schedule.set_nodes(&selected_nodes(4), at(1));
    assert_eq!(schedule.next_at(), Some(at(1)));
    assert!(begin(&mut schedule, 1).contains(&(node(3), node(3))));
}

#[test]
fn skipped_nodes_have_a_reason() {
    let mut schedule = schedule(400);
    let mut nodes = selected_nodes(4);
    nodes[1].skipped = Some(SkipReason::Cordoned);
    nodes[2].skipped = Some(SkipReason::NotReady);
    nodes[3].skipped = Some(SkipReason::Tainted("dedicated".to_owned()));
    schedule.set_nodes(&nodes, at(0));
    assert_eq!(begin(&mut schedule, 0), [(node(0), node(0))].into());
    let reasons: Vec<String> = schedule
        .skipped()
        .iter()
        .map(|(node, why)| format!("{node}: {why}"))
        .collect();
    assert_eq!(
        reasons,
        [
            "node-1: it is cordoned",
            "node-2: it is not Ready",
            "node-3: its taint dedicated is not among spec.tolerations"
        ]
    );
}

#[test]
fn a_node_that_returns_is_probed_at_once() {
    let mut schedule = schedule(400);
    let all = selected_nodes(3);
    let mut without = all.clone();
    without[2].skipped = Some(SkipReason::NotReady);
    schedule.set_nodes(&all, at(0));
    begin(&mut schedule, 0);
    schedule.set_nodes(&without, at(1));
    assert_ne!(schedule.next_at(), Some(at(1)));
    schedule.set_nodes(&all, at(2));
    assert_eq!(schedule.next_at(), Some(at(2)));
}

#[test]
fn suspected_pairs_are_probed_again_soon_and_once() {
    let mut schedule = schedule(4);
    schedule.set_nodes(&selected_nodes(9), at(0));
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
fn pairs_of_unknown_nodes_are_not_suspected() {
    let mut schedule = schedule(4);
    schedule.set_nodes(&selected_nodes(2), at(0));
    begin(&mut schedule, 0);
    schedule.suspect([(node(0), node(7))], at(1));
    assert!(schedule.suspected.is_empty());
    assert_ne!(schedule.next_at(), Some(at(2)));
}

#[test]
fn assigned_nodes_stay_while_a_pair_is_suspected_and_watched_nodes_stay_assigned() {
    let mut schedule = schedule(400);
    schedule.set_nodes(&selected_nodes(1_000), at(0));
    begin(&mut schedule, 0);
    let before: Vec<NodeName> = schedule.assigned_nodes().cloned().collect();
    let failing = (before[0].clone(), before[1].clone());
    while !schedule.needs_reassignment(true) {
        schedule.begin_round(at(1));
    }
    assert!(!schedule.needs_reassignment(false));
    schedule.suspect([failing.clone()], at(2));
    assert!(!schedule.needs_reassignment(true));
    schedule.set_watched([failing.clone()]);
    assert!(schedule.begin_round(at(3)).contains(&failing));
    assert!(schedule.needs_reassignment(true));
    assert!(begin(&mut schedule, 4).contains(&failing));
    let stayed: Vec<&NodeName> = schedule
        .assigned_nodes()
        .filter(|node| before.contains(node))
        .collect();
    assert_eq!(stayed, [&failing.0, &failing.1]);
}

#[test]
fn coverage_of_a_thousand_nodes_counts_probed_pairs_and_estimates_the_cycle() {
    let mut schedule = schedule(400);
    schedule.set_nodes(&selected_nodes(1_000), at(0));
    let pairs = begin(&mut schedule, 0);
    let coverage = schedule.coverage();
    assert_eq!((coverage.pairs, coverage.total), (pairs.len(), 1_000_000));
    // 42 parts of 24 nodes: 21 batches of 16 rounds, 840 of 8, and 10 s to place the agents of each.
    let seconds = (21 * 16 + 840 * 8) * 10 + 861 * 10;
    assert_eq!(coverage.cycle, Duration::from_secs(seconds));
}

#[test]
fn a_round_without_results_covers_nothing() {
    let mut schedule = schedule(400);
    schedule.set_nodes(&selected_nodes(3), at(0));
    schedule.assign_nodes();
    let pairs = schedule.begin_round(at(0));
    schedule.record_results(&pairs, &BTreeSet::new());
    assert_eq!(schedule.coverage().pairs, 0);
}

/// Rounds without a failure.
fn healthy_rounds(schedule: &mut Schedule, rounds: usize) {
    for _ in 0..rounds {
        begin(schedule, 0);
        assert_eq!(schedule.end_rounds(true, at(0)), RoundsEnd::Complete);
    }
}

/// The number of rounds that begin now; 1 if they are read.
fn rounds(schedule: &mut Schedule, seconds: u64) -> usize {
    match schedule.begin_rounds(at(seconds)) {
        CycleSpec::Attended(_) => 1,
        CycleSpec::Unattended {
            periods: rounds,
            period,
        } => {
            assert_eq!(period, INTERVAL);
            rounds.len()
        }
    }
}

#[test]
fn healthy_rounds_are_read_ever_more_rarely_but_at_least_once_a_minute() {
    let mut schedule = schedule(400);
    schedule.set_nodes(&selected_nodes(3), at(0));
    schedule.assign_nodes();
    let mut now = 0;
    let lengths = [(); 6].map(|()| {
        let rounds = rounds(&mut schedule, now);
        now += 10 * rounds as u64;
        assert_eq!(schedule.end_rounds(true, at(now)), RoundsEnd::Complete);
        rounds
    });
    assert_eq!(lengths, [1, 2, 4, 6, 6, 6]);
    // The next round begins at once.
    assert_eq!(schedule.next_at(), Some(at(now)));
}

#[test]
fn after_a_failure_every_round_is_read_until_all_are_healthy() {
    let mut schedule = schedule(400);
    schedule.set_nodes(&selected_nodes(3), at(0));
    healthy_rounds(&mut schedule, 3);
    assert_eq!(rounds(&mut schedule, 0), 6);
    assert_eq!(schedule.end_rounds(false, at(12)), RoundsEnd::CutShort);
    assert_eq!(schedule.next_at(), Some(at(12)));
    let suspect = (node(1), node(2));
    schedule.suspect([suspect.clone()], at(12));
    assert_eq!(rounds(&mut schedule, 12), 1);
    assert_eq!(schedule.end_rounds(false, at(15)), RoundsEnd::Complete);
    healthy_rounds(&mut schedule, 3);
    schedule.set_watched([suspect]);
    assert_eq!(rounds(&mut schedule, 20), 1, "while it is watched");
    schedule.set_watched([]);
    assert_eq!(rounds(&mut schedule, 30), 6);
}

#[test]
fn rounds_that_are_cut_short_do_not_count_as_healthy() {
    let mut schedule = schedule(400);
    schedule.set_nodes(&selected_nodes(3), at(0));
    healthy_rounds(&mut schedule, 3);
    assert_eq!(rounds(&mut schedule, 0), 6);
    assert_eq!(schedule.end_rounds(true, at(1)), RoundsEnd::CutShort);
    assert_eq!(rounds(&mut schedule, 1), 1);
}

proptest! {
    #[test]
    fn rounds_of_one_plan_probe_the_same_pairs_as_single_rounds_and_fit_a_plan(n in 1_usize..64, most in 2_usize..400, rounds in 0_usize..4) {
        let mut read = schedule(most);
        read.set_nodes(&selected_nodes(n), at(0));
        healthy_rounds(&mut read, rounds);
        let mut unread = read.clone();
        if let CycleSpec::Unattended { periods, .. } = unread.begin_rounds(at(0)) {
            prop_assert!(periods.len() <= 6);
            let rounds: Vec<_> = periods.iter().map(|_| read.begin_round(at(0))).collect();
            let named: usize = rounds.iter().map(BTreeSet::len).sum();
            prop_assert_eq!(periods, rounds);
            prop_assert!(named <= n * MAX_PLANNED_PAIRS + most || n <= 4, "{named}");
        }
    }

    #[test]
    fn a_round_begins_within_the_interval_and_not_much_earlier(seed in any::<u64>()) {
        let mut schedule = schedule(9);
        schedule.random = Random::new(seed);
        schedule.set_nodes(&selected_nodes(3), at(0));
        begin(&mut schedule, 100);
        let step = schedule.next_at().unwrap().since(at(100));
        prop_assert!(step >= INTERVAL * 8 / 10 && step <= INTERVAL, "{step:?}");
    }

    #[test]
    fn no_round_exceeds_the_budget(n in 1_usize..20, most in 1_usize..40, suspects in 0_usize..60) {
        let mut schedule = schedule(most);
        schedule.set_nodes(&selected_nodes(n), at(0));
        for i in 0..4 {
            schedule.suspect((0..suspects).map(|j| (node(j % n), node((j * 3) % n))), at(i));
            prop_assert!(begin(&mut schedule, i).len() <= most);
        }
    }
}
