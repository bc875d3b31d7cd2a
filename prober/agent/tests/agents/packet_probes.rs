//! Events of an agent that captures packets, about connect() of the kernel and crafted probes.

use prober_core::plan::{Method, ProbePlan};
use prober_core::probe::event::{Event, TtlProbe, TtlStepAnswer};
use prober_core::probe::outcome::{Echo, EngineKind, Exchange, Outcome, ProbeResult};
use prober_core::probe::tier::Tier;
use prober_core::topology::PathId;

use crate::fixture::{Agent, B4, B6, NONCE, Namespace, PORT, probes, two};
use crate::kernel_probes::first_of;

const KERNEL: Method = Method::Connect { echo_bytes: 0 };
const FULL: Method = Method::Exchange {
    echo_bytes: 100_000,
};

fn tier(agent: &mut Agent) -> (Tier, Vec<String>) {
    agent.wait(|event| match event {
        Event::Hello(hello) => Some((hello.tier, hello.limits.clone())),
        _ => None,
    })
}

/// A client and a server of tier T1 after the client has done these probes.
fn after(plan: Vec<ProbePlan>) -> (Agent, Agent, (Namespace, Namespace)) {
    let (a, b) = two();
    let mut server = Agent::start(&b, "b", &[]);
    server.answer();
    let mut client = Agent::start(&a, "a", &[]);
    assert_eq!(tier(&mut client).0, Tier::T1);
    client.give(&client.plan(1, plan));
    client.wait_done(1);
    (client, server, (a, b))
}

pub(crate) fn greeted(result: &ProbeResult, expected: Echo) {
    let Exchange::BannerReceived { banner, echo } = &result.exchange else {
        panic!("{result:#?}")
    };
    assert_eq!((banner.nonce, banner.pod.as_str()), (NONCE, "b"));
    assert_eq!(banner.peer, result.src);
    assert_eq!(*echo, expected);
}

#[test]
fn connect_is_judged_by_its_packets() {
    let (client, ..) = after(vec![
        probes(1, KERNEL, B4, PORT, 10),
        probes(2, Method::Connect { echo_bytes: 50_000 }, B6, PORT, 10),
    ]);
    for (path, echo) in [(1, Echo::NotTried), (2, Echo::Complete { bytes: 50_000 })] {
        let result = first_of(&client.events, path);
        assert_eq!((result.engine, result.syns), (EngineKind::Kernel, 1));
        assert!(
            matches!(result.outcome, Outcome::Established { .. }),
            "{result:#?}"
        );
        assert!(result.isn.is_some() && result.server_isn.is_some());
        greeted(&result, echo);
    }
    let tallied: u64 = client
        .events
        .iter()
        .map(|event| match event {
            Event::Tally(tally) => tally.first_syn_success,
            _ => 0,
        })
        .sum();
    assert_eq!(tallied, 20, "{:#?}", client.events);
}

#[test]
fn crafted_probes_go_as_far_as_their_method_in_both_families() {
    let (client, ..) = after(vec![
        probes(1, Method::Syn, B4, PORT, 20),
        probes(2, FULL, B4, PORT, 20),
        probes(3, Method::Syn, B6, PORT, 20),
        probes(4, FULL, B6, PORT, 20),
    ]);
    for path in 1..=4 {
        let result = first_of(&client.events, path);
        assert_eq!(
            (result.engine, result.syns),
            (EngineKind::Raw, 1),
            "{}",
            serde_json::to_string(&result).unwrap()
        );
        assert!(
            matches!(result.outcome, Outcome::Established { .. }),
            "{result:#?}"
        );
        if path % 2 == 0 {
            greeted(&result, Echo::Complete { bytes: 100_000 });
        } else {
            assert_eq!(result.exchange, Exchange::NotTried);
        }
    }
    let healthy: u64 = client
        .events
        .iter()
        .map(|event| match event {
            Event::Tally(tally) => tally.first_syn_success,
            _ => 0,
        })
        .sum();
    assert_eq!(healthy, 80, "{:#?}", client.events);
}

#[test]
fn a_closed_port_is_a_reset_of_the_server_for_each_engine() {
    let (client, ..) = after(vec![
        probes(1, KERNEL, B4, 9, 1),
        probes(2, Method::Syn, B4, 9, 1),
        probes(3, FULL, B6, 9, 1),
    ]);
    for (path, by) in [(1, B4), (2, B4), (3, B6)] {
        let result = first_of(&client.events, path);
        let by = by.parse().unwrap();
        assert_eq!(
            result.outcome,
            Outcome::Reset { by, hop_limit: 64 },
            "{result:#?}"
        );
    }
}

#[test]
fn a_ttl_probe_reports_each_step() {
    let ttl_probe = Method::TtlProbe {
        hop_limits: vec![1, 2],
        tries: 2,
    };
    let (client, ..) = after(vec![probes(1, ttl_probe, B4, PORT, 1)]);
    let found: Vec<&TtlProbe> = client
        .events
        .iter()
        .filter_map(|event| match event {
            Event::TtlProbe(ttl_probe) => Some(ttl_probe),
            _ => None,
        })
        .collect();
    let [ttl_probe] = found.as_slice() else {
        panic!("{:#?}", client.events)
    };
    assert_eq!(ttl_probe.path, PathId(1));
    for step in &ttl_probe.steps {
        assert!(
            matches!(step.answer, TtlStepAnswer::SynAck { from, .. } if from.ip().to_string() == B4),
            "the two ends are one link apart: {step:?}"
        );
    }
}

#[test]
fn the_server_traces_the_handshakes_of_the_client() {
    let (client, mut server, _net) = after(vec![
        probes(1, KERNEL, B4, PORT, 2),
        probes(2, Method::Syn, B6, PORT, 2),
    ]);
    for path in [1, 2] {
        let result = first_of(&client.events, path);
        let seen = server.wait(|event| match event {
            Event::ServerTrace { handshakes } => handshakes
                .iter()
                .find(|trace| Some(trace.isn) == result.isn)
                .cloned(),
            _ => None,
        });
        assert_eq!((seen.peer, seen.local), (result.src, result.dst));
        assert_eq!((seen.syns, seen.syn_acks), (1, 1));
        let syn_ack = seen
            .observations
            .iter()
            .filter_map(|seen| seen.packet.tcp())
            .find(|(_, tcp)| tcp.flags.is_syn_ack())
            .unwrap();
        assert_eq!(Some(syn_ack.1.seq), result.server_isn);
    }
}

#[test]
fn the_capture_counts_come_before_a_plan_is_done() {
    let (client, ..) = after(vec![probes(1, KERNEL, B4, PORT, 10)]);
    let place = |wanted: fn(&Event) -> bool| client.events.iter().position(wanted).unwrap();
    let capture =
        place(|event| matches!(event, Event::Capture { received, dropped: 0 } if *received > 50));
    let counters = place(|event| match event {
        Event::Counters { before, after, .. } => {
            let opens = |counters: &prober_core::node_facts::Counters| {
                counters.get("TcpActiveOpens").unwrap()
            };
            opens(after) == opens(before) + 10
        }
        _ => false,
    });
    let done = place(|event| matches!(event, Event::Done { .. }));
    assert!(capture < done && counters < done);
}

#[test]
fn without_net_raw_an_agent_says_what_is_missing_and_goes_on_in_tier_t0() {
    let (a, b) = two();
    let mut server = Agent::start(&b, "b", &[]);
    server.answer();
    let without = ["setpriv", "--bounding-set=-net_raw", "--inh-caps=-net_raw"];
    let mut client = Agent::start_by(&a, &without, "a", &[]);
    let (tier, limits) = tier(&mut client);
    assert_eq!(tier, Tier::T0);
    assert!(
        limits[0].contains("CAP_NET_RAW") && limits[0].contains("securityContext"),
        "{limits:?}"
    );
    client.give(&client.plan(
        1,
        vec![
            probes(1, KERNEL, B4, PORT, 1),
            probes(2, Method::Syn, B4, PORT, 3),
        ],
    ));
    client.wait_done(1);
    let result = first_of(&client.events, 1);
    assert_eq!(result.isn, None);
    greeted(&result, Echo::NotTried);
    let notice = client.wait(|event| match event {
        Event::Notice { text } => Some(text.clone()),
        _ => None,
    });
    assert!(
        notice.contains("3 probes with crafted packets were not sent"),
        "{notice}"
    );
}

#[test]
fn an_agent_that_captures_packets_has_no_privilege_left() {
    let (a, _b) = two();
    let mut agent = Agent::start(&a, "a", &[]);
    assert_eq!(tier(&mut agent), (Tier::T1, Vec::new()));
    for thread in std::fs::read_dir(format!("/proc/{}/task", agent.pid())).unwrap() {
        let status = std::fs::read_to_string(thread.unwrap().path().join("status")).unwrap();
        for (field, expected) in [
            ("CapPrm:", "0000000000000000"),
            ("CapEff:", "0000000000000000"),
            ("CapBnd:", "0000000000000000"),
            ("NoNewPrivs:", "1"),
            ("Uid:", "65534\t65534\t65534\t65534"),
        ] {
            let line = status
                .lines()
                .find_map(|line| line.strip_prefix(field))
                .unwrap();
            assert_eq!(line.trim(), expected, "{field}");
        }
    }
}
