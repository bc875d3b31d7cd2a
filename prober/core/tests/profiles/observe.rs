//! Packets as the capture of an agent has them.

use std::net::{IpAddr, SocketAddr};

use prober_core::packet::mac::Mac;
use prober_core::packet::observation::{Direction, Observation};
use prober_core::packet::{
    Body, Checksum, EthernetAddresses, Icmp, IcmpKind, Ip, Packet as Captured, Quoted, Resolution,
    ResolutionKind, Seq, Tcp, TcpFlags, TcpOptions, Unreachable,
};
use prober_core::probe::event::ServerTrace;
use prober_core::time::Timestamp;

use super::packet::{self, IcmpError, Packet};

/// Nanoseconds of a millisecond.
pub(crate) const MS: u64 = 1_000_000;

/// The fields of a TCP segment that the way does not change.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Segment {
    pub(crate) flags: TcpFlags,
    pub(crate) seq: Seq,
    pub(crate) ack: Seq,
    pub(crate) payload_len: u32,
}

impl Segment {
    pub(crate) const fn new(flags: TcpFlags, seq: Seq, ack: Seq) -> Self {
        Self {
            flags,
            seq,
            ack,
            payload_len: 0,
        }
    }
}

/// A TCP segment at one end.
pub(crate) fn tcp(
    at: u64,
    direction: Direction,
    (src_mac, dst_mac): (Mac, Mac),
    packet: Packet,
    segment: Segment,
) -> Observation {
    let ip = Ip {
        src: packet.src.ip(),
        dst: packet.dst.ip(),
        hop_limit: packet.ttl,
        ident: 0,
    };
    let tcp = Tcp {
        src_port: packet.src.port(),
        dst_port: packet.dst.port(),
        seq: segment.seq,
        ack: segment.ack,
        flags: segment.flags,
        window: 64240,
        options: TcpOptions::default(),
        payload_len: segment.payload_len,
        checksum: Checksum::Unknown,
    };
    observation(at, direction, (src_mac, dst_mac), Body::Tcp(ip, tcp))
}

/// An ICMP error that the client receives.
pub(crate) fn icmp(
    at: u64,
    macs: (Mac, Mac),
    packet: Packet,
    error: &IcmpError,
    (src, dst, seq): (SocketAddr, SocketAddr, Seq),
) -> Observation {
    let is_v4 = packet.src.is_ipv4();
    let (kind, type_code) = match error.what {
        packet::Icmp::TimeExceeded => {
            (IcmpKind::TimeExceeded, if is_v4 { (11, 0) } else { (3, 0) })
        }
        packet::Icmp::Unreachable(reason) => {
            let code = match (reason, is_v4) {
                (Unreachable::Network, _) => 0,
                (Unreachable::Host, true) | (Unreachable::Prohibited, false) => 1,
                (Unreachable::Host, false) | (Unreachable::Port, true) => 3,
                (Unreachable::Port, false) => 4,
                (Unreachable::Prohibited, true) => 13,
                (Unreachable::Other, _) => 2,
            };
            let kind = IcmpKind::Unreachable { reason };
            (kind, (if is_v4 { 3 } else { 1 }, code))
        }
    };
    let ip = Ip {
        src: packet.src.ip(),
        dst: packet.dst.ip(),
        hop_limit: packet.ttl,
        ident: 0,
    };
    let quoted = Quoted {
        src,
        dst,
        hop_limit: error.quoted_ttl,
        seq,
        checksum: Checksum::Unknown,
    };
    let icmp = Icmp {
        kind,
        type_code,
        quoted: Some(quoted),
    };
    observation(at, Direction::Received, macs, Body::Icmp(ip, icmp))
}

/// A neighbour resolution that a pod of the same segment receives.
pub(crate) fn resolution(
    at: u64,
    kind: ResolutionKind,
    sender: (IpAddr, Mac),
    target: IpAddr,
) -> Observation {
    let resolution = Resolution {
        kind,
        sender: sender.0,
        sender_mac: Some(sender.1),
        target,
    };
    let macs = (sender.1, Mac::BROADCAST);
    observation(at, Direction::Received, macs, Body::Resolution(resolution))
}

fn observation(at: u64, direction: Direction, macs: (Mac, Mac), body: Body) -> Observation {
    Observation {
        at: Timestamp::from_nanos(at),
        direction,
        packet: Captured {
            link: Some(EthernetAddresses {
                src: macs.0,
                dst: Some(macs.1),
            }),
            body,
        },
    }
}

/// The trace of a server that observed these packets of a handshake.
pub(crate) fn server_trace(isn: Seq, observations: Vec<Observation>) -> ServerTrace {
    let count = |direction, wanted: fn(TcpFlags) -> bool| {
        let seen = |one: &&Observation| {
            let tcp = one.packet.tcp();
            one.direction == direction && tcp.is_some_and(|(_, tcp)| wanted(tcp.flags))
        };
        u32::try_from(observations.iter().filter(seen).count()).unwrap()
    };
    let first = observations[0].packet;
    ServerTrace {
        isn,
        peer: first.tcp_src().unwrap(),
        local: first.tcp_dst().unwrap(),
        syns: count(Direction::Received, TcpFlags::is_syn),
        syn_acks: count(Direction::Sent, TcpFlags::is_syn_ack),
        acks: count(Direction::Received, |flags| {
            flags.has(TcpFlags::ACK) && !flags.has(TcpFlags::RST) && !flags.has(TcpFlags::SYN)
        }),
        resets_received: count(Direction::Received, |flags| flags.has(TcpFlags::RST)),
        resets_sent: count(Direction::Sent, |flags| flags.has(TcpFlags::RST)),
        observations,
    }
}
