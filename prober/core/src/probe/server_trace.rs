//! Handshakes as the server's end observes them: packets that arrive at the responder's ports and leave them.
//!
//! A handshake is identified by the client's address as it arrives and by its initial sequence number, which NAT does not
//! change. Reports are increments: the counts of several reports add up. All memory is bounded, since a SYN flood may
//! arrive.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use crate::packet::observation::{Direction, Observation};
use crate::packet::{Body, Icmp, Seq, Tcp, TcpFlags};
use crate::probe::event::ServerTrace;
use crate::time::Timestamp;

#[cfg(test)]
mod tests;

/// Maximum number of handshakes kept. Beyond it the oldest is evicted and counted.
const MAX_HANDSHAKES: usize = 32_768;

/// Maximum number of packets kept of one handshake, and of all.
const MAX_PACKETS_EACH: usize = 24;
const MAX_PACKETS: usize = 32_768;

/// Maximum number of handshakes that one flush reports with their packets: ordinary ones, and unusual ones.
const MAX_ORDINARY: usize = 64;
const MAX_UNUSUAL: usize = 1024;

/// A handshake without packets for so long has ended: longer than the pauses between a server's repeated SYN+ACKs
/// (1, 2, 4, 8 s).
const ENDED_AFTER: Duration = Duration::from_secs(10);

/// The address and port of the client, and those of the server.
type AddressPair = (SocketAddr, SocketAddr);

#[derive(Debug)]
struct Entry {
    /// What the next flush reports: counts since the last flush, packets since they were last reported.
    unreported: ServerTrace,
    /// Counts since the start of the handshake.
    syns: u32,
    syn_acks: u32,
    resets: u32,
    /// ICMP errors that came back.
    errors: u32,
    last: Timestamp,
}

/// The handshakes that arrive at a set of ports, with bounded memory.
#[derive(Debug, Default)]
pub struct ServerTraces {
    ports: BTreeSet<u16>,
    handshakes: BTreeMap<AddressPair, Entry>,
    /// The handshakes in the order in which they began, oldest first.
    order: VecDeque<(AddressPair, Seq)>,
    /// Unreported handshakes whose five-tuple a new handshake uses.
    superseded: Vec<Entry>,
    packets: usize,
    evicted: u64,
}

impl ServerTraces {
    /// Observes these ports.
    pub fn new(ports: impl IntoIterator<Item = u16>) -> Self {
        Self {
            ports: ports.into_iter().collect(),
            ..Self::default()
        }
    }

    /// Observes these ports from now on. Handshakes of other ports stay until they are reported.
    pub fn set_ports(&mut self, ports: impl IntoIterator<Item = u16>) {
        self.ports = ports.into_iter().collect();
    }

    /// Processes a packet; packets of other ports are ignored.
    pub fn observe(&mut self, observation: &Observation) {
        match (observation.direction, &observation.packet.body) {
            (Direction::Received, Body::Tcp(ip, tcp)) if self.ports.contains(&tcp.dst_port) => {
                let peer = SocketAddr::new(ip.src, tcp.src_port);
                let local = SocketAddr::new(ip.dst, tcp.dst_port);
                self.observe_received((peer, local), tcp, observation);
            }
            (Direction::Sent, Body::Tcp(ip, tcp)) if self.ports.contains(&tcp.src_port) => {
                let peer = SocketAddr::new(ip.dst, tcp.dst_port);
                let local = SocketAddr::new(ip.src, tcp.src_port);
                self.observe_sent((peer, local), tcp, observation);
            }
            (Direction::Received, Body::Icmp(_, icmp)) => {
                self.observe_icmp_error(icmp, observation);
            }
            (Direction::Received | Direction::Sent, Body::Tcp(..) | Body::Resolution(_))
            | (Direction::Sent, Body::Icmp(..))
            | (Direction::Overheard, Body::Tcp(..) | Body::Icmp(..) | Body::Resolution(_)) => {}
        }
    }

    /// Reports what was observed since the last flush. Unusual handshakes (several SYNs, none or several SYN+ACKs, a RST, an
    /// ICMP error) and the first ordinary ones come with their packets.
    pub fn flush(&mut self, now: Timestamp) -> Vec<ServerTrace> {
        let (mut ordinary, mut unusual) = (MAX_ORDINARY, MAX_UNUSUAL);
        let mut reported = Vec::new();
        let mut superseded = std::mem::take(&mut self.superseded);
        for entry in superseded.iter_mut().chain(self.handshakes.values_mut()) {
            if is_empty(&entry.unreported) {
                continue;
            }
            let room = if entry.is_unusual() {
                &mut unusual
            } else {
                &mut ordinary
            };
            let ServerTrace {
                isn, peer, local, ..
            } = entry.unreported;
            let next = ServerTrace::empty(isn, peer, local);
            let mut unreported = std::mem::replace(&mut entry.unreported, next);
            if *room > 0 && !unreported.observations.is_empty() {
                *room -= 1;
            } else {
                // A later flush reports them if the handshake becomes unusual.
                entry.unreported.observations = std::mem::take(&mut unreported.observations);
            }
            reported.push(unreported);
        }
        self.handshakes
            .retain(|_, entry| now.since(entry.last) < ENDED_AFTER);
        self.packets = self
            .handshakes
            .values()
            .map(|entry| entry.unreported.observations.len())
            .sum();
        self.prune_order();
        reported
    }

    /// Number of handshakes that were evicted before they were reported, because there were too many.
    pub const fn evicted(&self) -> u64 {
        self.evicted
    }

    fn observe_received(&mut self, pair: AddressPair, tcp: &Tcp, observation: &Observation) {
        if tcp.flags.is_syn() {
            self.open(pair, tcp.seq, observation.at);
        }
        self.record(pair, observation, |entry| {
            if tcp.flags.is_syn() {
                entry.syns += 1;
                entry.unreported.syns += 1;
            } else if tcp.flags.has(TcpFlags::RST) {
                entry.resets += 1;
                entry.unreported.resets_received += 1;
            } else {
                entry.unreported.acks += 1;
            }
        });
    }

    fn observe_sent(&mut self, pair: AddressPair, tcp: &Tcp, observation: &Observation) {
        if tcp.flags.is_syn_ack() {
            // Where the capture lost the SYN, the SYN+ACK acknowledges its number.
            self.open(pair, tcp.ack.add(u32::MAX), observation.at);
        }
        self.record(pair, observation, |entry| {
            if tcp.flags.is_syn_ack() {
                entry.syn_acks += 1;
                entry.unreported.syn_acks += 1;
            } else if tcp.flags.has(TcpFlags::RST) {
                entry.resets += 1;
                entry.unreported.resets_sent += 1;
            }
        });
    }

    fn observe_icmp_error(&mut self, icmp: &Icmp, observation: &Observation) {
        let Some(quoted) = icmp.quoted else {
            return;
        };
        if self.ports.contains(&quoted.src.port()) {
            self.record((quoted.dst, quoted.src), observation, |entry| {
                entry.errors += 1;
            });
        }
    }

    /// Makes the handshake of this number the current one of this address pair.
    fn open(&mut self, pair: AddressPair, isn: Seq, at: Timestamp) {
        match self.handshakes.get(&pair) {
            Some(entry) if entry.unreported.isn == isn => return,
            Some(_) => {
                if let Some(old) = self.handshakes.remove(&pair) {
                    if self.superseded.len() < MAX_HANDSHAKES {
                        self.superseded.push(old);
                    } else {
                        self.forget(&old);
                    }
                }
            }
            None => {
                if self.handshakes.len() >= MAX_HANDSHAKES {
                    self.evict();
                }
            }
        }
        if self.order.len() >= 2 * MAX_HANDSHAKES {
            self.prune_order();
        }
        let (peer, local) = pair;
        let unreported = ServerTrace::empty(isn, peer, local);
        self.order.push_back((pair, isn));
        self.handshakes.insert(
            pair,
            Entry {
                unreported,
                syns: 0,
                syn_acks: 0,
                resets: 0,
                errors: 0,
                last: at,
            },
        );
    }

    /// Removes handshakes from the order that are no longer kept.
    fn prune_order(&mut self) {
        let handshakes = &self.handshakes;
        self.order.retain(|(pair, isn)| {
            handshakes
                .get(pair)
                .is_some_and(|entry| entry.unreported.isn == *isn)
        });
    }

    fn evict(&mut self) {
        while let Some((pair, isn)) = self.order.pop_front() {
            if self
                .handshakes
                .get(&pair)
                .is_some_and(|entry| entry.unreported.isn == isn)
                && let Some(old) = self.handshakes.remove(&pair)
            {
                self.forget(&old);
                return;
            }
        }
    }

    fn forget(&mut self, old: &Entry) {
        self.packets -= old.unreported.observations.len();
        if !is_empty(&old.unreported) {
            self.evicted += 1;
        }
    }

    fn record(
        &mut self,
        pair: AddressPair,
        observation: &Observation,
        count: impl FnOnce(&mut Entry),
    ) {
        let Some(entry) = self.handshakes.get_mut(&pair) else {
            return;
        };
        entry.last = observation.at;
        count(entry);
        if entry.unreported.observations.len() < MAX_PACKETS_EACH && self.packets < MAX_PACKETS {
            entry.unreported.observations.push(*observation);
            self.packets += 1;
        }
    }
}

impl Entry {
    fn is_unusual(&self) -> bool {
        self.syns != 1 || self.syn_acks != 1 || self.resets > 0 || self.errors > 0
    }
}

fn is_empty(trace: &ServerTrace) -> bool {
    trace.syns == 0
        && trace.syn_acks == 0
        && trace.acks == 0
        && trace.resets_received == 0
        && trace.resets_sent == 0
}
