//! Probes against a server in the simulated network, with faults between them.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use proptest::prelude::*;

use super::server::ServerBehaviour;
use super::*;
use crate::plan::{Method, ProbePlan};
use crate::probe::engine::drive;
use crate::probe::event::{TtlProbe, TtlStepAnswer};
use crate::probe::handshake::{Handshake, HandshakeConfig, HandshakeRole};
use crate::probe::in_flight::{InFlight, InFlightConfig, ProbeOutput};
use crate::probe::outcome::{Echo, Exchange, Outcome, OutcomeKind, ProbeResult};
use crate::simulation::fault::{self, ReplyTranslation};
use crate::topology::PathId;

const CLIENT: Ipv4Addr = Ipv4Addr::new(100, 96, 1, 10);

fn service() -> SocketAddr {
    SocketAddr::from(([100, 67, 30, 133], 80))
}

fn pod() -> SocketAddr {
    SocketAddr::from(([100, 96, 1, 20], 8080))
}

fn gateway() -> IpAddr {
    IpAddr::from([100, 96, 1, 1])
}

fn sim() -> SimulatedNetwork {
    let server = Server::new(pod(), ServerBehaviour::Healthy);
    SimulatedNetwork::new(server, Duration::from_micros(100), 1)
}

fn sim_with(behaviour: ServerBehaviour) -> SimulatedNetwork {
    SimulatedNetwork::new(Server::new(pod(), behaviour), Duration::from_micros(100), 1)
}

fn in_flight() -> InFlight {
    InFlight::new(InFlightConfig {
        key: [9; 16],
        ports: 20_000..=29_999,
        v4: Some(CLIENT),
        v6: None,
        mtu: 1450,
    })
}

fn plan(target: SocketAddr, method: Method) -> ProbePlan {
    ProbePlan {
        path: PathId(5),
        method,
        target,
        count: 1,
        start_ms: 0,
        interval_ms: 0,
        deadline_ms: 3000,
    }
}

/// Launches this many probes a millisecond apart and returns their outputs.
fn run_probes(sim: &mut SimulatedNetwork, plan: &ProbePlan, count: u32) -> Vec<ProbeOutput> {
    let mut in_flight = in_flight();
    let mut server_traces = ServerTraces::default();
    let mut outputs = Vec::new();
    let mut left = count;
    let mut next = sim.now();
    for _ in 0..2_000_000 {
        if left > 0 && sim.now() >= next {
            in_flight.launch(next, plan).unwrap();
            left -= 1;
            next = next + Duration::from_millis(1);
        }
        let until = if left > 0 {
            next
        } else {
            next + Duration::from_mins(10)
        };
        drive(&mut in_flight, &mut server_traces, sim, until).unwrap();
        while let Some(result) = in_flight.poll_output() {
            outputs.push(result);
        }
        if left == 0 && in_flight.is_idle() {
            return outputs;
        }
    }
    panic!("{} probes never end", in_flight.in_flight());
}

fn probes(sim: &mut SimulatedNetwork, plan: &ProbePlan, count: u32) -> Vec<ProbeResult> {
    run_probes(sim, plan, count)
        .into_iter()
        .map(|outputs| match outputs {
            ProbeOutput::Probe(result) => *result,
            ProbeOutput::TtlProbe(ttl_probe) => panic!("{ttl_probe:?}"),
        })
        .collect()
}

fn one(sim: &mut SimulatedNetwork, method: Method) -> ProbeResult {
    probes(sim, &plan(service(), method), 1).remove(0)
}

fn exchange(echo_bytes: u32) -> Method {
    Method::Exchange { echo_bytes }
}

#[test]
fn a_healthy_service_answers_every_first_syn() {
    let mut sim = sim().with(fault::translate(
        service(),
        pod(),
        ReplyTranslation::Applied,
    ));
    let results = probes(&mut sim, &plan(service(), Method::Syn), 500);
    assert_eq!(results.len(), 500);
    assert!(results.iter().all(ProbeResult::is_first_syn_success));
    let rtts: Vec<Outcome> = results.iter().map(|result| result.outcome).collect();
    assert!(rtts.iter().all(|outcome| *outcome
        == Outcome::Established {
            rtt_ns: 200_000,
            connect_ns: 200_000
        }));
}

#[test]
fn a_full_probe_brings_the_banner_and_the_echo() {
    let mut sim = sim().with(fault::translate(
        service(),
        pod(),
        ReplyTranslation::Applied,
    ));
    let result = one(&mut sim, exchange(60_000));
    let Exchange::BannerReceived { banner, echo } = result.exchange else {
        panic!("{result:?}")
    };
    assert_eq!(banner.peer, result.src);
    assert_eq!(echo, Echo::Complete { bytes: 60_000 });
}

#[test]
fn the_founding_fault_is_mismatched_and_the_server_receives_the_reset() {
    let mut sim = sim()
        .with(fault::router(gateway()))
        .with(fault::translate(
            service(),
            pod(),
            ReplyTranslation::Missing,
        ))
        .with_server_traces([8080]);
    let result = one(&mut sim, Method::Syn);
    assert_eq!(result.outcome, Outcome::Mismatched { from: pod() });
    assert_eq!(result.syns, 2);
    let now = sim.now();
    let seen = sim.server_traces().unwrap().flush(now);
    assert_eq!(seen.len(), 1);
    assert_eq!(Some(seen[0].isn), result.isn, "the number joins both ends");
    assert_eq!(
        (seen[0].syns, seen[0].syn_acks, seen[0].resets_received),
        (2, 2, 2)
    );
}

#[test]
fn an_observer_of_the_same_packets_has_the_same_outcome_and_sends_nothing() {
    for reply in [ReplyTranslation::Applied, ReplyTranslation::Missing] {
        let mut sim = sim().with(fault::translate(service(), pod(), reply));
        let driven = one(&mut sim, Method::Syn);
        let config = HandshakeConfig {
            path: driven.path,
            src: driven.src,
            dst: driven.dst,
            deadline: Duration::from_secs(3),
        };
        let mut trace = Handshake::new(config, HandshakeRole::Observer);
        trace.start(driven.started);
        let mut out = Vec::new();
        for observation in &driven.observations {
            trace.observe(observation, &[]);
            trace.poll_transmit(&mut out);
        }
        while let Some((at, _)) = trace.poll_timeout() {
            trace.handle_timeout(at);
            trace.poll_transmit(&mut out);
        }
        assert_eq!(out, []);
        let with_server_traces = trace.finish();
        assert_eq!(with_server_traces.outcome, driven.outcome);
        assert_eq!(with_server_traces.syns, driven.syns);
        assert_eq!(with_server_traces.isn, driven.isn);
        assert_eq!(with_server_traces.server_isn, driven.server_isn);
    }
}

#[test]
fn one_lost_syn_costs_a_second_and_two_cost_two() {
    for lost in 0..3 {
        let mut sim = sim()
            .with(fault::lose_first_syns(lost))
            .with(fault::translate(
                service(),
                pod(),
                ReplyTranslation::Applied,
            ));
        let result = one(&mut sim, Method::Syn);
        assert_eq!(result.syns, lost + 1);
        assert_eq!(
            result.outcome,
            Outcome::Established {
                rtt_ns: 200_000,
                connect_ns: u64::from(lost) * 1_000_000_000 + 200_000
            }
        );
    }
}

#[test]
fn a_blocked_direction_is_a_timeout_and_the_server_trace_names_it() {
    for (toward, arrived) in [(Toward::Server, 0), (Toward::Client, 3)] {
        let mut sim = sim().with(fault::block(toward)).with_server_traces([8080]);
        let result = probes(&mut sim, &plan(pod(), Method::Syn), 1).remove(0);
        assert_eq!((result.outcome, result.syns), (Outcome::Timeout, 3));
        let now = sim.now();
        let seen = sim.server_traces().unwrap().flush(now);
        assert_eq!(seen.iter().map(|one| one.syns).sum::<u32>(), arrived);
    }
}

#[test]
fn refusals_differ_by_their_source() {
    let mut closed = sim_with(ServerBehaviour::NotListening).with(fault::translate(
        service(),
        pod(),
        ReplyTranslation::Applied,
    ));
    let result = one(&mut closed, Method::Syn);
    assert_eq!(
        result.outcome,
        Outcome::Reset {
            by: service().ip(),
            hop_limit: 64
        }
    );
    let mut rejected = sim().with(fault::reject(gateway()));
    assert_eq!(
        one(&mut rejected, Method::Syn).outcome.kind(),
        OutcomeKind::Unreachable
    );
}

#[test]
fn a_frozen_server_is_established_without_a_banner() {
    let mut sim = sim_with(ServerBehaviour::Frozen).with(fault::translate(
        service(),
        pod(),
        ReplyTranslation::Applied,
    ));
    let result = one(&mut sim, exchange(0));
    assert!(result.is_first_syn_success());
    assert_eq!(result.exchange, Exchange::NoBanner);
}

#[test]
fn an_mtu_black_hole_lets_the_banner_through_and_stalls_the_echo() {
    let mut sim = sim()
        .with(fault::lose_larger_than(1000))
        .with(fault::translate(
            service(),
            pod(),
            ReplyTranslation::Applied,
        ));
    let result = one(&mut sim, exchange(60_000));
    let Exchange::BannerReceived {
        echo: Echo::Stalled { received, .. },
        ..
    } = result.exchange
    else {
        panic!("{result:?}")
    };
    assert_eq!(received, 0);
}

fn run_ttl_probe(sim: &mut SimulatedNetwork) -> TtlProbe {
    let method = Method::TtlProbe {
        hop_limits: vec![1, 2, 3, 64],
        tries: 3,
    };
    match run_probes(sim, &plan(service(), method), 1).remove(0) {
        ProbeOutput::TtlProbe(ttl_probe) => ttl_probe,
        ProbeOutput::Probe(result) => panic!("{result:?}"),
    }
}

fn answers(ttl_probe: &TtlProbe) -> Vec<TtlStepAnswer> {
    ttl_probe.steps.iter().map(|step| step.answer).collect()
}

#[test]
fn a_ttl_probe_distinguishes_routed_from_bridged() {
    let answered = |hop_limit| TtlStepAnswer::SynAck {
        from: service(),
        hop_limit,
    };
    let mut bridged = sim().with(fault::translate(
        service(),
        pod(),
        ReplyTranslation::Applied,
    ));
    assert_eq!(answers(&run_ttl_probe(&mut bridged)), [answered(64); 4]);

    let other: IpAddr = IpAddr::from([100, 96, 2, 0]);
    let mut routed = sim()
        .with(fault::translate(
            service(),
            pod(),
            ReplyTranslation::Applied,
        ))
        .with(fault::router(gateway()))
        .with(fault::router(other));
    let expired = |hop_limit| TtlStepAnswer::TimeExceeded {
        by: service().ip(),
        hop_limit,
    };
    let started = routed.now();
    let ttl_probe = run_ttl_probe(&mut routed);
    assert_eq!(
        answers(&ttl_probe),
        [expired(64), expired(63), answered(62), answered(62)]
    );
    assert!(ttl_probe.steps.iter().all(|step| step.tries == 1));
    assert!(routed.now().since(started) < Duration::from_secs(4));
}

#[test]
fn a_ttl_probe_of_the_founding_fault_names_the_pod_that_answers() {
    let mut sim = sim().with(fault::router(gateway())).with(fault::translate(
        service(),
        pod(),
        ReplyTranslation::Missing,
    ));
    let answered = TtlStepAnswer::SynAck {
        from: pod(),
        hop_limit: 63,
    };
    let ttl_probe = run_ttl_probe(&mut sim);
    assert_eq!(
        ttl_probe.steps[0].answer,
        TtlStepAnswer::TimeExceeded {
            by: gateway(),
            hop_limit: 64
        }
    );
    assert_eq!(answers(&ttl_probe)[1..], [answered; 3]);
}

#[test]
fn a_ttl_probe_is_silent_behind_a_drop_and_tries_each_silent_step_three_times() {
    let mut sim = sim()
        .with(fault::router(gateway()))
        .with(fault::block(Toward::Server));
    let started = sim.now();
    let ttl_probe = run_ttl_probe(&mut sim);
    assert_eq!(
        answers(&ttl_probe),
        [
            TtlStepAnswer::TimeExceeded {
                by: gateway(),
                hop_limit: 64
            },
            TtlStepAnswer::Silent,
            TtlStepAnswer::Silent,
            TtlStepAnswer::Silent
        ]
    );
    let tries: Vec<u8> = ttl_probe.steps.iter().map(|step| step.tries).collect();
    assert_eq!(tries, [1, 3, 3, 3]);
    assert!(sim.now().since(started) < Duration::from_secs(6));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn with_loss_delay_and_duplicates_every_probe_ends_and_an_exchange_completes_or_is_reported(
        seed: u64,
        loss in 0_u32..300_000,
        duplicate in 0_u32..300_000,
        jitter_us in 1_u64..50_000,
        echo_bytes in 0_u32..20_000,
    ) {
        let server = Server::new(pod(), ServerBehaviour::Healthy);
        let mut sim = SimulatedNetwork::new(server, Duration::from_micros(100), seed)
            .with(fault::lose(loss))
            .with(fault::duplicate(duplicate, Duration::from_millis(30)))
            .with(fault::jitter(Duration::from_micros(jitter_us)))
            .with(fault::translate(service(), pod(), ReplyTranslation::Applied))
            .with_server_traces([8080]);
        let mut plan = plan(service(), exchange(echo_bytes));
        plan.deadline_ms = 20_000;
        let started = sim.now();
        let results = probes(&mut sim, &plan, 20);
        prop_assert_eq!(results.len(), 20);
        prop_assert!(sim.now().since(started) < Duration::from_mins(1));
        let now = sim.now();
        let seen = sim.server_traces().unwrap().flush(now);
        for result in &results {
            let kind = result.outcome.kind();
            prop_assert!(matches!(kind, OutcomeKind::Established | OutcomeKind::Timeout));
            if let Outcome::Established { rtt_ns, connect_ns } = result.outcome {
                prop_assert!(rtt_ns <= connect_ns);
                prop_assert!(seen.iter().any(|one| Some(one.isn) == result.isn));
            }
            match &result.exchange {
                Exchange::BannerReceived { banner, echo } => {
                    prop_assert_eq!(banner.peer, result.src);
                    match echo {
                        Echo::NotTried => prop_assert_eq!(echo_bytes, 0),
                        Echo::Complete { bytes } => prop_assert_eq!(*bytes, echo_bytes),
                        Echo::Stalled { sent, received } => prop_assert!(received < &echo_bytes && sent <= &echo_bytes),
                    }
                }
                Exchange::NotTried | Exchange::NoBanner | Exchange::Reset => prop_assert!(loss > 0),
                Exchange::InvalidBanner => prop_assert!(false, "a part of a banner was taken as an invalid banner: {:?}", result),
            }
        }
        // At least half succeed.
        if loss < 100_000 {
            let good = results.iter().filter(|result| matches!(result.exchange, Exchange::BannerReceived { echo: Echo::Complete { .. } | Echo::NotTried, .. })).count();
            prop_assert!(good >= 16, "only {} of 20 got through a loss of {} millionths", good, loss);
        }
    }

    #[test]
    fn a_reply_that_is_never_translated_is_never_established(seed: u64, loss in 0_u32..200_000) {
        let server = Server::new(pod(), ServerBehaviour::Healthy);
        let mut sim = SimulatedNetwork::new(server, Duration::from_micros(100), seed)
            .with(fault::lose(loss))
            .with(fault::translate(service(), pod(), ReplyTranslation::Missing));
        for result in probes(&mut sim, &plan(service(), Method::Syn), 20) {
            let kind = result.outcome.kind();
            prop_assert!(matches!(kind, OutcomeKind::Mismatched | OutcomeKind::Timeout));
        }
    }
}
