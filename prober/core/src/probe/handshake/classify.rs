//! What a packet means to a handshake: the rules of RFC 9293 and RFC 5961, without any state.

use std::net::{IpAddr, SocketAddr};

use crate::packet::observation::{Direction, Observation};
use crate::packet::{Body, Checksum, Icmp, IcmpKind, Ip, Seq, Tcp, TcpFlags, Unreachable};
use crate::probe::outcome::Errno;

/// What can happen to a handshake.
#[derive(Clone, Copy, Debug)]
pub(super) enum Event<'a> {
    /// It begins.
    Start,
    /// Its SYN was seen leaving.
    OwnSyn(Seq),
    /// The own kernel refuses an answer of the address that was asked: the capture lost that answer.
    Refusal,
    /// The address that was asked answers its SYN.
    SynAck(Tcp),
    /// Another address answers its SYN.
    Foreign(SocketAddr, Answer),
    /// An acceptable RST from the address that was asked.
    Reset { by: IpAddr, hop_limit: u8 },
    /// An ICMP error about its segments.
    Unreachable { by: IpAddr, reason: Unreachable },
    /// Any other segment from the address that was asked.
    Segment(Tcp, &'a [u8]),
    /// A packet that is recorded and changes nothing.
    Noise,
    /// It is time to send again.
    Resend,
    /// It is time to stop waiting.
    Deadline,
    /// The socket beside it is closed.
    Released,
    /// The own kernel refused connect() and sent no packet.
    RefusedLocally(Errno),
}

/// How another address answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    SynAck,
    Reset,
}

/// What a handshake knows that decides what a packet means.
#[derive(Clone, Copy, Debug)]
pub(super) struct View {
    pub(super) src: SocketAddr,
    pub(super) dst: SocketAddr,
    pub(super) isn: Option<Seq>,
    pub(super) server_isn: Option<Seq>,
    /// The next sequence number that the driver expects, once established.
    pub(super) next_expected: Option<Seq>,
}

impl View {
    /// What the packet means.
    pub(super) fn judge<'a>(&self, observation: &Observation, payload: &'a [u8]) -> Event<'a> {
        match (observation.direction, &observation.packet.body) {
            (Direction::Sent, Body::Tcp(ip, tcp)) => self.judge_sent(ip, tcp),
            (Direction::Received, Body::Tcp(ip, tcp)) => self.judge_segment(ip, tcp, payload),
            (Direction::Received, Body::Icmp(ip, icmp)) => self.judge_icmp(ip, icmp),
            (Direction::Sent | Direction::Received, Body::Icmp(..) | Body::Resolution(_))
            | (Direction::Overheard, Body::Tcp(..) | Body::Icmp(..) | Body::Resolution(_)) => {
                Event::Noise
            }
        }
    }

    fn judge_sent<'a>(&self, ip: &Ip, tcp: &Tcp) -> Event<'a> {
        let ours = SocketAddr::new(ip.src, tcp.src_port) == self.src
            && SocketAddr::new(ip.dst, tcp.dst_port) == self.dst;
        if ours && tcp.flags.is_syn() && self.isn.is_none_or(|isn| isn == tcp.seq) {
            Event::OwnSyn(tcp.seq)
        } else if ours
            && tcp.flags == TcpFlags::RST
            && self.isn.is_some_and(|isn| tcp.seq == isn.add(1))
        {
            // Its number is the one that the answer acknowledged (RFC 9293 3.10.7.1).
            Event::Refusal
        } else {
            Event::Noise
        }
    }

    fn judge_segment<'a>(&self, ip: &Ip, tcp: &Tcp, payload: &'a [u8]) -> Event<'a> {
        // The receiver's kernel drops what its checksum does not fit (net/ipv4/tcp_ipv4.c).
        if tcp.checksum == Checksum::Invalid || SocketAddr::new(ip.dst, tcp.dst_port) != self.src {
            return Event::Noise;
        }
        let from = SocketAddr::new(ip.src, tcp.src_port);
        if from != self.dst {
            return self.judge_foreign(from, tcp);
        }
        if tcp.flags.is_syn_ack() {
            return self.judge_syn_ack(tcp);
        }
        if tcp.flags.has(TcpFlags::RST) {
            let acceptable = match self.next_expected {
                // Established: only the very next number resets; anything else in the window
                // could be forged (RFC 5961 3.2).
                Some(next) => tcp.seq == next,
                None => self.acknowledges_syn(tcp),
            };
            return if acceptable {
                Event::Reset {
                    by: ip.src,
                    hop_limit: ip.hop_limit,
                }
            } else {
                Event::Noise
            };
        }
        if tcp.flags.has(TcpFlags::SYN) {
            // Its own SYN that came back, or a simultaneous open that nobody here wants.
            return Event::Noise;
        }
        Event::Segment(*tcp, payload)
    }

    /// Another address is believed only where it knows the number that the SYN carried.
    fn judge_foreign<'a>(&self, from: SocketAddr, tcp: &Tcp) -> Event<'a> {
        if !self.acknowledges_syn(tcp) {
            Event::Noise
        } else if tcp.flags.is_syn_ack() {
            Event::Foreign(from, Answer::SynAck)
        } else if tcp.flags.has(TcpFlags::RST) {
            Event::Foreign(from, Answer::Reset)
        } else {
            Event::Noise
        }
    }

    fn judge_syn_ack<'a>(&self, tcp: &Tcp) -> Event<'a> {
        let acceptable = match self.isn {
            Some(_) => self.acknowledges_syn(tcp),
            // A witness whose capture lost the SYN: its kernel would not have the port open else.
            None => true,
        };
        // Once established, another initial number is another connection (RFC 5961 4.2).
        if acceptable && self.server_isn.is_none_or(|isn| isn == tcp.seq) {
            Event::SynAck(*tcp)
        } else {
            Event::Noise
        }
    }

    /// In SYN-SENT only a segment that acknowledges the SYN is acceptable (RFC 9293 3.10.7.3):
    /// SND.UNA < SEG.ACK =< SND.NXT, and the SYN is all that was sent.
    fn acknowledges_syn(&self, tcp: &Tcp) -> bool {
        tcp.flags.has(TcpFlags::ACK) && self.isn.is_some_and(|isn| tcp.ack == isn.add(1))
    }

    /// An ICMP error counts where it quotes this SYN: addresses, ports and number (RFC 5927 4.1).
    fn judge_icmp<'a>(&self, ip: &Ip, icmp: &Icmp) -> Event<'a> {
        let about_us = icmp.quoted.is_some_and(|quoted| {
            quoted.src == self.src && quoted.dst == self.dst && Some(quoted.seq) == self.isn
        });
        match icmp.kind {
            IcmpKind::Unreachable { reason } if about_us => {
                Event::Unreachable { by: ip.src, reason }
            }
            IcmpKind::Unreachable { .. }
            | IcmpKind::TimeExceeded
            | IcmpKind::PacketTooBig { .. }
            | IcmpKind::Redirect { .. }
            | IcmpKind::Other => Event::Noise,
        }
    }
}
