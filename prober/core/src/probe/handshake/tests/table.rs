//! The transition table: every state and every event.

use super::*;
use State::{Closing, Done, Idle, Open, Rejected, SynSent, WrongSource};

const STATES: [State; 7] = [Idle, SynSent, WrongSource, Rejected, Open, Closing, Done];

type Apply = Box<dyn Fn(&mut Handshake)>;

/// A driver of a full exchange in this state.
fn at(state: State) -> Handshake {
    let mut handshake = Handshake::new(
        config(),
        HandshakeRole::Driver {
            isn: ISN,
            mss: 1410,
            goal: Goal::Exchange { echo_bytes: 0 },
        },
    );
    if state != Idle {
        handshake.start(START);
    }
    match state {
        Idle | SynSent => {}
        WrongSource => handshake.observe(&received(ms(1), syn_ack_from(pod())), &[]),
        Rejected => handshake.observe(&received(ms(1), unreachable(ISN)), &[]),
        Open => handshake.observe(&received(ms(1), syn_ack_from(service())), &[]),
        Closing | Done => handshake.observe(&received(ms(1), reset_from(service())), &[]),
    }
    if state == Done {
        run_out(&mut handshake);
    }
    assert_eq!(handshake.state, state);
    handshake
}

/// The next state after an event, for each state in the order of [`STATES`].
fn row(event: impl Fn(&mut Handshake)) -> Vec<State> {
    STATES
        .iter()
        .map(|&state| {
            let mut handshake = at(state);
            event(&mut handshake);
            handshake.state
        })
        .collect()
}

fn packet(body: Body) -> impl Fn(&mut Handshake) {
    move |handshake| handshake.observe(&received(ms(2), body), &[])
}

#[test]
fn the_table_of_transitions_is_this() {
    let data = with_payload(
        tcp(
            service(),
            client(),
            TcpFlags::ACK,
            SERVER_ISN.add(1),
            ISN.add(1),
        ),
        5,
    );
    let reset_of_open = tcp(
        service(),
        client(),
        TcpFlags::RST,
        SERVER_ISN.add(1),
        Seq(0),
    );
    let table: [(&str, Apply, [State; 7]); 12] = [
        (
            "own SYN",
            Box::new(|handshake| handshake.observe(&sent(ms(2), own_syn()), &[])),
            [Idle, SynSent, WrongSource, Rejected, Open, Closing, Done],
        ),
        (
            "the own kernel's RST to the target",
            Box::new(|handshake| handshake.observe(&sent(ms(2), refusal()), &[])),
            [Idle, Closing, Closing, Closing, Open, Closing, Done],
        ),
        (
            "SYN+ACK of the target",
            Box::new(packet(syn_ack_from(service()))),
            [Idle, Open, Open, Open, Open, Closing, Done],
        ),
        (
            "SYN+ACK of another address",
            Box::new(packet(syn_ack_from(pod()))),
            [
                Idle,
                WrongSource,
                WrongSource,
                WrongSource,
                Open,
                Closing,
                Done,
            ],
        ),
        (
            "RST of another address",
            Box::new(packet(reset_from(pod()))),
            [
                Idle,
                WrongSource,
                WrongSource,
                WrongSource,
                Open,
                Closing,
                Done,
            ],
        ),
        (
            "RST that acknowledges the SYN",
            Box::new(packet(reset_from(service()))),
            [Idle, Closing, Closing, Closing, Open, Closing, Done],
        ),
        (
            "RST with the next number",
            Box::new(packet(reset_of_open)),
            [Idle, SynSent, WrongSource, Rejected, Closing, Closing, Done],
        ),
        (
            "ICMP unreachable",
            Box::new(packet(unreachable(ISN))),
            [Idle, Rejected, WrongSource, Rejected, Open, Closing, Done],
        ),
        (
            "data",
            Box::new(packet(data)),
            [Idle, SynSent, WrongSource, Rejected, Open, Closing, Done],
        ),
        (
            "a second",
            Box::new(|handshake| handshake.handle_timeout(ms(1010))),
            [Idle, SynSent, WrongSource, Closing, Open, Done, Done],
        ),
        (
            "its socket is closed",
            Box::new(|handshake| handshake.socket_closed(Exchange::NotTried, ms(2))),
            [Idle, SynSent, WrongSource, Rejected, Closing, Closing, Done],
        ),
        (
            "its own kernel refuses connect()",
            Box::new(|handshake| handshake.refuse_locally(Errno::Ehostunreach, ms(2))),
            [Idle, Closing, WrongSource, Rejected, Open, Closing, Done],
        ),
    ];
    for (event, apply, expected) in table {
        assert_eq!(row(apply), expected, "{event}");
    }
}

#[test]
fn every_state_but_the_first_and_the_last_has_a_timer() {
    let timers: Vec<Option<Timer>> = STATES
        .iter()
        .map(|&state| at(state).poll_timeout().map(|(_, timer)| timer))
        .collect();
    assert_eq!(
        timers,
        [
            None,
            Some(Timer::Resend),
            Some(Timer::Resend),
            Some(Timer::Unreachable),
            Some(Timer::Exchange),
            Some(Timer::Linger),
            None
        ]
    );
}
