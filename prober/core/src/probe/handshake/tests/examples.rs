//! Examples, packet by packet.

use super::*;

const SERVER_NEXT: Seq = SERVER_ISN.add(1);

#[test]
fn a_half_open_probe_sends_a_syn_and_resets_the_connection() {
    let mut handshake = driver(Goal::HalfOpen);
    let syn = transmitted(&mut handshake);
    assert_eq!(syn.len(), 1);
    assert_eq!(
        (syn[0].flags, syn[0].seq, syn[0].dst),
        (TcpFlags::SYN, ISN, service())
    );
    handshake.observe(&sent(ms(0), own_syn()), &[]);
    handshake.observe(&received(ms(2), syn_ack_from(service())), &[]);
    let reset = transmitted(&mut handshake);
    assert_eq!(reset.len(), 1);
    assert_eq!(
        (reset[0].flags, reset[0].seq, reset[0].dst),
        (TcpFlags::RST, ISN.add(1), service())
    );
    // A second SYN+ACK while lingering is recorded and reset, too.
    handshake.observe(&received(ms(3), syn_ack_from(service())), &[]);
    assert_eq!(transmitted(&mut handshake).len(), 1);
    run_out(&mut handshake);
    let result = handshake.finish();
    assert_eq!(
        result.outcome,
        Outcome::Established {
            rtt_ns: 2_000_000,
            connect_ns: 2_000_000
        }
    );
    assert_eq!(result.server_isn, Some(SERVER_ISN));
    assert_eq!((result.syns, result.observations.len()), (1, 3));
    assert!(result.is_first_syn_success());
}

#[test]
fn the_founding_fault_is_mismatched_after_one_retransmission() {
    let mut handshake = driver(Goal::HalfOpen);
    transmitted(&mut handshake);
    handshake.observe(&sent(ms(0), own_syn()), &[]);
    handshake.observe(&received(ms(1), syn_ack_from(pod())), &[]);
    let refused = transmitted(&mut handshake);
    assert_eq!(
        (refused[0].flags, refused[0].seq, refused[0].dst),
        (TcpFlags::RST, ISN.add(1), pod())
    );
    handshake.handle_timeout(ms(1000));
    assert_eq!(transmitted(&mut handshake)[0].flags, TcpFlags::SYN);
    handshake.observe(&sent(ms(1000), own_syn()), &[]);
    handshake.observe(&received(ms(1001), syn_ack_from(pod())), &[]);
    assert_eq!(
        handshake.poll_timeout(),
        Some((ms(1101), Timer::WrongSource)),
        "1.1 s after the first answer, not after the last"
    );
    run_out(&mut handshake);
    let result = handshake.finish();
    assert_eq!(result.outcome, Outcome::Mismatched { from: pod() });
    assert_eq!((result.syns, result.observations.len()), (2, 4));
}

#[test]
fn an_answer_that_the_capture_lost_is_known_by_the_reset_of_the_kernel() {
    let mut handshake = driver(Goal::HalfOpen);
    transmitted(&mut handshake);
    handshake.observe(&sent(ms(0), own_syn()), &[]);
    handshake.observe(&sent(ms(1), refusal()), &[]);
    run_out(&mut handshake);
    let result = handshake.finish();
    assert!(result.is_first_syn_success());
    assert_eq!(result.server_isn, None);
}

#[test]
fn a_right_answer_after_a_wrong_one_counts() {
    let mut handshake = driver(Goal::HalfOpen);
    handshake.observe(&received(ms(1), syn_ack_from(pod())), &[]);
    handshake.observe(&received(ms(1002), syn_ack_from(service())), &[]);
    run_out(&mut handshake);
    assert_eq!(handshake.finish().outcome.kind(), OutcomeKind::Established);
}

#[test]
fn an_answer_after_the_deadline_is_late_also_before_the_timeout_is_handled() {
    let mut handshake = driver(Goal::HalfOpen);
    handshake.observe(&received(ms(3001), syn_ack_from(service())), &[]);
    run_out(&mut handshake);
    assert_eq!(handshake.finish().outcome, Outcome::Timeout);
}

#[test]
fn a_lost_first_syn_shows_in_the_count_and_not_in_the_round_trip() {
    let mut handshake = observer();
    handshake.observe(&sent(ms(0), own_syn()), &[]);
    handshake.observe(&sent(ms(1010), own_syn()), &[]);
    handshake.observe(&received(ms(1012), syn_ack_from(service())), &[]);
    handshake.socket_closed(Exchange::NoBanner, ms(1020));
    run_out(&mut handshake);
    let result = handshake.finish();
    assert_eq!(
        result.outcome,
        Outcome::Established {
            rtt_ns: 2_000_000,
            connect_ns: 1_012_000_000
        }
    );
    assert_eq!(
        (result.syns, result.exchange.clone()),
        (2, Exchange::NoBanner)
    );
    assert!(!result.is_first_syn_success());
}

#[test]
fn an_echoed_timestamp_names_the_syn_that_was_answered() {
    let with_time = |body: Body, value, echo| match body {
        Body::Tcp(ip, tcp) => Body::Tcp(
            ip,
            Tcp {
                options: TcpOptions {
                    timestamps: Some((value, echo)),
                    ..tcp.options
                },
                ..tcp
            },
        ),
        Body::Icmp(..) | Body::Resolution(_) => body,
    };
    let mut handshake = observer();
    handshake.observe(&sent(ms(0), with_time(own_syn(), 70, 0)), &[]);
    handshake.observe(&sent(ms(1000), with_time(own_syn(), 1070, 0)), &[]);
    let answer = with_time(syn_ack_from(service()), 9, 70);
    handshake.observe(&received(ms(1100), answer), &[]);
    assert_eq!(
        handshake.outcome(),
        Some(Outcome::Established {
            rtt_ns: 1_100_000_000,
            connect_ns: 1_100_000_000
        })
    );
}

#[test]
fn a_reset_that_does_not_acknowledge_the_syn_is_recorded_and_changes_nothing() {
    for (flags, ack) in [
        (TcpFlags::RST, ISN.add(1)),
        (TcpFlags::RST.with(TcpFlags::ACK), ISN),
        (TcpFlags::RST.with(TcpFlags::ACK), ISN.add(2)),
    ] {
        let mut handshake = driver(Goal::HalfOpen);
        let reset = tcp(service(), client(), flags, Seq(0), ack);
        handshake.observe(&received(ms(1), reset), &[]);
        assert_eq!(handshake.outcome(), None);
        run_out(&mut handshake);
        let result = handshake.finish();
        assert_eq!(result.outcome, Outcome::Timeout);
        assert_eq!(result.observations.len(), 1);
    }
}

#[test]
fn an_acceptable_reset_ends_the_probe_and_has_its_hop_limit() {
    let mut handshake = driver(Goal::HalfOpen);
    handshake.observe(&received(ms(1), reset_from(service())), &[]);
    assert_eq!(
        handshake.outcome(),
        Some(Outcome::Reset {
            by: service().ip(),
            hop_limit: 64
        })
    );
}

#[test]
fn an_answer_with_a_wrong_number_is_ignored_from_any_source() {
    for from in [service(), pod()] {
        let mut handshake = driver(Goal::HalfOpen);
        let stray = tcp(from, client(), TcpFlags::SYN_ACK, SERVER_ISN, ISN);
        handshake.observe(&received(ms(1), stray), &[]);
        assert_eq!(handshake.state, State::SynSent);
    }
}

#[test]
fn an_overheard_or_corrupt_answer_is_no_answer() {
    let corrupt = match syn_ack_from(service()) {
        Body::Tcp(ip, tcp) => Body::Tcp(
            ip,
            Tcp {
                checksum: Checksum::Invalid,
                ..tcp
            },
        ),
        body @ (Body::Icmp(..) | Body::Resolution(_)) => body,
    };
    let mut handshake = driver(Goal::HalfOpen);
    let overheard = seen(ms(1), Direction::Overheard, syn_ack_from(service()));
    handshake.observe(&overheard, &[]);
    handshake.observe(&received(ms(2), corrupt), &[]);
    assert_eq!(handshake.state, State::SynSent);
    run_out(&mut handshake);
    assert_eq!(handshake.finish().observations.len(), 2);
}

#[test]
fn an_icmp_error_waits_a_moment_for_an_answer_and_one_about_another_syn_does_not_count() {
    let mut handshake = driver(Goal::HalfOpen);
    handshake.observe(&received(ms(1), unreachable(ISN.add(9))), &[]);
    assert_eq!(handshake.state, State::SynSent);
    handshake.observe(&received(ms(2), unreachable(ISN)), &[]);
    assert_eq!(
        handshake.poll_timeout(),
        Some((ms(102), Timer::Unreachable))
    );
    run_out(&mut handshake);
    assert_eq!(
        handshake.finish().outcome,
        Outcome::Unreachable {
            by: Some(gateway()),
            reason: Unreachable::Port
        }
    );
}

#[test]
fn an_unanswered_probe_retransmits_each_second_and_resets_at_its_deadline() {
    let mut handshake = driver(Goal::HalfOpen);
    let mut flags = Vec::new();
    transmitted(&mut handshake);
    while let Some((at, _)) = handshake.poll_timeout() {
        handshake.handle_timeout(at);
        for segment in transmitted(&mut handshake) {
            flags.push((at.since(START).as_millis(), segment.flags));
        }
    }
    assert_eq!(
        flags,
        [
            (1000, TcpFlags::SYN),
            (2000, TcpFlags::SYN),
            (3000, TcpFlags::RST)
        ]
    );
    let result = handshake.finish();
    assert_eq!((result.outcome, result.syns), (Outcome::Timeout, 3));
}

#[test]
fn an_observer_sends_nothing_and_takes_the_number_of_a_lost_syn_from_its_answer() {
    let mut handshake = observer();
    handshake.observe(&received(ms(1), syn_ack_from(service())), &[]);
    handshake.observe(&received(ms(2), syn_ack_from(pod())), &[]);
    handshake.socket_closed(Exchange::NotTried, ms(3));
    assert_eq!(transmitted(&mut handshake), []);
    run_out(&mut handshake);
    let result = handshake.finish();
    assert_eq!(result.isn, Some(ISN));
    assert_eq!(result.outcome.kind(), OutcomeKind::Established);
}

#[test]
fn a_socket_that_closes_before_its_packets_does_not_change_the_round_trip() {
    let mut handshake = observer();
    handshake.socket_closed(Exchange::NoBanner, ms(2));
    handshake.observe(&sent(ms(0), own_syn()), &[]);
    handshake.observe(&received(ms(1), syn_ack_from(service())), &[]);
    assert_eq!(handshake.poll_timeout(), Some((ms(102), Timer::Linger)));
    run_out(&mut handshake);
    let result = handshake.finish();
    let took = 1_000_000;
    assert_eq!(
        result.outcome,
        Outcome::Established {
            rtt_ns: took,
            connect_ns: took
        }
    );
    assert_eq!(result.exchange, Exchange::NoBanner);
}

#[test]
fn under_socket_level_translation_the_destination_of_the_syn_is_the_target() {
    let mut handshake = observer();
    let syn = tcp(client(), pod(), TcpFlags::SYN, ISN, Seq(0));
    handshake.observe(&sent(ms(0), syn), &[]);
    handshake.observe(&received(ms(1), syn_ack_from(pod())), &[]);
    handshake.socket_closed(Exchange::NotTried, ms(2));
    run_out(&mut handshake);
    let result = handshake.finish();
    assert_eq!(result.outcome.kind(), OutcomeKind::Established);
    assert_eq!(result.dst, service(), "it is still the Service's probe");
}

/// The server's end of a connection with `handshake`: sends bytes, and returns the answers.
fn say(
    handshake: &mut Handshake,
    at: u64,
    offset: u32,
    flags: TcpFlags,
    bytes: &[u8],
) -> Vec<TcpSegment> {
    let ack = handshake
        .stream
        .as_ref()
        .map_or(ISN.add(1), |stream| stream.next_to_send());
    let body = with_payload(
        tcp(
            service(),
            client(),
            flags.with(TcpFlags::ACK),
            SERVER_NEXT.add(offset),
            ack,
        ),
        bytes.len(),
    );
    handshake.observe(&received(ms(at), body), bytes);
    transmitted(handshake)
}

const BANNER: &[u8] =
    b"PROBER/1 nonce=00000000000000ff pod=server node=node-1 peer=100.96.1.10:40000\n";

fn greeted(mut handshake: Handshake) -> Echo {
    let result = handshake.finish();
    let Exchange::BannerReceived { banner, echo } = result.exchange else {
        panic!("{result:?}")
    };
    assert_eq!(banner.nonce, 255);
    echo
}

#[test]
fn a_full_probe_gets_the_banner_and_closes() {
    let mut handshake = driver(Goal::Exchange { echo_bytes: 0 });
    transmitted(&mut handshake);
    handshake.observe(&received(ms(1), syn_ack_from(service())), &[]);
    let ack = transmitted(&mut handshake);
    assert_eq!((ack[0].flags, ack[0].ack), (TcpFlags::ACK, SERVER_NEXT));
    let fin = say(&mut handshake, 2, 0, TcpFlags::PSH, BANNER);
    assert_eq!(fin.len(), 1);
    assert_eq!(fin[0].flags, TcpFlags::FIN.with(TcpFlags::ACK));
    let len = u32::try_from(BANNER.len()).unwrap();
    let last = say(&mut handshake, 3, len, TcpFlags::FIN, &[]);
    assert_eq!(
        (last[0].flags, last[0].ack),
        (TcpFlags::ACK, SERVER_NEXT.add(len + 1))
    );
    assert_eq!(handshake.state, State::Closing);
    assert_eq!(greeted(handshake), Echo::NotTried);
}

#[test]
fn a_banner_in_pieces_out_of_order_and_repeated_is_still_one_banner() {
    let mut handshake = driver(Goal::Exchange { echo_bytes: 0 });
    handshake.observe(&received(ms(1), syn_ack_from(service())), &[]);
    say(&mut handshake, 2, 30, TcpFlags::PSH, &BANNER[30..]);
    say(&mut handshake, 3, 0, TcpFlags::PSH, &BANNER[..40]);
    say(&mut handshake, 4, 0, TcpFlags::PSH, &BANNER[..20]);
    say(&mut handshake, 5, 20, TcpFlags::PSH, &BANNER[20..]);
    assert_eq!(greeted(handshake), Echo::NotTried);
}

#[test]
fn a_bulk_echo_uses_full_segments_and_counts_returned_bytes() {
    let mut handshake = driver(Goal::Exchange { echo_bytes: 5000 });
    handshake.observe(&received(ms(1), syn_ack_from(service())), &[]);
    let data = say(&mut handshake, 2, 0, TcpFlags::PSH, BANNER);
    // Without the option, the MSS of the server is 536.
    assert!(
        data.iter()
            .take(9)
            .all(|segment| segment.payload.len() == 536)
    );
    let bytes: Vec<u8> = data
        .iter()
        .flat_map(|segment| segment.payload.clone())
        .collect();
    assert_eq!(bytes.len(), 5000);
    assert_eq!(bytes[300], pattern(300));
    let len = u32::try_from(BANNER.len()).unwrap();
    let fin = say(&mut handshake, 3, len, TcpFlags::PSH, &bytes);
    assert!(fin[0].flags.has(TcpFlags::FIN));
    assert_eq!(greeted(handshake), Echo::Complete { bytes: 5000 });
}

#[test]
fn an_unacknowledged_echo_is_retransmitted_and_stalls_at_the_deadline() {
    let mut handshake = driver(Goal::Exchange { echo_bytes: 1000 });
    handshake.observe(&received(ms(1), syn_ack_from(service())), &[]);
    let ack = ISN.add(1);
    let banner = with_payload(
        tcp(service(), client(), TcpFlags::ACK, SERVER_NEXT, ack),
        BANNER.len(),
    );
    handshake.observe(&received(ms(2), banner), BANNER);
    let first = transmitted(&mut handshake);
    assert_eq!(handshake.poll_timeout(), Some((ms(302), Timer::Resend)));
    handshake.handle_timeout(ms(302));
    assert_eq!(transmitted(&mut handshake).len(), first.len());
    run_out(&mut handshake);
    let echo = Echo::Stalled {
        sent: 1000,
        received: 0,
    };
    assert_eq!(greeted(handshake), echo);
}

#[test]
fn a_server_without_a_banner_is_invalid_silent_or_resets() {
    let open = || {
        let mut handshake = driver(Goal::Exchange { echo_bytes: 0 });
        handshake.observe(&received(ms(1), syn_ack_from(service())), &[]);
        handshake
    };
    let mut foreign = open();
    say(&mut foreign, 2, 0, TcpFlags::PSH, b"220 mail ready\n");
    assert_eq!(foreign.finish().exchange, Exchange::InvalidBanner);

    let mut frozen = open();
    run_out(&mut frozen);
    assert_eq!(frozen.finish().exchange, Exchange::NoBanner);

    let mut reset = open();
    let rst = tcp(service(), client(), TcpFlags::RST, SERVER_NEXT, Seq(0));
    reset.observe(&received(ms(2), rst), &[]);
    assert!(
        transmitted(&mut reset)
            .iter()
            .all(|segment| !segment.flags.has(TcpFlags::FIN)),
        "nothing is sent after the server closed"
    );
    assert_eq!(reset.finish().exchange, Exchange::Reset);
}
