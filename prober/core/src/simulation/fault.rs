//! What may happen to a packet on its way: translations, and the faults that they are known for.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::{Effect, PacketInTransit, Rule, Toward};
use crate::packet::{Body, Icmp, IcmpKind, Ip, Packet, Quoted, TcpFlags, Unreachable};
use crate::time::nanos;

/// Whether the way back of a translation is translated as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplyTranslation {
    /// As it should be.
    Applied,
    /// It never meets the translation: a bridge that does not call iptables.
    Missing,
}

/// A Service: packets to `service` go to `pod`, and back.
pub fn translate(service: SocketAddr, pod: SocketAddr, reply: ReplyTranslation) -> Rule {
    Box::new(move |in_transit, _| {
        match (in_transit.toward, reply) {
            (Toward::Server, _) => replace_destination(&mut in_transit.packet, service, pod),
            (Toward::Client, ReplyTranslation::Applied) => {
                replace_source(&mut in_transit.packet, pod, service)
            }
            (Toward::Client, ReplyTranslation::Missing) => {}
        }
        Effect::Pass
    })
}

/// A router: it takes one of the hop limit, and says so when none is left.
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

/// A REJECT rule: what goes to the server is refused by an ICMP error.
pub fn reject(by: IpAddr) -> Rule {
    Box::new(move |in_transit, _| match in_transit.toward {
        Toward::Server => {
            let reason = Unreachable::Port;
            answer(in_transit, by, IcmpKind::Unreachable { reason }, (3, 3))
        }
        Toward::Client => Effect::Pass,
    })
}

/// Loses so many millionths of all packets.
pub fn lose(millionths: u32) -> Rule {
    Box::new(move |_, random| {
        if random.happens(millionths) {
            Effect::Drop
        } else {
            Effect::Pass
        }
    })
}

/// Loses every packet that goes this way.
pub fn block(toward: Toward) -> Rule {
    Box::new(move |in_transit, _| {
        if in_transit.toward == toward {
            Effect::Drop
        } else {
            Effect::Pass
        }
    })
}

/// Loses the first SYNs, so many in all.
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

/// Loses packets that carry more payload than that: an MTU that nobody tells of.
pub fn lose_larger_than(payload: u32) -> Rule {
    Box::new(move |in_transit, _| {
        let larger = in_transit
            .packet
            .tcp()
            .is_some_and(|(_, tcp)| tcp.payload_len > payload);
        if larger { Effect::Drop } else { Effect::Pass }
    })
}

/// Delays each packet by up to that much: packets overtake each other.
pub fn jitter(most: Duration) -> Rule {
    Box::new(move |in_transit, random| {
        in_transit.at = in_transit.at + Duration::from_nanos(random.below(nanos(most)));
        Effect::Pass
    })
}

/// Doubles so many millionths of all packets; the copy comes up to `later` afterwards.
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

/// Also within the packet that an ICMP error quotes, whose sender then seems to be the Service
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

/// An ICMP error about this packet; about a RST or another ICMP none is sent.
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
