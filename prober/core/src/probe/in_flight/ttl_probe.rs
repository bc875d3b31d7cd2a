//! The TTL ladder: one five-tuple asked with one hop limit after the other.
//!
//! First a SYN with hop limit 64 fixes the backend: the node remembers the translation of a
//! five-tuple only of a packet that left it. Then each rung is asked until something answers, at
//! most `tries` times and over a second apart, since routers send one ICMP error a second and
//! destination (net/ipv4/icmp.c, `icmp_ratelimit`). At the end what was opened is reset.
//!
//! Where the first SYN was answered the server holds a half-open connection: to a SYN with
//! another number it would answer by a bare ACK (RFC 5961 4), to one with the same number by its
//! SYN+ACK again, but not twice within half a second (`tcp_invalid_ratelimit`). So the rungs then
//! share its number, are sent 550 ms apart, which is out of step with the SYN+ACKs that the server
//! repeats by itself after 1, 3 and 7 s, and an answer belongs to the rung before it. Where it was
//! not answered each rung has a number of its own, which the ICMP error quotes.

use std::net::SocketAddr;
use std::time::Duration;

use crate::packet::observation::{Direction, Observation};
use crate::packet::{Body, IcmpKind, Ip, Seq, Tcp, TcpFlags, TcpSegment};
use crate::probe::event::{TtlProbe, TtlStep, TtlStepAnswer};
use crate::probe::handshake::{HOP_LIMIT, HandshakeConfig, segment, syn};
use crate::time::Timestamp;

/// How long the first SYN may go unanswered, and until a silent rung is tried again.
const SILENCE: Duration = Duration::from_millis(1100);

/// From one rung to the next where each has a number of its own.
const APART: Duration = Duration::from_millis(100);

/// From one rung to the next where they share one.
const FAR_APART: Duration = Duration::from_millis(550);

/// The longest that a SYN+ACK takes; a later one is the server's own repetition.
const PROMPT: Duration = Duration::from_millis(200);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Idle,
    /// The first SYN waits for its answer.
    Pinning,
    Climbing,
    Done,
}

#[derive(Debug)]
struct Asked {
    rung: TtlStep,
    isn: Seq,
    sent_at: Option<Timestamp>,
}

/// One ladder being climbed.
#[derive(Debug)]
pub(super) struct ActiveTtlProbe {
    call: HandshakeConfig,
    mss: u16,
    isn: Seq,
    tries: u8,
    rungs: Vec<Asked>,
    state: State,
    now: Timestamp,
    /// No rung is sent before.
    next_at: Timestamp,
    apart: Duration,
    /// Who answered SYN+ACK, and the number that it answered.
    opened: Vec<(SocketAddr, Seq)>,
    /// Hop limits and numbers of SYNs to be sent now.
    due: Vec<(u8, Seq)>,
}

impl ActiveTtlProbe {
    /// A ladder with these hop limits, and a number of its own for each.
    pub(super) fn new(
        call: HandshakeConfig,
        isn: Seq,
        mss: u16,
        rungs: &[(u8, Seq)],
        tries: u8,
    ) -> Self {
        let rungs = rungs
            .iter()
            .map(|&(hop_limit, isn)| Asked {
                rung: TtlStep {
                    hop_limit,
                    tries: 0,
                    answer: TtlStepAnswer::Silent,
                },
                isn,
                sent_at: None,
            })
            .collect();
        Self {
            call,
            mss,
            isn,
            tries: tries.max(1),
            rungs,
            state: State::Idle,
            now: Timestamp::default(),
            next_at: Timestamp::default(),
            apart: APART,
            opened: Vec::new(),
            due: Vec::new(),
        }
    }

    pub(super) const fn src(&self) -> SocketAddr {
        self.call.src
    }

    pub(super) fn is_done(&self) -> bool {
        self.state == State::Done
    }

    pub(super) fn start(&mut self, now: Timestamp) {
        self.now = now;
        self.state = State::Pinning;
        self.next_at = now + SILENCE;
        self.due.push((HOP_LIMIT, self.isn));
    }

    pub(super) fn observe(&mut self, observation: &Observation) {
        self.now = self.now.max(observation.at);
        match (observation.direction, &observation.packet.body) {
            (Direction::Received, Body::Tcp(ip, tcp)) => self.hear(ip, tcp),
            (Direction::Received, Body::Icmp(ip, icmp)) => {
                let Some(quoted) = icmp.quoted.filter(|quoted| quoted.src == self.call.src) else {
                    return;
                };
                let (by, hop_limit) = (ip.src, ip.hop_limit);
                let answer = match icmp.kind {
                    IcmpKind::TimeExceeded => TtlStepAnswer::TimeExceeded { by, hop_limit },
                    IcmpKind::Unreachable { reason } => TtlStepAnswer::Unreachable {
                        by,
                        reason,
                        hop_limit,
                    },
                    IcmpKind::PacketTooBig { .. } | IcmpKind::Redirect { .. } | IcmpKind::Other => {
                        return;
                    }
                };
                self.answer(quoted.seq, answer);
            }
            (
                Direction::Sent | Direction::Overheard,
                Body::Tcp(..) | Body::Icmp(..) | Body::Resolution(_),
            )
            | (Direction::Received, Body::Resolution(_)) => {}
        }
    }

    pub(super) fn handle_timeout(&mut self, now: Timestamp) {
        self.now = self.now.max(now);
        if self.state == State::Pinning && self.now >= self.next_at {
            self.state = State::Climbing;
        }
        if self.state != State::Climbing {
            return;
        }
        while let Some((at, index)) = self.next_rung() {
            if at > self.now {
                return;
            }
            if let Some(asked) = self.rungs.get_mut(index) {
                asked.rung.tries += 1;
                asked.sent_at = Some(self.now);
                self.due.push((asked.rung.hop_limit, asked.isn));
            }
            self.next_at = self.now + self.apart;
        }
        if self.quiet_at() <= self.now {
            self.state = State::Done;
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Timestamp> {
        match self.state {
            State::Idle | State::Done => None,
            State::Pinning => Some(self.next_at),
            State::Climbing => match self.next_rung() {
                Some((at, _)) => Some(at),
                None => Some(self.quiet_at()),
            },
        }
    }

    pub(super) fn poll_transmit(&mut self, out: &mut Vec<TcpSegment>) {
        let (src, dst) = (self.call.src, self.call.dst);
        for (hop_limit, isn) in self.due.drain(..) {
            out.push(TcpSegment {
                hop_limit,
                ..syn(src, dst, isn, self.mss, self.now)
            });
        }
        if self.state == State::Done {
            // Also where nothing was heard: the server may have answered all the same.
            out.push(segment(src, dst, self.isn.add(1), TcpFlags::RST));
            for (from, isn) in self.opened.drain(..) {
                if from != dst || isn != self.isn {
                    out.push(segment(src, from, isn.add(1), TcpFlags::RST));
                }
            }
        }
    }

    /// Stops climbing.
    pub(super) fn abandon(&mut self) {
        self.due.clear();
        self.state = State::Done;
    }

    /// What the ladder met; it ends by that.
    pub(super) fn finish(&mut self) -> TtlProbe {
        let rungs = std::mem::take(&mut self.rungs);
        TtlProbe {
            path: self.call.path,
            target: self.call.dst,
            steps: rungs.into_iter().map(|asked| asked.rung).collect(),
        }
    }

    fn hear(&mut self, ip: &Ip, tcp: &Tcp) {
        if !tcp.flags.has(TcpFlags::ACK) {
            return;
        }
        let asked = tcp.ack.add(u32::MAX);
        let from = SocketAddr::new(ip.src, tcp.src_port);
        let hop_limit = ip.hop_limit;
        if tcp.flags.is_syn_ack() {
            self.remember(from, asked);
            if asked == self.isn && self.state == State::Pinning {
                // Pinned: from here on every rung shares the number.
                self.state = State::Climbing;
                self.apart = FAR_APART;
                self.next_at = self.now + FAR_APART;
                for rung in &mut self.rungs {
                    rung.isn = self.isn;
                }
            } else {
                self.answer(asked, TtlStepAnswer::SynAck { from, hop_limit });
            }
        } else if tcp.flags.has(TcpFlags::RST) {
            self.answer(asked, TtlStepAnswer::Reset { from, hop_limit });
        }
    }

    /// Notes who is to be reset at the end; a stranger that guesses numbers finds no room.
    fn remember(&mut self, from: SocketAddr, isn: Seq) {
        let ours = isn == self.isn || self.rungs.iter().any(|asked| asked.isn == isn);
        if ours && self.opened.len() < 16 && !self.opened.contains(&(from, isn)) {
            self.opened.push((from, isn));
        }
    }

    /// Gives the first answer to the rung that was sent last under this number.
    fn answer(&mut self, isn: Seq, answer: TtlStepAnswer) {
        if isn == self.isn && self.state == State::Pinning {
            // Refused: nothing to pin, and nothing to wait for.
            self.next_at = self.now;
        }
        let now = self.now;
        let shared = self.apart == FAR_APART;
        let last = self
            .rungs
            .iter_mut()
            .filter(|asked| asked.isn == isn)
            .filter_map(|asked| Some((asked.sent_at?, &mut asked.rung)))
            .max_by_key(|(sent_at, _)| *sent_at);
        let Some((sent_at, rung)) = last else {
            return;
        };
        let prompt = !shared || now.since(sent_at) <= PROMPT;
        if rung.answer == TtlStepAnswer::Silent && prompt {
            rung.answer = answer;
        }
    }

    /// The rung to be sent next, and not before when: those tried least often first.
    fn next_rung(&self) -> Option<(Timestamp, usize)> {
        self.rungs
            .iter()
            .enumerate()
            .filter(|(_, asked)| {
                asked.rung.answer == TtlStepAnswer::Silent && asked.rung.tries < self.tries
            })
            .min_by_key(|(_, asked)| asked.rung.tries)
            .map(|(index, asked)| {
                let at = asked.sent_at.map_or(self.next_at, |sent| sent + SILENCE);
                (at.max(self.next_at), index)
            })
    }

    /// When even the last silent rung has had its time.
    fn quiet_at(&self) -> Timestamp {
        self.rungs
            .iter()
            .filter(|asked| asked.rung.answer == TtlStepAnswer::Silent)
            .filter_map(|asked| asked.sent_at)
            .max()
            .map_or(self.now, |sent| sent + SILENCE)
    }
}
