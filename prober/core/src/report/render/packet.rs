//! Packets as words, for the text and the HTML form.

use std::net::SocketAddr;

use crate::packet::observation::{Direction, Observation};
use crate::packet::{Body, IcmpKind, ResolutionKind, Tcp, TcpFlags, Unreachable};
use crate::report::annotation::{Annotation, End};
use crate::time::Timestamp;

/// The fields of one packet as words.
pub(super) struct PacketWords {
    /// Seconds since the first packet of the same end, on that end's clock.
    pub at: String,
    /// The direction, as an arrow.
    pub arrow: &'static str,
    /// The source and the destination.
    pub addresses: String,
    /// The kind of packet: TCP flags, the ICMP message, or the ARP or NDP message.
    pub what: String,
    /// The sequence numbers and the payload length.
    pub numbers: String,
    /// The remaining TTL or hop limit; empty if it has none.
    pub ttl: String,
}

/// The fields of `seen` as words, its time relative to `start`.
pub(super) fn describe(seen: &Observation, start: Timestamp) -> PacketWords {
    let (addresses, what, numbers, ttl) = match &seen.packet.body {
        Body::Tcp(ip, tcp) => (
            format!(
                "{} > {}",
                SocketAddr::new(ip.src, tcp.src_port),
                SocketAddr::new(ip.dst, tcp.dst_port)
            ),
            flags(tcp.flags),
            numbers(tcp),
            Some(ip.hop_limit),
        ),
        Body::Icmp(ip, icmp) => (
            format!("{} > {}", ip.src, ip.dst),
            match icmp.kind {
                IcmpKind::Unreachable { reason } => format!("ICMP {}", because(reason)),
                IcmpKind::TimeExceeded => "ICMP time exceeded".to_owned(),
                IcmpKind::PacketTooBig { mtu } => format!("ICMP too big, mtu {mtu}"),
                IcmpKind::Redirect { gateway } => format!("ICMP redirect to {gateway}"),
                IcmpKind::Other => format!("ICMP {}/{}", icmp.type_code.0, icmp.type_code.1),
            },
            icmp.quoted
                .map(|quoted| format!("about seq {}", quoted.seq.0))
                .unwrap_or_default(),
            Some(ip.hop_limit),
        ),
        Body::Resolution(resolution) => match (resolution.kind, resolution.sender_mac) {
            (ResolutionKind::Request, _) => (
                resolution.sender.to_string(),
                format!("who-has {}", resolution.target),
                String::new(),
                None,
            ),
            (ResolutionKind::Reply, mac) => (
                format!("{} > {}", resolution.sender, resolution.target),
                mac.map_or_else(|| "is here".to_owned(), |mac| format!("is at {mac}")),
                String::new(),
                None,
            ),
        },
    };
    PacketWords {
        at: seconds(seen.at, start),
        arrow: match seen.direction {
            Direction::Sent => "->",
            Direction::Received => "<-",
            Direction::Overheard => "..",
        },
        addresses,
        what,
        numbers,
        ttl: ttl.map(|left| format!("ttl {left}")).unwrap_or_default(),
    }
}

/// The seconds from `start` to `at`, to the microsecond.
pub(super) fn seconds(at: Timestamp, start: Timestamp) -> String {
    let micros = at.since(start).as_micros();
    format!("+{}.{:06}", micros / 1_000_000, micros % 1_000_000)
}

fn flags(flags: TcpFlags) -> String {
    let names: Vec<&str> = [
        (TcpFlags::SYN, "SYN"),
        (TcpFlags::FIN, "FIN"),
        (TcpFlags::RST, "RST"),
        (TcpFlags::PSH, "PSH"),
        (TcpFlags::ACK, "ACK"),
    ]
    .into_iter()
    .filter(|(flag, _)| flags.has(*flag))
    .map(|(_, name)| name)
    .collect();
    if names.is_empty() {
        "no flags".to_owned()
    } else {
        names.join("+")
    }
}

fn numbers(tcp: &Tcp) -> String {
    let ack = tcp.flags.has(TcpFlags::ACK);
    let parts = [
        Some(format!("seq {}", tcp.seq.0)),
        ack.then(|| format!("ack {}", tcp.ack.0)),
        (tcp.payload_len > 0).then(|| format!("len {}", tcp.payload_len)),
    ];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    parts.join(" ")
}

const fn because(reason: Unreachable) -> &'static str {
    match reason {
        Unreachable::Network => "no route to the network",
        Unreachable::Host => "the host does not answer",
        Unreachable::Port => "port unreachable",
        Unreachable::Prohibited => "prohibited by a filter",
        Unreachable::Other => "unreachable",
    }
}

/// The annotation of the packet with the index `packet` at `end`, if it has one.
pub(super) fn find_annotation(
    annotations: &[Annotation],
    end: End,
    packet: usize,
) -> Option<&Annotation> {
    annotations
        .iter()
        .find(|annotation| annotation.end == end && annotation.packet == packet)
}
