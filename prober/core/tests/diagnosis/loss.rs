//! Intermittent failures, and evidence that is inconclusive.

use std::time::Duration;

use prober_core::diagnosis::diagnose;
use prober_core::evidence::{Evidence, Matrix};
use prober_core::probe::outcome::{EngineKind, Outcome};
use prober_core::topology::{AccessPath, Path, Scope};

use super::builder::{Cluster, Lost, Story, client, node, server};
use super::named;

fn at_1(path: &Path) -> bool {
    path.client.node == node(1)
        || path
            .server
            .as_ref()
            .is_some_and(|server| server.node == node(1))
}

/// As if each path had many more probes, all answered at once.
pub(super) fn with_many_good(mut cluster: Cluster, more: u64) -> Cluster {
    for path in cluster.matrix.paths.values_mut() {
        let tally = path.tallies.entry(EngineKind::Raw).or_default();
        tally.outcomes.established += more;
        tally.first_syn_success += more;
    }
    cluster
}

/// As if the late probes of each path had been sent again at each of these times, seconds later.
fn sent_again(mut cluster: Cluster, after_s: &[u64]) -> Cluster {
    for path in cluster.matrix.paths.values_mut() {
        let is_late = |probe: &&Evidence| probe.client.syns > 1;
        let late: Vec<Evidence> = path.probes.iter().filter(is_late).cloned().collect();
        for (by, probe) in after_s
            .iter()
            .flat_map(|by| late.iter().map(move |one| (by, one)))
        {
            let mut probe = probe.clone();
            let by = Duration::from_secs(*by);
            probe.client.started = probe.client.started + by;
            for seen in &mut probe.client.observations {
                seen.at = seen.at + by;
            }
            let tally = path.tallies.entry(probe.client.engine).or_default();
            tally.count(&probe.client);
            path.probes.push(probe);
        }
    }
    cluster
}

/// When late probes are sent again, so that losses alternate with answers.
const SCATTERED: [u64; 2] = [10, 20];

#[test]
fn loss_is_named_with_its_interval_and_direction() {
    let late = Story::Late {
        syns: 2,
        lost: Lost::SynAck,
        started_ms: 0,
    };
    let cluster = with_many_good(Cluster::new(2).with_story(at_1, late), 20);
    let cluster = sent_again(cluster, &SCATTERED);
    assert_eq!(named(&cluster.matrix), ["packet-loss node-1 proven"]);
    let found = diagnose(&cluster.matrix);
    assert!(
        found[0].evidence[0].contains("95 % interval"),
        "{:?}",
        found[0].evidence
    );
    assert!(
        found[0]
            .evidence
            .iter()
            .any(|sentence| sentence.contains("SYN+ACKs did not come back"))
    );
}

#[test]
fn loss_between_two_nodes_is_no_fault_of_either() {
    let late = Story::Late {
        syns: 2,
        lost: Lost::Syn,
        started_ms: 0,
    };
    let cluster = with_many_good(
        Cluster::new(3).with_story(
            |path| path.client == client(1) && path.server == Some(server(2)),
            late,
        ),
        20,
    );
    let cluster = sent_again(cluster, &SCATTERED);
    assert_eq!(named(&cluster.matrix), ["packet-loss - proven"]);
}

#[test]
fn one_late_connect_is_only_consistent_with_loss() {
    let late = Story::Late {
        syns: 2,
        lost: Lost::Syn,
        started_ms: 0,
    };
    let mut cluster = Cluster::new(2).with_story(
        |path| {
            path.client == client(1)
                && path.server == Some(server(2))
                && path.access_path == AccessPath::PodIp
        },
        late,
    );
    for path in cluster.matrix.paths.values_mut() {
        if path.probes.iter().any(|probe| probe.client.syns > 1) {
            path.probes.truncate(1);
            let tally = path.tallies.get_mut(&EngineKind::Kernel).unwrap();
            tally.outcomes.established = 1000;
            tally.first_syn_success = 999;
        }
    }
    assert_eq!(named(&cluster.matrix), ["packet-loss - consistent"]);
    let found = diagnose(&cluster.matrix);
    assert!(
        found[0].evidence[0].contains("1 of 1000"),
        "{:?}",
        found[0].evidence
    );
}

#[test]
fn silence_that_ends_on_all_paths_at_the_same_instant_is_an_outage() {
    let mut cluster = Cluster::new(2);
    for (id, path) in cluster.clone().matrix.paths {
        if at_1(&path.path) {
            let started_ms = u64::from(id.0) * 30;
            let story = Story::Late {
                syns: 3,
                lost: Lost::Syn,
                started_ms,
            };
            let this = path.path.clone();
            cluster = cluster.with_story(move |path| *path == this, story);
        }
    }
    assert_eq!(named(&cluster.matrix), ["transient-outage node-1 proven"]);
}

/// Two nodes with many answered probes from the first to the second, and late ones at these times on each path, seconds after the
/// first.
fn late_at(began_s: u64, after_s: &[u64]) -> Matrix {
    let mut cluster = Cluster::new(2);
    let healthy = cluster.matrix.clone();
    let story = Story::Late {
        syns: 2,
        lost: Lost::Syn,
        started_ms: began_s * 1000,
    };
    let is_late = |path: &Path| {
        let is_direct = matches!(path.access_path, AccessPath::PodIp | AccessPath::ClusterIp);
        path.client == client(1) && path.server == Some(server(2)) && is_direct
    };
    cluster = cluster.with_story(is_late, story);
    let mut matrix = sent_again(with_many_good(cluster, 20), after_s).matrix;
    for (id, path) in &mut matrix.paths {
        let first = healthy.paths[id].probes[0].clone();
        path.probes.insert(0, first);
    }
    matrix
}

#[test]
fn losses_that_come_back_twice_after_answers_are_random() {
    let matrix = late_at(10, &SCATTERED);
    assert_eq!(named(&matrix), ["packet-loss - proven"]);
}

#[test]
fn losses_that_fall_into_one_interval_or_two_may_be_an_outage() {
    // A short outage and an accidental loss before it make two intervals.
    for after_s in [&[][..], &[10]] {
        let matrix = late_at(10, after_s);
        assert_eq!(named(&matrix), ["packet-loss - consistent"], "{after_s:?}");
        let found = diagnose(&matrix);
        assert!(
            found[0].would_decide[0].contains("answered between these losses"),
            "{:?}",
            found[0].would_decide
        );
    }
}

#[test]
fn an_outage_of_two_nodes_is_shown_by_more_than_a_few_late_probes() {
    let story = Story::Late {
        syns: 2,
        lost: Lost::Syn,
        started_ms: 0,
    };
    let late = |path: &Path| path.client == client(1) && path.server == Some(server(2));
    let mut matrix = Cluster::new(2).with_story(late, story).matrix;
    assert_eq!(named(&matrix), ["packet-loss - consistent"]);
    for path in matrix.paths.values_mut().filter(|path| late(&path.path)) {
        path.probes.extend(path.probes.clone());
        let tally = path.tallies.get_mut(&EngineKind::Kernel).unwrap();
        tally.outcomes.established *= 2;
    }
    assert_eq!(named(&matrix), ["transient-outage - proven"]);
}

#[test]
fn silence_that_only_a_starved_client_observed_is_no_evidence() {
    let story = Story::Late {
        syns: 2,
        lost: Lost::Syn,
        started_ms: 0,
    };
    let late = |path: &Path| path.client == client(1) && path.scope() == Scope::CrossNode;
    let cluster = with_many_good(Cluster::new(2).with_story(late, story), 20);
    let mut cluster = sent_again(cluster, &SCATTERED);
    cluster
        .matrix
        .agents
        .get_mut(&client(1))
        .unwrap()
        .starved_ns = 900_000_000;
    // A loss that the other end confirms does not depend on the client's timers.
    assert_eq!(named(&cluster.matrix), ["packet-loss - proven"]);
    for path in cluster.matrix.paths.values_mut() {
        for probe in &mut path.probes {
            probe.server = None;
        }
    }
    assert_eq!(named(&cluster.matrix), ["unknown node-1 consistent"]);
    let found = diagnose(&cluster.matrix);
    assert!(
        found[0]
            .evidence
            .iter()
            .any(|sentence| sentence.contains("was starved of CPU"))
    );
}

#[test]
fn failures_while_an_agent_was_starved_are_no_evidence_of_the_network() {
    let to_1 = |path: &Path| path.client == client(2) && path.server == Some(server(1));
    let no_data = |path: &Path| to_1(path) && path.access_path == AccessPath::PodIp;
    let stalled = |path: &Path| to_1(path) && path.access_path == AccessPath::ClusterIp;
    let mut matrix = Cluster::new(2)
        .with_story(no_data, Story::NoData { completed: true })
        .with_story(stalled, Story::Stalled { received: 0 })
        .matrix;
    // One of many probes on a path with answers.
    let lost = |path: &Path| path.client == client(1) && path.server == Some(server(2));
    let silent = Cluster::new(2).with_story(lost, Story::Nothing).matrix;
    for (id, evidence) in &mut matrix.paths {
        if lost(&evidence.path) {
            let tally = evidence.tallies.get_mut(&EngineKind::Kernel).unwrap();
            tally.outcomes.timeout += 1;
            evidence.probes.push(silent.paths[id].probes[0].clone());
        }
    }
    assert_ne!(named(&matrix), Vec::<String>::new());
    for agent in [server(1), client(1)] {
        matrix.agents.get_mut(&agent).unwrap().starved_ns = 3_100_000_000;
    }
    matrix.remove_starved();
    assert_eq!(named(&matrix), Vec::<String>::new());
    for evidence in matrix.paths.values() {
        assert!(evidence.is_clean(), "{:?}", evidence.path);
    }
    let notices = &matrix.agents[&client(1)].notices;
    assert!(notices[0].contains("starved of CPU"), "{notices:?}");
}

#[test]
fn a_path_without_any_answer_fails_however_late_its_client_was() {
    let dead = |path: &Path| path.client == client(1) && path.scope() == Scope::CrossNode;
    let mut matrix = Cluster::new(2).with_story(dead, Story::Nothing).matrix;
    let before = named(&matrix);
    matrix.agents.get_mut(&client(1)).unwrap().starved_ns = 3_100_000_000;
    matrix.remove_starved();
    assert_eq!(named(&matrix), before);
}

#[test]
fn a_connect_that_only_its_late_client_timed_is_not_called_late() {
    let mut matrix = Cluster::new(2).without_packets().matrix;
    let (_, evidence) = matrix.paths.first_key_value().unwrap();
    let path = evidence.path.clone();
    let slow = Outcome::Established {
        rtt_ns: 1_000_000_000,
        connect_ns: 1_000_000_000,
    };
    for evidence in matrix.paths.values_mut() {
        if evidence.path == path {
            evidence.probes[0].client.outcome = slow;
        }
    }
    assert_ne!(named(&matrix), Vec::<String>::new());
    matrix.agents.get_mut(&path.client).unwrap().starved_ns = u64::MAX;
    assert_eq!(named(&matrix), Vec::<String>::new());
}
