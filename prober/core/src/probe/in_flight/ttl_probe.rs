//! A TTL probe: SYNs of one five-tuple with rising hop limits.
//!
//! First a SYN with hop limit 64 pins the backend: conntrack keeps the translation of a five-tuple only after a packet
//! left the node. Then each step is sent until it is answered, at most `tries` times and over a second apart, since a
//! router sends one ICMP error per second and destination (net/ipv4/icmp.c, `icmp_ratelimit`). At the end every
//! half-open connection is reset.
//!
//! If the first SYN is answered, the server has a half-open connection. It would answer a SYN with another number by a
//! bare ACK (RFC 5961 4), and one with the same number by its SYN+ACK, but not twice within half a second
//! (`tcp_invalid_ratelimit`). So all steps then share the number, are sent 550 ms apart, out of step with the SYN+ACKs
//! that the server repeats after 1, 3 and 7 s, and an answer belongs to the step before it. If the first SYN is not
//! answered, each step has its own number, which the ICMP error quotes.

use std::net::SocketAddr;
use std::time::Duration;

use crate::packet::observation::{Direction, Observation};
use crate::packet::{Body, Checksum, IcmpKind, Ip, Seq, Tcp, TcpFlags, TcpSegment};
use crate::probe::event::{TtlProbe, TtlStep, TtlStepAnswer};
use crate::probe::handshake::{HOP_LIMIT, HandshakeConfig, segment, syn};
use crate::time::Timestamp;

/// Waiting time for the answer to the first SYN, and before an unanswered step is repeated.
const SILENCE: Duration = Duration::from_millis(1100);

/// Time between two steps with numbers of their own.
const APART: Duration = Duration::from_millis(100);

/// Time between two steps that share a number.
const FAR_APART: Duration = Duration::from_millis(550);

/// Maximum time of a SYN+ACK; a later one is a retransmission by the server.
const PROMPT: Duration = Duration::from_millis(200);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Idle,
    /// Waits for the answer to the first SYN.
    PinningBackend,
    Probing,
    Done,
}

#[derive(Debug)]
struct Step {
    result: TtlStep,
    isn: Seq,
    sent_at: Option<Timestamp>,
}

/// A TTL probe in flight.
#[derive(Debug)]
pub(super) struct ActiveTtlProbe {
    config: HandshakeConfig,
    mss: u16,
    isn: Seq,
    tries: u8,
    steps: Vec<Step>,
    state: State,
    now: Timestamp,
    /// No step is sent before this time.
    next_at: Timestamp,
    apart: Duration,
    /// The addresses that answered SYN+ACK, with the acknowledged number.
    half_open: Vec<(SocketAddr, Seq)>,
    /// Hop limits and numbers of SYNs to send now.
    due: Vec<(u8, Seq)>,
}

impl ActiveTtlProbe {
    /// A TTL probe with these hop limits, each with its own number.
    pub(super) fn new(
        config: HandshakeConfig,
        isn: Seq,
        mss: u16,
        steps: &[(u8, Seq)],
        tries: u8,
    ) -> Self {
        let steps = steps
            .iter()
            .map(|&(hop_limit, isn)| Step {
                result: TtlStep {
                    hop_limit,
                    tries: 0,
                    answer: TtlStepAnswer::Silent,
                    checksum: Checksum::Unknown,
                },
                isn,
                sent_at: None,
            })
            .collect();
        Self {
            config,
            mss,
            isn,
            tries: tries.max(1),
            steps,
            state: State::Idle,
            now: Timestamp::default(),
            next_at: Timestamp::default(),
            apart: APART,
            half_open: Vec::new(),
            due: Vec::new(),
        }
    }

    pub(super) const fn src(&self) -> SocketAddr {
        self.config.src
    }

    pub(super) fn is_done(&self) -> bool {
        self.state == State::Done
    }

    pub(super) fn start(&mut self, now: Timestamp) {
        self.now = now;
        self.state = State::PinningBackend;
        self.next_at = now + SILENCE;
        self.due.push((HOP_LIMIT, self.isn));
    }

    pub(super) fn observe(&mut self, observation: &Observation) {
        self.now = self.now.max(observation.at);
        match (observation.direction, &observation.packet.body) {
            (Direction::Received, Body::Tcp(ip, tcp)) => self.receive(ip, tcp),
            (Direction::Received, Body::Icmp(ip, icmp)) => {
                let Some(quoted) = icmp.quoted.filter(|quoted| quoted.src == self.config.src)
                else {
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
                self.answer(quoted.seq, answer, quoted.checksum);
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
        if self.state == State::PinningBackend && self.now >= self.next_at {
            self.state = State::Probing;
        }
        if self.state != State::Probing {
            return;
        }
        while let Some((at, index)) = self.next_step() {
            if at > self.now {
                return;
            }
            if let Some(step) = self.steps.get_mut(index) {
                step.result.tries += 1;
                step.sent_at = Some(self.now);
                self.due.push((step.result.hop_limit, step.isn));
            }
            self.next_at = self.now + self.apart;
        }
        if self.silent_until() <= self.now {
            self.state = State::Done;
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Timestamp> {
        match self.state {
            State::Idle | State::Done => None,
            State::PinningBackend => Some(self.next_at),
            State::Probing => match self.next_step() {
                Some((at, _)) => Some(at),
                None => Some(self.silent_until()),
            },
        }
    }

    pub(super) fn poll_transmit(&mut self, out: &mut Vec<TcpSegment>) {
        let (src, dst) = (self.config.src, self.config.dst);
        for (hop_limit, isn) in self.due.drain(..) {
            out.push(TcpSegment {
                hop_limit,
                ..syn(src, dst, isn, self.mss, self.now)
            });
        }
        if self.state == State::Done {
            // Also without an answer: the answer of the server may be lost.
            out.push(segment(src, dst, self.isn.add(1), TcpFlags::RST));
            for (from, isn) in self.half_open.drain(..) {
                if from != dst || isn != self.isn {
                    out.push(segment(src, from, isn.add(1), TcpFlags::RST));
                }
            }
        }
    }

    /// Ends the probe now.
    pub(super) fn abandon(&mut self) {
        self.due.clear();
        self.state = State::Done;
    }

    /// The answers to all steps; ends the probe.
    pub(super) fn finish(&mut self) -> TtlProbe {
        let steps = std::mem::take(&mut self.steps);
        TtlProbe {
            path: self.config.path,
            target: self.config.dst,
            steps: steps.into_iter().map(|step| step.result).collect(),
        }
    }

    fn receive(&mut self, ip: &Ip, tcp: &Tcp) {
        if !tcp.flags.has(TcpFlags::ACK) {
            return;
        }
        let isn = tcp.ack.add(u32::MAX);
        let from = SocketAddr::new(ip.src, tcp.src_port);
        let hop_limit = ip.hop_limit;
        if tcp.flags.is_syn_ack() {
            self.remember_half_open(from, isn);
            if isn == self.isn && self.state == State::PinningBackend {
                // The backend is pinned: from now on every step shares the number.
                self.state = State::Probing;
                self.apart = FAR_APART;
                self.next_at = self.now + FAR_APART;
                for step in &mut self.steps {
                    step.isn = self.isn;
                }
            } else {
                self.answer(
                    isn,
                    TtlStepAnswer::SynAck { from, hop_limit },
                    Checksum::Unknown,
                );
            }
        } else if tcp.flags.has(TcpFlags::RST) {
            self.answer(
                isn,
                TtlStepAnswer::Reset { from, hop_limit },
                Checksum::Unknown,
            );
        }
    }

    /// Remembers an address to reset at the end; only for numbers of this probe, at most 16.
    fn remember_half_open(&mut self, from: SocketAddr, isn: Seq) {
        let ours = isn == self.isn || self.steps.iter().any(|step| step.isn == isn);
        if ours && self.half_open.len() < 16 && !self.half_open.contains(&(from, isn)) {
            self.half_open.push((from, isn));
        }
    }

    /// Records the first answer to the last sent step with this number, and the checksum of the SYN where it quotes it.
    fn answer(&mut self, isn: Seq, answer: TtlStepAnswer, checksum: Checksum) {
        if isn == self.isn && self.state == State::PinningBackend {
            // Refused: there is no backend to pin.
            self.next_at = self.now;
        }
        let now = self.now;
        let shared = self.apart == FAR_APART;
        let last = self
            .steps
            .iter_mut()
            .filter(|step| step.isn == isn)
            .filter_map(|step| Some((step.sent_at?, &mut step.result)))
            .max_by_key(|(sent_at, _)| *sent_at);
        let Some((sent_at, result)) = last else {
            return;
        };
        let prompt = !shared || now.since(sent_at) <= PROMPT;
        if result.answer == TtlStepAnswer::Silent && prompt {
            result.answer = answer;
            result.checksum = checksum;
        }
    }

    /// The step to send next and its earliest time: those with the fewest tries first.
    fn next_step(&self) -> Option<(Timestamp, usize)> {
        self.steps
            .iter()
            .enumerate()
            .filter(|(_, step)| {
                step.result.answer == TtlStepAnswer::Silent && step.result.tries < self.tries
            })
            .min_by_key(|(_, step)| step.result.tries)
            .map(|(index, step)| {
                let at = step.sent_at.map_or(self.next_at, |sent| sent + SILENCE);
                (at.max(self.next_at), index)
            })
    }

    /// When the waiting time of the last unanswered step ends.
    fn silent_until(&self) -> Timestamp {
        self.steps
            .iter()
            .filter(|step| step.result.answer == TtlStepAnswer::Silent)
            .filter_map(|step| step.sent_at)
            .max()
            .map_or(self.now, |sent| sent + SILENCE)
    }
}
