//! Groups the packets of one observer into flows: all packets that belong to one client's SYN.
//!
//! A flow has its own segments, answers to its SYN from another address (they acknowledge its number), the client's RSTs to
//! those, and ICMP errors that quote it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use super::position::{CapturingHost, ObserverPosition};
use crate::packet::capture::CapturedPacket;
use crate::packet::mac::Mac;
use crate::packet::observation::{Direction, Observation};
use crate::packet::{Body, Checksum, Packet, Seq, TcpFlags};
use crate::time::Timestamp;

/// Maximum time between copies of one packet on several interfaces of a forwarding host.
const FORWARDED_WITHIN: Duration = Duration::from_millis(5);

/// Maximum number of packets kept of one flow.
const MAX_PACKETS: usize = 64;

/// One handshake at one observer.
#[derive(Clone, Debug)]
pub(super) struct Flow {
    /// The client's address at this observer.
    pub(super) client: SocketAddr,
    /// The destination of its SYN at this observer.
    pub(super) target: SocketAddr,
    /// The sequence number of its SYN.
    pub(super) isn: Seq,
    /// The position of the observer.
    pub(super) position: ObserverPosition,
    /// The hop limit of its first SYN.
    pub(super) hop_limit: u8,
    /// The time of its first SYN.
    pub(super) started: Timestamp,
    /// Its packets, with directions relative to the observer.
    pub(super) packets: Vec<Observation>,
    /// The Ethernet address of the observer's end.
    own: Option<Mac>,
}

/// The flows of one observer.
#[derive(Debug, Default)]
pub(super) struct Flows {
    /// In the order of their SYNs.
    pub(super) flows: Vec<Flow>,
    /// Number of connections without a SYN.
    pub(super) unstarted: usize,
}

/// Groups an observer's packets, in the order of their timestamps.
pub(super) fn flows(packets: &[&CapturedPacket<'_>]) -> Flows {
    let mut builder = FlowBuilder {
        local: CapturingHost::of(packets),
        flows: Vec::new(),
        by_pair: BTreeMap::new(),
        by_number: BTreeMap::new(),
        without_syn: BTreeSet::new(),
    };
    for captured in packets {
        builder.take(captured);
    }
    Flows {
        flows: builder.flows,
        unstarted: builder.without_syn.len(),
    }
}

/// The flows so far. A packet belongs to the newest flow with its addresses, or with its sequence number.
struct FlowBuilder {
    local: CapturingHost,
    flows: Vec<Flow>,
    by_pair: BTreeMap<(SocketAddr, SocketAddr), usize>,
    by_number: BTreeMap<(SocketAddr, u32), usize>,
    without_syn: BTreeSet<(SocketAddr, SocketAddr)>,
}

impl FlowBuilder {
    fn take(&mut self, captured: &CapturedPacket<'_>) {
        match &captured.packet.body {
            Body::Tcp(ip, tcp) => {
                let src = SocketAddr::new(ip.src, tcp.src_port);
                let dst = SocketAddr::new(ip.dst, tcp.dst_port);
                if tcp.flags.is_syn() {
                    let place = self.flow_of_syn(captured, src, dst, tcp.seq);
                    self.push(place, captured);
                } else if let Some(place) = self.find(src, dst, tcp.flags, tcp.seq, tcp.ack) {
                    self.push(place, captured);
                } else if !tcp.flags.has(TcpFlags::RST) {
                    self.without_syn.insert((src.min(dst), src.max(dst)));
                }
            }
            Body::Icmp(_, message) => {
                let place = message
                    .quoted
                    .and_then(|quoted| self.by_number.get(&(quoted.src, quoted.seq.0)).copied());
                if let Some(place) = place {
                    self.push(place, captured);
                }
            }
            Body::Resolution(_) => {}
        }
    }

    fn find(
        &self,
        src: SocketAddr,
        dst: SocketAddr,
        flags: TcpFlags,
        seq: Seq,
        ack: Seq,
    ) -> Option<usize> {
        let before = |number: Seq| number.0.wrapping_sub(1);
        let answered = || self.by_number.get(&(dst, before(ack)));
        let refused = || self.by_number.get(&(src, before(seq)));
        let answers = flags.is_syn_ack() || flags.has(TcpFlags::RST.with(TcpFlags::ACK));
        let refuses = flags.has(TcpFlags::RST);
        let own = self
            .by_pair
            .get(&(src, dst))
            .or_else(|| self.by_pair.get(&(dst, src)));
        answers
            .then(answered)
            .flatten()
            .or(own)
            .or_else(|| refuses.then(refused).flatten())
            .copied()
    }

    fn flow_of_syn(
        &mut self,
        captured: &CapturedPacket<'_>,
        client: SocketAddr,
        target: SocketAddr,
        isn: Seq,
    ) -> usize {
        let known = self.by_pair.get(&(client, target)).copied();
        if let Some(place) = known
            && self.flows.get(place).is_some_and(|flow| flow.isn == isn)
        {
            return place;
        }
        // The same number from the same port to another address: a copy of the SYN that a
        // translating host forwards, so the observer is at neither end.
        let twin = self.by_number.get(&(client, isn.0)).copied();
        let position = match twin.and_then(|twin| self.flows.get_mut(twin)) {
            Some(twin) if is_copy(twin, captured) => {
                twin.position = ObserverPosition::InTransit;
                ObserverPosition::InTransit
            }
            Some(_) | None => self.local.position(captured),
        };
        let link = captured.packet.link;
        let own = match position {
            ObserverPosition::Client => link.map(|link| link.src),
            ObserverPosition::Server => link.and_then(|link| link.dst),
            ObserverPosition::InTransit => None,
        };
        let place = self.flows.len();
        self.flows.push(Flow {
            client,
            target,
            isn,
            position,
            hop_limit: captured.packet.tcp().map_or(0, |(ip, _)| ip.hop_limit),
            started: captured.at,
            packets: Vec::new(),
            own: own.filter(|mac| *mac != Mac::LOOPBACK),
        });
        self.by_pair.insert((client, target), place);
        // The original SYN keeps its answers, not the translated copy.
        self.by_number.entry((client, isn.0)).or_insert(place);
        place
    }

    fn push(&mut self, place: usize, captured: &CapturedPacket<'_>) {
        if let Some(flow) = self.flows.get_mut(place) {
            flow.push(captured);
        }
    }
}

/// Whether a SYN is the forwarded copy of this flow's SYN: sent at once, with no larger hop limit.
fn is_copy(flow: &Flow, syn: &CapturedPacket<'_>) -> bool {
    let fewer_hops = syn
        .packet
        .tcp()
        .is_some_and(|(ip, _)| ip.hop_limit <= flow.hop_limit);
    let at_once = syn.at.since(flow.started) <= FORWARDED_WITHIN;
    fewer_hops
        && at_once
        && flow.position != ObserverPosition::Client
        && syn.direction == Some(Direction::Sent)
}

impl Flow {
    fn push(&mut self, captured: &CapturedPacket<'_>) {
        if self.packets.len() >= MAX_PACKETS || self.is_forwarded_copy(captured) {
            return;
        }
        let direction = self.direction(captured);
        let mut packet = captured.packet;
        if let (Direction::Sent, Body::Tcp(_, tcp)) = (direction, &mut packet.body) {
            // The device fills in the checksum later.
            tcp.checksum = Checksum::Unknown;
        }
        self.packets.push(Observation {
            at: captured.at,
            direction,
            packet,
        });
    }

    fn direction(&self, captured: &CapturedPacket<'_>) -> Direction {
        let link = captured.packet.link;
        if let (Some(own), Some(link)) = (self.own, link)
            && let Some(dst) = link.dst
        {
            let group = dst.0.first().is_some_and(|first| first & 1 == 1);
            return if link.src == own {
                Direction::Sent
            } else if dst == own || group {
                Direction::Received
            } else {
                Direction::Overheard
            };
        }
        if self.position != ObserverPosition::InTransit
            && let Some(recorded) = captured.direction
        {
            return recorded;
        }
        let from_client = match &captured.packet.body {
            Body::Tcp(..) => captured.packet.tcp_src() == Some(self.client),
            Body::Icmp(..) | Body::Resolution(_) => false,
        };
        match (self.position, from_client) {
            (ObserverPosition::Client | ObserverPosition::InTransit, true)
            | (ObserverPosition::Server, false) => Direction::Sent,
            (ObserverPosition::Client | ObserverPosition::InTransit, false)
            | (ObserverPosition::Server, true) => Direction::Received,
        }
    }

    /// In a capture on "any", a forwarding host shows a packet once per interface.
    fn is_forwarded_copy(&mut self, captured: &CapturedPacket<'_>) -> bool {
        let copied = captured.direction.is_some()
            && self.packets.iter().rev().take(4).any(|kept| {
                captured.at.since(kept.at) <= FORWARDED_WITHIN
                    && same_segment(&kept.packet, &captured.packet)
            });
        if copied
            && self.position == ObserverPosition::Server
            && captured.direction == Some(Direction::Sent)
        {
            self.position = ObserverPosition::InTransit;
            self.own = None;
            for kept in &mut self.packets {
                kept.direction = match kept.direction {
                    Direction::Sent => Direction::Received,
                    Direction::Received => Direction::Sent,
                    Direction::Overheard => Direction::Overheard,
                };
            }
        }
        copied && self.position == ObserverPosition::InTransit
    }
}

/// Whether these are the same TCP segment, apart from fields that forwarding changes.
fn same_segment(one: &Packet, other: &Packet) -> bool {
    let (Some((a, one)), Some((b, other))) = (one.tcp(), other.tcp()) else {
        return false;
    };
    let one = crate::packet::Tcp {
        checksum: other.checksum,
        ..*one
    };
    (a.src, a.dst, a.ident) == (b.src, b.dst, b.ident) && one == *other
}
