//! The server's end: what arrived at the responder's ports and what left them, per handshake.
//!
//! A handshake is named by the client's address as it arrived and by its initial sequence number,
//! which survives every translation. Reports are increments: what is told in several adds up.
//! Everything is bounded, since a flood of SYNs is one of the things that may arrive.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use crate::packet::observation::{Direction, Observation};
use crate::packet::{Body, Icmp, Seq, Tcp, TcpFlags};
use crate::probe::event::ServerTrace;
use crate::time::Timestamp;

#[cfg(test)]
mod tests;

/// Handshakes that are remembered; beyond, the oldest is forgotten and counted.
const HANDSHAKES: usize = 32_768;

/// Packets kept of one handshake, and of all.
const PACKETS_EACH: usize = 24;
const PACKETS: usize = 32_768;

/// Ordinary handshakes told with their packets in one flush, and unusual ones.
const ORDINARY: usize = 64;
const UNUSUAL: usize = 1024;

/// A handshake in which nothing happened for so long is over: longer than the pauses between a
/// server's repeated SYN+ACKs (1, 2, 4, 8 s).
const OVER: Duration = Duration::from_secs(10);

/// A client's end and the own end that it asked.
type Ends = (SocketAddr, SocketAddr);

#[derive(Debug)]
struct Entry {
    /// What was seen since the last flush; its packets since they were last told.
    fresh: ServerTrace,
    /// What was seen altogether.
    syns: u32,
    syn_acks: u32,
    resets: u32,
    /// Whether an ICMP error came back.
    errors: u32,
    last: Timestamp,
}

/// What this end sees as a server; see the module's documentation.
#[derive(Debug, Default)]
pub struct ServerTraces {
    ports: BTreeSet<u16>,
    handshakes: BTreeMap<Ends, Entry>,
    /// Whose handshakes began when, oldest first.
    order: VecDeque<(Ends, Seq)>,
    /// Handshakes whose five-tuple was taken by a new one.
    replaced: Vec<Entry>,
    packets: usize,
    evicted: u64,
}

impl ServerTraces {
    /// Watches these ports.
    pub fn new(ports: impl IntoIterator<Item = u16>) -> Self {
        Self {
            ports: ports.into_iter().collect(),
            ..Self::default()
        }
    }

    /// Watches these ports from now on, and forgets nothing.
    pub fn listen(&mut self, ports: impl IntoIterator<Item = u16>) {
        self.ports = ports.into_iter().collect();
    }

    /// Takes a packet; what is not of the ports is ignored.
    pub fn observe(&mut self, observation: &Observation) {
        match (observation.direction, &observation.packet.body) {
            (Direction::Received, Body::Tcp(ip, tcp)) if self.ports.contains(&tcp.dst_port) => {
                let peer = SocketAddr::new(ip.src, tcp.src_port);
                let local = SocketAddr::new(ip.dst, tcp.dst_port);
                self.arrived((peer, local), tcp, observation);
            }
            (Direction::Sent, Body::Tcp(ip, tcp)) if self.ports.contains(&tcp.src_port) => {
                let peer = SocketAddr::new(ip.dst, tcp.dst_port);
                let local = SocketAddr::new(ip.src, tcp.src_port);
                self.left((peer, local), tcp, observation);
            }
            (Direction::Received, Body::Icmp(_, icmp)) => self.bounced(icmp, observation),
            (Direction::Received | Direction::Sent, Body::Tcp(..) | Body::Resolution(_))
            | (Direction::Sent, Body::Icmp(..))
            | (Direction::Overheard, Body::Tcp(..) | Body::Icmp(..) | Body::Resolution(_)) => {}
        }
    }

    /// What was seen since the last flush. Packets are told of unusual handshakes (several SYNs,
    /// no single SYN+ACK, a RST, an ICMP error) and of the first ordinary ones.
    pub fn flush(&mut self, now: Timestamp) -> Vec<ServerTrace> {
        let (mut ordinary, mut unusual) = (ORDINARY, UNUSUAL);
        let mut told = Vec::new();
        let mut replaced = std::mem::take(&mut self.replaced);
        for entry in replaced.iter_mut().chain(self.handshakes.values_mut()) {
            if is_empty(&entry.fresh) {
                continue;
            }
            let room = if entry.is_unusual() {
                &mut unusual
            } else {
                &mut ordinary
            };
            let ServerTrace {
                isn, peer, local, ..
            } = entry.fresh;
            let next = ServerTrace::of_nothing(isn, peer, local);
            let mut fresh = std::mem::replace(&mut entry.fresh, next);
            if *room > 0 && !fresh.observations.is_empty() {
                *room -= 1;
            } else {
                // They may still be told, should it become unusual.
                entry.fresh.observations = std::mem::take(&mut fresh.observations);
            }
            told.push(fresh);
        }
        self.handshakes
            .retain(|_, entry| now.since(entry.last) < OVER);
        self.packets = self
            .handshakes
            .values()
            .map(|entry| entry.fresh.observations.len())
            .sum();
        self.prune();
        told
    }

    /// Handshakes that were forgotten before they were told, because there were too many.
    pub const fn evicted(&self) -> u64 {
        self.evicted
    }

    fn arrived(&mut self, ends: Ends, tcp: &Tcp, observation: &Observation) {
        if tcp.flags.is_syn() {
            self.open(ends, tcp.seq, observation.at);
        }
        self.note(ends, observation, |entry| {
            if tcp.flags.is_syn() {
                entry.syns += 1;
                entry.fresh.syns += 1;
            } else if tcp.flags.has(TcpFlags::RST) {
                entry.resets += 1;
                entry.fresh.resets_received += 1;
            } else {
                entry.fresh.acks += 1;
            }
        });
    }

    fn left(&mut self, ends: Ends, tcp: &Tcp, observation: &Observation) {
        if tcp.flags.is_syn_ack() {
            // Whose SYN the capture lost is known by what answers it.
            self.open(ends, tcp.ack.add(u32::MAX), observation.at);
        }
        self.note(ends, observation, |entry| {
            if tcp.flags.is_syn_ack() {
                entry.syn_acks += 1;
                entry.fresh.syn_acks += 1;
            } else if tcp.flags.has(TcpFlags::RST) {
                entry.resets += 1;
                entry.fresh.resets_sent += 1;
            }
        });
    }

    fn bounced(&mut self, icmp: &Icmp, observation: &Observation) {
        let Some(quoted) = icmp.quoted else {
            return;
        };
        if self.ports.contains(&quoted.src.port()) {
            self.note((quoted.dst, quoted.src), observation, |entry| {
                entry.errors += 1;
            });
        }
    }

    /// Makes sure that the handshake of this number is the one that these ends have.
    fn open(&mut self, ends: Ends, isn: Seq, at: Timestamp) {
        match self.handshakes.get(&ends) {
            Some(entry) if entry.fresh.isn == isn => return,
            Some(_) => {
                if let Some(old) = self.handshakes.remove(&ends) {
                    if self.replaced.len() < HANDSHAKES {
                        self.replaced.push(old);
                    } else {
                        self.forget(&old);
                    }
                }
            }
            None => {
                if self.handshakes.len() >= HANDSHAKES {
                    self.evict();
                }
            }
        }
        if self.order.len() >= 2 * HANDSHAKES {
            self.prune();
        }
        let (peer, local) = ends;
        let fresh = ServerTrace::of_nothing(isn, peer, local);
        self.order.push_back((ends, isn));
        self.handshakes.insert(
            ends,
            Entry {
                fresh,
                syns: 0,
                syn_acks: 0,
                resets: 0,
                errors: 0,
                last: at,
            },
        );
    }

    /// Takes those out of the order that are no more.
    fn prune(&mut self) {
        let handshakes = &self.handshakes;
        self.order.retain(|(ends, isn)| {
            handshakes
                .get(ends)
                .is_some_and(|entry| entry.fresh.isn == *isn)
        });
    }

    fn evict(&mut self) {
        while let Some((ends, isn)) = self.order.pop_front() {
            if self
                .handshakes
                .get(&ends)
                .is_some_and(|entry| entry.fresh.isn == isn)
                && let Some(old) = self.handshakes.remove(&ends)
            {
                self.forget(&old);
                return;
            }
        }
    }

    fn forget(&mut self, old: &Entry) {
        self.packets -= old.fresh.observations.len();
        if !is_empty(&old.fresh) {
            self.evicted += 1;
        }
    }

    fn note(&mut self, ends: Ends, observation: &Observation, count: impl FnOnce(&mut Entry)) {
        let Some(entry) = self.handshakes.get_mut(&ends) else {
            return;
        };
        entry.last = observation.at;
        count(entry);
        if entry.fresh.observations.len() < PACKETS_EACH && self.packets < PACKETS {
            entry.fresh.observations.push(*observation);
            self.packets += 1;
        }
    }
}

impl Entry {
    fn is_unusual(&self) -> bool {
        self.syns != 1 || self.syn_acks != 1 || self.resets > 0 || self.errors > 0
    }
}

fn is_empty(witness: &ServerTrace) -> bool {
    witness.syns == 0
        && witness.syn_acks == 0
        && witness.acks == 0
        && witness.resets_received == 0
        && witness.resets_sent == 0
}
