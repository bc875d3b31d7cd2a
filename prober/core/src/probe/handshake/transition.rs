//! What happens in which state: one exhaustive match, and what its arms do.

use std::net::SocketAddr;
use std::time::Duration;

use super::{
    AFTER_MISMATCH, AFTER_UNREACHABLE, FAREWELL, Goal, Handshake, HandshakeRole, RESEND, State,
};
use crate::packet::observation::Direction;
use crate::packet::{Seq, Tcp};
use crate::probe::handshake::classify::{Answer, Event};
use crate::probe::handshake::exchange::{Progress, Stream};
use crate::probe::outcome::Outcome;
use crate::time::{Timestamp, nanos};

impl Handshake {
    /// The transition that an event causes.
    #[expect(
        clippy::too_many_lines,
        clippy::match_same_arms,
        reason = "the whole table in one place, a case an arm, so that the compiler sees a case that is missing"
    )]
    pub(super) fn handle(&mut self, event: Event<'_>) {
        use Event as E;
        use State as S;
        self.state = match (self.state, event) {
            (S::Idle, E::Start) => self.begin(),

            (state @ (S::SynSent | S::WrongSource | S::Rejected), E::OwnSyn(isn)) => {
                self.isn = Some(isn);
                self.seen += 1;
                state
            }
            (S::SynSent | S::WrongSource | S::Rejected, E::SynAck(tcp)) => self.establish(&tcp),
            (S::SynSent | S::WrongSource | S::Rejected, E::Refusal) if self.goal().is_some() => {
                self.establish_unseen()
            }
            // An answer from the wrong address outweighs an error: somebody is there.
            (S::SynSent | S::Rejected, E::Foreign(from, answer)) => self.mislead(from, answer),
            (S::WrongSource, E::Foreign(from, answer)) => {
                self.refuse(from, answer);
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
                self.shorten(AFTER_UNREACHABLE);
                S::Rejected
            }
            (state @ (S::SynSent | S::WrongSource), E::Resend) => {
                self.syn_due = true;
                self.resend_at = Some(self.now + RESEND);
                state
            }
            (S::SynSent, E::Deadline) => {
                // What the SYN left behind on the way ends with it; of other states' it would
                // only blur what the server's end saw.
                self.reset_due = Some(self.call.dst);
                self.close()
            }
            (S::WrongSource | S::Rejected, E::Deadline) => self.close(),
            (state @ (S::SynSent | S::WrongSource | S::Rejected), E::Released) => {
                self.shorten(self.role.linger());
                state
            }

            (S::SynSent, E::RefusedLocally(errno)) if self.seen == 0 => {
                self.outcome = Outcome::RefusedLocally { errno };
                self.close()
            }

            (S::Open, E::OwnSyn(isn)) => {
                // The answer overtook the copy of its own question.
                if self.seen == 0 && self.isn == Some(isn) {
                    self.seen = 1;
                }
                S::Open
            }
            (S::Open, E::SynAck(tcp)) => self.hear(&tcp, &[]),
            (S::Open, E::Segment(tcp, payload)) => self.hear(&tcp, payload),
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
                    self.reset_due = Some(self.call.dst);
                }
                self.close()
            }
            (S::Open, E::Released) => self.close(),

            // The server may not have seen the RST that ends a half-open probe.
            (S::Closing, E::SynAck(_)) if self.goal() == Some(Goal::HalfOpen) => {
                self.reset_due = Some(self.call.dst);
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
                E::Refusal | E::RefusedLocally(_),
            )
            | (
                state @ S::Idle,
                E::OwnSyn(_)
                | E::SynAck(_)
                | E::Foreign(..)
                | E::Reset { .. }
                | E::Unreachable { .. }
                | E::Segment(..)
                | E::Noise
                | E::Resend
                | E::Deadline
                | E::Released,
            )
            | (state @ S::SynSent, E::Start | E::Segment(..) | E::Noise)
            | (
                state @ S::WrongSource,
                E::Start | E::Unreachable { .. } | E::Segment(..) | E::Noise,
            )
            | (
                state @ S::Rejected,
                E::Start | E::Unreachable { .. } | E::Segment(..) | E::Noise | E::Resend,
            )
            | (state @ S::Open, E::Start | E::Foreign(..) | E::Unreachable { .. } | E::Noise)
            | (
                state @ S::Closing,
                E::Start
                | E::OwnSyn(_)
                | E::SynAck(_)
                | E::Foreign(..)
                | E::Reset { .. }
                | E::Unreachable { .. }
                | E::Segment(..)
                | E::Noise
                | E::Resend
                | E::Released,
            )
            | (
                state @ S::Done,
                E::Start
                | E::OwnSyn(_)
                | E::SynAck(_)
                | E::Foreign(..)
                | E::Reset { .. }
                | E::Unreachable { .. }
                | E::Segment(..)
                | E::Noise
                | E::Resend
                | E::Deadline
                | E::Released,
            ) => state,
        };
    }

    /// Ends it now, as its deadline would.
    pub(super) fn expire(&mut self) {
        match self.state {
            State::SynSent | State::WrongSource | State::Rejected | State::Open => {
                self.handle(Event::Deadline);
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
        self.ends = self.now + self.call.deadline;
        if self.goal().is_some() {
            self.syn_due = true;
            self.resend_at = Some(self.now + RESEND);
        }
        State::SynSent
    }

    fn establish(&mut self, tcp: &Tcp) -> State {
        // A witness whose capture lost the SYN learns its number from the answer.
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
                let stream = Stream::open(self.call.src, self.call.dst, isn, mss, echo_bytes, tcp);
                self.stream = Some(Box::new(stream));
                self.ends = self.now + self.call.deadline;
                State::Open
            }
            (HandshakeRole::Driver { .. }, _) => {
                self.reset_due = Some(self.call.dst);
                self.close()
            }
            // Its socket was faster than its packets.
            (HandshakeRole::Observer, _) if self.released => self.close(),
            (HandshakeRole::Observer, _) => {
                // The socket's own deadline comes first and is told by `set_exchange`.
                self.ends = self.now + self.call.deadline + FAREWELL;
                State::Open
            }
        }
    }

    /// Established by an answer that the capture lost and the own kernel refused within microseconds.
    fn establish_unseen(&mut self) -> State {
        self.outcome = self.established(None);
        self.close()
    }

    /// Established by the packet that was recorded last: the end of its socket may have been told before its packets
    /// were looked at, so the time that it was told is none to measure by.
    fn established(&self, answer: Option<&Tcp>) -> Outcome {
        let at = self.record.last().map_or(self.now, |seen| seen.at);
        let (first, answered) = self.syn_times(answer);
        Outcome::Established {
            rtt_ns: nanos(at.since(answered)),
            connect_ns: nanos(at.since(first)),
        }
    }

    /// When the first SYN left, and the one that `answer` answers: the one whose timestamp it
    /// echoes (RFC 7323 3.2), or else the last. Seen leaving where it was seen, else handed out.
    fn syn_times(&self, answer: Option<&Tcp>) -> (Timestamp, Timestamp) {
        let echoed = answer
            .and_then(|answer| answer.options.timestamps)
            .map(|(_, echo)| echo);
        let (mut first, mut last, mut named) = (None, None, None);
        for observation in self.record.iter() {
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
        let handed_out = |at| if self.transmitted > 0 { at } else { self.now };
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

    fn mislead(&mut self, from: SocketAddr, answer: Answer) -> State {
        self.outcome = Outcome::Mismatched { from };
        self.refuse(from, answer);
        self.ends = self.started_deadline().min(self.now + AFTER_MISMATCH);
        if self.goal().is_some() && self.resend_at.is_none() {
            self.resend_at = Some(self.now + RESEND);
        }
        State::WrongSource
    }

    /// Does as a kernel does with a connection that it never asked for.
    fn refuse(&mut self, from: SocketAddr, answer: Answer) {
        match answer {
            Answer::SynAck => self.reset_due = Some(from),
            Answer::Reset => {}
        }
    }

    fn hear(&mut self, tcp: &Tcp, payload: &[u8]) -> State {
        let Some(stream) = &mut self.stream else {
            return State::Open;
        };
        match stream.hear(tcp, payload) {
            Progress::Running => {
                self.resend_at = stream.resend_at();
                State::Open
            }
            Progress::Settled => {
                self.resend_at = stream.resend_at();
                self.shorten(FAREWELL);
                State::Open
            }
            Progress::Closed => self.close(),
        }
    }

    fn started_deadline(&self) -> Timestamp {
        self.started + self.call.deadline
    }

    fn shorten(&mut self, left: Duration) {
        self.ends = self.ends.min(self.now + left);
    }

    fn close(&mut self) -> State {
        self.syn_due = false;
        self.resend_at = None;
        self.ends = self.now + self.role.linger();
        State::Closing
    }
}
