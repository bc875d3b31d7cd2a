//! The server of the simulated network: the part of TCP that answers a probe.
//!
//! It sends SYN+ACK, banner and echo, accepts bytes only in order, and retransmits each second.

use std::collections::VecDeque;
use std::collections::btree_map::{BTreeMap, Entry};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::packet::{Packet, Seq, Tcp, TcpFlags, TcpOptions, TcpSegment};
use crate::probe::banner::Banner;
use crate::probe::handshake::segment;
use crate::time::Timestamp;
use crate::topology::NodeName;

/// Time until a retransmission.
const RESEND: Duration = Duration::from_secs(1);

/// Maximum number of retransmissions.
const MAX_RESENDS: u8 = 5;

/// Maximum payload of one segment, bytes.
const MAX_PAYLOAD: usize = 1400;

/// Maximum number of segments in flight.
const MAX_SEGMENTS_IN_FLIGHT: usize = 10;

/// How a server behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerBehaviour {
    /// It sends banner and echo.
    Healthy,
    /// Nothing listens: RST.
    NotListening,
    /// Its kernel accepts connections, its process does not: no banner.
    Frozen,
}

/// One connection.
#[derive(Debug)]
struct ServerConnection {
    client_isn: Seq,
    isn: Seq,
    /// In-order bytes received; the FIN counts as one.
    received: u32,
    is_acknowledged: bool,
    client_closed: bool,
    /// All bytes to send so far, from the banner on.
    out: Vec<u8>,
    acked: usize,
    sent: usize,
    resends: u8,
    peer_timestamp: Option<u32>,
}

/// A TCP server at one address.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    behaviour: ServerBehaviour,
    /// By the port and the address of the client.
    connections: BTreeMap<(u16, IpAddr), ServerConnection>,
    /// Retransmission timers, in order, since all have the same duration.
    timers: VecDeque<(Timestamp, SocketAddr, Seq)>,
    connections_started: u32,
}

impl Server {
    /// A server at this address.
    pub fn new(address: SocketAddr, behaviour: ServerBehaviour) -> Self {
        Self {
            address,
            behaviour,
            connections: BTreeMap::new(),
            timers: VecDeque::new(),
            connections_started: 0,
        }
    }

    /// Processes a packet.
    pub fn observe(
        &mut self,
        now: Timestamp,
        packet: &Packet,
        payload: &[u8],
        out: &mut Vec<TcpSegment>,
    ) {
        let Some((ip, tcp)) = packet.tcp() else {
            return;
        };
        let peer = SocketAddr::new(ip.src, tcp.src_port);
        if SocketAddr::new(ip.dst, tcp.dst_port) != self.address {
            return;
        }
        if self.behaviour == ServerBehaviour::NotListening {
            self.send_reset(peer, tcp, out);
        } else if tcp.flags.is_syn() {
            self.accept_syn(now, peer, tcp, out);
        } else if tcp.flags.has(TcpFlags::RST) {
            // Only the next expected number resets (RFC 5961 3.2).
            if let Entry::Occupied(entry) = self.connections.entry(key(peer))
                && entry.get().next_expected() == tcp.seq
            {
                entry.remove();
            }
        } else {
            self.receive(now, peer, tcp, payload, out);
        }
    }

    /// When to call `handle_timeout`.
    pub fn poll_timeout(&self) -> Option<Timestamp> {
        self.timers.front().map(|(at, ..)| *at)
    }

    /// Retransmits unacknowledged segments.
    pub fn handle_timeout(&mut self, now: Timestamp, out: &mut Vec<TcpSegment>) {
        while let Some(&(at, peer, isn)) = self.timers.front() {
            if at > now {
                return;
            }
            self.timers.pop_front();
            let Some(connection) = self.connections.get_mut(&key(peer)) else {
                continue;
            };
            if connection.isn != isn || connection.is_fully_acknowledged() {
                continue;
            }
            connection.resends += 1;
            if connection.resends > MAX_RESENDS {
                self.connections.remove(&key(peer));
                continue;
            }
            connection.sent = connection.acked;
            if connection.is_acknowledged {
                connection.transmit(self.address, peer, out);
            } else {
                out.push(connection.syn_ack(self.address, peer));
            }
            self.timers.push_back((now + RESEND, peer, isn));
        }
    }

    fn send_reset(&self, peer: SocketAddr, tcp: &Tcp, out: &mut Vec<TcpSegment>) {
        if tcp.flags.is_syn() {
            out.push(TcpSegment {
                ack: tcp.seq.add(1),
                window: 0,
                ident: 0,
                ..segment(
                    self.address,
                    peer,
                    Seq(0),
                    TcpFlags::RST.with(TcpFlags::ACK),
                )
            });
        }
    }

    fn accept_syn(
        &mut self,
        now: Timestamp,
        peer: SocketAddr,
        tcp: &Tcp,
        out: &mut Vec<TcpSegment>,
    ) {
        let entry = self.connections.entry(key(peer));
        if let Entry::Occupied(entry) = &entry {
            let connection = entry.get();
            match (connection.client_isn == tcp.seq, connection.is_acknowledged) {
                (true, true) => return,
                (true, false) => {
                    out.push(connection.syn_ack(self.address, peer));
                    return;
                }
                (false, false) => {
                    // Half-open under another number: a challenge (RFC 5961 4).
                    out.push(connection.ack(self.address, peer));
                    return;
                }
                // The client closed the old connection long ago.
                (false, true) => {}
            }
        }
        self.connections_started = self.connections_started.wrapping_add(1);
        let connection = ServerConnection {
            client_isn: tcp.seq,
            isn: Seq(self.connections_started.wrapping_mul(0x9e37_79b1)),
            received: 0,
            is_acknowledged: false,
            client_closed: false,
            out: Vec::new(),
            acked: 0,
            sent: 0,
            resends: 0,
            peer_timestamp: tcp.options.timestamps.map(|(value, _)| value),
        };
        out.push(connection.syn_ack(self.address, peer));
        self.timers.push_back((now + RESEND, peer, connection.isn));
        entry.insert_entry(connection);
    }

    fn receive(
        &mut self,
        now: Timestamp,
        peer: SocketAddr,
        tcp: &Tcp,
        payload: &[u8],
        out: &mut Vec<TcpSegment>,
    ) {
        let Some(connection) = self.connections.get_mut(&key(peer)) else {
            out.push(segment(self.address, peer, tcp.ack, TcpFlags::RST));
            return;
        };
        let was_fully_acknowledged = connection.is_fully_acknowledged();
        if !connection.acknowledge(tcp) {
            return;
        }
        if connection.received == 0
            && connection.out.is_empty()
            && self.behaviour == ServerBehaviour::Healthy
        {
            let banner = Banner {
                nonce: 1,
                pod: "server".to_owned(),
                node: NodeName::new("node-1"),
                peer,
                addresses: Vec::new(),
            };
            connection.out = banner.to_line().into_bytes();
        }
        let has_content = tcp.payload_len > 0 || tcp.flags.has(TcpFlags::FIN);
        if tcp.seq == connection.next_expected() && !connection.client_closed {
            connection.received += tcp.payload_len;
            if self.behaviour == ServerBehaviour::Healthy {
                connection.out.extend_from_slice(payload);
            }
            if tcp.flags.has(TcpFlags::FIN) {
                connection.client_closed = true;
                connection.received += 1;
            }
        }
        let before = out.len();
        connection.transmit(self.address, peer, out);
        if out.len() == before && has_content {
            out.push(connection.ack(self.address, peer));
        }
        if connection.is_over() {
            self.connections.remove(&key(peer));
        } else if was_fully_acknowledged && !connection.is_fully_acknowledged() {
            let isn = connection.isn;
            self.timers.push_back((now + RESEND, peer, isn));
        }
    }
}

const fn key(peer: SocketAddr) -> (u16, IpAddr) {
    (peer.port(), peer.ip())
}

impl ServerConnection {
    fn next_expected(&self) -> Seq {
        self.client_isn.add(1).add(self.received)
    }

    /// Number of all bytes to send, the FIN included.
    fn end(&self) -> usize {
        self.out.len() + usize::from(self.client_closed)
    }

    /// Whether everything sent is acknowledged.
    fn is_fully_acknowledged(&self) -> bool {
        self.is_acknowledged && self.acked >= self.sent
    }

    fn is_over(&self) -> bool {
        self.client_closed && self.acked > self.out.len()
    }

    /// Processes an acknowledgement; `false` if it acknowledges bytes that were never sent.
    fn acknowledge(&mut self, tcp: &Tcp) -> bool {
        let offset = tcp.ack.0.wrapping_sub(self.isn.add(1).0);
        let offset = usize::try_from(offset).unwrap_or(usize::MAX);
        if !tcp.flags.has(TcpFlags::ACK) || offset > self.end() {
            return false;
        }
        self.is_acknowledged = true;
        if offset > self.acked {
            self.acked = offset;
            self.sent = self.sent.max(offset);
            self.resends = 0;
        }
        if let Some((value, _)) = tcp.options.timestamps {
            self.peer_timestamp = Some(value);
        }
        true
    }

    /// Sends as many bytes as may be in flight.
    fn transmit(&mut self, from: SocketAddr, to: SocketAddr, out: &mut Vec<TcpSegment>) {
        while self.sent < self.end()
            && self.sent - self.acked < MAX_PAYLOAD * MAX_SEGMENTS_IN_FLIGHT
        {
            let until = self.out.len().min(self.sent + MAX_PAYLOAD);
            let payload = self.out.get(self.sent..until).unwrap_or_default().to_vec();
            let closes = until == self.out.len() && self.client_closed;
            let mut segment = self.ack(from, to);
            segment.seq = self.isn.add(1).add(u32::try_from(self.sent).unwrap_or(0));
            segment.flags = if closes {
                segment.flags.with(TcpFlags::FIN)
            } else {
                segment.flags.with(TcpFlags::PSH)
            };
            self.sent += payload.len() + usize::from(closes);
            segment.payload = payload;
            out.push(segment);
        }
    }

    fn ack(&self, from: SocketAddr, to: SocketAddr) -> TcpSegment {
        let seq = self.isn.add(1).add(u32::try_from(self.sent).unwrap_or(0));
        TcpSegment {
            ack: self.next_expected(),
            options: TcpOptions {
                timestamps: self.peer_timestamp.map(|time| (1, time)),
                ..TcpOptions::default()
            },
            ..segment(from, to, seq, TcpFlags::ACK)
        }
    }

    fn syn_ack(&self, from: SocketAddr, to: SocketAddr) -> TcpSegment {
        let seq = self.isn;
        TcpSegment {
            ack: self.client_isn.add(1),
            options: TcpOptions {
                timestamps: self.peer_timestamp.map(|time| (1, time)),
                ..TcpOptions::of_linux_syn(TcpOptions::ETHERNET_MSS, 1)
            },
            ident: 0,
            ..segment(from, to, seq, TcpFlags::SYN_ACK)
        }
    }
}
