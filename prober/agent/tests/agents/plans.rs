//! How an agent handles plans: new, replaced, wrong.

use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use prober_core::plan::{LogReading, Method, NodeFactsReading, Plan, ProbePlan};
use prober_core::probe::event::Event;
use prober_core::topology::PathId;

use crate::fixture::{A4, Agent, B4, Namespace, PORT, probes, two};

const PLAIN: Method = Method::Connect { echo_bytes: 0 };

fn refusal(event: &Event) -> Option<String> {
    match event {
        Event::PlanRefused { reason } => Some(reason.clone()),
        _ => None,
    }
}

fn accepted(agent: &Agent) -> Vec<u32> {
    let accepted = agent.events.iter().filter_map(|event| match event {
        Event::PlanAccepted { generation } => Some(*generation),
        _ => None,
    });
    accepted.collect()
}

#[test]
fn a_plan_that_does_not_parse_is_refused_and_the_old_one_stays_in_force() {
    let (a, b) = two();
    let mut server = Agent::start(&b, "b", &["--tier", "T0"]);
    server.answer();
    server.give_text("{\"schema\":");
    let reason = server.wait(refusal);
    assert!(
        reason.contains("the last good plan stays in force"),
        "{reason}"
    );
    let mut client = Agent::start(&a, "a", &["--tier", "T0"]);
    client.give(&client.plan(1, vec![probes(1, PLAIN, B4, PORT, 1)]));
    client.wait_done(1);
    let greeted = client.events.iter().any(|event| match event {
        Event::Tally(tally) => tally.outcomes.established == 1,
        _ => false,
    });
    assert!(greeted, "the server still answers: {:#?}", client.events);
}

#[test]
fn a_target_outside_what_was_allowed_is_refused() {
    let namespace = Namespace::new();
    let mut agent = Agent::start(&namespace, "a", &["--tier", "T0"]);
    agent.give(&agent.plan(1, vec![probes(1, PLAIN, "192.0.2.1", 80, 1)]));
    let reason = agent.wait(refusal);
    assert!(
        reason.contains("192.0.2.1:80") && reason.contains("nothing was sent"),
        "{reason}"
    );
    assert!(accepted(&agent).is_empty());
}

#[test]
fn a_plan_of_another_run_is_refused() {
    let namespace = Namespace::new();
    let mut agent = Agent::start(&namespace, "a", &["--tier", "T0", "--run", "other"]);
    agent.give(&agent.plan(1, Vec::new()));
    let reason = agent.wait(refusal);
    assert!(
        reason.contains("'test'") && reason.contains("'other'"),
        "{reason}"
    );
}

#[test]
fn each_run_is_greeted_once_where_its_log_is_read_from_the_end() {
    let namespace = Namespace::new();
    let mut agent = Agent::start(&namespace, "a", &["--tier", "T0", "--greet-runs"]);
    for (run, generation) in [("test", 1), ("test", 2), ("other", 3)] {
        let plan = Plan {
            run: run.to_owned(),
            ..agent.plan(generation, Vec::new())
        };
        agent.give(&plan);
        agent.wait(|event| match event {
            Event::Done {
                generation: done, ..
            } => (*done == generation).then_some(()),
            _ => None,
        });
    }
    let greeted = agent.events.iter().filter_map(|event| match event {
        Event::Hello(hello) => Some(hello.run.clone()),
        _ => None,
    });
    let greeted: Vec<_> = greeted.collect();
    assert_eq!(
        greeted,
        [None, Some("test".to_owned()), Some("other".to_owned())]
    );
}

#[test]
fn each_plan_that_requests_node_facts_gets_them() {
    let namespace = Namespace::new();
    let mut agent = Agent::start(&namespace, "a", &["--tier", "T0"]);
    for generation in [1, 2] {
        let plan = Plan {
            facts: NodeFactsReading::Once,
            ..agent.plan(generation, Vec::new())
        };
        agent.give(&plan);
        agent.wait_done(generation);
    }
    let readings = agent.events.iter().filter_map(|event| match event {
        Event::Facts(facts) => Some(facts.ip_forward.is_some()),
        _ => None,
    });
    assert_eq!(readings.collect::<Vec<_>>(), [true, true]);
}

#[test]
fn conntrack_is_read_where_a_plan_requests_it_after_privileges_are_dropped() {
    let namespace = Namespace::new();
    let mut agent = Agent::start(&namespace, "a", &["--tier", "T0"]);
    let plan = Plan {
        facts: NodeFactsReading::Twice { after_ms: 10 },
        conntrack: Some(Box::default()),
        ..agent.plan(1, Vec::new())
    };
    agent.give(&plan);
    agent.wait_done(1);
    let readings = agent.events.iter().filter_map(|event| match event {
        Event::Facts(facts) => Some(facts.conntrack.as_ref().map(|reading| reading.is_complete)),
        _ => None,
    });
    // With the last reading only; an empty request selects no entry.
    assert_eq!(readings.collect::<Vec<_>>(), [None, Some(true)]);
}

/// Probes for an hour.
fn endless() -> ProbePlan {
    ProbePlan {
        interval_ms: 3600,
        ..probes(1, PLAIN, B4, PORT, 1000)
    }
}

#[test]
fn a_generation_is_accepted_once_and_later_ones_run_beside_it() {
    let (a, b) = two();
    let mut server = Agent::start(&b, "b", &[]);
    server.answer();
    let mut client = Agent::start(&a, "a", &[]);
    client.give(&client.plan(3, vec![probes(1, PLAIN, B4, PORT, 1)]));
    client.wait_done(3);
    for old in [2, 3] {
        client.give(&client.plan(old, vec![probes(1, PLAIN, B4, PORT, 2)]));
        // Nothing may happen, so there is nothing to wait for; the agent reads its plan within 50 ms.
        thread::sleep(Duration::from_millis(200));
    }
    let mut slow = probes(1, PLAIN, "10.77.0.77", PORT, 1);
    slow.deadline_ms = 800;
    client.give(&client.plan(4, vec![slow]));
    client.wait(|event| matches!(event, Event::PlanAccepted { generation: 4 }).then_some(()));
    client.give(&client.plan(5, vec![probes(1, PLAIN, B4, PORT, 1)]));
    client.wait_done(4);
    assert_eq!(accepted(&client), [3, 4, 5]);
    let done: Vec<u32> = client
        .events
        .iter()
        .filter_map(|event| match event {
            Event::Done { generation, .. } => Some(*generation),
            _ => None,
        })
        .collect();
    assert_eq!(done, [3, 5, 4]);
}

#[test]
fn a_plan_of_another_run_ends_what_is_under_way() {
    let (a, b) = two();
    let mut server = Agent::start(&b, "b", &[]);
    server.answer();
    let mut client = Agent::start(&a, "a", &[]);
    client.give(&client.plan(7, vec![endless()]));
    client.wait(|event| matches!(event, Event::Probe(_)).then_some(()));
    let mut other = client.plan(1, vec![probes(2, PLAIN, B4, PORT, 3)]);
    other.run = "other".to_owned();
    client.give(&other);
    client.wait_done(1);
    let (events, _) = client.terminate();
    let after = events
        .iter()
        .skip_while(|event| !matches!(event, Event::PlanAccepted { generation: 1 }));
    let paths: Vec<u32> = after
        .filter_map(|event| match event {
            Event::Tally(tally) => Some(tally.path.0),
            _ => None,
        })
        .collect();
    assert!(
        !paths.is_empty() && paths.iter().all(|path| *path == 2),
        "{paths:?}"
    );
}

#[test]
fn sigterm_ends_it_with_whole_lines_and_its_counts() {
    let (a, b) = two();
    let mut server = Agent::start(&b, "b", &["--tier", "T0"]);
    server.answer();
    let mut client = Agent::start(&a, "a", &["--tier", "T0"]);
    let mut many = probes(1, PLAIN, B4, PORT, 50_000);
    many.interval_ms = 1;
    client.give(&client.plan(1, vec![many]));
    client.wait(|event| matches!(event, Event::Probe(_)).then_some(()));
    let (events, status) = client.terminate();
    assert!(status.success(), "{status}");
    let counted: u64 = events
        .iter()
        .map(|event| match event {
            Event::Tally(tally) => tally.outcomes.total(),
            _ => 0,
        })
        .sum();
    assert!(counted > 0, "the counts so far are written");
    assert!(
        !events
            .iter()
            .any(|event| matches!(event, Event::Done { .. }))
    );
}

/// The readiness port of an agent.
pub(crate) const READINESS_PORT: u16 = 8082;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Readiness {
    Open,
    Closed,
}

/// Waits until the readiness port of an agent is open, or is closed.
#[track_caller]
pub(crate) fn wait_readiness(from: &Namespace, address: &str, expected: Readiness) {
    let end = Instant::now() + Duration::from_secs(10);
    loop {
        let mut connect = from.command("bash");
        let connect = connect.args([
            "-c",
            &format!("exec 3<>/dev/tcp/{address}/{READINESS_PORT}"),
        ]);
        let readiness = if connect.stderr(Stdio::null()).status().unwrap().success() {
            Readiness::Open
        } else {
            Readiness::Closed
        };
        if readiness == expected {
            return;
        }
        assert!(Instant::now() < end, "the readiness port is {readiness:?}");
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn an_unattended_agent_alerts_when_a_probe_fails_and_the_next_plan_replaces_the_last() {
    let (a, b) = two();
    let mut server = Agent::start(&b, "b", &[]);
    server.answer();
    let mut client = Agent::start(&a, "a", &["--readiness-port", &READINESS_PORT.to_string()]);
    wait_readiness(&b, A4, Readiness::Closed);
    let unattended = |generation, probes| Plan {
        log_reading: LogReading::Unattended,
        ..client.plan(generation, probes)
    };
    let (fine, more) = (
        unattended(1, vec![probes(1, PLAIN, B4, PORT, 3)]),
        unattended(2, vec![endless(), probes(2, PLAIN, B4, PORT + 7, 1)]),
    );
    client.give(&fine);
    client.wait_done(1);
    wait_readiness(&b, A4, Readiness::Open);
    client.give(&more);
    wait_readiness(&b, A4, Readiness::Closed);
    client.wait(|event| match event {
        Event::Tally(tally) => (tally.path == PathId(2)).then_some(()),
        _ => None,
    });
    client.give(&client.plan(3, vec![probes(3, PLAIN, B4, PORT, 1)]));
    client.wait_done(3);
    wait_readiness(&b, A4, Readiness::Open);
    // The log is attended: a failed probe is reported without an alert.
    client.give(&client.plan(4, vec![probes(4, PLAIN, B4, PORT + 7, 1)]));
    client.wait_done(4);
    wait_readiness(&b, A4, Readiness::Open);
    let (events, status) = client.terminate();
    assert!(status.success());
    let place = |wanted: fn(&Event) -> bool| events.iter().position(wanted);
    let tally = place(|event| matches!(event, Event::Tally(tally) if tally.path == PathId(2)));
    assert!(tally.is_some() && tally < place(|event| matches!(event, Event::Alert)));
    let ended = events.iter().filter_map(|event| match event {
        Event::Done { generation } => Some(*generation),
        _ => None,
    });
    assert_eq!(
        ended.collect::<Vec<_>>(),
        [1, 3, 4],
        "the endless one has not ended"
    );
}

#[test]
fn an_unattended_agent_writes_no_server_traces() {
    let (a, b) = two();
    let mut server = Agent::start(&b, "b", &[]);
    server.give(&Plan {
        log_reading: LogReading::Unattended,
        ..server.plan(1, Vec::new())
    });
    server.wait_done(1);
    let mut client = Agent::start(&a, "a", &[]);
    client.give(&client.plan(1, vec![probes(1, PLAIN, B4, PORT, 1)]));
    client.wait_done(1);
    // Nothing may happen, so there is nothing to wait for; server traces are written every 250 ms.
    thread::sleep(Duration::from_millis(600));
    server.give(&server.plan(2, Vec::new()));
    server.wait_done(2);
    client.give(&client.plan(2, vec![probes(1, PLAIN, B4, PORT, 1)]));
    client.wait_done(2);
    let traces = |event: &Event| match event {
        Event::ServerTrace { handshakes } => Some(handshakes.len()),
        _ => None,
    };
    assert_eq!(server.wait(traces), 1);
    let (events, _) = server.terminate();
    let traced = events.iter().filter_map(traces).sum::<usize>();
    assert_eq!(traced, 1, "{events:#?}");
}
