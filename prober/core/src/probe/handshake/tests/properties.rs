//! Arbitrary packets in any order, at any time: a handshake ends, stays bounded, and accepts only answers.

use proptest::prelude::*;

use super::*;
use crate::packet::{Resolution, ResolutionKind};

#[derive(Clone, Debug)]
enum Op {
    Packet {
        after_ms: u16,
        direction: Direction,
        body: Body,
        payload: Vec<u8>,
    },
    Wait(u16),
    Wake,
    Release,
    Transmit,
}

fn direction() -> impl Strategy<Value = Direction> {
    prop_oneof![
        1 => Just(Direction::Sent),
        6 => Just(Direction::Received),
        1 => Just(Direction::Overheard),
    ]
}

/// Mostly the addresses of this probe, sometimes others.
fn end() -> impl Strategy<Value = SocketAddr> {
    prop_oneof![
        5 => Just(client()),
        5 => Just(service()),
        2 => Just(pod()),
        1 => any::<SocketAddr>(),
    ]
}

/// Mostly numbers close to acceptable ones.
fn number() -> impl Strategy<Value = Seq> {
    prop_oneof![
        4 => (0_u32..4).prop_map(|n| ISN.add(n)),
        4 => (0_u32..200).prop_map(|n| SERVER_ISN.add(n)),
        1 => any::<u32>().prop_map(Seq),
    ]
}

fn segment_body() -> impl Strategy<Value = Body> {
    let flags = prop_oneof![
        Just(0x12_u8),
        Just(0x14),
        Just(0x04),
        Just(0x10),
        Just(0x18),
        Just(0x11),
        Just(0x02),
        any::<u8>(),
    ];
    let answers = (
        end(),
        number(),
        number(),
        flags,
        0_u32..3000,
        any::<u16>(),
        any::<bool>(),
    );
    answers.prop_map(|(from, seq, ack, flags, payload_len, window, ours)| {
        let (from, to) = if ours {
            (from, client())
        } else {
            (client(), from)
        };
        match tcp(from, to, TcpFlags(flags), seq, ack) {
            Body::Tcp(ip, tcp) => Body::Tcp(
                ip,
                Tcp {
                    window,
                    payload_len,
                    ..tcp
                },
            ),
            body @ (Body::Icmp(..) | Body::Resolution(_)) => body,
        }
    })
}

fn body() -> impl Strategy<Value = Body> {
    prop_oneof![
        8 => segment_body(),
        2 => number().prop_map(unreachable),
        1 => Just(Body::Resolution(Resolution {
            kind: ResolutionKind::Request,
            sender: gateway(),
            sender_mac: None,
            target: client().ip(),
        })),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    let payload = prop_oneof![
        Just(Vec::new()),
        Just(b"PROBER/1 nonce=1 pod=a node=b peer=1.2.3.4:5\n".to_vec()),
        prop::collection::vec(any::<u8>(), 0..64),
    ];
    let packet = (0_u16..400, direction(), body(), payload).prop_map(
        |(after_ms, direction, body, payload)| Op::Packet {
            after_ms,
            direction,
            body,
            payload,
        },
    );
    prop_oneof![
        10 => packet,
        2 => (0_u16..3000).prop_map(Op::Wait),
        3 => Just(Op::Wake),
        1 => Just(Op::Release),
        4 => Just(Op::Transmit),
    ]
}

fn role() -> impl Strategy<Value = HandshakeRole> {
    let driver = |goal| HandshakeRole::Driver {
        isn: ISN,
        mss: 1410,
        goal,
    };
    prop_oneof![
        Just(driver(Goal::HalfOpen)),
        (0_u32..5000).prop_map(move |echo_bytes| driver(Goal::Exchange { echo_bytes })),
        Just(HandshakeRole::Observer),
    ]
}

/// Whether a SYN was sent to this address. The socket of an observer may be translated.
fn syn_destination(observations: &[Observation], knows_isn: bool, address: SocketAddr) -> bool {
    let led_there = |observation: &Observation| {
        observation.direction == Direction::Sent
            && observation.packet.tcp_src() == Some(client())
            && observation.packet.tcp_dst() == Some(address)
            && (observation.packet.tcp()).is_some_and(|(_, tcp)| tcp.flags.is_syn())
    };
    address == service() || !knows_isn && observations.iter().any(led_there)
}

/// Whether one of these packets justifies an established outcome: an answer from the destination of a SYN, or, for a
/// driver, the own kernel's RST to such an answer.
fn was_answered(observations: &[Observation], knows_isn: bool) -> bool {
    let refused = |observation: &Observation| {
        knows_isn
            && observation.direction == Direction::Sent
            && observation.packet.tcp_src() == Some(client())
            && observation.packet.tcp_dst() == Some(service())
            && (observation.packet.tcp())
                .is_some_and(|(_, tcp)| tcp.flags == TcpFlags::RST && tcp.seq == ISN.add(1))
    };
    observations.iter().any(|observation| {
        refused(observation)
            || observation.direction == Direction::Received
                && observation
                    .packet
                    .tcp_src()
                    .is_some_and(|from| syn_destination(observations, knows_isn, from))
                && observation.packet.tcp_dst() == Some(client())
                && observation.packet.tcp().is_some_and(|(_, tcp)| {
                    tcp.flags.is_syn_ack() && (!knows_isn || tcp.ack == ISN.add(1))
                })
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn it_always_ends_and_accepts_only_answers(
        role in role(),
        ops in prop::collection::vec(op(), 0..80),
    ) {
        let is_driver = role != HandshakeRole::Observer;
        let mut handshake = Handshake::new(config(), role);
        handshake.start(START);
        let mut now = START;
        let mut fed = Vec::new();
        let mut known: Option<Outcome> = None;
        for op in ops {
            match op {
                Op::Packet { after_ms, direction, body, payload } => {
                    now = now + Duration::from_millis(u64::from(after_ms));
                    let observation = seen(now, direction, body);
                    handshake.observe(&observation, &payload);
                    fed.push(observation);
                }
                Op::Wait(ms) => {
                    now = now + Duration::from_millis(u64::from(ms));
                    handshake.handle_timeout(now);
                }
                Op::Wake => if let Some((at, _)) = handshake.poll_timeout() {
                    now = now.max(at);
                    handshake.handle_timeout(now);
                },
                Op::Release => if !is_driver {
                    handshake.socket_closed(Exchange::NoBanner, now);
                },
                Op::Transmit => {
                    let out = transmitted(&mut handshake);
                    prop_assert!(is_driver || out.is_empty(), "an observer sends nothing");
                    for segment in out {
                        prop_assert_eq!(segment.src, client());
                        prop_assert!(segment.payload.len() <= 1410);
                        let opens = segment.flags.is_syn();
                        prop_assert!(!opens || segment.seq == ISN);
                    }
                }
            }
            if let Some((at, _)) = handshake.poll_timeout() {
                handshake.handle_timeout(now);
                let after = handshake.poll_timeout();
                prop_assert!(after.is_none_or(|(at, _)| at > now), "a timer stays in the past: {at} {after:?}");
            }
            if let Some(before) = known {
                prop_assert_eq!(handshake.outcome(), Some(before), "an outcome changed");
            }
            known = handshake.outcome();
        }
        // Two deadlines, their lingers and the close timeout bound its duration.
        let bound = START + Duration::from_secs(3 + 3 + 1 + 1);
        for _ in 0..200 {
            let Some((at, _)) = handshake.poll_timeout() else { break };
            prop_assert!(at <= bound.max(now + Duration::from_millis(20)), "it waits until {at}");
            handshake.handle_timeout(at);
            transmitted(&mut handshake);
        }
        prop_assert!(handshake.is_done(), "it never ends");
        let result = handshake.finish();
        prop_assert!(result.observations.len() <= 64);
        match result.outcome {
            Outcome::Established { rtt_ns, connect_ns } => {
                prop_assert!(was_answered(&fed, is_driver));
                prop_assert!(rtt_ns <= connect_ns);
            }
            Outcome::Mismatched { from } => prop_assert!(!is_driver || from != service()),
            Outcome::Reset { by, .. } => prop_assert!(
                std::iter::once(service())
                    .chain(fed.iter().filter_map(|seen| seen.packet.tcp_dst()))
                    .any(|address| address.ip() == by && syn_destination(&fed, is_driver, address))
            ),
            Outcome::RefusedLocally { .. } => prop_assert!(!is_driver),
            Outcome::Unreachable { .. } | Outcome::Timeout => {}
        }
    }
}
