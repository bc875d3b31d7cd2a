//! Classification of packets by the rules of RFC 9293 and RFC 5961, without state.

use std::net::{IpAddr, SocketAddr};

use crate::packet::observation::{Direction, Observation};
use crate::packet::{Body, Checksum, Icmp, IcmpKind, Ip, Seq, Tcp, TcpFlags, Unreachable};
use crate::probe::outcome::Errno;

/// An input of the state machine.
#[derive(Clone, Copy, Debug)]
pub(super) enum HandshakeEvent<'a> {
    /// The handshake starts.
    Start,
    /// Its SYN is in the capture.
    OwnSyn(Seq),
    /// The own kernel resets an answer of the target: the capture lost that answer.
    OwnReset,
    /// The target answers its SYN.
    SynAck(Tcp),
    /// Another address answers its SYN.
    WrongSource(SocketAddr, Answer),
    /// An acceptable RST from the target.
    Reset { by: IpAddr, hop_limit: u8 },
    /// An ICMP error about its segments.
    Unreachable { by: IpAddr, reason: Unreachable },
    /// Any other segment from the target.
    Segment(Tcp, &'a [u8]),
    /// A packet that is recorded and changes nothing.
    Ignored,
    /// A retransmission is due.
    Resend,
    /// The deadline of the state has come.
    Deadline,
    /// The observed kernel's socket is closed.
    SocketClosed,
    /// The own kernel refused connect() without a packet.
    RefusedLocally(Errno),
}

/// The kind of answer from another address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    SynAck,
    Reset,
}

/// The state of a handshake that the classification depends on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Classifier {
    pub(super) src: SocketAddr,
    pub(super) dst: SocketAddr,
    pub(super) isn: Option<Seq>,
    pub(super) server_isn: Option<Seq>,
    /// The next sequence number that the driver expects, once established.
    pub(super) next_expected: Option<Seq>,
}

impl Classifier {
    /// Classifies a packet.
    pub(super) fn classify<'a>(
        &self,
        observation: &Observation,
        payload: &'a [u8],
    ) -> HandshakeEvent<'a> {
        match (observation.direction, &observation.packet.body) {
            (Direction::Sent, Body::Tcp(ip, tcp)) => self.classify_sent(ip, tcp),
            (Direction::Received, Body::Tcp(ip, tcp)) => self.classify_segment(ip, tcp, payload),
            (Direction::Received, Body::Icmp(ip, icmp)) => self.classify_icmp(ip, icmp),
            (Direction::Sent | Direction::Received, Body::Icmp(..) | Body::Resolution(_))
            | (Direction::Overheard, Body::Tcp(..) | Body::Icmp(..) | Body::Resolution(_)) => {
                HandshakeEvent::Ignored
            }
        }
    }

    fn classify_sent<'a>(&self, ip: &Ip, tcp: &Tcp) -> HandshakeEvent<'a> {
        let ours = SocketAddr::new(ip.src, tcp.src_port) == self.src
            && SocketAddr::new(ip.dst, tcp.dst_port) == self.dst;
        if ours && tcp.flags.is_syn() && self.isn.is_none_or(|isn| isn == tcp.seq) {
            HandshakeEvent::OwnSyn(tcp.seq)
        } else if ours
            && tcp.flags == TcpFlags::RST
            && self.isn.is_some_and(|isn| tcp.seq == isn.add(1))
        {
            // It has the number that the answer acknowledged (RFC 9293 3.10.7.1).
            HandshakeEvent::OwnReset
        } else {
            HandshakeEvent::Ignored
        }
    }

    fn classify_segment<'a>(&self, ip: &Ip, tcp: &Tcp, payload: &'a [u8]) -> HandshakeEvent<'a> {
        // The receiver's kernel drops segments with a wrong checksum (net/ipv4/tcp_ipv4.c).
        if tcp.checksum == Checksum::Invalid || SocketAddr::new(ip.dst, tcp.dst_port) != self.src {
            return HandshakeEvent::Ignored;
        }
        let from = SocketAddr::new(ip.src, tcp.src_port);
        if from != self.dst {
            return self.classify_from_wrong_source(from, tcp);
        }
        if tcp.flags.is_syn_ack() {
            return self.classify_syn_ack(tcp);
        }
        if tcp.flags.has(TcpFlags::RST) {
            let acceptable = match self.next_expected {
                // Established: only the next expected number resets; any other in the window
                // could be forged (RFC 5961 3.2).
                Some(next) => tcp.seq == next,
                None => self.acknowledges_syn(tcp),
            };
            return if acceptable {
                HandshakeEvent::Reset {
                    by: ip.src,
                    hop_limit: ip.hop_limit,
                }
            } else {
                HandshakeEvent::Ignored
            };
        }
        if tcp.flags.has(TcpFlags::SYN) {
            // Its own SYN that came back, or a simultaneous open, which probes do not use.
            return HandshakeEvent::Ignored;
        }
        HandshakeEvent::Segment(*tcp, payload)
    }

    /// An answer from another address counts only if it acknowledges the number of the SYN.
    fn classify_from_wrong_source<'a>(&self, from: SocketAddr, tcp: &Tcp) -> HandshakeEvent<'a> {
        if !self.acknowledges_syn(tcp) {
            HandshakeEvent::Ignored
        } else if tcp.flags.is_syn_ack() {
            HandshakeEvent::WrongSource(from, Answer::SynAck)
        } else if tcp.flags.has(TcpFlags::RST) {
            HandshakeEvent::WrongSource(from, Answer::Reset)
        } else {
            HandshakeEvent::Ignored
        }
    }

    fn classify_syn_ack<'a>(&self, tcp: &Tcp) -> HandshakeEvent<'a> {
        let acceptable = match self.isn {
            Some(_) => self.acknowledges_syn(tcp),
            // The capture of an observer lost the SYN; its kernel has the port open.
            None => true,
        };
        // Once established, another initial number belongs to another connection (RFC 5961 4.2).
        if acceptable && self.server_isn.is_none_or(|isn| isn == tcp.seq) {
            HandshakeEvent::SynAck(*tcp)
        } else {
            HandshakeEvent::Ignored
        }
    }

    /// In SYN-SENT only a segment that acknowledges the SYN is acceptable (RFC 9293 3.10.7.3):
    /// SND.UNA < SEG.ACK =< SND.NXT, and the SYN is all that was sent.
    fn acknowledges_syn(&self, tcp: &Tcp) -> bool {
        tcp.flags.has(TcpFlags::ACK) && self.isn.is_some_and(|isn| tcp.ack == isn.add(1))
    }

    /// An ICMP error counts if it quotes this SYN: addresses, ports and number (RFC 5927 4.1).
    fn classify_icmp<'a>(&self, ip: &Ip, icmp: &Icmp) -> HandshakeEvent<'a> {
        let about_us = icmp.quoted.is_some_and(|quoted| {
            quoted.src == self.src && quoted.dst == self.dst && Some(quoted.seq) == self.isn
        });
        match icmp.kind {
            IcmpKind::Unreachable { reason } if about_us => {
                HandshakeEvent::Unreachable { by: ip.src, reason }
            }
            IcmpKind::Unreachable { .. }
            | IcmpKind::TimeExceeded
            | IcmpKind::PacketTooBig { .. }
            | IcmpKind::Redirect { .. }
            | IcmpKind::Other => HandshakeEvent::Ignored,
        }
    }
}
