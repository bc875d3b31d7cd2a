//! Rules of the simulated network: translations, and the faults of real networks.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::{Effect, PacketInTransit, Rule, Toward};
use crate::packet::{Body, Checksum, Icmp, IcmpKind, Ip, Packet, Quoted, TcpFlags, Unreachable};
use crate::time::nanos;

/// Whether replies of a translated connection are translated back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplyTranslation {
    /// Translated back, as in a healthy network.
    Applied,
    /// Not translated: the bridge does not pass packets to iptables.
    Missing,
}

/// A Service: translates packets to `service` to `pod`, and replies back.
pub fn translate(service: SocketAddr, pod: SocketAddr, reply: ReplyTranslation) -> Rule {
    Box::new(move |in_transit, _| {
        match (in_transit.toward, reply) {
            (Toward::Server, _) => replace_destination(&mut in_transit.packet, service, pod),
            (Toward::Client, ReplyTranslation::Applied) => {
                replace_source(&mut in_transit.packet, pod, service);
            }
            (Toward::Client, ReplyTranslation::Missing) => {}
        }
        Effect::Pass
    })
}

/// A router: decrements the hop limit, and answers with time exceeded when it is used up.
pub fn router(address: IpAddr) -> Rule {
    Box::new(move |in_transit, _| {
        let (Body::Tcp(ip, _) | Body::Icmp(ip, _)) = &mut in_transit.packet.body else {
            return Effect::Pass;
        };
        if ip.hop_limit <= 1 {
            return answer(in_transit, address, IcmpKind::TimeExceeded, (11, 0));
        }
        ip.hop_limit -= 1;
        Effect::Pass
    })
}

/// A REJECT rule: answers packets to the server with an ICMP error.
pub fn reject(by: IpAddr) -> Rule {
    Box::new(move |in_transit, _| match in_transit.toward {
        Toward::Server => {
            let reason = Unreachable::Port;
            answer(in_transit, by, IcmpKind::Unreachable { reason }, (3, 3))
        }
        Toward::Client => Effect::Pass,
    })
}

/// Drops this many millionths of all packets.
pub fn lose(millionths: u32) -> Rule {
    Box::new(move |_, random| {
        if random.happens(millionths) {
            Effect::Drop
        } else {
            Effect::Pass
        }
    })
}

/// Drops every packet in this direction.
pub fn block(toward: Toward) -> Rule {
    Box::new(move |in_transit, _| {
        if in_transit.toward == toward {
            Effect::Drop
        } else {
            Effect::Pass
        }
    })
}

/// Drops the first `count` SYNs.
pub fn lose_first_syns(count: u32) -> Rule {
    let mut left = count;
    Box::new(move |in_transit, _| {
        let is_syn = in_transit
            .packet
            .tcp()
            .is_some_and(|(_, tcp)| tcp.flags.is_syn());
        if is_syn && left > 0 {
            left -= 1;
            return Effect::Drop;
        }
        Effect::Pass
    })
}

/// Drops packets with more payload than this: an MTU black hole.
pub fn lose_larger_than(payload: u32) -> Rule {
    Box::new(move |in_transit, _| {
        let larger = in_transit
            .packet
            .tcp()
            .is_some_and(|(_, tcp)| tcp.payload_len > payload);
        if larger { Effect::Drop } else { Effect::Pass }
    })
}

/// Delays each packet by up to `most`, which reorders packets.
pub fn jitter(most: Duration) -> Rule {
    Box::new(move |in_transit, random| {
        in_transit.at = in_transit.at + Duration::from_nanos(random.below(nanos(most)));
        Effect::Pass
    })
}

/// Duplicates this many millionths of all packets; the copy arrives up to `later` afterwards.
pub fn duplicate(millionths: u32, later: Duration) -> Rule {
    Box::new(move |_, random| {
        if random.happens(millionths) {
            Effect::Duplicate(Duration::from_nanos(random.below(nanos(later))))
        } else {
            Effect::Pass
        }
    })
}

fn replace_destination(packet: &mut Packet, from: SocketAddr, to: SocketAddr) {
    if let Body::Tcp(ip, tcp) = &mut packet.body
        && (tcp.dst_port, ip.dst) == (from.port(), from.ip())
    {
        ip.dst = to.ip();
        tcp.dst_port = to.port();
    }
}

/// Also within the packet that an ICMP error quotes; the source of the error becomes the Service
/// (net/netfilter/nf_nat_core.c).
fn replace_source(packet: &mut Packet, from: SocketAddr, to: SocketAddr) {
    match &mut packet.body {
        Body::Tcp(ip, tcp) => {
            if (tcp.src_port, ip.src) == (from.port(), from.ip()) {
                ip.src = to.ip();
                tcp.src_port = to.port();
            }
        }
        Body::Icmp(ip, icmp) => {
            if let Some(quoted) = &mut icmp.quoted
                && quoted.dst == from
            {
                quoted.dst = to;
                ip.src = to.ip();
            }
        }
        Body::Resolution(_) => {}
    }
}

/// Answers a packet with an ICMP error; RSTs and ICMP messages are dropped without one.
fn answer(in_transit: &PacketInTransit, by: IpAddr, kind: IcmpKind, type_code: (u8, u8)) -> Effect {
    let Some((ip, tcp)) = in_transit
        .packet
        .tcp()
        .filter(|(_, tcp)| !tcp.flags.has(TcpFlags::RST))
    else {
        return Effect::Drop;
    };
    let icmp = Icmp {
        kind,
        type_code,
        quoted: Some(Quoted {
            src: SocketAddr::new(ip.src, tcp.src_port),
            dst: SocketAddr::new(ip.dst, tcp.dst_port),
            hop_limit: ip.hop_limit,
            seq: tcp.seq,
            checksum: Checksum::Unknown,
        }),
    };
    let back = Ip {
        src: by,
        dst: ip.src,
        hop_limit: 64,
        ident: 0,
    };
    Effect::Answer(Packet {
        link: None,
        body: Body::Icmp(back, icmp),
    })
}
