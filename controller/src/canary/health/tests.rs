//! One lost packet confirms nothing, and an outage is reported once when it begins and once when it ends.

use prober_core::diagnosis::catalogue::Cause;
use prober_core::packet::family::Family;
use prober_core::topology::{AccessPath, Scope};
use proptest::prelude::*;

use super::super::events::{Regarding, events_of};
use super::*;
use crate::canary::round_result::InconclusiveReason;

const RULE: ConfirmationRule = ConfirmationRule::new(2, 3);

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_nanos(seconds * 1_000_000_000)
}

fn node(name: &str) -> NodeName {
    NodeName::new(name)
}

fn path(client: &str, server: &str, access_path: AccessPath) -> NodePath {
    NodePath {
        client: node(client),
        server: Some(node(server)),
        access_path,
        family: Family::Ipv4,
    }
}

fn result(paths: impl IntoIterator<Item = (NodePath, PathState)>) -> RoundResult {
    RoundResult {
        paths: paths.into_iter().collect(),
        ..RoundResult::default()
    }
}

fn finding(
    cause: Option<Cause>,
    confidence: Confidence,
    on: Option<&str>,
    paths: &[NodePath],
) -> Finding {
    Finding {
        cause: CauseName(cause),
        confidence,
        node: on.map(node),
        paths: paths.iter().cloned().collect(),
    }
}

/// The round of nodes a and b; the state of `a`'s path to itself and its findings are given.
fn round(same_node: PathState, findings: Vec<Finding>) -> RoundResult {
    RoundResult {
        findings,
        ..result([
            (path("a", "a", AccessPath::ClusterIp), same_node),
            (path("a", "a", AccessPath::PodIp), PathState::Healthy),
            (path("a", "b", AccessPath::ClusterIp), PathState::Healthy),
            (path("b", "a", AccessPath::ClusterIp), PathState::Healthy),
            (path("b", "b", AccessPath::ClusterIp), PathState::Healthy),
        ])
    }
}

fn founding(confidence: Confidence) -> RoundResult {
    let broken = [path("a", "a", AccessPath::ClusterIp)];
    let cause = Some(Cause::BridgeNetfilterOff);
    round(
        PathState::Failing,
        vec![finding(cause, confidence, Some("a"), &broken)],
    )
}

fn reported(transitions: &[Transition]) -> Vec<String> {
    transitions
        .iter()
        .flat_map(events_of)
        .map(|event| {
            let regarding = match event.regarding {
                Regarding::Check => "check".to_owned(),
                Regarding::Node(node) => node.to_string(),
            };
            format!("{regarding}: {} {}", event.reason, event.note)
        })
        .collect()
}

#[test]
fn healthy_rounds_cause_no_transition() {
    let mut health = HealthTracker::new(RULE);
    for second in 0..50 {
        assert_eq!(
            health.update(&round(PathState::Healthy, vec![]), at(second)),
            []
        );
    }
    assert!(health.is_healthy(&node("a")));
}

#[test]
fn the_first_failure_is_suspected_and_the_second_confirmed() {
    let mut health = HealthTracker::new(RULE);
    assert_eq!(health.update(&founding(Confidence::Proven), at(10)), []);
    assert_eq!(health.suspected().count(), 1);
    let transitions = health.update(&founding(Confidence::Proven), at(11));
    insta::assert_snapshot!(reported(&transitions).join("\n"), @r"
    check: ConnectivityLost a: bridge-netfilter-off (proven): 1 path fails (within a); see `prober explain bridge-netfilter-off`
    a: ConnectivityLost a: bridge-netfilter-off (proven): 1 path fails (within a); see `prober explain bridge-netfilter-off`
    ");
    assert_eq!(health.open()[0].start, at(10));
    assert_eq!(health.suspected().count(), 0);
    assert!(!health.is_healthy(&node("a")));
    assert!(health.is_healthy(&node("b")));
}

#[test]
fn an_outage_is_reported_once_and_its_end_once() {
    let mut health = HealthTracker::new(RULE);
    health.update(&founding(Confidence::Proven), at(10));
    health.update(&founding(Confidence::Proven), at(11));
    for second in 20..30 {
        assert_eq!(health.update(&founding(Confidence::Proven), at(second)), []);
    }
    assert_eq!(
        health.update(&round(PathState::Healthy, vec![]), at(40)),
        []
    );
    let transitions = health.update(&round(PathState::Healthy, vec![]), at(41));
    insta::assert_snapshot!(reported(&transitions).join("\n"), @r"
    check: ConnectivityRestored a: bridge-netfilter-off (proven): works again after 31 s
    a: ConnectivityRestored a: bridge-netfilter-off (proven): works again after 31 s
    ");
    assert!(health.open().is_empty());
    assert_eq!(health.ended().len(), 1);
    assert_eq!(
        health.update(&round(PathState::Healthy, vec![]), at(50)),
        []
    );
}

#[test]
fn a_proof_changes_the_outage_and_its_absence_in_one_round_does_not() {
    let mut health = HealthTracker::new(RULE);
    health.update(&founding(Confidence::Consistent), at(10));
    health.update(&founding(Confidence::Consistent), at(11));
    let transitions = health.update(&founding(Confidence::Proven), at(20));
    assert!(
        matches!(transitions[..], [Transition::Changed { .. }]),
        "{transitions:?}"
    );
    assert_eq!(health.update(&founding(Confidence::Consistent), at(30)), []);
    assert_eq!(health.open().len(), 1);
    assert_eq!(health.open()[0].start, at(10));
}

#[test]
fn a_cause_that_changes_is_the_same_outage() {
    let broken = [path("a", "a", AccessPath::ClusterIp)];
    let other = || {
        let found = finding(
            Some(Cause::ForwardDrop),
            Confidence::Proven,
            Some("a"),
            &broken,
        );
        round(PathState::Failing, vec![found])
    };
    let mut health = HealthTracker::new(RULE);
    health.update(&founding(Confidence::Proven), at(10));
    health.update(&founding(Confidence::Proven), at(11));
    assert_eq!(health.update(&other(), at(20)), []);
    let transitions = health.update(&other(), at(21));
    assert_eq!(
        reported(&transitions)[0],
        "check: CauseChanged a: forward-drop (proven), before: a: bridge-netfilter-off (proven)"
    );
    assert_eq!(health.open().len(), 1);
    assert_eq!(health.open()[0].start, at(10));
    assert!(health.ended().is_empty());
}

#[test]
fn a_second_fault_is_an_outage_of_its_own() {
    let second = path("b", "a", AccessPath::ClusterIp);
    let mut both = founding(Confidence::Proven);
    both.paths.insert(second.clone(), PathState::Failing);
    both.findings.push(finding(
        Some(Cause::RouteMissing),
        Confidence::Proven,
        Some("b"),
        &[second],
    ));
    let mut health = HealthTracker::new(RULE);
    health.update(&founding(Confidence::Proven), at(10));
    health.update(&founding(Confidence::Proven), at(11));
    health.update(&both, at(20));
    let transitions = health.update(&both, at(21));
    assert!(
        matches!(transitions[..], [Transition::Opened(_)]),
        "{transitions:?}"
    );
    assert_eq!(health.open().len(), 2);
}

#[test]
fn the_results_of_a_starved_agent_are_inconclusive() {
    let mut health = HealthTracker::new(RULE);
    for second in 0..20 {
        let starved = round(PathState::Inconclusive(InconclusiveReason::Starved), vec![]);
        assert_eq!(health.update(&starved, at(second)), []);
    }
    assert_eq!(health.suspected().count(), 0);
}

#[test]
fn an_agent_that_is_silent_for_three_minutes_is_an_outage() {
    let liveness = |liveness| RoundResult {
        liveness: [(node("a"), liveness)].into(),
        ..RoundResult::default()
    };
    let mut health = HealthTracker::new(RULE);
    health.update(&liveness(Liveness::Reporting), at(0));
    for second in [10, 20, 40, 189] {
        assert_eq!(health.update(&liveness(Liveness::Silent), at(second)), []);
        assert_eq!(health.falling_silent().count(), 1);
    }
    let transitions = health.update(&liveness(Liveness::Silent), at(190));
    assert_eq!(
        reported(&transitions)[1],
        "a: ConnectivityLost a: agent-silent (proven): its agent runs and does not report"
    );
    assert_eq!(health.open()[0].start, at(10));
    assert_eq!(health.falling_silent().count(), 0);
    assert_eq!(
        health.update(&liveness(Liveness::Reporting), at(200)).len(),
        1
    );
}

#[test]
fn a_failure_begins_with_the_alert_of_its_agents_but_after_the_last_success() {
    let alerting = |result: RoundResult, since| RoundResult {
        alerts: [(node("a"), at(since))].into(),
        ..result
    };
    let mut health = HealthTracker::new(RULE);
    health.update(&alerting(founding(Confidence::Proven), 100), at(400));
    health.update(&alerting(founding(Confidence::Proven), 100), at(401));
    assert_eq!(health.open()[0].start, at(100));
    let mut health = HealthTracker::new(RULE);
    health.update(&alerting(round(PathState::Healthy, vec![]), 100), at(300));
    health.update(&alerting(founding(Confidence::Proven), 100), at(400));
    health.update(&alerting(founding(Confidence::Proven), 100), at(401));
    assert_eq!(health.open()[0].start, at(300), "it worked then");
}

#[test]
fn a_failure_without_a_cause_is_unknown_at_the_counted_place() {
    let failing = result([
        (path("a", "b", AccessPath::PodIp), PathState::Failing),
        (path("c", "b", AccessPath::PodIp), PathState::Failing),
        (path("b", "a", AccessPath::PodIp), PathState::Healthy),
        (path("a", "c", AccessPath::PodIp), PathState::Healthy),
        (path("b", "b", AccessPath::PodIp), PathState::Healthy),
    ]);
    let mut health = HealthTracker::new(RULE);
    health.update(&failing, at(0));
    health.update(&failing, at(1));
    let [outage] = health.open() else {
        panic!("{:?}", health.open());
    };
    assert_eq!(outage.explanation.kind, FailureKind::Cause(CauseName(None)));
    assert_eq!(outage.place, Some(Place::Target(node("b"))));
}

#[test]
fn the_outage_of_a_removed_node_ends_as_no_longer_probed() {
    let mut health = HealthTracker::new(RULE);
    health.update(&founding(Confidence::Proven), at(10));
    health.update(&founding(Confidence::Proven), at(11));
    let transitions = health.remove_node(&node("a"), at(30));
    assert!(
        reported(&transitions)[0].contains("NoLongerProbed"),
        "{transitions:?}"
    );
    assert!(health.open().is_empty());
}

#[test]
fn a_restarted_controller_neither_loses_nor_repeats_an_outage() {
    let mut first = HealthTracker::new(RULE);
    first.update(&founding(Confidence::Proven), at(10));
    first.update(&founding(Confidence::Proven), at(11));
    let mut second = HealthTracker::resume(RULE, first.open().to_vec(), vec![]);
    assert_eq!(second.update(&founding(Confidence::Proven), at(20)), []);
    assert_eq!(second.open(), first.open());
    second.update(&round(PathState::Healthy, vec![]), at(30));
    let transitions = second.update(&round(PathState::Healthy, vec![]), at(31));
    assert!(
        matches!(transitions[..], [Transition::Closed(_)]),
        "{transitions:?}"
    );
}

#[test]
fn a_restored_outage_ends_only_after_conclusive_results_of_its_node() {
    let mut first = HealthTracker::new(RULE);
    first.update(&founding(Confidence::Proven), at(10));
    first.update(&founding(Confidence::Proven), at(11));
    // A status holds no paths.
    let mut known = first.open().to_vec();
    for outage in &mut known {
        outage.paths.clear();
    }
    let mut second = HealthTracker::resume(RULE, known, vec![]);
    let unclear = round(PathState::Inconclusive(InconclusiveReason::Starved), vec![]);
    for now in 20..40 {
        assert_eq!(second.update(&unclear, at(now)), []);
        assert_eq!(second.update(&RoundResult::default(), at(now)), []);
    }
    let well = round(PathState::Healthy, vec![]);
    let transitions: Vec<Transition> = (40..50)
        .flat_map(|now| second.update(&well, at(now)))
        .collect();
    assert!(
        matches!(transitions[..], [Transition::Closed(_)]),
        "{transitions:?}"
    );
}

#[test]
fn a_class_of_paths_that_fails_on_every_node_is_located_as_a_class() {
    let nodes = ["a", "b", "c"];
    let failing: BTreeSet<NodePath> = nodes
        .map(|name| path(name, name, AccessPath::ClusterIp))
        .into();
    let healthy: BTreeSet<NodePath> = [path("a", "b", AccessPath::ClusterIp)].into();
    assert_eq!(
        locate(&failing, &WorkingPlaces::of(&healthy)),
        [(
            Place::Class(AccessPath::ClusterIp, Scope::SameNode),
            failing
        )]
    );
}

fn any_state() -> impl Strategy<Value = PathState> {
    prop_oneof![
        3 => Just(PathState::Healthy),
        3 => Just(PathState::Failing),
        1 => Just(PathState::Inconclusive(InconclusiveReason::Starved)),
        1 => Just(PathState::Inconclusive(InconclusiveReason::NotProbed)),
    ]
}

fn any_result() -> impl Strategy<Value = RoundResult> {
    let causes = prop_oneof![
        Just(None),
        Just(Some(Cause::ForwardDrop)),
        Just(Some(Cause::PacketLoss))
    ];
    let confidence = prop_oneof![Just(Confidence::Proven), Just(Confidence::Consistent)];
    let on = prop_oneof![Just(None), Just(Some("a")), Just(Some("b"))];
    let found = proptest::collection::vec((causes, confidence, on), 0..3);
    (proptest::collection::vec(any_state(), 9), found).prop_map(|(seen, found)| {
        let names = ["a", "b", "c"];
        let all = names
            .iter()
            .flat_map(|one| names.map(|other| path(one, other, AccessPath::ClusterIp)));
        let paths: BTreeMap<NodePath, PathState> = all.zip(seen).collect();
        let broken: Vec<NodePath> = (paths.iter())
            .filter(|(_, seen)| **seen == PathState::Failing)
            .map(|(path, _)| path.clone())
            .collect();
        let findings = found
            .into_iter()
            .map(|(cause, confidence, on)| finding(cause, confidence, on, &broken))
            .collect();
        RoundResult {
            paths,
            findings,
            ..RoundResult::default()
        }
    })
}

#[test]
fn an_outage_ends_by_those_of_its_paths_that_are_still_probed() {
    let mut health = HealthTracker::new(RULE);
    let broken = ["b", "c", "d"].map(|server| path("a", server, AccessPath::PodIp));
    let failing = RoundResult {
        findings: vec![finding(
            Some(Cause::RouteMissing),
            Confidence::Proven,
            Some("a"),
            &broken,
        )],
        ..result(broken.clone().map(|path| (path, PathState::Failing)))
    };
    health.update(&failing, at(10));
    health.update(&failing, at(11));
    assert_eq!(health.open()[0].paths.len(), 3);
    // The peers are others now, except for one.
    let recovered = RoundResult {
        examined: [node("a")].into(),
        ..result([(broken[0].clone(), PathState::Healthy)])
    };
    health.update(&recovered, at(20));
    health.update(&recovered, at(21));
    assert!(health.open().is_empty());
}

proptest! {
    #[test]
    fn every_opened_outage_is_closed_at_most_once(results in proptest::collection::vec(any_result(), 1..40)) {
        let mut health = HealthTracker::new(RULE);
        let mut open = 0_usize;
        for (second, result) in (0..).zip(&results) {
            for transition in health.update(result, at(second)) {
                match transition {
                    Transition::Opened(_) => open += 1,
                    Transition::Closed(outage) => {
                        prop_assert!(outage.end.is_some());
                        open -= 1;
                    }
                    Transition::Changed { before, outage } => prop_assert_ne!(before, outage.explanation),
                }
            }
            prop_assert_eq!(open, health.open().len());
            let keys: BTreeSet<_> = health.open().iter().map(Outage::key).collect();
            prop_assert_eq!(keys.len(), open, "two outages have one name");
            let broken: usize = health.open().iter().map(|outage| outage.paths.len()).sum();
            let confirmed = health.paths.values().filter(|tracked| tracked.history.is_failing()).count();
            prop_assert_eq!(broken, confirmed, "each confirmed path is in one outage");
        }
    }

    #[test]
    fn each_failing_path_is_at_exactly_one_place(result in any_result()) {
        let of = |wanted: PathState| -> BTreeSet<NodePath> {
            result.paths.iter().filter(|(_, seen)| **seen == wanted).map(|(path, _)| path.clone()).collect()
        };
        let failing = of(PathState::Failing);
        let places = locate(&failing, &WorkingPlaces::of(&of(PathState::Healthy)));
        let count: usize = places.iter().map(|(_, paths)| paths.len()).sum();
        prop_assert_eq!(count, failing.len());
    }
}
