//! The packet loop without sockets.

use std::net::Ipv4Addr;
use std::ops::RangeInclusive;
use std::sync::mpsc;

use prober_core::packet::observation::Direction;
use prober_core::packet::{Checksum, Ip, Packet, Seq, Tcp, TcpFlags, TcpOptions};
use prober_core::plan::Method;

use super::*;
use crate::engine::events::{EngineEventReceiver, engine_events};

const START: Timestamp = Timestamp::from_nanos(1_000_000_000);

/// A packet loop with these source ports and so many SYN probes, so many milliseconds apart; and its events.
fn packet_loop(
    ports: RangeInclusive<u16>,
    count: u32,
    interval_ms: u32,
) -> (PacketLoop, EngineEventReceiver) {
    let (commands, received) = mpsc::channel();
    let (sender, events) = engine_events();
    let config = InFlightConfig {
        key: [7; 16],
        ports,
        v4: Some(Ipv4Addr::new(192, 0, 2, 1)),
        v6: None,
        mtu: 1500,
    };
    let mut packet_loop = PacketLoop::new(config, LoopbackMode::Ignore, received, sender);
    let probe = ProbePlan {
        path: PathId(0),
        method: Method::Syn,
        target: "192.0.2.2:80".parse().unwrap(),
        count,
        start_ms: 0,
        interval_ms,
        deadline_ms: 3000,
    };
    commands
        .send(PacketCommand::StartPlan(RawPlan {
            id: PlanId::Accepted(1),
            probes: vec![probe],
            ports: Some(Vec::new()),
            start: START,
            pace: Pace::Coalesced,
        }))
        .unwrap();
    packet_loop.handle_commands(START);
    (packet_loop, events)
}

/// The SYN+ACK of a server.
fn answer(syn: &TcpSegment, at: Timestamp) -> Observation {
    let ip = Ip {
        src: syn.dst.ip(),
        dst: syn.src.ip(),
        hop_limit: 64,
        ident: 0,
    };
    let tcp = Tcp {
        src_port: syn.dst.port(),
        dst_port: syn.src.port(),
        seq: Seq(1),
        ack: syn.seq.add(1),
        flags: TcpFlags::SYN_ACK,
        window: 64_240,
        options: TcpOptions::default(),
        payload_len: 0,
        checksum: Checksum::Unknown,
    };
    Observation {
        at,
        direction: Direction::Received,
        packet: Packet {
            link: None,
            body: Body::Tcp(ip, tcp),
        },
    }
}

#[test]
fn a_port_that_is_used_again_before_its_result_is_reported_loses_none() {
    const ALL: u32 = 40;
    let (mut packet_loop, mut events) = packet_loop(63_000..=63_003, ALL, 1);
    let mut sent_syns = 0;
    for step in 0..1_000 {
        let now = START + Duration::from_millis(step);
        packet_loop.handle_timeout(now);
        let mut sent = Vec::new();
        packet_loop.poll_transmit(&mut sent);
        for syn in sent.iter().filter(|one| one.flags == TcpFlags::SYN) {
            sent_syns += 1;
            packet_loop.observe(&answer(syn, now), &[]);
        }
    }
    packet_loop.report_results();
    let mut results = 0;
    while let Some(event) = events.try_recv() {
        results += u32::from(matches!(
            event,
            EngineEvent::Probe(PlanId::Accepted(1), ProbeEvent::Result(_))
        ));
    }
    assert_eq!((sent_syns, results), (ALL, ALL));
}

#[test]
fn a_late_thread_sends_a_few_probes_at_a_time_and_all_in_the_end() {
    let (mut packet_loop, _events) = packet_loop(63_000..=65_535, 500, 1);
    // The thread was not scheduled for longer than the plan lasts.
    let late = START + Duration::from_secs(1);
    let mut sent = Vec::new();
    for _ in 0..500_usize.div_ceil(MAX_LAUNCHES) {
        packet_loop.handle_commands(late);
        packet_loop.handle_timeout(late);
        let before = sent.len();
        packet_loop.poll_transmit(&mut sent);
        assert!((1..=MAX_LAUNCHES).contains(&(sent.len() - before)));
    }
    assert_eq!(sent.len(), 500);
}

#[test]
fn coalesced_answers_are_read_with_the_next_probe_and_reported_at_once() {
    let (mut packet_loop, mut events) = packet_loop(63_000..=65_535, 30, 200);
    let (mut now, mut wakeups) = (START, 0);
    let mut answers = Vec::new();
    let mut results = 0;
    while wakeups < 10 {
        // What the packet thread does each time that it wakes up.
        for answer in answers.drain(..) {
            packet_loop.observe(&answer, &[]);
        }
        packet_loop.handle_timeout(now);
        let mut sent = Vec::new();
        packet_loop.poll_transmit(&mut sent);
        let syns = sent.iter().filter(|one| one.flags == TcpFlags::SYN);
        answers.extend(syns.map(|syn| answer(syn, now)));
        if packet_loop.has_due_results(now) {
            packet_loop.report_results();
        }
        while let Some(event) = events.try_recv() {
            results += u32::from(matches!(
                event,
                EngineEvent::Probe(PlanId::Accepted(1), ProbeEvent::Result(_))
            ));
        }
        wakeups += 1;
        now = packet_loop.poll_timeout().unwrap();
    }
    let passed = now.since(START).as_millis();
    assert!(
        (4_300..=5_700).contains(&passed),
        "ten wake-ups took {passed} ms"
    );
    assert!((15..=30).contains(&results), "{results} results");
}

#[test]
fn a_probe_that_only_lingers_waits_for_a_launch_that_comes_soon() {
    let (mut packet_loop, _events) = packet_loop(63_000..=65_535, 2, 200);
    let mut sent = Vec::new();
    let mut now = START;
    let mut waits = Vec::new();
    for _ in 0..2 {
        // The jitter moves the first one, too.
        now = packet_loop.poll_timeout().unwrap().max(now);
        packet_loop.handle_timeout(now);
        packet_loop.poll_transmit(&mut sent);
        let syn = sent.pop_if(|one| one.flags == TcpFlags::SYN).unwrap();
        packet_loop.observe(&answer(&syn, now), &[]);
        waits.push(packet_loop.poll_timeout().unwrap().since(now));
    }
    let linger = Duration::from_millis(20);
    assert!(waits[0] > linger, "{waits:?}");
    assert_eq!(waits[1], linger);
}
