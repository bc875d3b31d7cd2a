//! Tests of the handshake: the transition table, examples packet by packet, and arbitrary packets in any order. The
//! simulated network tests both ends together.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::*;
use crate::packet::observation::Direction;
use crate::packet::{
    Body, Checksum, Icmp, IcmpKind, Ip, Packet, Quoted, Tcp, TcpOptions, Unreachable,
};
use crate::probe::outcome::{Echo, OutcomeKind};

/// Examples, packet by packet.
mod examples;
/// Arbitrary packets in any order.
mod properties;
/// Every state and every event.
mod table;

const ISN: Seq = Seq(0xc0ff_ee42);
const SERVER_ISN: Seq = Seq(0xffff_fffe);
const START: Timestamp = Timestamp::from_nanos(1_000_000_000_000);

fn client() -> SocketAddr {
    "100.96.1.10:40000".parse().unwrap()
}

fn service() -> SocketAddr {
    "100.67.30.133:80".parse().unwrap()
}

fn pod() -> SocketAddr {
    "100.96.1.20:8080".parse().unwrap()
}

/// The kernel's RST to a SYN+ACK without a matching socket.
fn refusal() -> Body {
    tcp(client(), service(), TcpFlags::RST, ISN.add(1), Seq(0))
}

fn gateway() -> IpAddr {
    "100.96.1.1".parse().unwrap()
}

fn config() -> HandshakeConfig {
    HandshakeConfig {
        path: PathId(3),
        src: client(),
        dst: service(),
        deadline: Duration::from_secs(3),
    }
}

fn driver(goal: Goal) -> Handshake {
    let role = HandshakeRole::Driver {
        isn: ISN,
        mss: 1410,
        goal,
    };
    let mut handshake = Handshake::new(config(), role);
    handshake.start(START);
    handshake
}

fn observer() -> Handshake {
    let mut handshake = Handshake::new(config(), HandshakeRole::Observer);
    handshake.start(START);
    handshake
}

fn ms(ms: u64) -> Timestamp {
    START + Duration::from_millis(ms)
}

fn tcp(from: SocketAddr, to: SocketAddr, flags: TcpFlags, seq: Seq, ack: Seq) -> Body {
    Body::Tcp(
        Ip {
            src: from.ip(),
            dst: to.ip(),
            hop_limit: 64,
            ident: 1,
        },
        Tcp {
            src_port: from.port(),
            dst_port: to.port(),
            seq,
            ack,
            flags,
            window: 64240,
            options: TcpOptions::default(),
            payload_len: 0,
            checksum: Checksum::Unknown,
        },
    )
}

fn with_payload(body: Body, bytes: usize) -> Body {
    match body {
        Body::Tcp(ip, tcp) => Body::Tcp(
            ip,
            Tcp {
                payload_len: u32::try_from(bytes).unwrap(),
                ..tcp
            },
        ),
        Body::Icmp(..) | Body::Resolution(_) => body,
    }
}

fn syn_ack_from(from: SocketAddr) -> Body {
    tcp(from, client(), TcpFlags::SYN_ACK, SERVER_ISN, ISN.add(1))
}

fn own_syn() -> Body {
    tcp(client(), service(), TcpFlags::SYN, ISN, Seq(0))
}

fn reset_from(from: SocketAddr) -> Body {
    let flags = TcpFlags::RST.with(TcpFlags::ACK);
    tcp(from, client(), flags, Seq(0), ISN.add(1))
}

fn unreachable(seq: Seq) -> Body {
    Body::Icmp(
        Ip {
            src: gateway(),
            dst: client().ip(),
            hop_limit: 64,
            ident: 1,
        },
        Icmp {
            kind: IcmpKind::Unreachable {
                reason: Unreachable::Port,
            },
            type_code: (3, 3),
            quoted: Some(Quoted {
                src: client(),
                dst: service(),
                hop_limit: 63,
                seq,
                checksum: Checksum::Unknown,
            }),
        },
    )
}

fn seen(at: Timestamp, direction: Direction, body: Body) -> Observation {
    Observation {
        at,
        direction,
        packet: Packet { link: None, body },
    }
}

fn sent(at: Timestamp, body: Body) -> Observation {
    seen(at, Direction::Sent, body)
}

fn received(at: Timestamp, body: Body) -> Observation {
    seen(at, Direction::Received, body)
}

fn transmitted(handshake: &mut Handshake) -> Vec<TcpSegment> {
    let mut out = Vec::new();
    handshake.poll_transmit(&mut out);
    out
}

/// Advances time until the handshake is done.
fn run_out(handshake: &mut Handshake) {
    for _ in 0..1000 {
        let Some((at, _)) = handshake.poll_timeout() else {
            return;
        };
        handshake.handle_timeout(at);
        transmitted(handshake);
    }
    panic!("it never ends");
}
