//! One lost packet wakes nobody, a fault is told once, and its end as well.

use prober_core::diagnosis::catalogue::Cause;
use prober_core::packet::family::Family;
use prober_core::topology::{Route, Scope};
use proptest::prelude::*;

use super::super::events::{About, notices};
use super::*;
use crate::canary::round_result::Doubt;

const RULE: Rule = Rule::new(2, 3);

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_nanos(seconds * 1_000_000_000)
}

fn node(name: &str) -> NodeName {
    NodeName::new(name)
}

fn path(client: &str, server: &str, route: Route) -> NodePath {
    NodePath {
        client: node(client),
        server: Some(node(server)),
        route,
        family: Family::Ipv4,
    }
}

fn look(paths: impl IntoIterator<Item = (NodePath, Seen)>) -> Look {
    Look {
        paths: paths.into_iter().collect(),
        ..Look::default()
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

/// Node a and node b through a Service; the same-node path of `a` as given, with what explains it.
fn round(same_node: Seen, findings: Vec<Finding>) -> Look {
    Look {
        findings,
        ..look([
            (path("a", "a", Route::ClusterIp), same_node),
            (path("a", "a", Route::PodIp), Seen::Healthy),
            (path("a", "b", Route::ClusterIp), Seen::Healthy),
            (path("b", "a", Route::ClusterIp), Seen::Healthy),
            (path("b", "b", Route::ClusterIp), Seen::Healthy),
        ])
    }
}

fn founding(confidence: Confidence) -> Look {
    let broken = [path("a", "a", Route::ClusterIp)];
    let cause = Some(Cause::BridgeNetfilterOff);
    round(
        Seen::Failing,
        vec![finding(cause, confidence, Some("a"), &broken)],
    )
}

fn told(transitions: &[Transition]) -> Vec<String> {
    transitions
        .iter()
        .flat_map(notices)
        .map(|notice| {
            let about = match notice.about {
                About::Check => "check".to_owned(),
                About::Node(node) => node.to_string(),
            };
            format!("{about}: {} {}", notice.reason, notice.note)
        })
        .collect()
}

#[test]
fn health_says_nothing() {
    let mut judgement = Judgement::new(RULE);
    for second in 0..50 {
        assert_eq!(judgement.see(&round(Seen::Healthy, vec![]), at(second)), []);
    }
    assert!(judgement.is_healthy(&node("a")));
}

#[test]
fn one_failure_is_a_suspicion_and_the_second_a_finding() {
    let mut judgement = Judgement::new(RULE);
    assert_eq!(judgement.see(&founding(Confidence::Proven), at(10)), []);
    assert_eq!(judgement.suspected().count(), 1);
    let transitions = judgement.see(&founding(Confidence::Proven), at(11));
    insta::assert_snapshot!(told(&transitions).join("\n"), @r"
    check: ConnectivityLost a: bridge-netfilter-off (proven): 1 path fails (within a); see `prober explain bridge-netfilter-off`
    a: ConnectivityLost a: bridge-netfilter-off (proven): 1 path fails (within a); see `prober explain bridge-netfilter-off`
    ");
    assert_eq!(judgement.open()[0].start, at(10));
    assert_eq!(judgement.suspected().count(), 0);
    assert!(!judgement.is_healthy(&node("a")));
    assert!(judgement.is_healthy(&node("b")));
}

#[test]
fn an_outage_is_told_once_and_its_end_once() {
    let mut judgement = Judgement::new(RULE);
    judgement.see(&founding(Confidence::Proven), at(10));
    judgement.see(&founding(Confidence::Proven), at(11));
    for second in 20..30 {
        assert_eq!(judgement.see(&founding(Confidence::Proven), at(second)), []);
    }
    assert_eq!(judgement.see(&round(Seen::Healthy, vec![]), at(40)), []);
    let transitions = judgement.see(&round(Seen::Healthy, vec![]), at(41));
    insta::assert_snapshot!(told(&transitions).join("\n"), @r"
    check: ConnectivityRestored a: bridge-netfilter-off (proven): works again after 31 s
    a: ConnectivityRestored a: bridge-netfilter-off (proven): works again after 31 s
    ");
    assert!(judgement.open().is_empty());
    assert_eq!(judgement.ended().len(), 1);
    assert_eq!(judgement.see(&round(Seen::Healthy, vec![]), at(50)), []);
}

#[test]
fn a_cause_that_becomes_proven_is_a_change_and_a_proof_that_is_missing_once_is_none() {
    let mut judgement = Judgement::new(RULE);
    judgement.see(&founding(Confidence::Consistent), at(10));
    judgement.see(&founding(Confidence::Consistent), at(11));
    let transitions = judgement.see(&founding(Confidence::Proven), at(20));
    assert!(
        matches!(transitions[..], [Transition::Changed { .. }]),
        "{transitions:?}"
    );
    assert_eq!(judgement.see(&founding(Confidence::Consistent), at(30)), []);
    assert_eq!(judgement.open().len(), 1);
    assert_eq!(judgement.open()[0].start, at(10));
}

#[test]
fn a_cause_that_changes_is_the_same_outage() {
    let broken = [path("a", "a", Route::ClusterIp)];
    let other = || {
        let found = finding(
            Some(Cause::ForwardDrop),
            Confidence::Proven,
            Some("a"),
            &broken,
        );
        round(Seen::Failing, vec![found])
    };
    let mut judgement = Judgement::new(RULE);
    judgement.see(&founding(Confidence::Proven), at(10));
    judgement.see(&founding(Confidence::Proven), at(11));
    assert_eq!(judgement.see(&other(), at(20)), []);
    let transitions = judgement.see(&other(), at(21));
    assert_eq!(
        told(&transitions)[0],
        "check: CauseChanged a: forward-drop (proven), before: a: bridge-netfilter-off (proven)"
    );
    assert_eq!(judgement.open().len(), 1);
    assert_eq!(judgement.open()[0].start, at(10));
    assert!(judgement.ended().is_empty());
}

#[test]
fn a_second_fault_is_an_outage_of_its_own() {
    let second = path("b", "a", Route::ClusterIp);
    let mut both = founding(Confidence::Proven);
    both.paths.insert(second.clone(), Seen::Failing);
    both.findings.push(finding(
        Some(Cause::RouteMissing),
        Confidence::Proven,
        Some("b"),
        &[second],
    ));
    let mut judgement = Judgement::new(RULE);
    judgement.see(&founding(Confidence::Proven), at(10));
    judgement.see(&founding(Confidence::Proven), at(11));
    judgement.see(&both, at(20));
    let transitions = judgement.see(&both, at(21));
    assert!(
        matches!(transitions[..], [Transition::Opened(_)]),
        "{transitions:?}"
    );
    assert_eq!(judgement.open().len(), 2);
}

#[test]
fn an_agent_that_was_starved_concludes_nothing() {
    let mut judgement = Judgement::new(RULE);
    for second in 0..20 {
        let starved = round(Seen::Inconclusive(Doubt::Starved), vec![]);
        assert_eq!(judgement.see(&starved, at(second)), []);
    }
    assert_eq!(judgement.suspected().count(), 0);
}

#[test]
fn an_agent_that_falls_silent_is_a_finding_of_its_own() {
    let voice = |voice| Look {
        voices: [(node("a"), voice)].into(),
        ..Look::default()
    };
    let mut judgement = Judgement::new(RULE);
    judgement.see(&voice(Voice::Heard), at(0));
    assert_eq!(judgement.see(&voice(Voice::Silent), at(10)), []);
    let transitions = judgement.see(&voice(Voice::Silent), at(20));
    assert_eq!(
        told(&transitions)[1],
        "a: ConnectivityLost a: agent-silent (proven): its agent runs and says nothing"
    );
    judgement.see(&voice(Voice::Heard), at(30));
    assert_eq!(judgement.see(&voice(Voice::Heard), at(40)).len(), 1);
}

#[test]
fn what_has_no_name_is_unknown_where_the_votes_put_it() {
    let failing = look([
        (path("a", "b", Route::PodIp), Seen::Failing),
        (path("c", "b", Route::PodIp), Seen::Failing),
        (path("b", "a", Route::PodIp), Seen::Healthy),
        (path("a", "c", Route::PodIp), Seen::Healthy),
        (path("b", "b", Route::PodIp), Seen::Healthy),
    ]);
    let mut judgement = Judgement::new(RULE);
    judgement.see(&failing, at(0));
    judgement.see(&failing, at(1));
    let [outage] = judgement.open() else {
        panic!("{:?}", judgement.open());
    };
    assert_eq!(outage.blame.what, What::Cause(CauseName(None)));
    assert_eq!(outage.place, Some(Place::Target(node("b"))));
}

#[test]
fn a_node_that_leaves_takes_its_outage_along_and_nobody_calls_it_mended() {
    let mut judgement = Judgement::new(RULE);
    judgement.see(&founding(Confidence::Proven), at(10));
    judgement.see(&founding(Confidence::Proven), at(11));
    let transitions = judgement.forget(&node("a"), at(30));
    assert!(
        told(&transitions)[0].contains("NoLongerProbed"),
        "{transitions:?}"
    );
    assert!(judgement.open().is_empty());
}

#[test]
fn a_controller_that_starts_again_neither_loses_nor_repeats_an_outage() {
    let mut first = Judgement::new(RULE);
    first.see(&founding(Confidence::Proven), at(10));
    first.see(&founding(Confidence::Proven), at(11));
    let mut second = Judgement::resume(RULE, first.open().to_vec(), vec![]);
    assert_eq!(second.see(&founding(Confidence::Proven), at(20)), []);
    assert_eq!(second.open(), first.open());
    second.see(&round(Seen::Healthy, vec![]), at(30));
    let transitions = second.see(&round(Seen::Healthy, vec![]), at(31));
    assert!(
        matches!(transitions[..], [Transition::Closed(_)]),
        "{transitions:?}"
    );
}

#[test]
fn what_an_earlier_controller_knew_ends_only_when_its_node_was_looked_at() {
    let mut first = Judgement::new(RULE);
    first.see(&founding(Confidence::Proven), at(10));
    first.see(&founding(Confidence::Proven), at(11));
    // A status tells no paths.
    let mut known = first.open().to_vec();
    for outage in &mut known {
        outage.paths.clear();
    }
    let mut second = Judgement::resume(RULE, known, vec![]);
    let unclear = round(Seen::Inconclusive(Doubt::Starved), vec![]);
    for now in 20..40 {
        assert_eq!(second.see(&unclear, at(now)), []);
        assert_eq!(second.see(&Look::default(), at(now)), []);
    }
    let well = round(Seen::Healthy, vec![]);
    let transitions: Vec<Transition> = (40..50)
        .flat_map(|now| second.see(&well, at(now)))
        .collect();
    assert!(
        matches!(transitions[..], [Transition::Closed(_)]),
        "{transitions:?}"
    );
}

#[test]
fn a_class_of_paths_that_fails_everywhere_is_no_nodes_fault() {
    let nodes = ["a", "b", "c"];
    let failing: BTreeSet<NodePath> = nodes.map(|name| path(name, name, Route::ClusterIp)).into();
    let healthy: BTreeSet<NodePath> = [path("a", "b", Route::ClusterIp)].into();
    assert_eq!(
        vote(&failing, &Cleared::by(&healthy)),
        [(Place::Class(Route::ClusterIp, Scope::SameNode), failing)]
    );
}

fn any_seen() -> impl Strategy<Value = Seen> {
    prop_oneof![
        3 => Just(Seen::Healthy),
        3 => Just(Seen::Failing),
        1 => Just(Seen::Inconclusive(Doubt::Starved)),
        1 => Just(Seen::Inconclusive(Doubt::Unprobed)),
    ]
}

fn any_look() -> impl Strategy<Value = Look> {
    let causes = prop_oneof![
        Just(None),
        Just(Some(Cause::ForwardDrop)),
        Just(Some(Cause::PacketLoss))
    ];
    let sureness = prop_oneof![Just(Confidence::Proven), Just(Confidence::Consistent)];
    let on = prop_oneof![Just(None), Just(Some("a")), Just(Some("b"))];
    let found = proptest::collection::vec((causes, sureness, on), 0..3);
    (proptest::collection::vec(any_seen(), 9), found).prop_map(|(seen, found)| {
        let names = ["a", "b", "c"];
        let all = names
            .iter()
            .flat_map(|one| names.map(|other| path(one, other, Route::ClusterIp)));
        let paths: BTreeMap<NodePath, Seen> = all.zip(seen).collect();
        let broken: Vec<NodePath> = (paths.iter())
            .filter(|(_, seen)| **seen == Seen::Failing)
            .map(|(path, _)| path.clone())
            .collect();
        let findings = found
            .into_iter()
            .map(|(cause, sureness, on)| finding(cause, sureness, on, &broken))
            .collect();
        Look {
            paths,
            findings,
            voices: BTreeMap::new(),
        }
    })
}

fn nodes(names: &[&str]) -> BTreeSet<NodeName> {
    names.iter().map(|name| node(name)).collect()
}

#[test]
fn an_outage_whose_node_has_no_agents_any_more_stays_as_it_was_seen_and_ends_when_it_is_seen_to() {
    let mut judgement = Judgement::new(RULE);
    judgement.see(&founding(Confidence::Proven), at(10));
    judgement.see(&founding(Confidence::Proven), at(11));
    judgement.look_at(&nodes(&["b", "c"]));
    let elsewhere = look([(path("b", "c", Route::ClusterIp), Seen::Healthy)]);
    for second in 20..30 {
        assert_eq!(judgement.see(&elsewhere, at(second)), []);
    }
    assert_eq!(judgement.open().len(), 1);
    let example = judgement.open()[0].example();
    assert_eq!(example, Some((node("a"), node("a"))));
    judgement.look_at(&nodes(&["a", "c"]));
    judgement.see(&round(Seen::Healthy, vec![]), at(40));
    judgement.see(&round(Seen::Healthy, vec![]), at(41));
    assert!(judgement.open().is_empty());
}

#[test]
fn an_outage_of_many_paths_ends_by_those_that_are_still_looked_at() {
    let mut judgement = Judgement::new(RULE);
    let broken = ["b", "c", "d"].map(|server| path("a", server, Route::PodIp));
    let failing = Look {
        findings: vec![finding(
            Some(Cause::RouteMissing),
            Confidence::Proven,
            Some("a"),
            &broken,
        )],
        ..look(broken.clone().map(|path| (path, Seen::Failing)))
    };
    judgement.see(&failing, at(10));
    judgement.see(&failing, at(11));
    assert_eq!(judgement.open()[0].paths.len(), 3);
    judgement.look_at(&nodes(&["a", "b", "x"]));
    let mended = look([(broken[0].clone(), Seen::Healthy)]);
    judgement.see(&mended, at(20));
    judgement.see(&mended, at(21));
    assert!(judgement.open().is_empty());
}

proptest! {
    #[test]
    fn what_is_opened_is_closed_once_and_nothing_else_is(looks in proptest::collection::vec(any_look(), 1..40)) {
        let mut judgement = Judgement::new(RULE);
        let mut open = 0_usize;
        for (second, look) in (0..).zip(&looks) {
            for transition in judgement.see(look, at(second)) {
                match transition {
                    Transition::Opened(_) => open += 1,
                    Transition::Closed(outage) => {
                        prop_assert!(outage.end.is_some());
                        open -= 1;
                    }
                    Transition::Changed { before, outage } => prop_assert_ne!(before, outage.blame),
                }
            }
            prop_assert_eq!(open, judgement.open().len());
            let keys: BTreeSet<_> = judgement.open().iter().map(Outage::key).collect();
            prop_assert_eq!(keys.len(), open, "two outages have one name");
            let broken: usize = judgement.open().iter().map(|outage| outage.paths.len()).sum();
            let confirmed = judgement.paths.values().filter(|verdict| verdict.history.is_bad()).count();
            prop_assert_eq!(broken, confirmed, "each confirmed path is in one outage");
        }
    }

    #[test]
    fn each_failing_path_is_at_one_place_and_no_place_has_a_path_that_works(look in any_look()) {
        let of = |wanted: Seen| -> BTreeSet<NodePath> {
            look.paths.iter().filter(|(_, seen)| **seen == wanted).map(|(path, _)| path.clone()).collect()
        };
        let failing = of(Seen::Failing);
        let places = vote(&failing, &Cleared::by(&of(Seen::Healthy)));
        let count: usize = places.iter().map(|(_, paths)| paths.len()).sum();
        prop_assert_eq!(count, failing.len());
    }
}
