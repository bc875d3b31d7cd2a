//! Paths whose first probes fail while the pods at their ends are new.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use prober_core::diagnosis::catalogue::Cause;
use prober_core::diagnosis::{PathSegment, diagnose};
use prober_core::evidence::Matrix;
use prober_core::evidence::start_up::MAX_START_UP;
use prober_core::packet::Unreachable;
use prober_core::probe::event::Reached;
use prober_core::time::Timestamp;
use prober_core::topology::{AccessPath, Path};

use super::builder::{Cluster, Lost, MS, Story, client, node, server};
use super::named;

/// When the probes of [`late`] begin.
const STARTED_MS: u64 = 20_000;

fn at_1(path: &Path) -> bool {
    path.client.node == node(1)
        || path
            .server
            .as_ref()
            .is_some_and(|server| server.node == node(1))
}

/// A cluster in which nothing of node-1 answers before the third SYN, and all agents are ready when their probes begin.
fn late() -> Matrix {
    let story = Story::Late {
        syns: 3,
        lost: Lost::Syn,
        started_ms: STARTED_MS,
    };
    let mut matrix = Cluster::new(2).with_story(at_1, story).matrix;
    set_ready(&mut matrix, Timestamp::from_nanos(STARTED_MS * MS));
    matrix
}

/// Makes all agents new, and ready at the same time.
fn set_ready(matrix: &mut Matrix, at: Timestamp) {
    for agent in matrix.agents.values_mut() {
        agent.hello.as_mut().unwrap().at = at;
        agent.ready_at = Some(Timestamp::from_nanos(0));
    }
}

#[test]
fn silence_that_ends_soon_after_pods_are_ready_is_no_fault() {
    let matrix = late();
    assert_eq!(named(&matrix), Vec::<String>::new());
    let starts = matrix.late_starts(&matrix.openings());
    assert_eq!(starts.len(), 1, "{starts:?}");
    assert_eq!(starts[0].node, node(1));
    assert_eq!(starts[0].after.as_millis(), 2_000);
    let paths = matrix.paths.values().filter(|path| at_1(&path.path));
    assert_eq!(starts[0].paths, paths.count());
}

#[test]
fn beyond_the_bound_an_agent_of_the_node_was_late() {
    let mut matrix = late();
    let openings = matrix.openings();
    let opened = openings.values().map(|opening| opening.opened).max();
    let opened = opened.unwrap().as_nanos();
    let bound = u64::try_from(MAX_START_UP.as_nanos()).unwrap();
    set_ready(&mut matrix, Timestamp::from_nanos(opened - bound));
    assert_eq!(named(&matrix), Vec::<String>::new());
    set_ready(&mut matrix, Timestamp::from_nanos(opened - bound - 1));
    assert_eq!(named(&matrix), ["endpoint-not-programmed node-1 proven"]);
    assert_eq!(matrix.late_starts(&matrix.openings()), []);
    let found = diagnose(&matrix);
    assert!(
        found[0].evidence[0].contains("opened up to 10 s after their pods were ready"),
        "{:?}",
        found[0].evidence
    );
}

/// The paths that [`late_paths`] closes.
type Closed = fn(&Path) -> bool;

/// A cluster of two nodes whose matching paths open 22 s after their pods were ready.
fn late_paths(closed: Closed) -> Matrix {
    let story = Story::Late {
        syns: 3,
        lost: Lost::Syn,
        started_ms: STARTED_MS,
    };
    let mut matrix = Cluster::new(2).with_story(closed, story).matrix;
    set_ready(&mut matrix, Timestamp::from_nanos(0));
    for path in matrix.paths.values_mut().filter(|path| closed(&path.path)) {
        // As if the first probe had been sent twice: two losses alone show no opening.
        let first = path.probes[0].clone();
        path.probes.insert(0, first);
    }
    matrix
}

#[test]
fn the_node_and_its_agent_are_named_whichever_end_was_late() {
    let is_of = |at: u64| -> (Closed, &str) {
        match at {
            0 => (|path| path.client == client(1), "network plugin"),
            1 => (|path| path.server == Some(server(1)), "network plugin"),
            _ => (
                |path| path.client == client(1) && path.access_path != AccessPath::PodIp,
                "what translates Services",
            ),
        }
    };
    for at in 0..3 {
        let (closed, agent) = is_of(at);
        let matrix = late_paths(closed);
        assert_eq!(
            named(&matrix),
            ["endpoint-not-programmed node-1 proven"],
            "{at}"
        );
        let found = diagnose(&matrix);
        assert!(found[0].evidence[1].contains(agent), "{found:?}");
    }
}

#[test]
fn first_connectivity_is_the_time_of_the_slowest_path() {
    let matrix = late();
    let first = matrix.first_connectivity(&matrix.openings());
    assert_eq!(first[&client(1)].as_millis(), 2_000);
    let mut healthy = Cluster::new(2).matrix;
    set_ready(&mut healthy, Timestamp::from_nanos(0));
    let first = healthy.first_connectivity(&healthy.openings());
    assert!(first[&client(1)].as_millis() < 100, "{first:?}");
    // Its wait for a target shows how long it was closed.
    let target = (healthy.paths.values())
        .find(|path| path.path.client == client(1))
        .unwrap()
        .target;
    let known = healthy.agents.get_mut(&client(1)).unwrap();
    let reached = Reached {
        target,
        failures: 3,
        tried: Timestamp::from_nanos(100 * MS),
        at: Timestamp::from_nanos(700 * MS),
    };
    known.reached.insert(target, reached);
    let first = healthy.first_connectivity(&healthy.openings());
    assert_eq!(first[&client(1)].as_millis(), 700);
}

#[test]
fn the_later_pod_of_a_path_counts() {
    let mut matrix = late();
    let later = Timestamp::from_nanos(1_500 * MS);
    for n in [1, 2] {
        matrix.agents.get_mut(&server(n)).unwrap().ready_at = Some(later);
    }
    let after = |wanted: &dyn Fn(&Path) -> bool| -> Vec<Duration> {
        let openings = matrix.openings().into_iter();
        let wanted = openings.filter(|(id, _)| wanted(&matrix.paths[id].path));
        wanted.map(|(_, opening)| opening.after).collect()
    };
    let from_clients = after(&|path| path.access_path != AccessPath::Hairpin);
    assert!(!from_clients.is_empty());
    for after in from_clients {
        assert_eq!(after.as_millis(), 500);
    }
    // The server's own clock is not that of the run: its only pod is no later than itself.
    let from_server = after(&|path| path.access_path == AccessPath::Hairpin);
    assert_eq!(from_server[0].as_millis(), 2_000);
}

#[test]
fn agents_of_an_earlier_cycle_have_an_outage() {
    let mut matrix = late();
    for agent in matrix.agents.values_mut() {
        agent.ready_at = None;
    }
    assert_eq!(named(&matrix), ["transient-outage node-1 proven"]);
}

#[test]
fn what_worked_before_has_an_outage() {
    let mut matrix = late();
    let healthy = Cluster::new(2).matrix;
    let is_first = |path: &Path| {
        path.client == client(1)
            && path.server == Some(server(2))
            && path.access_path == AccessPath::PodIp
    };
    for (id, path) in &mut matrix.paths {
        if is_first(&path.path) {
            let mut before = healthy.paths[id].probes[0].clone();
            before.client.started = Timestamp::from_nanos((STARTED_MS - 100) * MS);
            path.probes.insert(0, before);
        }
    }
    assert_eq!(named(&matrix), ["transient-outage node-1 proven"]);
    assert_eq!(matrix.late_starts(&matrix.openings()), []);
}

/// A cluster in which a router refuses the Services of node-1's client, and answers of later probes, if there are any.
fn refused(later: u64) -> Matrix {
    let refused = |path: &Path| path.client == client(1) && path.access_path != AccessPath::PodIp;
    let story = Story::Icmp {
        by: IpAddr::V4(Ipv4Addr::new(172, 20, 0, 1)),
        reason: Unreachable::Network,
        hop_limit: 63,
        inner: 63,
        after_ms: 1,
    };
    let mut matrix = Cluster::new(2).with_story(refused, story).matrix;
    set_ready(&mut matrix, Timestamp::from_nanos(0));
    let healthy = Cluster::new(2).matrix;
    for (id, path) in &mut matrix.paths {
        if refused(&path.path) {
            for _ in 0..later {
                let mut probe = healthy.paths[id].probes[0].clone();
                probe.client.started = Timestamp::from_nanos(2_100 * MS);
                path.probes.push(probe);
            }
            // As if each of the first probes had been sent twice.
            let first = path.probes[0].clone();
            path.probes.insert(0, first);
        }
    }
    matrix
}

#[test]
fn services_that_are_refused_until_their_rules_are_written_are_no_fault() {
    assert_ne!(named(&refused(0)), Vec::<String>::new());
    let matrix = refused(1);
    assert_eq!(named(&matrix), Vec::<String>::new());
    let starts = matrix.late_starts(&matrix.openings());
    assert_eq!(starts.len(), 1, "{starts:?}");
    assert_eq!(starts[0].node, node(1));
    assert_eq!(starts[0].after.as_millis(), 2_100);
}

#[test]
fn services_that_are_refused_for_longer_have_late_rules() {
    let mut matrix = refused(1);
    for agent in matrix.agents.values_mut() {
        agent.ready_at = Some(Timestamp::from_nanos(0));
    }
    let since = Duration::from_nanos(1) + MAX_START_UP;
    for path in matrix.paths.values_mut() {
        for probe in &mut path.probes {
            probe.client.started = probe.client.started + since;
        }
    }
    assert_eq!(named(&matrix), ["endpoint-not-programmed node-1 proven"]);
    let found = diagnose(&matrix);
    let rules = "what translates Services on node-1 was late";
    assert!(found[0].evidence[1].contains(rules), "{found:?}");
}

#[test]
fn other_failures_remain_faults_while_pods_are_new() {
    let story = Story::SynAckFromWrongSource {
        refused: true,
        hop_limit: 64,
    };
    let same_node = |path: &Path| {
        path.client == client(1)
            && path.server == Some(server(1))
            && path.access_path == AccessPath::ClusterIp
    };
    let mut matrix = Cluster::new(2).with_story(same_node, story).matrix;
    let before = named(&matrix);
    assert_ne!(before, Vec::<String>::new());
    set_ready(&mut matrix, Timestamp::from_nanos(0));
    assert_eq!(named(&matrix), before);
}

#[test]
fn a_pod_that_refuses_first_has_the_address_of_another() {
    let is_reset = |path: &Path| {
        path.client == client(1)
            && path.server == Some(server(1))
            && path.access_path == AccessPath::PodIp
    };
    let story = Story::Reset {
        hop_limit: 64,
        mac: None,
        sent: false,
    };
    let mut matrix = Cluster::new(2).with_story(is_reset, story).matrix;
    let healthy = Cluster::new(2).matrix;
    for (id, path) in &mut matrix.paths {
        if is_reset(&path.path) {
            let first = path.probes[0].clone();
            path.probes.insert(0, first);
            let mut later = healthy.paths[id].probes[0].clone();
            later.client.started = Timestamp::from_nanos(20 * MS);
            path.probes.push(later);
        }
    }
    set_ready(&mut matrix, Timestamp::from_nanos(0));
    assert_eq!(matrix.late_starts(&matrix.openings()), []);
    assert_ne!(named(&matrix), Vec::<String>::new());
}

/// A cluster in which no probe of node-1's client is answered, 20 s after it was ready. All other pods are older.
fn never_opened() -> Matrix {
    let own = |path: &Path| path.client == client(1);
    let mut matrix = Cluster::new(2).with_story(own, Story::Nothing).matrix;
    for probe in matrix.paths.values_mut().flat_map(|path| &mut path.probes) {
        probe.client.started = probe.client.started + Duration::from_secs(20);
    }
    let known = matrix.agents.get_mut(&client(1)).unwrap();
    known.hello.as_mut().unwrap().at = Timestamp::from_nanos(0);
    known.ready_at = Some(Timestamp::from_nanos(0));
    matrix
}

#[test]
fn a_new_pod_that_never_opens_beside_older_ones_may_not_be_programmed() {
    let is_suspected = |matrix: &Matrix| {
        let found = diagnose(matrix);
        found
            .iter()
            .any(|one| one.cause == Some(Cause::EndpointNotProgrammed))
    };
    let matrix = never_opened();
    assert_eq!(
        named(&matrix),
        ["endpoint-not-programmed node-1 consistent"]
    );
    let found = diagnose(&matrix);
    assert_eq!(found[0].segment, PathSegment::Pod { pod: client(1) });
    // A policy for this pod alone has the same symptoms.
    let decided = found[0].would_decide.join("\n");
    assert!(decided.contains("kubectl get networkpolicies"), "{decided}");
    // It may still open, or nothing shows that only new pods are affected.
    let mut younger = matrix.clone();
    let known = younger.agents.get_mut(&client(1)).unwrap();
    known.hello.as_mut().unwrap().at = Timestamp::from_nanos(15_000 * MS);
    assert!(!is_suspected(&younger));
    let mut all_new = matrix.clone();
    set_ready(&mut all_new, Timestamp::from_nanos(0));
    assert!(!is_suspected(&all_new));
}

#[test]
fn a_new_client_of_an_older_server_waits_for_its_own_start() {
    let mut matrix = late();
    for n in [1, 2] {
        matrix.agents.get_mut(&server(n)).unwrap().ready_at = None;
        matrix.agents.get_mut(&client(n)).unwrap().ready_at = Some(Timestamp::from_nanos(0));
    }
    let openings = matrix.openings();
    let of_clients = |id| matrix.paths[id].path.access_path != AccessPath::Hairpin;
    let mut after = openings.iter().filter(|(id, _)| of_clients(*id));
    assert!(after.clone().next().is_some());
    assert!(after.all(|(_, opening)| opening.after.as_millis() == 2_000));
}
