//! What goes wrong after a handshake: an answer that the client refuses, a RST, payload that does not arrive.

use std::time::Duration;

use super::attempt::{Answer, Attempt, CLIENT, Reset, SERVER};
use super::ending::{Acks, Ending, REPEATED_FOR};
use crate::time::Timestamp;

/// How long the right answer took where a client that refuses it had given up before.
const GIVEN_UP_AFTER: Duration = Duration::from_millis(150);

/// How long the same thing is sent again before its silence is a failure.
const STALLED_FOR: Duration = Duration::from_millis(900);

/// What went wrong after the handshake; `None` where nothing did.
pub(super) fn after_handshake(
    attempt: &Attempt,
    answer: Option<&Answer>,
    until: Timestamp,
) -> Option<Ending> {
    if attempt.oversized >= 2 {
        return Some(Ending::TooBig {
            oversized: attempt.oversized,
        });
    }
    if let Some(answer) = answer {
        if let Some(refused) = refused_by_client(attempt, answer) {
            return Some(refused);
        }
        if is_answered_twice(attempt) {
            return Some(Ending::AnsweredTwice);
        }
        let again = answer.last.since(answer.first);
        let is_used = attempt
            .ways
            .iter()
            .any(|way| way.bytes > 0 && way.acked.is_some())
            && attempt
                .ways
                .get(SERVER)
                .is_some_and(|way| way.last.is_some());
        let is_unheard = attempt.syn_count <= 1 || !answer.is_acked;
        if answer.count >= 3 && again >= REPEATED_FOR && !is_used && is_unheard {
            return Some(Ending::HalfOpen {
                answers: answer.count,
                acks: if answer.is_acked {
                    Acks::Sent
                } else {
                    Acks::Missing
                },
            });
        }
    }
    reset(attempt, answer).or_else(|| stalled(attempt, until))
}

/// The client's RST to the right answer, where it is no port scan: the answer was late, or came by another way.
fn refused_by_client(attempt: &Attempt, answer: &Answer) -> Option<Ending> {
    let client = attempt.ways.get(CLIENT)?;
    if answer.is_acked || client.last.is_some() {
        return None;
    }
    let reset = (attempt.resets.iter()).find(|reset| reset.by_client && !reset.has_ack)?;
    let syn_before = (attempt.syns.iter()).rfind(|syn| syn.at <= answer.first);
    let after = answer
        .first
        .since(syn_before.map_or(attempt.started, |syn| syn.at));
    let refused_after = reset.at.since(answer.first);
    let first = attempt.first_leg();
    let is_at_once = refused_after < GIVEN_UP_AFTER;
    if after >= GIVEN_UP_AFTER && is_at_once {
        return Some(Ending::GivenUp { after });
    }
    // At the server's end the answer has its way before it.
    let is_late = refused_after >= GIVEN_UP_AFTER && attempt.syn_count == 1;
    if is_late
        && refused_after < Duration::from_secs(1)
        && Some(reset.seq) == attempt.isn.map(|isn| isn.add(1))
    {
        return Some(Ending::GivenUp {
            after: refused_after,
        });
    }
    let came = first.link.map(|link| link.src);
    let back = answer.link.and_then(|link| link.dst);
    let is_another_way = came.zip(back).is_some_and(|(came, back)| came != back)
        && reset.link.map(|link| link.src) == back;
    is_another_way.then_some(Ending::RefusedByClient)
}

/// Whether two SYN+ACKs with different numbers answered one SYN, with neither SYN nor RST between them.
fn is_answered_twice(attempt: &Attempt) -> bool {
    let right: Vec<&Answer> = (attempt.answers.iter())
        .filter(|answer| attempt.is_target(answer.from))
        .collect();
    right.iter().zip(right.iter().skip(1)).any(|(one, other)| {
        let between = |at: Timestamp| one.first < at && at <= other.first;
        one.from == other.from
            && other.first.since(one.first) < Duration::from_secs(1)
            && !attempt.syns.iter().any(|syn| between(syn.at))
            && !attempt.resets.iter().any(|reset| between(reset.at))
    })
}

fn reset(attempt: &Attempt, answer: Option<&Answer>) -> Option<Ending> {
    answer?;
    let [client, server] = &attempt.ways;
    let is_orderly = |reset: &Reset| {
        let own = if reset.by_client { client } else { server };
        [client.closed, server.closed]
            .into_iter()
            .flatten()
            .any(|closed| closed <= reset.at)
            || own.last.is_none() && reset.by_client
    };
    let reset = attempt.resets.iter().find(|reset| !is_orderly(reset))?;
    let own = if reset.by_client { client } else { server };
    let is_foreign = !own.hop_limits.is_empty() && !own.hop_limits.has(reset.hop_limit);
    let is_unknown = !reset.has_ack;
    let is_early = server.bytes == 0;
    let answers_payload = server
        .last
        .is_some_and(|sent| reset.at.since(sent) <= Duration::from_millis(5))
        && server.bytes > 0
        && server.acked.is_none_or(|acked| Some(acked) != server.next);
    let is_fault = if reset.by_client {
        is_unknown && answers_payload && is_first_payload(attempt)
    } else {
        is_early
    };
    (is_fault || is_foreign).then_some(Ending::ResetAfterHandshake {
        by_client: reset.by_client,
        is_foreign,
        is_unknown,
        is_in_use: server.bytes > 0 && server.is_advancing,
    })
}

/// Whether the client acknowledged no payload of the server.
fn is_first_payload(attempt: &Attempt) -> bool {
    let Some(server) = attempt.ways.get(SERVER) else {
        return false;
    };
    let first = attempt.right_answer().map(|answer| answer.seq.add(1));
    server.acked.is_none() || server.acked == first
}

fn stalled(attempt: &Attempt, until: Timestamp) -> Option<Ending> {
    let is_reset = !attempt.resets.is_empty();
    for (own, other) in [(CLIENT, SERVER), (SERVER, CLIENT)] {
        let (Some(way), Some(back)) = (attempt.ways.get(own), attempt.ways.get(other)) else {
            continue;
        };
        let by_client = own == CLIENT;
        if let Some(repeated) = way.repeated
            && repeated.times >= 3
            && repeated.last.since(repeated.first) >= STALLED_FOR
            && !back.is_full
        {
            return Some(Ending::NeverAcknowledged {
                by_client,
                times: repeated.times + 1,
                len: repeated.len,
                is_full_size: repeated.len >= 1_000
                    && way.largest_acked < repeated.len
                    && has_smaller_ones(attempt, own),
            });
        }
        if let Some(gap) = way.gap
            && !is_reset
            && until.since(gap.at) >= STALLED_FOR * 2
            && back.last.is_some_and(|last| last >= gap.at)
        {
            return Some(Ending::Missing {
                by_client,
                bytes: gap.to.0.wrapping_sub(gap.from.0),
            });
        }
    }
    None
}

/// Whether this end sent payload before, which was acknowledged, or SYNs that were answered.
fn has_smaller_ones(attempt: &Attempt, own: usize) -> bool {
    (attempt.ways.get(own)).is_some_and(|way| way.acked.is_some())
        || attempt.right_answer().is_some()
}
