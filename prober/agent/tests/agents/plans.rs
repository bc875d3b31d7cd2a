//! How an agent takes plans that come, change, and are wrong.

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
fn each_plan_that_takes_a_reading_is_answered_by_one() {
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

/// One that would take an hour.
fn endless() -> ProbePlan {
    ProbePlan {
        interval_ms: 3600,
        ..probes(1, PLAIN, B4, PORT, 1000)
    }
}

#[test]
fn a_generation_that_was_taken_is_not_done_again_and_later_ones_run_beside_it() {
    let (a, b) = two();
    let mut server = Agent::start(&b, "b", &[]);
    server.answer();
    let mut client = Agent::start(&a, "a", &[]);
    client.give(&client.plan(3, vec![probes(1, PLAIN, B4, PORT, 1)]));
    client.wait_done(3);
    for old in [2, 3] {
        client.give(&client.plan(old, vec![probes(1, PLAIN, B4, PORT, 2)]));
        // Nothing must happen, so there is nothing to wait for; it looks every 50 ms.
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
fn sigterm_ends_it_with_whole_lines_and_what_it_has() {
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
    assert!(counted > 0, "what was probed so far is told");
    assert!(
        !events
            .iter()
            .any(|event| matches!(event, Event::Done { .. }))
    );
}

/// The port of a readiness_gate.
const READINESS_PORT: u16 = 8082;

/// Waits until a readiness_gate on an agent's address rings, or is still: as a kubelet asks.
#[track_caller]
fn wait_readiness(from: &Namespace, address: &str, rings: bool) {
    let end = Instant::now() + Duration::from_secs(10);
    loop {
        let mut asks = from.command("bash");
        let asked = asks.args([
            "-c",
            &format!("exec 3<>/dev/tcp/{address}/{READINESS_PORT}"),
        ]);
        let is_let_in = asked.stderr(Stdio::null()).status().unwrap().success();
        if is_let_in != rings {
            return;
        }
        assert!(Instant::now() < end, "it is let in: {is_let_in}");
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn an_agent_that_nobody_reads_rings_when_a_probe_fails_and_the_next_plan_takes_the_place_of_the_last()
 {
    let (a, b) = two();
    let mut server = Agent::start(&b, "b", &[]);
    server.answer();
    let mut client = Agent::start(&a, "a", &["--readiness-port", &READINESS_PORT.to_string()]);
    wait_readiness(&b, A4, true);
    let unread = |generation, probes| Plan {
        log_reading: LogReading::Unattended,
        ..client.plan(generation, probes)
    };
    let (fine, more) = (
        unread(1, vec![probes(1, PLAIN, B4, PORT, 3)]),
        unread(2, vec![endless(), probes(2, PLAIN, B4, PORT + 7, 1)]),
    );
    client.give(&fine);
    client.wait_done(1);
    wait_readiness(&b, A4, false);
    client.give(&more);
    wait_readiness(&b, A4, true);
    client.wait(|event| match event {
        Event::Tally(tally) => (tally.path == PathId(2)).then_some(()),
        _ => None,
    });
    client.give(&client.plan(3, vec![probes(3, PLAIN, B4, PORT, 1)]));
    client.wait_done(3);
    wait_readiness(&b, A4, false);
    // Somebody reads: what fails is told, and rings nothing.
    client.give(&client.plan(4, vec![probes(4, PLAIN, B4, PORT + 7, 1)]));
    client.wait_done(4);
    wait_readiness(&b, A4, false);
    let (events, status) = client.terminate();
    assert!(status.success());
    let place = |wanted: fn(&Event) -> bool| events.iter().position(wanted);
    let told = place(|event| matches!(event, Event::Tally(tally) if tally.path == PathId(2)));
    assert!(told.is_some() && told < place(|event| matches!(event, Event::Alert)));
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
fn an_agent_that_nobody_reads_keeps_what_it_witnesses_to_itself() {
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
    // Nothing must happen, so there is nothing to wait for; it tells each 250 ms.
    thread::sleep(Duration::from_millis(600));
    server.give(&server.plan(2, Vec::new()));
    server.wait_done(2);
    client.give(&client.plan(2, vec![probes(1, PLAIN, B4, PORT, 1)]));
    client.wait_done(2);
    let isns = |event: &Event| match event {
        Event::ServerTrace { handshakes } => Some(handshakes.len()),
        _ => None,
    };
    assert_eq!(server.wait(isns), 1);
    let (events, _) = server.terminate();
    let witnessed = events.iter().filter_map(isns).sum::<usize>();
    assert_eq!(witnessed, 1, "{events:#?}");
}
