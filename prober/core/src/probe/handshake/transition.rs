//! The transition table: one exhaustive match over state and event, and the actions of its arms.

use std::net::SocketAddr;
use std::time::Duration;

use super::{
    AFTER_UNREACHABLE, AFTER_WRONG_SOURCE, CLOSE_TIMEOUT, Goal, Handshake, HandshakeRole, RESEND,
    State,
};
use crate::packet::observation::Direction;
use crate::packet::{Seq, Tcp};
use crate::probe::handshake::classify::{Answer, HandshakeEvent};
use crate::probe::handshake::exchange::{Stream, StreamProgress};
use crate::probe::outcome::Outcome;
use crate::time::{Timestamp, nanos};

impl Handshake {
    /// The transition that an event causes.
    #[expect(
        clippy::too_many_lines,
        clippy::match_same_arms,
        reason = "the whole table in one place, a case an arm, so that the compiler sees a case that is missing"
    )]
    pub(super) fn handle(&mut self, event: HandshakeEvent<'_>) {
        use HandshakeEvent as E;
        use State as S;
        self.state = match (self.state, event) {
            (S::Idle, E::Start) => self.begin(),

            (state @ (S::SynSent | S::WrongSource | S::Rejected), E::OwnSyn(isn)) => {
                self.isn = Some(isn);
                self.syns_seen += 1;
                state
            }
            (S::SynSent | S::WrongSource | S::Rejected, E::SynAck(tcp)) => self.establish(&tcp),
            (S::SynSent | S::WrongSource | S::Rejected, E::OwnReset) if self.goal().is_some() => {
                self.establish_without_answer()
            }
            // An answer from the wrong address outweighs an ICMP error: a server exists.
            (S::SynSent | S::Rejected, E::WrongSource(from, answer)) => {
                self.answered_by_wrong_source(from, answer)
            }
            (S::WrongSource, E::WrongSource(from, answer)) => {
                self.reset_wrong_source(from, answer);
                S::WrongSource
            }
            (S::SynSent | S::WrongSource | S::Rejected, E::Reset { by, hop_limit }) => {
                self.outcome = Outcome::Reset { by, hop_limit };
                self.close()
            }
            (S::SynSent, E::Unreachable { by, reason }) => {
                let by = Some(by);
                self.outcome = Outcome::Unreachable { by, reason };
                self.resend_at = None;
                self.end_within(AFTER_UNREACHABLE);
                S::Rejected
            }
            (state @ (S::SynSent | S::WrongSource), E::Resend) => {
                self.syn_due = true;
                self.resend_at = Some(self.now + RESEND);
                state
            }
            (S::SynSent, E::Deadline) => {
                // The RST removes the state that the SYN left on the path. In other states it would
                // only add packets to the server's trace.
                self.reset_due = Some(self.config.dst);
                self.close()
            }
            (S::WrongSource | S::Rejected, E::Deadline) => self.close(),
            (state @ (S::SynSent | S::WrongSource | S::Rejected), E::SocketClosed) => {
                self.end_within(self.role.linger());
                state
            }

            (S::SynSent, E::RefusedLocally(errno)) if self.syns_seen == 0 => {
                self.outcome = Outcome::RefusedLocally { errno };
                self.close()
            }

            (S::Open, E::OwnSyn(isn)) => {
                // The capture delivered the answer before the SYN.
                if self.syns_seen == 0 && self.isn == Some(isn) {
                    self.syns_seen = 1;
                }
                S::Open
            }
            (S::Open, E::SynAck(tcp)) => self.receive(&tcp, &[]),
            (S::Open, E::Segment(tcp, payload)) => self.receive(&tcp, payload),
            (S::Open, E::Reset { .. }) => match &mut self.stream {
                Some(stream) => {
                    stream.reset();
                    self.close()
                }
                None => S::Open,
            },
            (S::Open, E::Resend) => {
                if let Some(stream) = &mut self.stream {
                    stream.resend(self.now);
                    self.resend_at = stream.resend_at();
                } else {
                    self.resend_at = None;
                }
                S::Open
            }
            (S::Open, E::Deadline) => {
                if self.stream.is_some() {
                    self.reset_due = Some(self.config.dst);
                }
                self.close()
            }
            (S::Open, E::SocketClosed) => self.close(),

            // The RST that ends a half-open probe may be lost.
            (S::Closing, E::SynAck(_)) if self.goal() == Some(Goal::HalfOpen) => {
                self.reset_due = Some(self.config.dst);
                S::Closing
            }
            (S::Closing, E::Deadline) => S::Done,

            (
                state @ (S::Idle
                | S::SynSent
                | S::WrongSource
                | S::Rejected
                | S::Open
                | S::Closing
                | S::Done),
                E::OwnReset | E::RefusedLocally(_),
            )
            | (
                state @ S::Idle,
                E::OwnSyn(_)
                | E::SynAck(_)
                | E::WrongSource(..)
                | E::Reset { .. }
                | E::Unreachable { .. }
                | E::Segment(..)
                | E::Ignored
                | E::Resend
                | E::Deadline
                | E::SocketClosed,
            )
            | (state @ S::SynSent, E::Start | E::Segment(..) | E::Ignored)
            | (
                state @ S::WrongSource,
                E::Start | E::Unreachable { .. } | E::Segment(..) | E::Ignored,
            )
            | (
                state @ S::Rejected,
                E::Start | E::Unreachable { .. } | E::Segment(..) | E::Ignored | E::Resend,
            )
            | (
                state @ S::Open,
                E::Start | E::WrongSource(..) | E::Unreachable { .. } | E::Ignored,
            )
            | (
                state @ S::Closing,
                E::Start
                | E::OwnSyn(_)
                | E::SynAck(_)
                | E::WrongSource(..)
                | E::Reset { .. }
                | E::Unreachable { .. }
                | E::Segment(..)
                | E::Ignored
                | E::Resend
                | E::SocketClosed,
            )
            | (
                state @ S::Done,
                E::Start
                | E::OwnSyn(_)
                | E::SynAck(_)
                | E::WrongSource(..)
                | E::Reset { .. }
                | E::Unreachable { .. }
                | E::Segment(..)
                | E::Ignored
                | E::Resend
                | E::Deadline
                | E::SocketClosed,
            ) => state,
        };
    }

    /// Ends the handshake now, as at its deadline.
    pub(super) fn expire(&mut self) {
        match self.state {
            State::SynSent | State::WrongSource | State::Rejected | State::Open => {
                self.handle(HandshakeEvent::Deadline);
            }
            State::Idle | State::Closing | State::Done => {}
        }
    }

    fn goal(&self) -> Option<Goal> {
        match self.role {
            HandshakeRole::Driver { goal, .. } => Some(goal),
            HandshakeRole::Observer => None,
        }
    }

    fn begin(&mut self) -> State {
        self.started = self.now;
        self.ends_at = self.now + self.config.deadline;
        if self.goal().is_some() {
            self.syn_due = true;
            self.resend_at = Some(self.now + RESEND);
        }
        State::SynSent
    }

    fn establish(&mut self, tcp: &Tcp) -> State {
        // Where the capture of an observer lost the SYN, the answer acknowledges its number.
        self.isn = self.isn.or(Some(Self::acknowledged(tcp)));
        self.server_isn = Some(tcp.seq);
        self.outcome = self.established(Some(tcp));
        self.resend_at = None;
        self.syn_due = false;
        match (self.role, self.isn) {
            (
                HandshakeRole::Driver {
                    mss,
                    goal: Goal::Exchange { echo_bytes },
                    ..
                },
                Some(isn),
            ) => {
                let stream =
                    Stream::open(self.config.src, self.config.dst, isn, mss, echo_bytes, tcp);
                self.stream = Some(Box::new(stream));
                self.ends_at = self.now + self.config.deadline;
                State::Open
            }
            (HandshakeRole::Driver { .. }, _) => {
                self.reset_due = Some(self.config.dst);
                self.close()
            }
            // The socket was closed before the capture delivered its packets.
            (HandshakeRole::Observer, _) if self.socket_closed => self.close(),
            (HandshakeRole::Observer, _) => {
                // The socket has a shorter deadline, which `socket_closed` reports.
                self.ends_at = self.now + self.config.deadline + CLOSE_TIMEOUT;
                State::Open
            }
        }
    }

    /// Established by an answer that the capture lost and that the own kernel reset within microseconds.
    fn establish_without_answer(&mut self) -> State {
        self.outcome = self.established(None);
        self.close()
    }

    /// Established by the packet that was recorded last. Its time ends the measurement: the close of the socket may be
    /// reported before the capture delivers the packets.
    fn established(&self, answer: Option<&Tcp>) -> Outcome {
        let at = self.packets.last().map_or(self.now, |seen| seen.at);
        let (first, answered) = self.syn_times(answer);
        Outcome::Established {
            rtt_ns: nanos(at.since(answered)),
            connect_ns: nanos(at.since(first)),
        }
    }

    /// The times of the first SYN and of the SYN that `answer` answers: the one whose timestamp it echoes (RFC 7323 3.2), or
    /// else the last. Times come from the capture, or from `poll_transmit` where the capture has no SYN.
    fn syn_times(&self, answer: Option<&Tcp>) -> (Timestamp, Timestamp) {
        let echoed = answer
            .and_then(|answer| answer.options.timestamps)
            .map(|(_, echo)| echo);
        let (mut first, mut last, mut named) = (None, None, None);
        for observation in self.packets.iter() {
            let Some((_, tcp)) = observation.packet.tcp() else {
                continue;
            };
            if observation.direction == Direction::Sent
                && tcp.flags.is_syn()
                && Some(tcp.seq) == self.isn
            {
                first = first.or(Some(observation.at));
                last = Some(observation.at);
                if named.is_none() && echoed == tcp.options.timestamps.map(|(value, _)| value) {
                    named = echoed.map(|_| observation.at);
                }
            }
        }
        let handed_out = |at| {
            if self.syns_transmitted > 0 {
                at
            } else {
                self.now
            }
        };
        (
            first.unwrap_or_else(|| handed_out(self.first_transmitted)),
            named
                .or(last)
                .unwrap_or_else(|| handed_out(self.last_transmitted)),
        )
    }

    fn acknowledged(tcp: &Tcp) -> Seq {
        tcp.ack.add(u32::MAX)
    }

    fn answered_by_wrong_source(&mut self, from: SocketAddr, answer: Answer) -> State {
        self.outcome = Outcome::Mismatched { from };
        self.reset_wrong_source(from, answer);
        self.ends_at = self.started_deadline().min(self.now + AFTER_WRONG_SOURCE);
        if self.goal().is_some() && self.resend_at.is_none() {
            self.resend_at = Some(self.now + RESEND);
        }
        State::WrongSource
    }

    /// Resets a SYN+ACK from another address, as a kernel does without a matching socket.
    fn reset_wrong_source(&mut self, from: SocketAddr, answer: Answer) {
        match answer {
            Answer::SynAck => self.reset_due = Some(from),
            Answer::Reset => {}
        }
    }

    fn receive(&mut self, tcp: &Tcp, payload: &[u8]) -> State {
        let Some(stream) = &mut self.stream else {
            return State::Open;
        };
        match stream.receive(tcp, payload) {
            StreamProgress::Running => {
                self.resend_at = stream.resend_at();
                State::Open
            }
            StreamProgress::Finished => {
                self.resend_at = stream.resend_at();
                self.end_within(CLOSE_TIMEOUT);
                State::Open
            }
            StreamProgress::Closed => self.close(),
        }
    }

    fn started_deadline(&self) -> Timestamp {
        self.started + self.config.deadline
    }

    fn end_within(&mut self, left: Duration) {
        self.ends_at = self.ends_at.min(self.now + left);
    }

    fn close(&mut self) -> State {
        self.syn_due = false;
        self.resend_at = None;
        self.ends_at = self.now + self.role.linger();
        State::Closing
    }
}
