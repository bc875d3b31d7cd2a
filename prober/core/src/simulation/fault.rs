//! What may happen to a packet on its way: translations, and the faults that they are known for.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::{Fate, Flying, Rule, Way};
use crate::packet::{Body, Icmp, IcmpKind, Ip, Packet, Quoted, TcpFlags, Unreachable};
use crate::time::nanos;

/// Whether the way back of a translation is translated as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// As it should be.
    Translated,
    /// It never meets the translation: a bridge that does not call iptables.
    Untranslated,
}

/// A Service: packets to `service` go to `pod`, and back.
pub fn translate(service: SocketAddr, pod: SocketAddr, reply: Reply) -> Rule {
    Box::new(move |flying, _| {
        match (flying.way, reply) {
            (Way::There, _) => replace_destination(&mut flying.packet, service, pod),
            (Way::Back, Reply::Translated) => replace_source(&mut flying.packet, pod, service),
            (Way::Back, Reply::Untranslated) => {}
        }
        Fate::Passes
    })
}

/// A router: it takes one of the hop limit, and says so when none is left.
pub fn router(address: IpAddr) -> Rule {
    Box::new(move |flying, _| {
        let (Body::Tcp(ip, _) | Body::Icmp(ip, _)) = &mut flying.packet.body else {
            return Fate::Passes;
        };
        if ip.hop_limit <= 1 {
            return answer(flying, address, IcmpKind::TimeExceeded, (11, 0));
        }
        ip.hop_limit -= 1;
        Fate::Passes
    })
}

/// A REJECT rule: what goes to the server is refused by an ICMP error.
pub fn reject(by: IpAddr) -> Rule {
    Box::new(move |flying, _| match flying.way {
        Way::There => {
            let reason = Unreachable::Port;
            answer(flying, by, IcmpKind::Unreachable { reason }, (3, 3))
        }
        Way::Back => Fate::Passes,
    })
}

/// Loses so many millionths of all packets.
pub fn lose(millionths: u32) -> Rule {
    Box::new(move |_, random| {
        if random.happens(millionths) {
            Fate::Lost
        } else {
            Fate::Passes
        }
    })
}

/// Loses every packet that goes this way.
pub fn block(way: Way) -> Rule {
    Box::new(move |flying, _| {
        if flying.way == way {
            Fate::Lost
        } else {
            Fate::Passes
        }
    })
}

/// Loses the first SYNs, so many in all.
pub fn lose_first_syns(count: u32) -> Rule {
    let mut left = count;
    Box::new(move |flying, _| {
        let is_syn = flying
            .packet
            .tcp()
            .is_some_and(|(_, tcp)| tcp.flags.is_syn());
        if is_syn && left > 0 {
            left -= 1;
            return Fate::Lost;
        }
        Fate::Passes
    })
}

/// Loses packets that carry more payload than that: an MTU that nobody tells of.
pub fn lose_larger_than(payload: u32) -> Rule {
    Box::new(move |flying, _| {
        let larger = flying
            .packet
            .tcp()
            .is_some_and(|(_, tcp)| tcp.payload_len > payload);
        if larger { Fate::Lost } else { Fate::Passes }
    })
}

/// Delays each packet by up to that much: packets overtake each other.
pub fn jitter(most: Duration) -> Rule {
    Box::new(move |flying, random| {
        flying.at = flying.at + Duration::from_nanos(random.below(nanos(most)));
        Fate::Passes
    })
}

/// Doubles so many millionths of all packets; the copy comes up to `later` afterwards.
pub fn double(millionths: u32, later: Duration) -> Rule {
    Box::new(move |_, random| {
        if random.happens(millionths) {
            Fate::Doubled(Duration::from_nanos(random.below(nanos(later))))
        } else {
            Fate::Passes
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
fn answer(flying: &Flying, by: IpAddr, kind: IcmpKind, type_code: (u8, u8)) -> Fate {
    let Some((ip, tcp)) = flying
        .packet
        .tcp()
        .filter(|(_, tcp)| !tcp.flags.has(TcpFlags::RST))
    else {
        return Fate::Lost;
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
    Fate::Answered(Packet {
        link: None,
        body: Body::Icmp(back, icmp),
    })
}
