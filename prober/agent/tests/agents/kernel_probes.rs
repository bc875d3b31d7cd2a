//! Events of an agent about connect() of the kernel.

use prober_core::plan::Method;
use prober_core::probe::event::Event;
use prober_core::probe::outcome::{Echo, EngineKind, Errno, Exchange, Outcome, ProbeResult};
use prober_core::probe::tier::Tier;
use prober_core::topology::PathId;

use crate::fixture::{A4, A6, Agent, B4, B6, NONCE, PORT, probes, two};

const PLAIN: Method = Method::Connect { echo_bytes: 0 };

pub(crate) fn first_of(events: &[Event], path: u32) -> ProbeResult {
    events
        .iter()
        .find_map(|event| match event {
            Event::Probe(result) if result.path == PathId(path) => Some((**result).clone()),
            _ => None,
        })
        .unwrap()
}

#[test]
fn without_packets_a_connection_is_timed_greeted_and_echoed_in_both_families() {
    let (a, b) = two();
    let mut server = Agent::start(&b, "b", &["--tier", "T0"]);
    server.answer();
    let mut client = Agent::start(&a, "a", &["--tier", "T0"]);
    let echo = Method::Connect {
        echo_bytes: 300_000,
    };
    client.give(&client.plan(
        1,
        vec![probes(1, PLAIN, B4, PORT, 5), probes(2, echo, B6, PORT, 5)],
    ));
    client.wait_done(1);
    for (path, local, target, echo) in [
        (1, A4, B4, Echo::NotTried),
        (2, A6, B6, Echo::Complete { bytes: 300_000 }),
    ] {
        let result = first_of(&client.events, path);
        assert!(matches!(result.outcome, Outcome::Established { rtt_ns, .. } if rtt_ns > 0));
        assert_eq!(
            (result.engine, result.isn, result.syns),
            (EngineKind::Kernel, None, 1)
        );
        assert_eq!(result.src.ip().to_string(), local);
        assert_eq!(result.dst.ip().to_string(), target);
        let Exchange::BannerReceived { banner, echo: seen } = result.exchange else {
            panic!("{:?}", result.exchange)
        };
        assert_eq!(
            (banner.nonce, banner.pod.as_str(), banner.node.as_str()),
            (NONCE, "b", "node-b")
        );
        assert_eq!(banner.peer, result.src);
        assert_eq!(seen, echo);
    }
    let established: u64 = client
        .events
        .iter()
        .map(|event| match event {
            Event::Tally(tally) => tally.outcomes.established,
            _ => 0,
        })
        .sum();
    assert_eq!(established, 10);
}

#[test]
fn without_packets_the_first_line_says_so_and_why() {
    let (a, _b) = two();
    let mut agent = Agent::start(&a, "a", &["--tier", "T0"]);
    let hello = agent.wait(|event| match event {
        Event::Hello(hello) => Some(hello.clone()),
        _ => None,
    });
    assert_eq!(hello.tier, Tier::T0);
    assert!(hello.limits[0].contains("--tier T0"));
    let mut addresses: Vec<String> = hello.addresses.iter().map(ToString::to_string).collect();
    addresses.sort();
    assert_eq!(addresses, [A4, A6]);
}

#[test]
fn without_packets_a_closed_port_resets_and_silence_times_out_after_retransmits() {
    let (a, b) = two();
    let mut client = Agent::start(&a, "a", &["--tier", "T0"]);
    b.ip("addr add 10.77.0.9/24 dev eth0");
    b.ip("route add blackhole 10.77.0.1/32");
    let silent = |target| probes(2, PLAIN, target, PORT, 1);
    client.give(&client.plan(1, vec![silent("10.77.0.9")]));
    client.wait_done(1);
    let result = first_of(&client.events, 2);
    assert_eq!(result.outcome, Outcome::Timeout);
    assert_eq!(result.exchange, Exchange::NotTried);
    assert!(result.syns >= 2, "{} SYNs in 1.5 s", result.syns);
    b.ip("route del blackhole 10.77.0.1/32");
    client.give(&client.plan(2, vec![probes(1, PLAIN, B4, 9, 1)]));
    client.wait_done(2);
    let result = first_of(&client.events, 1);
    assert!(matches!(
        result.outcome,
        Outcome::Reset { hop_limit: 0, .. }
    ));
}

#[test]
fn a_connect_that_the_kernel_refuses_at_once_is_reported_by_its_errno_with_packets_and_without() {
    let (a, _b) = two();
    a.ip("route add unreachable 10.77.0.66/32");
    for tier in ["T0", "T1"] {
        let mut client = Agent::start(&a, "a", &["--tier", tier]);
        client.give(&client.plan(1, vec![probes(1, PLAIN, "10.77.0.66", PORT, 1)]));
        client.wait_done(1);
        let result = first_of(&client.events, 1);
        let errno = Errno::Ehostunreach;
        assert_eq!(result.outcome, Outcome::RefusedLocally { errno }, "{tier}");
        assert_eq!((result.syns, result.observations.len()), (0, 0), "{tier}");
    }
}
