//! An agent whose kernel refuses socket options (by seccomp, as a container runtime applies it).

use std::collections::BTreeMap;
use std::thread;

use prober_core::plan::Method;
use prober_core::probe::event::Event;
use prober_core::probe::outcome::{Echo, EngineKind, Exchange, Outcome};
use prober_core::probe::tier::Tier;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule,
};

use crate::fixture::{Agent, B4, B6, Namespace, PORT, probes, two};
use crate::kernel_probes::first_of;
use crate::packet_probes::greeted;

/// `setsockopt(2)`: its number on x86-64 and on the generic table (arm64).
const SETSOCKOPT: i64 = if cfg!(target_arch = "x86_64") {
    54
} else {
    208
};

/// Levels and options of `setsockopt`, include/uapi/asm-generic/socket.h, linux/in.h and linux/in6.h.
const FILTER: (u64, u64) = (1, 26);
const MINIMUM_TTL: (u64, u64) = (0, 21);
const MINIMUM_HOPS: (u64, u64) = (41, 73);

/// An agent whose kernel refuses these options: the filter applies to the spawning thread and its children.
fn refused(namespace: &Namespace, name: &str, options: &[(u64, u64)]) -> Agent {
    let rules = options
        .iter()
        .map(|(level, option)| {
            let is = |place, value| {
                SeccompCondition::new(place, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, value)
                    .unwrap()
            };
            SeccompRule::new(vec![is(1, *level), is(2, *option)]).unwrap()
        })
        .collect();
    let filter = SeccompFilter::new(
        BTreeMap::from([(SETSOCKOPT, rules)]),
        SeccompAction::Allow,
        // EPERM.
        SeccompAction::Errno(1),
        std::env::consts::ARCH.try_into().unwrap(),
    );
    let program: BpfProgram = filter.unwrap().try_into().unwrap();
    thread::scope(|scope| {
        scope
            .spawn(|| {
                seccompiler::apply_filter(&program).unwrap();
                Agent::start(namespace, name, &[])
            })
            .join()
            .unwrap()
    })
}

fn limits(agent: &mut Agent) -> String {
    agent.wait(|event| match event {
        Event::Hello(hello) => {
            assert_eq!(hello.tier, Tier::T1, "{:?}", hello.limits);
            Some(hello.limits.join("\n"))
        }
        _ => None,
    })
}

#[test]
fn without_the_captures_filter_every_probe_works_and_the_agent_reports_the_cost() {
    let (a, b) = two();
    let mut server = Agent::start(&b, "b", &[]);
    server.answer();
    let mut client = refused(&a, "a", &[FILTER]);
    let limits = limits(&mut client);
    assert!(
        limits.contains("refused the capture's filter (Operation not permitted"),
        "{limits}"
    );
    let full = Method::Exchange { echo_bytes: 1000 };
    let plan = client.plan(1, vec![probes(1, full, B4, PORT, 3)]);
    client.give(&plan);
    client.wait_done(1);
    greeted(&first_of(&client.events, 1), Echo::Complete { bytes: 1000 });
}

#[test]
fn where_rst_cannot_be_suppressed_crafted_connections_end_half_open_and_the_agent_reports_it() {
    let (a, b) = two();
    let mut server = Agent::start(&b, "b", &[]);
    server.answer();
    let mut client = refused(&a, "a", &[FILTER, MINIMUM_TTL, MINIMUM_HOPS]);
    let limits = limits(&mut client);
    assert!(
        limits.contains("a minimum TTL was refused (Operation not permitted")
            && limits.contains("only half-open probes"),
        "{limits}"
    );
    let full = Method::Exchange { echo_bytes: 1000 };
    let plan = client.plan(
        1,
        vec![
            probes(1, full.clone(), B4, PORT, 3),
            probes(2, full, B6, PORT, 3),
        ],
    );
    client.give(&plan);
    client.wait_done(1);
    for path in [1, 2] {
        let result = first_of(&client.events, path);
        assert_eq!((result.engine, result.syns), (EngineKind::Raw, 1));
        assert!(
            matches!(result.outcome, Outcome::Established { .. }),
            "{result:#?}"
        );
        assert_eq!(result.exchange, Exchange::NotTried);
    }
    let noticed = client.events.iter().any(
        |event| matches!(event, Event::Notice { text } if text.contains("only half-open probes")),
    );
    assert!(noticed, "{:#?}", client.events);
}
