//! Many probes in flight: ports, demultiplexing, launching, abandoning.

use std::net::Ipv4Addr;
use std::ops::RangeInclusive;

use super::*;
use crate::packet::observation::Direction;
use crate::packet::{
    Checksum, Icmp, IcmpKind, Ip, Packet, Quoted, Resolution, ResolutionKind, Seq, Tcp, TcpFlags,
    TcpOptions, Unreachable,
};
use crate::probe::outcome::{Errno, Exchange, OutcomeKind};
use crate::topology::PathId;

const CLIENT: Ipv4Addr = Ipv4Addr::new(100, 96, 1, 10);
const START: Timestamp = Timestamp::from_nanos(1_000_000_000_000);

fn service() -> SocketAddr {
    SocketAddr::from(([100, 67, 30, 133], 80))
}

fn pod() -> SocketAddr {
    SocketAddr::from(([100, 96, 1, 20], 8080))
}

fn in_flight(ports: RangeInclusive<u16>) -> InFlight {
    InFlight::new(InFlightConfig {
        key: [9; 16],
        ports,
        v4: Some(CLIENT),
        v6: None,
        mtu: 1450,
    })
}

fn syn_plan() -> ProbePlan {
    ProbePlan {
        path: PathId(5),
        method: Method::Syn,
        target: service(),
        count: 1,
        start_ms: 0,
        interval_ms: 0,
        deadline_ms: 3000,
    }
}

fn ms(ms: u64) -> Timestamp {
    START + Duration::from_millis(ms)
}

fn ip(src: IpAddr, dst: IpAddr) -> Ip {
    Ip {
        src,
        dst,
        hop_limit: 64,
        ident: 1,
    }
}

fn seen(at: Timestamp, direction: Direction, body: Body) -> Observation {
    Observation {
        at,
        direction,
        packet: Packet { link: None, body },
    }
}

fn tcp(from: SocketAddr, to: SocketAddr, flags: TcpFlags, seq: Seq, ack: Seq) -> Body {
    let tcp = Tcp {
        src_port: from.port(),
        dst_port: to.port(),
        seq,
        ack,
        flags,
        window: 64240,
        options: TcpOptions::default(),
        payload_len: 0,
        checksum: Checksum::Unknown,
    };
    Body::Tcp(ip(from.ip(), to.ip()), tcp)
}

fn answer(from: SocketAddr, syn: &TcpSegment, at: Timestamp) -> Observation {
    let body = tcp(from, syn.src, TcpFlags::SYN_ACK, Seq(77), syn.seq.add(1));
    seen(at, Direction::Received, body)
}

fn transmitted(in_flight: &mut InFlight) -> Vec<TcpSegment> {
    let mut out = Vec::new();
    in_flight.poll_transmit(&mut out);
    out
}

fn run_out(in_flight: &mut InFlight) -> Vec<ProbeResult> {
    for _ in 0..10_000 {
        let Some(at) = in_flight.poll_timeout() else {
            break;
        };
        in_flight.handle_timeout(at);
        transmitted(in_flight);
    }
    assert_eq!(in_flight.in_flight(), 0);
    let mut results = Vec::new();
    while let Some(outputs) = in_flight.poll_output() {
        match outputs {
            ProbeOutput::Probe(result) => results.push(*result),
            ProbeOutput::TtlProbe(ttl_probe) => panic!("{ttl_probe:?}"),
        }
    }
    assert!(in_flight.is_idle());
    results
}

#[test]
fn a_reset_that_the_kernel_sent_is_not_sent_again() {
    let mut in_flight = in_flight(40_000..=40_003);
    let mut syns = Vec::new();
    for _ in 0..2 {
        in_flight.launch(START, &syn_plan()).unwrap();
        syns.append(&mut transmitted(&mut in_flight));
    }
    let by_kernel = |syn: &TcpSegment, seq| {
        let body = tcp(syn.src, syn.dst, TcpFlags::RST, seq, Seq(0));
        seen(ms(1), Direction::Sent, body)
    };
    in_flight.observe(&answer(service(), &syns[0], ms(1)), &[]);
    in_flight.observe(&by_kernel(&syns[0], syns[0].seq.add(1)), &[]);
    assert_eq!(transmitted(&mut in_flight), []);
    // A RST with another number does not reset the server, so the own one is still needed.
    in_flight.observe(&answer(service(), &syns[1], ms(1)), &[]);
    in_flight.observe(&by_kernel(&syns[1], syns[1].seq), &[]);
    let resets = transmitted(&mut in_flight);
    assert_eq!(resets.len(), 1);
    assert_eq!((resets[0].flags, resets[0].dst), (TcpFlags::RST, service()));
    let results = run_out(&mut in_flight);
    assert_eq!(results.len(), 2);
    assert!(results.iter().all(ProbeResult::is_first_syn_success));
}

#[test]
fn every_answer_finds_its_own_probe_from_any_source() {
    let mut in_flight = in_flight(20_000..=20_999);
    for _ in 0..1000 {
        in_flight.launch(START, &syn_plan()).unwrap();
    }
    let syns = transmitted(&mut in_flight);
    assert_eq!(syns.len(), 1000);
    for (n, syn) in syns.iter().enumerate().rev() {
        let from = if n % 3 == 0 { pod() } else { service() };
        in_flight.observe(&answer(from, syn, ms(1)), &[]);
    }
    let results = run_out(&mut in_flight);
    assert_eq!(results.len(), 1000);
    for result in results {
        let n = usize::from(result.src.port() - 20_000);
        assert_eq!(result.isn, Some(syns[n].seq));
        let mismatched = result.outcome == Outcome::Mismatched { from: pod() };
        assert_eq!(mismatched, n % 3 == 0, "{result:?}");
    }
}

#[test]
fn a_port_is_in_use_while_its_probe_is_in_flight_and_then_unused_as_long_as_possible() {
    let mut in_flight = in_flight(20_000..=20_002);
    let plan = syn_plan();
    let first: Vec<u16> = (0..3)
        .map(|_| in_flight.launch(START, &plan).unwrap().port())
        .collect();
    assert_eq!(first, [20_000, 20_001, 20_002]);
    assert_eq!(
        in_flight.launch(START, &plan),
        Err(LaunchError::NoPort {
            target: service(),
            ports: 3
        })
    );
    run_out(&mut in_flight);
    assert_eq!(in_flight.launch(ms(5000), &plan).unwrap().port(), 20_000);
    run_out(&mut in_flight);
    assert_eq!(in_flight.launch(ms(9999), &plan).unwrap().port(), 20_001);
}

#[test]
fn a_failed_launch_names_its_reason() {
    let mut in_flight = in_flight(20_000..=20_002);
    let mut plan = syn_plan();
    plan.target = "[fd00:67::133]:80".parse().unwrap();
    let error = in_flight.launch(START, &plan).unwrap_err();
    assert!(error.to_string().contains("no ipv6 address"), "{error}");
    let mut plan = syn_plan();
    plan.method = Method::Connect { echo_bytes: 0 };
    assert_eq!(
        in_flight.launch(START, &plan),
        Err(LaunchError::NotCrafted { target: service() })
    );
    assert!(in_flight.is_idle());
}

#[test]
fn an_icmp_error_finds_its_probe_by_the_quoted_port() {
    let mut in_flight = in_flight(20_000..=20_009);
    in_flight.launch(START, &syn_plan()).unwrap();
    in_flight.launch(START, &syn_plan()).unwrap();
    let syns = transmitted(&mut in_flight);
    let by = IpAddr::from([100, 96, 1, 1]);
    let icmp = Icmp {
        kind: IcmpKind::Unreachable {
            reason: Unreachable::Host,
        },
        type_code: (3, 1),
        quoted: Some(Quoted {
            src: syns[1].src,
            dst: service(),
            hop_limit: 63,
            seq: syns[1].seq,
            checksum: Checksum::Unknown,
        }),
    };
    let body = Body::Icmp(ip(by, CLIENT.into()), icmp);
    in_flight.observe(&seen(ms(1), Direction::Received, body), &[]);
    let results = run_out(&mut in_flight);
    let reason = Unreachable::Host;
    assert_eq!(
        results[0].outcome,
        Outcome::Unreachable {
            by: Some(by),
            reason
        }
    );
    assert_eq!(results[0].src, syns[1].src);
    assert_eq!(results[1].outcome, Outcome::Timeout);
}

#[test]
fn an_own_syn_that_is_flooded_or_sent_back_is_recorded() {
    let mut in_flight = in_flight(20_000..=20_009);
    in_flight.launch(START, &syn_plan()).unwrap();
    let syn = transmitted(&mut in_flight).remove(0);
    for direction in [Direction::Overheard, Direction::Received] {
        let body = tcp(syn.src, pod(), TcpFlags::SYN, syn.seq, Seq(0));
        in_flight.observe(&seen(ms(1), direction, body), &[]);
    }
    let result = run_out(&mut in_flight).remove(0);
    assert_eq!(
        (result.outcome, result.observations.len()),
        (Outcome::Timeout, 2)
    );
}

#[test]
fn a_failed_probe_has_neighbour_resolutions_and_a_healthy_one_does_not() {
    let request = Body::Resolution(Resolution {
        kind: ResolutionKind::Request,
        sender: IpAddr::from([100, 96, 1, 1]),
        sender_mac: None,
        target: pod().ip(),
    });
    for (answered, kept) in [(true, 1), (false, 12)] {
        let mut in_flight = in_flight(20_000..=20_009);
        in_flight.observe(&seen(ms(0), Direction::Received, request), &[]);
        in_flight.launch(ms(1), &syn_plan()).unwrap();
        let syn = transmitted(&mut in_flight).remove(0);
        for n in 0..500 {
            in_flight.observe(&seen(ms(2 + n), Direction::Received, request), &[]);
        }
        if answered {
            in_flight.observe(&answer(service(), &syn, ms(600)), &[]);
        }
        let result = run_out(&mut in_flight).remove(0);
        assert_eq!(result.observations.len(), kept);
        assert!(
            result
                .observations
                .is_sorted_by_key(|observation| observation.at)
        );
    }
}

#[test]
fn a_watched_connection_has_its_outcome_from_packets_and_its_exchange_from_the_socket() {
    let mut in_flight = in_flight(20_000..=20_009);
    // Both families may have the same port at once.
    let six: SocketAddr = "[fd00::10]:45000".parse().unwrap();
    let four = SocketAddr::from((CLIENT, 45_000));
    let deadline = Duration::from_secs(3);
    in_flight.watch(
        PathId(6),
        six,
        "[fd00::20]:80".parse().unwrap(),
        START,
        deadline,
    );
    in_flight.watch(PathId(4), four, service(), START, deadline);
    let syn = tcp(four, service(), TcpFlags::SYN, Seq(5), Seq(0));
    in_flight.observe(&seen(ms(0), Direction::Sent, syn), &[]);
    let answer = tcp(service(), four, TcpFlags::SYN_ACK, Seq(9), Seq(6));
    in_flight.observe(&seen(ms(1), Direction::Received, answer), &[]);
    in_flight.close(four, Exchange::NoBanner, ms(50));
    assert_eq!(transmitted(&mut in_flight), []);
    let results = run_out(&mut in_flight);
    let ended: Vec<_> = results
        .iter()
        .map(|result| (result.path.0, result.exchange.clone(), result.syns))
        .collect();
    assert_eq!(
        ended,
        [(4, Exchange::NoBanner, 1), (6, Exchange::NotTried, 0)]
    );
    // A late report about an ended probe is ignored.
    in_flight.close(four, Exchange::NoBanner, ms(9000));
    assert!(in_flight.is_idle());
}

#[test]
fn packets_of_a_server_on_this_host_count_as_received() {
    let mut in_flight = in_flight(20_000..=20_009);
    let own: SocketAddr = "10.0.0.2:61000".parse().unwrap();
    let server: SocketAddr = "10.0.0.2:8080".parse().unwrap();
    in_flight.watch(PathId(4), own, service(), START, Duration::from_secs(1));
    let syn = tcp(own, server, TcpFlags::SYN, Seq(5), Seq(0));
    let answer = tcp(server, own, TcpFlags::SYN_ACK, Seq(9), Seq(6));
    let ack = tcp(own, server, TcpFlags::ACK, Seq(6), Seq(10));
    for (at, segment) in [(0, syn), (1, answer), (2, ack)] {
        in_flight.observe(&seen(ms(at), Direction::Sent, segment), &[]);
    }
    in_flight.close(own, Exchange::NotTried, ms(50));
    let results = run_out(&mut in_flight);
    assert_eq!(results.len(), 1);
    assert_eq!(results[0].outcome.kind(), OutcomeKind::Established);
}

#[test]
fn abandoning_resets_open_connections_and_keeps_outcomes_so_far() {
    let mut in_flight = in_flight(20_000..=20_009);
    let mut ttl_probe = syn_plan();
    ttl_probe.method = Method::TtlProbe {
        hop_limits: vec![1, 2],
        tries: 3,
    };
    in_flight.launch(START, &syn_plan()).unwrap();
    in_flight.launch(START, &ttl_probe).unwrap();
    transmitted(&mut in_flight);
    in_flight.abandon();
    let flags: Vec<TcpFlags> = transmitted(&mut in_flight)
        .iter()
        .map(|segment| segment.flags)
        .collect();
    assert_eq!(flags, [TcpFlags::RST, TcpFlags::RST]);
    assert!(matches!(
        in_flight.poll_output(),
        Some(ProbeOutput::Probe(_))
    ));
    assert!(matches!(
        in_flight.poll_output(),
        Some(ProbeOutput::TtlProbe(_))
    ));
    assert!(in_flight.is_idle());
}

#[test]
fn a_probe_that_only_lingers_is_not_urgent() {
    let mut in_flight = in_flight(40_000..=40_010);
    in_flight.launch(START, &syn_plan()).unwrap();
    let syn = transmitted(&mut in_flight).remove(0);
    assert_eq!(in_flight.poll_urgent(), in_flight.poll_timeout());
    in_flight.observe(&answer(service(), &syn, ms(1)), &[]);
    assert_eq!(
        (in_flight.poll_urgent(), in_flight.poll_timeout()),
        (None, Some(ms(21)))
    );
    // A packet after its time is not recorded.
    in_flight.observe(&answer(service(), &syn, ms(22)), &[]);
    in_flight.handle_timeout(ms(250));
    let Some(ProbeOutput::Probe(result)) = in_flight.poll_output() else {
        panic!("it is over");
    };
    assert_eq!(result.observations.len(), 1);
    assert!(in_flight.poll_timeout().is_none());
}

#[test]
fn a_local_refusal_is_no_timeout_and_has_no_packets() {
    let mut in_flight = in_flight(40_000..=40_003);
    let src = SocketAddr::new(CLIENT.into(), 61_000);
    in_flight.watch(PathId(5), src, service(), START, Duration::from_secs(3));
    in_flight.refuse_locally(src, Errno::Ehostunreach, ms(1));
    let results = run_out(&mut in_flight);
    let errno = Errno::Ehostunreach;
    assert_eq!(results[0].outcome, Outcome::RefusedLocally { errno });
    assert_eq!((results[0].syns, results[0].observations.len()), (0, 0));
}
