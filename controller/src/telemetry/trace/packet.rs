//! A packet as a span event: its kind, its direction, and its annotation.

use opentelemetry::KeyValue;
use opentelemetry::trace::Event;
use prober_core::packet::observation::{Direction, Observation};
use prober_core::packet::{Body, Icmp, IcmpKind, ResolutionKind, TcpFlags};
use prober_core::report::annotation::{Annotation, AnnotationKind};

/// The event of one packet, at its observer's time.
pub(super) fn event(seen: &Observation, annotation: Option<&Annotation>) -> Event {
    let direction = match seen.direction {
        Direction::Sent => "sent",
        Direction::Received => "received",
        Direction::Overheard => "overheard",
    };
    let mut attributes = vec![KeyValue::new("prober.packet.direction", direction)];
    let what = match &seen.packet.body {
        Body::Tcp(ip, tcp) => {
            attributes.extend([
                KeyValue::new("source.address", ip.src.to_string()),
                KeyValue::new("source.port", i64::from(tcp.src_port)),
                KeyValue::new("destination.address", ip.dst.to_string()),
                KeyValue::new("destination.port", i64::from(tcp.dst_port)),
                KeyValue::new("prober.packet.hop_limit", i64::from(ip.hop_limit)),
                KeyValue::new("prober.packet.seq", i64::from(tcp.seq.0)),
                KeyValue::new("prober.packet.ack", i64::from(tcp.ack.0)),
                KeyValue::new("prober.packet.payload", i64::from(tcp.payload_len)),
            ]);
            flags(tcp.flags)
        }
        Body::Icmp(ip, icmp) => {
            attributes.extend([
                KeyValue::new("source.address", ip.src.to_string()),
                KeyValue::new("destination.address", ip.dst.to_string()),
                KeyValue::new("prober.packet.hop_limit", i64::from(ip.hop_limit)),
            ]);
            message(icmp).to_owned()
        }
        Body::Resolution(resolution) => {
            attributes.extend([
                KeyValue::new("source.address", resolution.sender.to_string()),
                KeyValue::new("destination.address", resolution.target.to_string()),
            ]);
            match resolution.kind {
                ResolutionKind::Request => "neighbour request".to_owned(),
                ResolutionKind::Reply => "neighbour reply".to_owned(),
            }
        }
    };
    if let Some(annotation) = annotation {
        let kind = match annotation.kind {
            AnnotationKind::Odd => "odd",
            AnnotationKind::Follows => "follows",
        };
        attributes.push(KeyValue::new("prober.packet.annotation", kind));
        attributes.push(KeyValue::new("prober.packet.note", annotation.note.clone()));
    }
    Event::new(
        format!("{direction} {what}"),
        super::time(seen.at),
        attributes,
        0,
    )
}

/// `SYN+ACK`.
fn flags(flags: TcpFlags) -> String {
    let named = [
        (TcpFlags::SYN, "SYN"),
        (TcpFlags::FIN, "FIN"),
        (TcpFlags::RST, "RST"),
        (TcpFlags::PSH, "PSH"),
        (TcpFlags::ACK, "ACK"),
    ];
    let set: Vec<&str> = (named.into_iter())
        .filter(|(flag, _)| flags.has(*flag))
        .map(|(_, name)| name)
        .collect();
    if set.is_empty() {
        return "TCP without flags".to_owned();
    }
    set.join("+")
}

const fn message(icmp: &Icmp) -> &'static str {
    match icmp.kind {
        IcmpKind::Unreachable { .. } => "ICMP unreachable",
        IcmpKind::TimeExceeded => "ICMP time exceeded",
        IcmpKind::PacketTooBig { .. } => "ICMP packet too big",
        IcmpKind::Redirect { .. } => "ICMP redirect",
        IcmpKind::Other => "ICMP",
    }
}
