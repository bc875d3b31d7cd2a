//! A probe in progress: its connection, and what both ends have observed so far.

use std::collections::BTreeMap;

use prober_core::evidence::Evidence;
use prober_core::packet::family::Family;
use prober_core::packet::mac::Mac;
use prober_core::packet::observation::{Direction, Observation};
use prober_core::packet::{Seq, TcpFlags};
use prober_core::probe::event::ServerTrace;
use prober_core::probe::outcome::{Exchange, Outcome, ProbeResult};
use prober_core::time::Timestamp;

use super::address::{Agent, Role};
use super::observe::{self, MS, Segment};
use super::packet::{Arrival, Flow, Packet};
use super::probe::{Answer, Request};

/// A probe in progress.
pub(crate) struct Progress {
    pub(crate) request: Request,
    pub(crate) flow: Flow,
    pub(crate) isn: Seq,
    pub(crate) server_isn: Seq,
    pub(crate) client: Vec<Observation>,
    pub(crate) servers: BTreeMap<Agent, Vec<Observation>>,
}

impl Progress {
    pub(crate) fn has_capture(&self) -> bool {
        self.request.client.role != Role::Host
    }

    /// When an attempt is sent, nanoseconds.
    pub(crate) fn at(&self, attempt: usize) -> u64 {
        (self.request.start_ms + u64::try_from(attempt).unwrap() * 1000) * MS
    }

    pub(crate) fn client_receives(&mut self, arrival: Arrival, at: u64, segment: Segment) {
        let macs = (arrival.src_mac, self.request.client.mac());
        let seen = observe::tcp(at, Direction::Received, macs, arrival.packet, segment);
        self.client.push(seen);
    }

    /// A server receives a segment of the client, in the order of the client's numbers.
    pub(crate) fn server_receives(&mut self, arrival: Arrival, at: u64, flags: TcpFlags) {
        self.server_receives_data(arrival, at, flags, 0);
    }

    pub(crate) fn server_receives_data(
        &mut self,
        arrival: Arrival,
        at: u64,
        flags: TcpFlags,
        payload_len: u32,
    ) {
        let seq = if flags.is_syn() {
            self.isn
        } else {
            self.isn.add(1)
        };
        let segment = Segment {
            payload_len,
            ..Segment::new(flags, seq, Seq(0))
        };
        let macs = (arrival.src_mac, arrival.at.mac());
        let seen = observe::tcp(at, Direction::Received, macs, arrival.packet, segment);
        self.servers.entry(arrival.at).or_default().push(seen);
    }

    /// The own SYN comes back with the own source. IPv4 drops it; IPv6 accepts it, and the pod answers itself.
    pub(crate) fn returned(&mut self, attempt: usize, arrival: Arrival) -> Answer {
        let at = self.at(attempt) + MS / 10;
        let segment = Segment::new(TcpFlags::SYN, self.isn, Seq(0));
        self.client_receives(arrival, at, segment);
        match Family::of(arrival.packet.src.ip()) {
            Family::Ipv4 => Answer::None,
            Family::Ipv6 => {
                let answer = Arrival {
                    packet: Packet::new(arrival.packet.dst, arrival.packet.src, TcpFlags::SYN_ACK),
                    src_mac: Mac::LOOPBACK,
                    ..arrival
                };
                let flags = TcpFlags::SYN_ACK;
                let segment = Segment::new(flags, self.server_isn, self.isn.add(1));
                self.client_receives(answer, at + MS / 10, segment);
                Answer::WrongSource(answer.packet.src)
            }
        }
    }

    /// The evidence of both ends. An agent of a node's own network captures nothing.
    pub(crate) fn evidence(mut self, outcome: Outcome, syns: u32, exchange: Exchange) -> Evidence {
        let is_captured = self.has_capture();
        let is_sent = is_captured && syns > 0;
        let reached = self.servers.pop_last();
        let (server_agent, server) = match reached.filter(|_| is_sent) {
            Some((agent, seen)) => (
                Some(agent.id()),
                Some(observe::server_trace(self.isn, seen)),
            ),
            None => (None, None),
        };
        let is_established = matches!(outcome, Outcome::Established { .. });
        Evidence {
            client: ProbeResult {
                path: self.request.path,
                engine: self.request.engine,
                src: self.flow.src,
                dst: self.request.target,
                started: Timestamp::from_nanos(self.request.start_ms * MS),
                isn: is_sent.then_some(self.isn),
                server_isn: (is_sent && is_established).then_some(self.server_isn),
                outcome,
                syns: if is_captured { syns } else { 0 },
                exchange,
                observations: if is_captured { self.client } else { Vec::new() },
            },
            server_agent,
            server,
        }
    }
}

/// The trace of a server at which nothing arrived.
pub(crate) fn empty_trace(probe: &ProbeResult) -> Option<ServerTrace> {
    Some(ServerTrace::empty(probe.isn?, probe.src, probe.dst))
}
