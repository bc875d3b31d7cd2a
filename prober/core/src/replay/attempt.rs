//! One attempt to connect at one observer: what was sent, and what came back.

use std::net::SocketAddr;
use std::time::Duration;

pub(super) use super::parts::{Answer, IcmpError, Leg, Reset, Syn};
use super::seen::Seen;
use super::way::{Way, is_copied};
use crate::packet::observation::Direction;
use crate::packet::{Body, Checksum, Icmp, IcmpKind, Ip, Seq, Tcp, TcpFlags, Unreachable};
use crate::time::Timestamp;

/// The most packets that are kept of one attempt.
const MAX_PACKETS: usize = 48;

/// Packets up to which an attempt reserves room for no further one.
const FEW_PACKETS: usize = 3;

/// The most SYNs, answers, RSTs and errors that are kept of one attempt.
const MAX_KEPT: usize = 12;

/// The two directions of a connection.
pub(super) const CLIENT: usize = 0;
pub(super) const SERVER: usize = 1;

/// One attempt to connect.
#[derive(Clone, Debug, Default)]
pub(super) struct Attempt {
    /// The client's initial sequence number; `None` where neither SYN nor SYN+ACK is in the file.
    pub(super) isn: Option<Seq>,
    /// The pairs of addresses that it was seen with: several where the observer translates.
    pub(super) legs: Vec<Leg>,
    /// Its SYNs, copies left out.
    pub(super) syns: Vec<Syn>,
    /// The number of its SYNs, copies left out.
    pub(super) syn_count: u32,
    /// The hop limits of the first SYN and its copies on one link.
    pub(super) turns: Vec<u8>,
    /// The SYN+ACKs: one entry for each sender and number.
    pub(super) answers: Vec<Answer>,
    /// The RSTs, copies left out.
    pub(super) resets: Vec<Reset>,
    /// The ICMP errors that quote it.
    pub(super) errors: Vec<IcmpError>,
    /// What the client sent, and what the server sent.
    pub(super) ways: [Way; 2],
    /// Segments larger than a next hop takes, sent after that hop had said so.
    pub(super) oversized: u32,
    /// The server answered a SYN with an ACK of an earlier connection (RFC 5961 4).
    pub(super) is_challenged: bool,
    /// The first packet.
    pub(super) started: Timestamp,
    /// The last packet.
    pub(super) last: Timestamp,
    /// Its packets, without copies of the same addresses.
    pub(super) packets: Vec<Seen>,
}

impl Attempt {
    /// An attempt that begins with this packet.
    pub(super) fn new(isn: Option<Seq>, leg: Leg, at: Timestamp) -> Self {
        Self {
            isn,
            legs: vec![leg],
            started: at,
            last: at,
            ..Self::default()
        }
    }

    /// The pair of addresses at the client's end of the observer: where it translates, that with the larger hop limit.
    pub(super) fn first_leg(&self) -> Leg {
        let nearest = (self.legs.iter()).reduce(|best, leg| {
            if leg.hop_limit > best.hop_limit {
                leg
            } else {
                best
            }
        });
        nearest.copied().unwrap_or(Leg::UNKNOWN)
    }

    /// The pair of addresses at the server's end of the observer.
    pub(super) fn last_leg(&self) -> Leg {
        let furthest = (self.legs.iter()).reduce(|best, leg| {
            if leg.hop_limit <= best.hop_limit {
                leg
            } else {
                best
            }
        });
        furthest.copied().unwrap_or(Leg::UNKNOWN)
    }

    /// Whether an address is a destination of its SYN.
    pub(super) fn is_target(&self, address: SocketAddr) -> bool {
        self.legs.iter().any(|leg| leg.target == address)
    }

    /// Whether an address is its client.
    pub(super) fn is_client(&self, address: SocketAddr) -> bool {
        self.legs.iter().any(|leg| leg.client == address)
    }

    /// The answer that the client accepts: it acknowledged it, or it comes from where the SYN went.
    pub(super) fn right_answer(&self) -> Option<&Answer> {
        let answers = || self.answers.iter();
        let is_usable = |answer: &&Answer| !answer.is_damaged && !self.is_wrong(answer);
        answers()
            .find(|answer| answer.is_acked)
            .or_else(|| answers().find(is_usable))
    }

    /// Whether a SYN+ACK comes from an address that the client did not ask: none of the SYN's destinations, or one of
    /// behind a translation which the client refuses.
    pub(super) fn is_wrong(&self, answer: &Answer) -> bool {
        let target = self.first_leg().target;
        // Before its translation it has the same number as after it.
        let is_translated = |other: &Answer| other.seq == answer.seq && other.from == target;
        if answer.is_acked || answer.from == target || self.answers.iter().any(is_translated) {
            return false;
        }
        let is_refused = || {
            (self.resets.iter())
                .any(|reset| reset.by_client && !reset.has_ack && reset.to == answer.from)
        };
        !self.is_target(answer.from) || is_refused()
    }

    /// Adds a SYN.
    pub(super) fn syn(&mut self, seen: &Seen, ip: &Ip, tcp: &Tcp, leg: usize) {
        let stamp = tcp.options.timestamps.map(|(value, _)| value);
        let is_routed =
            (self.legs.get(leg)).is_some_and(|leg| ![0, ip.hop_limit].contains(&leg.hop_limit));
        let family = self.first_leg().client.is_ipv4();
        let is_of_another = (self.legs.get(leg)).is_some_and(|leg| leg.client.is_ipv4() != family);
        let copied = self.syns.iter().rposition(|syn| {
            // A SYN that is sent again has another number and time: at another point this one has neither.
            let is_same = ip.ident != 0
                && syn.ident == ip.ident
                && (is_routed || stamp.is_some())
                && syn.stamp == stamp;
            // A translator between the families gives it another identification.
            let ident = if is_of_another { syn.ident } else { ip.ident };
            is_same || is_copied(syn.ident, ident, seen.at, syn.at) || syn.at == seen.at
        });
        if let Some(leg) = self.legs.get_mut(leg) {
            if leg.hop_limit == 0 {
                leg.hop_limit = ip.hop_limit;
                leg.link = seen.packet.link;
                leg.direction = seen.direction;
            }
            leg.tunnel = leg.tunnel.or(seen.tunnel);
            if copied.is_some()
                && (leg.hop_limit != ip.hop_limit || seen.direction != leg.direction)
            {
                leg.is_forwarded = true;
                leg.hop_limit = leg.hop_limit.max(ip.hop_limit);
            }
        }
        match copied {
            Some(0) | None if self.syn_count <= 1 => {
                let is_same_link = seen.packet.link.is_some()
                    && (self.legs.iter()).all(|leg| leg.link == seen.packet.link);
                if (is_same_link || self.turns.is_empty())
                    && !self.turns.contains(&ip.hop_limit)
                    && self.turns.len() < MAX_KEPT
                {
                    self.turns.push(ip.hop_limit);
                }
            }
            Some(_) | None => {}
        }
        if copied.is_some() {
            return;
        }
        self.syn_count += 1;
        if self.syns.len() < MAX_KEPT {
            self.syns.reserve_exact(1);
            self.syns.push(Syn {
                at: seen.at,
                ident: ip.ident,
                len: tcp.payload_len,
                stamp,
            });
        }
    }

    /// Adds a SYN+ACK.
    pub(super) fn syn_ack(&mut self, seen: &Seen, ip: &Ip, tcp: &Tcp) {
        let from = SocketAddr::new(ip.src, tcp.src_port);
        if let Some(way) = self.ways.get_mut(SERVER) {
            way.hop_limits.add(ip.hop_limit);
        }
        let is_damaged =
            tcp.checksum == Checksum::Invalid && seen.direction != Some(Direction::Sent);
        let known =
            (self.answers.iter_mut()).find(|answer| answer.from == from && answer.seq == tcp.seq);
        if let Some(answer) = known {
            if seen.at.since(answer.last) > super::way::COPIED_WITHIN {
                answer.count += 1;
            }
            answer.last = answer.last.max(seen.at);
            answer.is_damaged &= is_damaged;
            return;
        }
        if self.answers.len() < MAX_KEPT {
            self.answers.reserve_exact(1);
            self.answers.push(Answer {
                from,
                seq: tcp.seq,
                first: seen.at,
                last: seen.at,
                count: 1,
                is_acked: false,
                is_damaged,
                echo: tcp.options.timestamps.map(|(_, echo)| echo),
                link: seen.packet.link,
            });
        }
    }

    /// Adds a segment that is neither SYN nor SYN+ACK.
    pub(super) fn segment(&mut self, seen: &Seen, ip: &Ip, tcp: &Tcp, by_client: bool) {
        let (own, other) = if by_client {
            (CLIENT, SERVER)
        } else {
            (SERVER, CLIENT)
        };
        if tcp.flags.has(TcpFlags::RST) {
            self.reset(seen, ip, tcp, by_client);
            return;
        }
        if by_client && tcp.flags.has(TcpFlags::ACK) {
            self.acknowledge(tcp.ack, SocketAddr::new(ip.dst, tcp.dst_port));
        }
        let has_answer = !self.answers.is_empty();
        if !by_client
            && !has_answer
            && self.syn_count > 0
            && tcp.payload_len == 0
            && self.isn.is_some_and(|isn| tcp.ack != isn.add(1))
            && self.ways.iter().all(|way| way.last.is_none())
        {
            self.is_challenged = true;
            return;
        }
        let Some(way) = self.ways.get_mut(own) else {
            return;
        };
        if way.is_copy(seen.at, ip, tcp) {
            return;
        }
        way.send(seen.at, ip, tcp);
        if tcp.flags.has(TcpFlags::ACK)
            && let Some(way) = self.ways.get_mut(other)
        {
            way.acknowledge(tcp.ack);
        }
        let too_big = self.errors.iter().find_map(|error| match error.kind {
            IcmpKind::PacketTooBig { mtu } if mtu > 0 => Some(mtu),
            IcmpKind::PacketTooBig { .. }
            | IcmpKind::Unreachable { .. }
            | IcmpKind::TimeExceeded
            | IcmpKind::Redirect { .. }
            | IcmpKind::Other => None,
        });
        let headers = if ip.src.is_ipv4() { 40 } else { 60 };
        if too_big.is_some_and(|mtu| tcp.payload_len.saturating_add(headers) > mtu) {
            self.oversized += 1;
        }
    }

    /// The client acknowledges what this address sent. An answer before and after a translation has one number.
    fn acknowledge(&mut self, ack: Seq, to: SocketAddr) {
        const WINDOW: u32 = 1 << 30;
        let is_within = |seq: Seq| ack.0.wrapping_sub(seq.0).wrapping_sub(1) < WINDOW;
        let sent =
            (self.answers.iter()).filter(|answer| answer.from == to && is_within(answer.seq));
        let Some(latest) = sent
            .max_by_key(|answer| answer.first)
            .map(|answer| answer.seq)
        else {
            return;
        };
        for answer in &mut self.answers {
            answer.is_acked |= answer.seq == latest;
        }
    }

    fn reset(&mut self, seen: &Seen, ip: &Ip, tcp: &Tcp, by_client: bool) {
        let from = SocketAddr::new(ip.src, tcp.src_port);
        let is_copy = self.resets.iter().any(|reset| {
            reset.by_client == by_client
                && reset.seq == tcp.seq
                && reset.from == from
                && seen.at.since(reset.at) <= Duration::from_millis(20)
        });
        let known = self.syns.iter().map(|syn| syn.len).max().unwrap_or(0);
        let is_acceptable = self.isn.is_some_and(|isn| {
            tcp.ack == isn.add(1) || (known > 0 && tcp.ack == isn.add(1).add(known))
        });
        if !is_copy && self.resets.len() < MAX_KEPT {
            self.resets.push(Reset {
                at: seen.at,
                by_client,
                from,
                to: SocketAddr::new(ip.dst, tcp.dst_port),
                has_ack: tcp.flags.has(TcpFlags::ACK),
                seq: tcp.seq,
                is_acceptable: is_acceptable && tcp.flags.has(TcpFlags::ACK),
                hop_limit: ip.hop_limit,
                link: seen.packet.link,
            });
        }
    }

    /// Adds an ICMP error that quotes it.
    pub(super) fn error(&mut self, seen: &Seen, ip: &Ip, message: &Icmp) {
        let is_copy = (self.errors.iter()).any(|error| {
            (error.by, error.type_code) == (ip.src, message.type_code)
                && seen.at.since(error.at) <= super::way::COPIED_WITHIN
        });
        if !is_copy && self.errors.len() < MAX_KEPT {
            self.errors.push(IcmpError {
                at: seen.at,
                by: ip.src,
                kind: message.kind,
                type_code: message.type_code,
                is_own: seen.direction == Some(Direction::Sent),
            });
        }
    }

    /// Keeps a packet for the report.
    pub(super) fn keep(&mut self, seen: &Seen) {
        if self.packets.len() >= MAX_PACKETS {
            return;
        }
        let is_copy = self.packets.iter().rev().take(6).any(|kept| {
            match (&kept.packet.body, &seen.packet.body) {
                (Body::Tcp(a, one), Body::Tcp(b, other)) => {
                    let one = Tcp {
                        checksum: other.checksum,
                        ..*one
                    };
                    (a.src, a.dst) == (b.src, b.dst)
                        && one == *other
                        && is_copied(a.ident, b.ident, kept.at, seen.at)
                }
                (Body::Icmp(a, one), Body::Icmp(b, other)) => {
                    (a.src, a.dst) == (b.src, b.dst)
                        && one == other
                        && seen.at.since(kept.at) <= super::way::COPIED_WITHIN
                }
                (Body::Tcp(..) | Body::Icmp(..) | Body::Resolution(_), _) => false,
            }
        });
        if !is_copy {
            // Most connections of a scan or of a silent server have no more than these.
            if self.packets.len() < FEW_PACKETS {
                self.packets.reserve_exact(1);
            }
            self.packets.push(*seen);
        }
    }

    /// Frees what only open connections need.
    pub(super) fn shrink(&mut self) {
        self.packets.shrink_to_fit();
        self.legs.shrink_to_fit();
        self.syns.shrink_to_fit();
        self.answers.shrink_to_fit();
        for way in &mut self.ways {
            way.forget();
        }
    }

    /// The ICMP error that refuses it.
    pub(super) fn refusal(&self) -> Option<(&IcmpError, Unreachable)> {
        self.errors.iter().find_map(|error| match error.kind {
            IcmpKind::Unreachable { reason } => Some((error, reason)),
            IcmpKind::PacketTooBig { .. }
            | IcmpKind::TimeExceeded
            | IcmpKind::Redirect { .. }
            | IcmpKind::Other => None,
        })
    }
}
