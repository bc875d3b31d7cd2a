//! Standing agents: their rounds, their readiness gate, their metrics, and runs beside them.

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use prober_core::packet::family::Family;
use prober_core::plan::standing::{ConfirmRule, STANDING_PLAN_SCHEMA, StandingPlan, StandingSlot};
use prober_core::plan::{Method, Plan};
use prober_core::probe::event::{Event, Hello, StandingFailure};
use prober_core::probe::outcome::OutcomeKind;
use prober_core::topology::{AccessPath, NodeName};

use crate::fixture::{A4, Agent, B4, NONCE, Namespace, PORT, open_dir, probes, two};
use crate::plans::{READINESS_PORT, Readiness, wait_readiness};

const METRICS_PORT: u16 = 8083;
/// An address of the server that is used as that of a Service.
const SERVICE4: &str = "10.77.0.3";
/// An interval that is short for a test.
const INTERVAL_MS: u32 = 1_000;

/// A standing agent and the file of its standing plan.
struct StandingPod {
    agent: Agent,
    dir: tempfile::TempDir,
}

impl StandingPod {
    fn start(namespace: &Namespace, name: &str, role: &str, plan: Option<&StandingPlan>) -> Self {
        let dir = open_dir();
        let file = dir.path().join("plan.json");
        if let Some(plan) = plan {
            fs::write(&file, serde_json::to_string(plan).unwrap()).unwrap();
        }
        let (readiness, metrics) = (READINESS_PORT.to_string(), METRICS_PORT.to_string());
        let more = [
            "--standing-plan",
            file.to_str().unwrap(),
            "--role",
            role,
            "--readiness-port",
            &readiness,
            "--metrics-port",
            &metrics,
        ];
        let agent = Agent::start(namespace, name, &more);
        Self { agent, dir }
    }

    fn give(&self, plan: &StandingPlan) {
        self.give_text(&serde_json::to_string(plan).unwrap());
    }

    fn give_text(&self, text: &str) {
        let new = self.dir.path().join("new");
        fs::write(&new, text).unwrap();
        fs::rename(&new, self.dir.path().join("plan.json")).unwrap();
    }
}

/// A client and a server of one node, each in a namespace of its own.
struct Pair {
    /// Of the client, kept as long as it.
    _a: Namespace,
    /// Of the server.
    b: Namespace,
    client: StandingPod,
    server: StandingPod,
}

/// Both with this plan; the server has no slot in its own.
fn pair(plan: &StandingPlan) -> Pair {
    let (a, b) = two();
    b.ip(&format!("addr add {SERVICE4}/24 dev eth0"));
    let without_slots = StandingPlan {
        slots: Vec::new(),
        ..plan.clone()
    };
    let server = StandingPod::start(&b, "node-x/server", "server", Some(&without_slots));
    wait_readiness(&a, B4, Readiness::Open);
    let client = StandingPod::start(&a, "node-x/client", "client", Some(plan));
    Pair {
        _a: a,
        b,
        client,
        server,
    }
}

fn at(address: &str) -> SocketAddr {
    SocketAddr::new(address.parse().unwrap(), PORT)
}

fn plan() -> StandingPlan {
    StandingPlan {
        schema: STANDING_PLAN_SCHEMA.to_owned(),
        generation: 7,
        paused: false,
        probing_since: None,
        nonce: NONCE,
        interval_ms: INTERVAL_MS,
        deadline_ms: 500,
        confirm: ConfirmRule { failures: 2, of: 3 },
        families: BTreeSet::from([Family::Ipv4]),
        access_paths: BTreeSet::from([
            AccessPath::PodIp,
            AccessPath::ClusterIp,
            AccessPath::ClusterIpLocal,
            AccessPath::Hairpin,
        ]),
        peers: 1,
        local: vec![at(B4)],
        any: Vec::new(),
        slots: vec![slot("node-x", "server")],
        allowed: vec!["10.77.0.0/24".parse().unwrap()],
    }
}

fn slot(node: &str, pod: &str) -> StandingSlot {
    StandingSlot {
        node: NodeName::new(node),
        pod: pod.to_owned(),
        addresses: vec![B4.parse().unwrap()],
        service: vec![at(SERVICE4)],
        node_port: Vec::new(),
    }
}

/// What a pod answers to `GET /metrics`.
fn metrics(from: &Namespace, address: &str) -> String {
    let request = format!(
        "exec 3<>/dev/tcp/{address}/{METRICS_PORT}; printf 'GET /metrics HTTP/1.1\\r\\nHost: pod\\r\\n\\r\\n' >&3; cat <&3"
    );
    let done = from
        .command("bash")
        .args(["-c", &request])
        .output()
        .unwrap();
    String::from_utf8(done.stdout).unwrap()
}

/// The whole part of the value of the first series with all of these parts.
fn value(metrics: &str, parts: &[&str]) -> u64 {
    let lines = metrics.lines().filter(|line| !line.starts_with('#'));
    let mut found = lines.filter(|line| parts.iter().all(|part| line.contains(part)));
    let value = found.next().and_then(|line| line.rsplit(' ').next());
    let whole = value.and_then(|value| value.split('.').next());
    whole.map_or(0, |whole| whole.parse().unwrap())
}

/// Waits until a series has at least this value.
#[track_caller]
fn wait_value(from: &Namespace, address: &str, parts: &[&str], least: u64) {
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        let text = metrics(from, address);
        if value(&text, parts) >= least {
            return;
        }
        assert!(
            Instant::now() < end,
            "{parts:?} does not reach {least}: {text}"
        );
        thread::sleep(Duration::from_millis(50));
    }
}

const ESTABLISHED: &str = "outcome=\"established\"";

fn failures(events: &[Event]) -> Vec<&StandingFailure> {
    let failures = events.iter().filter_map(|event| match event {
        Event::StandingFailure(failure) => Some(&**failure),
        _ => None,
    });
    failures.collect()
}

fn alerts(events: &[Event]) -> usize {
    events
        .iter()
        .filter(|event| matches!(event, Event::Alert))
        .count()
}

fn refusal(agent: &mut Agent) -> String {
    agent.wait(|event| match event {
        Event::PlanRefused { reason } => Some(reason.clone()),
        _ => None,
    })
}

#[test]
fn a_healthy_pair_opens_its_gates_and_its_metrics_have_counts() {
    let pair = pair(&plan());
    wait_readiness(&pair.b, A4, Readiness::Open);
    for labels in [
        "access_path=\"cluster-ip-local\",scope=\"same-node\",family=\"ipv4\"",
        "access_path=\"pod-ip\",scope=\"same-node\",family=\"ipv4\"",
        "access_path=\"cluster-ip\",scope=\"same-node\",family=\"ipv4\"",
    ] {
        let parts = ["prober_probes_total{node=\"node-x\"", labels, ESTABLISHED];
        wait_value(&pair.b, A4, &parts, 4);
        wait_value(&pair.b, A4, &["prober_handshake_seconds_count", labels], 4);
    }
    let text = metrics(&pair.b, A4);
    assert!(text.starts_with("HTTP/1.1 200 OK\r\n"), "{text}");
    assert_eq!(value(&text, &["prober_standing_plan_generation "]), 7);
    assert_eq!(value(&text, &["prober_alerting "]), 0);
    assert!(value(&text, &["prober_last_round_timestamp_seconds "]) > 1_000_000_000);
    for pod in [pair.client, pair.server] {
        let (events, status) = pod.agent.terminate();
        assert!(status.success());
        // The counts of the capture are written at the end.
        let is_expected = |event: &Event| matches!(event, Event::Hello(_) | Event::Capture { .. });
        assert!(
            events.len() <= 2 && events.iter().all(is_expected),
            "a healthy log has its first line alone: {events:#?}"
        );
    }
}

#[test]
fn a_path_that_drops_packets_closes_the_gate_and_the_log_has_the_packets() {
    let mut pair = pair(&plan());
    wait_readiness(&pair.b, A4, Readiness::Open);
    let start = Instant::now();
    // The server's answers have no route.
    pair.b.ip(&format!("route add blackhole {A4}/32"));
    pair.client
        .agent
        .wait(|event| matches!(event, Event::Alert).then_some(()));
    let took = start.elapsed();
    // A round, a deadline, a pause, and a deadline; and as much again for a busy machine.
    assert!(
        took < Duration::from_millis(2 * (1_000 + 500 + 200 + 500)) + Duration::from_secs(3),
        "{took:?}"
    );
    pair.b.ip(&format!("route del blackhole {A4}/32"));
    wait_readiness(&pair.b, A4, Readiness::Open);
    let (events, _) = pair.client.agent.terminate();
    let failures = failures(&events);
    assert!(failures.len() >= 2, "{events:#?}");
    for failure in failures {
        assert_eq!(failure.generation, 7);
        assert!(!failure.result.observations.is_empty(), "{failure:#?}");
    }
}

#[test]
fn a_permanent_failure_is_written_once_and_counted_always() {
    let plan = StandingPlan {
        local: vec![at("10.77.0.99")],
        slots: Vec::new(),
        ..plan()
    };
    let mut pair = pair(&plan);
    pair.client
        .agent
        .wait(|event| matches!(event, Event::Alert).then_some(()));
    let timeouts = ["cluster-ip-local", "outcome=\"timeout\""];
    wait_value(&pair.b, A4, &timeouts, 16);
    wait_readiness(&pair.b, A4, Readiness::Closed);
    assert_eq!(value(&metrics(&pair.b, A4), &["prober_alerting "]), 1);
    let (events, _) = pair.client.agent.terminate();
    assert_eq!(alerts(&events), 1);
    assert!(events.len() <= 1 + 3 + 1, "{events:#?}");
}

#[test]
fn a_slot_that_changes_its_server_is_no_failure() {
    let pair = pair(&plan());
    wait_readiness(&pair.b, A4, Readiness::Open);
    // The plan of this node is older than the slot, and then it is not.
    let old = StandingPlan {
        generation: 8,
        slots: vec![slot("node-y", "another")],
        ..plan()
    };
    pair.client.give(&old);
    wait_value(&pair.b, A4, &["prober_standing_plan_generation "], 8);
    wait_value(
        &pair.b,
        A4,
        &["cluster-ip\"", "outcome=\"other-server\""],
        3,
    );
    pair.client.give(&StandingPlan {
        generation: 9,
        ..plan()
    });
    wait_value(&pair.b, A4, &["prober_standing_plan_generation "], 9);
    let before = value(
        &metrics(&pair.b, A4),
        &["cluster-ip\"", "same-node", ESTABLISHED],
    );
    wait_value(
        &pair.b,
        A4,
        &["cluster-ip\"", "same-node", ESTABLISHED],
        before + 4,
    );
    wait_readiness(&pair.b, A4, Readiness::Open);
    let (events, _) = pair.client.agent.terminate();
    assert_eq!(
        (alerts(&events), failures(&events).len()),
        (0, 0),
        "{events:#?}"
    );
}

#[test]
fn without_a_plan_the_gate_is_open_and_servers_answer() {
    let (a, b) = two();
    let server = StandingPod::start(&b, "node-x/server", "server", None);
    let client = StandingPod::start(&a, "node-x/client", "client", None);
    wait_readiness(&b, A4, Readiness::Open);
    wait_readiness(&a, B4, Readiness::Open);
    client.give(&StandingPlan {
        slots: Vec::new(),
        ..plan()
    });
    // The server has no plan, and answers all the same.
    wait_value(&b, A4, &["cluster-ip-local", ESTABLISHED], 4);
    wait_readiness(&b, A4, Readiness::Open);
    client.give_text("");
    let counted = || value(&metrics(&b, A4), &["cluster-ip-local", ESTABLISHED]);
    let end = Instant::now() + Duration::from_secs(10);
    while metrics(&b, A4).contains("prober_standing_plan_generation") {
        assert!(
            Instant::now() < end,
            "a plan that is taken away is not forgotten"
        );
        thread::sleep(Duration::from_millis(50));
    }
    let before = counted();
    // Nothing may happen, so there is nothing to wait for.
    thread::sleep(Duration::from_millis(2 * u64::from(INTERVAL_MS)));
    assert_eq!(counted(), before);
    drop(server);
}

#[test]
fn a_run_beside_the_rounds_is_greeted_and_both_go_on() {
    let mut pair = pair(&plan());
    wait_readiness(&pair.b, A4, Readiness::Open);
    pair.server
        .agent
        .give(&pair.server.agent.plan(1, Vec::new()));
    pair.server.agent.wait_done(1);
    let before = value(&metrics(&pair.b, A4), &["cluster-ip-local", ESTABLISHED]);
    // It waits for a Service that does not answer: the rounds go on meanwhile.
    let plan = Plan {
        wait_for_services: vec![at("10.77.0.99")],
        ..pair
            .client
            .agent
            .plan(1, vec![probes(5, Method::Syn, B4, PORT, 10)])
    };
    pair.client.agent.give(&plan);
    wait_value(&pair.b, A4, &["cluster-ip-local", ESTABLISHED], before + 4);
    pair.client.agent.wait_done(1);
    pair.client.agent.give(
        &pair
            .client
            .agent
            .plan(2, vec![probes(5, Method::Syn, B4, PORT, 1)]),
    );
    pair.client.agent.wait_done(2);
    let before = value(&metrics(&pair.b, A4), &["cluster-ip-local", ESTABLISHED]);
    wait_value(&pair.b, A4, &["cluster-ip-local", ESTABLISHED], before + 4);
    let other = Plan {
        run: "other".to_owned(),
        ..pair
            .client
            .agent
            .plan(1, vec![probes(6, Method::Syn, B4, PORT, 1)])
    };
    pair.client.agent.give(&other);
    pair.client.agent.wait(|event| match event {
        Event::Tally(tally) => (tally.path.0 == 6).then_some(()),
        _ => None,
    });
    let traced = |event: &Event| matches!(event, Event::ServerTrace { .. }).then_some(());
    pair.server.agent.wait(traced);
    let (events, _) = pair.client.agent.terminate();
    let runs: Vec<Option<&str>> = events
        .iter()
        .filter_map(|event| match event {
            Event::Hello(Hello { run, .. }) => Some(run.as_deref()),
            _ => None,
        })
        .collect();
    assert_eq!(runs, [None, Some("test"), Some("other")]);
    let hello = events
        .iter()
        .position(|event| matches!(event, Event::Hello(hello) if hello.run.is_some()));
    let accepted = events
        .iter()
        .position(|event| matches!(event, Event::PlanAccepted { .. }));
    assert!(hello.is_some() && hello < accepted, "{events:#?}");
    // Standing probes are none of the run.
    let tallied: u64 = events
        .iter()
        .map(|event| match event {
            Event::Tally(tally) => tally.outcomes.total(),
            _ => 0,
        })
        .sum();
    assert_eq!((tallied, alerts(&events)), (12, 0), "{events:#?}");
}

#[test]
fn a_client_answers_as_long_as_a_run_has_it() {
    let mut pair = pair(&plan());
    wait_readiness(&pair.b, A4, Readiness::Open);
    let client = &mut pair.client.agent;
    client.give(&client.plan(1, Vec::new()));
    client.wait_done(1);
    let server = &mut pair.server.agent;
    let mut probe = |generation: u32| {
        let connect = Method::Connect { echo_bytes: 0 };
        let path = 100 + generation;
        server.give(&server.plan(generation, vec![probes(path, connect, A4, PORT, 1)]));
        server.wait(|event| match event {
            Event::Tally(tally) if tally.path.0 == path => Some(tally.outcomes),
            _ => None,
        })
    };
    assert_eq!(probe(1).of(OutcomeKind::Established), 1);
    client.give_text("");
    // The agent reads the file within a second.
    let is_refused = (2..30).any(|generation| probe(generation).of(OutcomeKind::Reset) == 1);
    assert!(is_refused, "its port is still open");
}

#[test]
fn a_run_that_is_taken_away_ends_and_its_server_traces_too() {
    let mut pair = pair(&plan());
    wait_readiness(&pair.b, A4, Readiness::Open);
    pair.server
        .agent
        .give(&pair.server.agent.plan(1, Vec::new()));
    let traced = |event: &Event| matches!(event, Event::ServerTrace { .. }).then_some(());
    pair.server.agent.wait(traced);
    let endless = probes(9, Method::Syn, B4, PORT, 100_000);
    pair.client
        .agent
        .give(&pair.client.agent.plan(1, vec![endless]));
    pair.client
        .agent
        .wait(|event| matches!(event, Event::Tally(_)).then_some(()));
    pair.client.agent.give_text("");
    pair.server.agent.give_text("");
    let before = value(&metrics(&pair.b, A4), &["cluster-ip-local", ESTABLISHED]);
    wait_value(&pair.b, A4, &["cluster-ip-local", ESTABLISHED], before + 8);
    let (events, _) = pair.client.agent.terminate();
    assert!(
        !events
            .iter()
            .any(|event| matches!(event, Event::Done { .. }))
    );
    let tallies = |events: &[Event]| {
        events
            .iter()
            .filter(|event| matches!(event, Event::Tally(_)))
            .count()
    };
    assert!(
        tallies(&events) < 40,
        "the run goes on: {}",
        tallies(&events)
    );
}

#[test]
fn hostile_plans_are_refused_and_the_last_good_one_stays() {
    type Change = fn(&mut StandingPlan);
    let cases: [(Change, &str); 4] = [
        (
            |plan| plan.local = vec!["192.0.2.1:8080".parse().unwrap()],
            "192.0.2.1:8080",
        ),
        (
            |plan| plan.local = vec!["10.77.0.2:22".parse().unwrap()],
            "10.77.0.2:22",
        ),
        (
            |plan| {
                plan.interval_ms = 500;
                plan.slots = vec![slot("node-x", "server"); 64];
                plan.peers = 64;
            },
            "number of probes of a round",
        ),
        (|plan| plan.interval_ms = 1, "interval_ms is 1"),
    ];
    for (change, expected) in cases {
        let mut pair = pair(&plan());
        wait_readiness(&pair.b, A4, Readiness::Open);
        let mut hostile = plan();
        hostile.generation = 66;
        hostile.allowed = vec!["0.0.0.0/0".parse().unwrap()];
        change(&mut hostile);
        pair.client.give(&hostile);
        let reason = refusal(&mut pair.client.agent);
        assert!(reason.contains(expected), "{reason}");
        let text = metrics(&pair.b, A4);
        assert_eq!(value(&text, &["prober_standing_plan_generation "]), 7);
    }
}

#[test]
fn a_run_may_probe_only_what_a_standing_agent_may() {
    let mut fast = probes(1, Method::Syn, B4, PORT, 100_000);
    fast.interval_ms = 0;
    for (probe, expected) in [
        (probes(1, Method::Syn, "10.77.0.2", 22, 1), "10.77.0.2:22"),
        (
            probes(1, Method::Syn, "10.78.0.1", PORT, 1),
            "10.78.0.1:8080",
        ),
        (fast, "100000 probes a second"),
    ] {
        let mut pair = pair(&plan());
        wait_readiness(&pair.b, A4, Readiness::Open);
        pair.client
            .agent
            .give(&pair.client.agent.plan(1, vec![probe]));
        let reason = refusal(&mut pair.client.agent);
        assert!(reason.contains(expected), "{reason}");
        // A reader of this run learns why it is refused.
        let greeted = pair.client.agent.events.iter().any(
            |event| matches!(event, Event::Hello(hello) if hello.run.as_deref() == Some("test")),
        );
        assert!(greeted, "{:#?}", pair.client.agent.events);
    }
}
