//! A simulated network: an engine with a client, a server, and between them rules that translate, delay, drop, duplicate
//! and answer packets.
//!
//! Its clock is virtual and jumps to the next event, so that an hour of probes takes seconds. Its random numbers come from
//! a seed, so that every run is repeatable.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::time::Duration;

use crate::packet::observation::{Direction, Observation};
use crate::packet::{Body, Packet, TcpSegment};
use crate::probe::engine::{Engine, Wake};
use crate::probe::server_trace::ServerTraces;
use crate::random::Random;
use crate::time::Timestamp;

use server::Server;

/// Translations and faults, as rules.
pub mod fault;
/// The server: the part of TCP that answers a probe.
pub mod server;
#[cfg(test)]
mod tests;

/// The direction of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Toward {
    /// To the server.
    Server,
    /// To the client.
    Client,
}

/// A packet in transit.
#[derive(Clone, Debug)]
pub struct PacketInTransit {
    /// Its direction.
    pub toward: Toward,
    /// The time of its arrival.
    pub at: Timestamp,
    /// The packet, with the changes of the rules so far.
    pub packet: Packet,
    /// Its payload.
    pub payload: Vec<u8>,
}

/// The effect of a rule on a packet.
#[derive(Clone, Debug)]
pub enum Effect {
    /// The packet passes.
    Pass,
    /// The packet is dropped.
    Drop,
    /// The packet passes, and a copy of it arrives that much later.
    Duplicate(Duration),
    /// The packet is dropped, and this answer goes back to its sender.
    Answer(Packet),
}

/// A rule on the path; [`fault`] has some.
pub type Rule = Box<dyn FnMut(&mut PacketInTransit, &mut Random) -> Effect + Send>;

/// A network with one client, one server, and rules between them.
pub struct SimulatedNetwork {
    now: Timestamp,
    random: Random,
    /// The latency of one direction, without the rules.
    latency: Duration,
    /// In the order of packets to the server; packets to the client pass them in reverse.
    rules: Vec<Rule>,
    server: Server,
    /// Traces of the server's end, if requested.
    server_traces: Option<ServerTraces>,
    /// Sent packets that the client's capture has not delivered yet.
    copies: Vec<(Observation, Vec<u8>)>,
    /// Packets in transit by arrival. Nearly all have the same latency, and are appended.
    in_transit: VecDeque<PacketInTransit>,
    replies: Vec<TcpSegment>,
}

impl std::fmt::Debug for SimulatedNetwork {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sim")
            .field("now", &self.now)
            .field("flying", &self.in_transit.len())
            .finish_non_exhaustive()
    }
}

impl SimulatedNetwork {
    /// A network without rules, with this server and this latency per direction.
    pub fn new(server: Server, latency: Duration, seed: u64) -> Self {
        Self {
            // Not zero, so that earlier times exist.
            now: Timestamp::from_nanos(1_000_000_000_000),
            random: Random::new(seed),
            latency,
            rules: Vec::new(),
            server,
            server_traces: None,
            copies: Vec::new(),
            in_transit: VecDeque::new(),
            replies: Vec::new(),
        }
    }

    /// Adds a rule, the last one before the server.
    #[must_use]
    pub fn with(mut self, rule: Rule) -> Self {
        self.rules.push(rule);
        self
    }

    /// Records traces of handshakes at these ports of the server.
    #[must_use]
    pub fn with_server_traces(mut self, ports: impl IntoIterator<Item = u16>) -> Self {
        self.server_traces = Some(ServerTraces::new(ports));
        self
    }

    /// The traces of the server's end, if they are recorded.
    pub fn server_traces(&mut self) -> Option<&mut ServerTraces> {
        self.server_traces.as_mut()
    }

    /// Forwards a packet from rule `from` on.
    fn forward(&mut self, mut in_transit: PacketInTransit, from: usize) {
        let mut next = from;
        loop {
            let index = match in_transit.toward {
                Toward::Server => next,
                Toward::Client => next.wrapping_sub(1),
            };
            let Some(rule) = self.rules.get_mut(index) else {
                self.enqueue(in_transit);
                return;
            };
            let after = match in_transit.toward {
                Toward::Server => next + 1,
                Toward::Client => index,
            };
            match rule(&mut in_transit, &mut self.random) {
                Effect::Pass => next = after,
                Effect::Drop => return,
                Effect::Duplicate(later) => {
                    let mut copy = in_transit.clone();
                    copy.at = copy.at + later;
                    self.forward(copy, after);
                    next = after;
                }
                Effect::Answer(packet) => {
                    let (toward, from) = match in_transit.toward {
                        Toward::Server => (Toward::Client, index),
                        Toward::Client => (Toward::Server, next),
                    };
                    in_transit = PacketInTransit {
                        toward,
                        packet,
                        payload: Vec::new(),
                        ..in_transit
                    };
                    next = from;
                }
            }
        }
    }

    fn enqueue(&mut self, in_transit: PacketInTransit) {
        let later = self
            .in_transit
            .iter()
            .rev()
            .take_while(|other| other.at > in_transit.at);
        self.in_transit
            .insert(self.in_transit.len() - later.count(), in_transit);
    }

    /// Runs the server: with an arrived packet, or its due timers.
    fn run_server(&mut self, arrived: Option<&PacketInTransit>) {
        let mut replies = std::mem::take(&mut self.replies);
        match arrived {
            Some(in_transit) => {
                self.record(Direction::Received, in_transit.packet);
                self.server.observe(
                    self.now,
                    &in_transit.packet,
                    &in_transit.payload,
                    &mut replies,
                );
            }
            None => self.server.handle_timeout(self.now, &mut replies),
        }
        for segment in replies.drain(..) {
            let in_transit = self.sent_now(Toward::Client, packet(&segment), segment.payload);
            self.record(Direction::Sent, in_transit.packet);
            self.forward(in_transit, self.rules.len());
        }
        self.replies = replies;
    }

    fn sent_now(&self, toward: Toward, packet: Packet, payload: Vec<u8>) -> PacketInTransit {
        PacketInTransit {
            toward,
            at: self.now + self.latency,
            packet,
            payload,
        }
    }

    fn record(&mut self, direction: Direction, packet: Packet) {
        if let Some(server_traces) = &mut self.server_traces {
            server_traces.observe(&Observation {
                at: self.now,
                direction,
                packet,
            });
        }
    }

    /// The time of the next event.
    fn next_at(&self) -> Option<Timestamp> {
        let arrival = self.in_transit.front().map(|in_transit| in_transit.at);
        match (arrival, self.server.poll_timeout()) {
            (Some(arrival), Some(timer)) => Some(arrival.min(timer)),
            (arrival, timer) => arrival.or(timer),
        }
    }
}

impl Engine for SimulatedNetwork {
    type Error = Infallible;

    fn now(&self) -> Timestamp {
        self.now
    }

    fn send(&mut self, segments: &[TcpSegment]) -> Result<(), Infallible> {
        for segment in segments {
            let copy = observation(self.now, Direction::Sent, packet(segment));
            self.copies.push((copy, segment.payload.clone()));
            let in_transit = self.sent_now(Toward::Server, copy.packet, segment.payload.clone());
            self.forward(in_transit, 0);
        }
        Ok(())
    }

    fn recv(
        &mut self,
        until: Timestamp,
        sink: &mut dyn FnMut(&Observation, &[u8]),
    ) -> Result<Wake, Infallible> {
        let mut delivered = false;
        for (copy, payload) in self.copies.drain(..) {
            sink(&copy, &payload);
            delivered = true;
        }
        while !delivered {
            let Some(at) = self.next_at().filter(|at| *at <= until) else {
                self.now = self.now.max(until);
                return Ok(Wake::Deadline);
            };
            self.now = self.now.max(at);
            if self.server.poll_timeout().is_some_and(|at| at <= self.now) {
                self.run_server(None);
            }
            while let Some(in_transit) = self.in_transit.pop_front_if(|next| next.at <= self.now) {
                match in_transit.toward {
                    Toward::Server => self.run_server(Some(&in_transit)),
                    Toward::Client => {
                        let seen = observation(self.now, Direction::Received, in_transit.packet);
                        sink(&seen, &in_transit.payload);
                        delivered = true;
                    }
                }
            }
        }
        Ok(Wake::Packets)
    }
}

fn observation(at: Timestamp, direction: Direction, packet: Packet) -> Observation {
    Observation {
        at,
        direction,
        packet,
    }
}

/// The packet of a segment on the wire.
pub fn packet(segment: &TcpSegment) -> Packet {
    let (ip, tcp) = segment.headers();
    Packet {
        link: None,
        body: Body::Tcp(ip, tcp),
    }
}
