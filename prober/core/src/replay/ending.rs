//! How an attempt to connect ended, as far as one observer shows it.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::after::after_handshake;
use super::attempt::{Answer, Attempt};
use crate::packet::Unreachable;
use crate::time::Timestamp;

/// A SYN without an answer is given up after this time.
const DEADLINE: Duration = Duration::from_secs(5);

/// The time that SYNs are repeated in, from which their silence is a failure.
pub(super) const REPEATED_FOR: Duration = Duration::from_millis(1_900);

/// The least number of times that hop limits fall on one link in a routing loop.
const LOOP_TURNS: usize = 4;

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Ending {
    /// It was established, and what followed is ordinary.
    Established,
    /// It was established after some SYNs.
    Late {
        /// The number of SYNs until the answer.
        syns: u32,
        /// The time from the first SYN to the answer.
        after: Duration,
        /// Why it took so long.
        why: Lateness,
    },
    /// The file ends before it is known.
    Undecided {
        /// The time from the first SYN to the end of the file.
        watched: Duration,
        /// Whether the file has no packet to any client: its filter may leave out the answers.
        is_one_sided: bool,
    },
    /// The same SYN passes one link again and again, with a falling hop limit.
    Looping {
        /// The number of different hop limits.
        turns: usize,
    },
    /// Another address answered SYN+ACK.
    WrongAddress {
        /// That address.
        from: SocketAddr,
    },
    /// Another address answered RST, which the client ignores.
    RefusedElsewhere {
        /// That address.
        from: SocketAddr,
    },
    /// A RST refused the SYN.
    Refused {
        /// Its hop limit.
        hop_limit: u8,
    },
    /// An ICMP error refused the SYN.
    Unreachable {
        /// Its sender.
        by: IpAddr,
        /// Its reason.
        reason: Unreachable,
        /// Whether the host that captured sent it.
        is_own: bool,
    },
    /// Nothing answered the SYNs.
    Unanswered {
        /// The number of SYNs.
        syns: u32,
        /// What came instead and does not count.
        ignored: Option<Ignored>,
    },
    /// The client refused the right answer, which came after this time.
    GivenUp {
        /// The time from the SYN to the answer.
        after: Duration,
    },
    /// The client refused the answer, and the SYN had come by another way than its RST.
    RefusedByClient,
    /// Two different SYN+ACKs answered one SYN.
    AnsweredTwice,
    /// The SYN+ACK was sent again and again: the client's ACK does not get back.
    HalfOpen {
        /// How often the SYN+ACK was sent.
        answers: u32,
        /// The client's ACKs.
        acks: Acks,
    },
    /// Payload was sent again and again and never acknowledged.
    NeverAcknowledged {
        /// Whether the client sent it.
        by_client: bool,
        /// How often it was sent.
        times: u32,
        /// Its length, bytes.
        len: u32,
        /// Whether smaller segments of the same sender were acknowledged.
        is_full_size: bool,
    },
    /// Payload is missing and never came.
    Missing {
        /// Whether the client sent it.
        by_client: bool,
        /// Its length, bytes.
        bytes: u32,
    },
    /// Segments are too large for a next hop, which says so, and their sender does not send smaller ones.
    TooBig {
        /// How often a too large segment was sent after the error.
        oversized: u32,
    },
    /// It was reset right after the handshake, or at the first payload.
    ResetAfterHandshake {
        /// Whether the client's address sent the RST.
        by_client: bool,
        /// Whether the RST has another hop limit than all other segments from there.
        is_foreign: bool,
        /// Whether the sender of the RST knows no such connection.
        is_unknown: bool,
        /// Whether the client acknowledged payload of the server before.
        is_in_use: bool,
    },
}

/// Why an answer was late.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Lateness {
    /// Its SYNs or their answers were lost.
    Lost,
    /// The way is slow: every SYN has its own answer, or the only one took long.
    Slow,
    /// The server remembered an earlier connection of the same ports.
    Challenged,
}

/// What is known of the ACKs that answer a SYN+ACK.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Acks {
    /// None is in the file.
    Missing,
    /// The client sent them.
    Sent,
    /// They arrived at the server's host.
    Arrived,
}

/// What came instead of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Ignored {
    /// A RST that acknowledges another number.
    Reset,
    /// A SYN+ACK with a wrong checksum.
    Damaged,
}

impl Ending {
    /// Whether the file ends before it is known.
    pub(super) const fn is_undecided(self) -> bool {
        matches!(self, Self::Undecided { .. })
    }

    /// Whether it was established, maybe late, and went on in order.
    pub(super) const fn is_established(self) -> bool {
        matches!(self, Self::Established | Self::Late { .. })
    }

    /// Whether it is no failure.
    pub(super) const fn is_healthy(self) -> bool {
        matches!(
            self,
            Self::Established | Self::Late { .. } | Self::Undecided { .. }
        )
    }
}

impl Ending {
    /// The same ending, of the host that received the SYN.
    pub(super) fn at_server(self) -> Self {
        if let Self::HalfOpen {
            answers,
            acks: Acks::Sent,
        } = self
        {
            let acks = Acks::Arrived;
            return Self::HalfOpen { answers, acks };
        }
        self
    }

    /// The same ending, in a file without any packet to a client.
    pub(super) fn in_one_sided(self, watched: Duration) -> Self {
        // With two SYNs it is known: a client repeats none that was answered.
        if matches!(self, Self::Unanswered { syns: 1, .. }) {
            return Self::Undecided {
                watched,
                is_one_sided: true,
            };
        }
        self
    }
}

/// How an attempt ended; `until` is the end of its file.
pub(super) fn ending(attempt: &Attempt, until: Timestamp) -> Ending {
    if attempt.turns.len() >= LOOP_TURNS {
        return Ending::Looping {
            turns: attempt.turns.len(),
        };
    }
    let answer = attempt.right_answer();
    if answer.is_none() && attempt.isn.is_some() && attempt.syn_count > 0 && !is_carried(attempt) {
        return unanswered(attempt, until);
    }
    if let Some(failed) = after_handshake(attempt, answer, until) {
        return failed;
    }
    let watched = until.since(attempt.started);
    match answer {
        // Whether the SYN+ACK is the right one is known with the SYN, or with what the client makes of it.
        Some(answer) if attempt.syn_count == 0 && !answer.is_acked && !is_carried(attempt) => {
            Ending::Undecided {
                watched,
                is_one_sided: false,
            }
        }
        Some(answer) => lateness(attempt, answer),
        None if attempt.isn.is_none() && !is_alive(attempt) => Ending::Undecided {
            watched,
            is_one_sided: false,
        },
        None => Ending::Established,
    }
}

/// Whether the client acknowledged payload, or had its own acknowledged: then it was established, whatever the file lacks.
fn is_carried(attempt: &Attempt) -> bool {
    let [client, server] = &attempt.ways;
    server.acked.is_some() && client.last.is_some() || server.bytes > 0
}

/// Whether a connection that began before the file has packets of both ends, or of one that acknowledges more and more.
fn is_alive(attempt: &Attempt) -> bool {
    attempt.ways.iter().all(|way| way.last.is_some())
        || attempt.ways.iter().any(|way| way.is_advancing)
}

fn unanswered(attempt: &Attempt, until: Timestamp) -> Ending {
    let wrong = attempt
        .answers
        .iter()
        .find(|answer| attempt.is_wrong(answer));
    if let Some(answer) = wrong {
        return Ending::WrongAddress { from: answer.from };
    }
    let from_server = || attempt.resets.iter().filter(|reset| !reset.by_client);
    let refused = from_server().find(|reset| reset.is_acceptable && attempt.is_target(reset.from));
    if let Some(reset) = refused {
        return Ending::Refused {
            hop_limit: reset.hop_limit,
        };
    }
    if let Some(reset) = from_server().find(|reset| reset.is_acceptable) {
        return Ending::RefusedElsewhere { from: reset.from };
    }
    let client = attempt.first_leg().client.ip();
    if let Some((error, reason)) = attempt.refusal()
        && error.by != client
    {
        return Ending::Unreachable {
            by: error.by,
            reason,
            is_own: error.is_own,
        };
    }
    // The client's own kernel gave up: no host answers its neighbour solicitations.
    let is_given_up = attempt.refusal().is_some();
    let last_syn = attempt.syns.last().map_or(attempt.last, |syn| syn.at);
    let repeated_for = last_syn.since(attempt.started);
    let watched = until.since(attempt.started);
    let is_known = is_given_up
        || (attempt.syn_count >= 3 && repeated_for >= REPEATED_FOR)
        || (attempt.syn_count >= 2 && watched >= DEADLINE / 2)
        || watched >= DEADLINE;
    if !is_known {
        return Ending::Undecided {
            watched,
            is_one_sided: false,
        };
    }
    let ignored = if from_server().next().is_some() {
        Some(Ignored::Reset)
    } else if attempt.answers.iter().any(|answer| answer.is_damaged) {
        Some(Ignored::Damaged)
    } else {
        None
    };
    Ending::Unanswered {
        syns: attempt.syn_count,
        ignored,
    }
}

fn lateness(attempt: &Attempt, answer: &Answer) -> Ending {
    let before = || attempt.syns.iter().filter(|syn| syn.at <= answer.first);
    let syns = u32::try_from(before().count()).unwrap_or(u32::MAX).max(1);
    let syns = if attempt.syns.len() < usize::try_from(attempt.syn_count).unwrap_or(usize::MAX) {
        attempt.syn_count
    } else {
        syns
    };
    let after = if attempt.syn_count == 0 {
        Duration::ZERO
    } else {
        answer.first.since(attempt.started)
    };
    if syns <= 1 && after < Duration::from_millis(900) {
        return Ending::Established;
    }
    let wrong = attempt.answers.iter().find(|other| attempt.is_wrong(other));
    if let Some(wrong) = wrong.filter(|wrong| wrong.first <= answer.first) {
        return Ending::WrongAddress { from: wrong.from };
    }
    let of_first = before().next().and_then(|syn| syn.stamp);
    let answers: u32 = attempt.answers.iter().map(|answer| answer.count).sum();
    let why = if attempt.is_challenged {
        Lateness::Challenged
    } else if syns <= 1 || (answers >= attempt.syn_count && answer.echo == of_first) {
        Lateness::Slow
    } else {
        Lateness::Lost
    };
    Ending::Late { syns, after, why }
}
