//! A network in memory: an engine with a client on one side, a server on the other, and between
//! them rules that translate, delay, lose, double and answer packets.
//!
//! Its clock is virtual and jumps to the next thing that happens, so that an hour of probes takes
//! seconds; its chances come from a seed, so that what was seen once is seen again.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;

use crate::packet::observation::{Direction, Observation};
use crate::packet::{Body, Checksum, Ip, Packet, Tcp, TcpSegment};
use crate::probe::engine::{Engine, Wake};
use crate::probe::server_trace::ServerTraces;
use crate::random::Random;
use crate::time::Timestamp;

use server::Server;

/// What may happen to a packet on its way.
pub mod fault;
/// The server: as little of TCP as answers a probe.
pub mod server;
#[cfg(test)]
mod tests;

/// Which way a packet goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// From the client to the server.
    There,
    /// From the server to the client.
    Back,
}

/// A packet under way.
#[derive(Clone, Debug)]
pub struct Flying {
    /// Which way it goes.
    pub way: Way,
    /// When it arrives.
    pub at: Timestamp,
    /// What it is by now.
    pub packet: Packet,
    /// What it carries.
    pub payload: Vec<u8>,
}

/// What a rule makes of a packet.
#[derive(Clone, Debug)]
pub enum Fate {
    /// It goes on.
    Passes,
    /// It is gone.
    Lost,
    /// It goes on, and a copy of it that much later.
    Doubled(Duration),
    /// It is gone, and this is sent back to where it came from.
    Answered(Packet),
}

/// Something on the way; see [`rule`] for some.
pub type Rule = Box<dyn FnMut(&mut Flying, &mut Random) -> Fate + Send>;

/// The network; see the module's documentation.
pub struct Sim {
    now: Timestamp,
    random: Random,
    /// How long a packet takes one way, before the rules.
    latency: Duration,
    /// In the order in which a packet to the server meets them; one back meets the last first.
    rules: Vec<Rule>,
    server: Server,
    /// The server's end of what happens, where it is wanted.
    witnesses: Option<ServerTraces>,
    /// Copies of what the client has just sent, as its capture sees them.
    copies: Vec<(Observation, Vec<u8>)>,
    /// Packets under way, the next to arrive first. Nearly all take equally long, and go to the end.
    flying: VecDeque<Flying>,
    replies: Vec<TcpSegment>,
}

impl std::fmt::Debug for Sim {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sim")
            .field("now", &self.now)
            .field("flying", &self.flying.len())
            .finish_non_exhaustive()
    }
}

impl Sim {
    /// A network without rules before this server, a packet taking `latency` each way.
    pub fn new(server: Server, latency: Duration, seed: u64) -> Self {
        Self {
            // Some time after zero, so that what is before it can be told from it.
            now: Timestamp::from_nanos(1_000_000_000_000),
            random: Random::new(seed),
            latency,
            rules: Vec::new(),
            server,
            witnesses: None,
            copies: Vec::new(),
            flying: VecDeque::new(),
            replies: Vec::new(),
        }
    }

    /// With one more rule, the last before the server.
    #[must_use]
    pub fn with(mut self, rule: Rule) -> Self {
        self.rules.push(rule);
        self
    }

    /// With the server's end of every handshake kept.
    #[must_use]
    pub fn witnessed(mut self, ports: impl IntoIterator<Item = u16>) -> Self {
        self.witnesses = Some(ServerTraces::new(ports));
        self
    }

    /// What the server's end saw, where it was to be kept.
    pub fn witnesses(&mut self) -> Option<&mut ServerTraces> {
        self.witnesses.as_mut()
    }

    /// Sends a packet on its way from rule `from` on.
    fn travel(&mut self, mut flying: Flying, from: usize) {
        let mut next = from;
        loop {
            let index = match flying.way {
                Way::There => next,
                Way::Back => next.wrapping_sub(1),
            };
            let Some(rule) = self.rules.get_mut(index) else {
                self.post(flying);
                return;
            };
            let after = match flying.way {
                Way::There => next + 1,
                Way::Back => index,
            };
            match rule(&mut flying, &mut self.random) {
                Fate::Passes => next = after,
                Fate::Lost => return,
                Fate::Doubled(later) => {
                    let mut copy = flying.clone();
                    copy.at = copy.at + later;
                    self.travel(copy, after);
                    next = after;
                }
                Fate::Answered(packet) => {
                    let (way, from) = match flying.way {
                        Way::There => (Way::Back, index),
                        Way::Back => (Way::There, next),
                    };
                    flying = Flying {
                        way,
                        packet,
                        payload: Vec::new(),
                        ..flying
                    };
                    next = from;
                }
            }
        }
    }

    fn post(&mut self, flying: Flying) {
        let later = self
            .flying
            .iter()
            .rev()
            .take_while(|other| other.at > flying.at);
        self.flying
            .insert(self.flying.len() - later.count(), flying);
    }

    /// The server's turn: with what has arrived, or because it is time.
    fn serve(&mut self, arrived: Option<&Flying>) {
        let mut replies = std::mem::take(&mut self.replies);
        match arrived {
            Some(flying) => {
                self.witness(Direction::Received, flying.packet);
                self.server
                    .observe(self.now, &flying.packet, &flying.payload, &mut replies);
            }
            None => self.server.handle_timeout(self.now, &mut replies),
        }
        for segment in replies.drain(..) {
            let flying = self.depart(Way::Back, packet(&segment), segment.payload);
            self.witness(Direction::Sent, flying.packet);
            self.travel(flying, self.rules.len());
        }
        self.replies = replies;
    }

    fn depart(&self, way: Way, packet: Packet, payload: Vec<u8>) -> Flying {
        Flying {
            way,
            at: self.now + self.latency,
            packet,
            payload,
        }
    }

    fn witness(&mut self, direction: Direction, packet: Packet) {
        if let Some(witnesses) = &mut self.witnesses {
            witnesses.observe(&Observation {
                at: self.now,
                direction,
                packet,
            });
        }
    }

    /// When something happens next.
    fn next_at(&self) -> Option<Timestamp> {
        let arrival = self.flying.front().map(|flying| flying.at);
        match (arrival, self.server.poll_timeout()) {
            (Some(arrival), Some(timer)) => Some(arrival.min(timer)),
            (arrival, timer) => arrival.or(timer),
        }
    }
}

impl Engine for Sim {
    type Error = Infallible;

    fn now(&self) -> Timestamp {
        self.now
    }

    fn send(&mut self, segments: &[TcpSegment]) -> Result<(), Infallible> {
        for segment in segments {
            let copy = observation(self.now, Direction::Sent, packet(segment));
            self.copies.push((copy, segment.payload.clone()));
            let flying = self.depart(Way::There, copy.packet, segment.payload.clone());
            self.travel(flying, 0);
        }
        Ok(())
    }

    fn recv(
        &mut self,
        until: Timestamp,
        sink: &mut dyn FnMut(&Observation, &[u8]),
    ) -> Result<Wake, Infallible> {
        let mut heard = false;
        for (copy, payload) in self.copies.drain(..) {
            sink(&copy, &payload);
            heard = true;
        }
        while !heard {
            let Some(at) = self.next_at().filter(|at| *at <= until) else {
                self.now = self.now.max(until);
                return Ok(Wake::Deadline);
            };
            self.now = self.now.max(at);
            if self.server.poll_timeout().is_some_and(|at| at <= self.now) {
                self.serve(None);
            }
            while let Some(flying) = self.flying.pop_front_if(|next| next.at <= self.now) {
                match flying.way {
                    Way::There => self.serve(Some(&flying)),
                    Way::Back => {
                        let seen = observation(self.now, Direction::Received, flying.packet);
                        sink(&seen, &flying.payload);
                        heard = true;
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

/// The packet that a segment is on the wire.
pub fn packet(segment: &TcpSegment) -> Packet {
    let ip = Ip {
        src: segment.src.ip(),
        dst: segment.dst.ip(),
        hop_limit: segment.hop_limit,
        ident: match segment.src {
            SocketAddr::V4(_) => segment.ident,
            SocketAddr::V6(_) => 0,
        },
    };
    let tcp = Tcp {
        src_port: segment.src.port(),
        dst_port: segment.dst.port(),
        seq: segment.seq,
        ack: segment.ack,
        flags: segment.flags,
        window: segment.window,
        options: segment.options,
        payload_len: u32::try_from(segment.payload.len()).unwrap_or(u32::MAX),
        checksum: Checksum::Valid,
    };
    Packet {
        link: None,
        body: Body::Tcp(ip, tcp),
    }
}
