//! Endings in words.

use std::time::Duration;

use super::ending::{Acks, Ending, Ignored, Lateness};
use crate::packet::Unreachable;
use crate::time::nanos;
use crate::units::duration;

/// The predicate of a sentence such as "2 connections from 10.0.0.1 to 10.0.0.2:80 ...", for that many.
pub(super) fn predicate(ending: &Ending, count: usize) -> String {
    let words = predicate_of_many(ending);
    if count != 1 {
        return words;
    }
    let (verb, rest) = words.split_once(' ').unwrap_or((&words, ""));
    let (verb, tail) = match verb.strip_suffix(':') {
        Some(verb) => (verb, ":"),
        None => (verb, ""),
    };
    let verb = match verb {
        "are" => "is",
        "were" => "was",
        "have" => "has",
        "loop" => "loops",
        "stay" => "stays",
        "stall" => "stalls",
        other => other,
    };
    format!("{verb}{tail} {rest}")
}

fn predicate_of_many(ending: &Ending) -> String {
    match *ending {
        Ending::Established => "were established".to_owned(),
        Ending::Late { syns, after, why } => {
            format!("were established late, {}", lateness(syns, after, why))
        }
        Ending::Undecided {
            is_one_sided: true, ..
        } => "have one SYN, in a file without any packet to a client: its filter may leave out the answers".to_owned(),
        Ending::Undecided {
            watched,
            is_one_sided: false,
        } => format!(
            "have no answer yet when the capture ends, {} after the SYN: too early to say",
            duration(nanos(watched))
        ),
        Ending::Looping { turns } => format!(
            "loop: one SYN passes the same link with {turns} different hop limits"
        ),
        Ending::WrongAddress { from } => format!("are answered by {from}, which was not asked"),
        Ending::RefusedElsewhere { from } => {
            format!("are refused by RST of {from}, which was not asked and is not believed")
        }
        Ending::Refused { hop_limit } => format!("are refused by RST, which came with TTL {hop_limit}"),
        Ending::Unreachable { by, reason, is_own } => format!(
            "are refused by ICMP {} of {by}{}",
            reason_word(reason),
            if is_own { ", the host that captured" } else { "" }
        ),
        Ending::Unanswered { syns, ignored } => unanswered(syns, ignored),
        Ending::GivenUp { after } => format!(
            "were given up by the client: the right answer took {}, and the client reset it",
            duration(nanos(after))
        ),
        Ending::RefusedByClient => {
            "are reset by the client at the SYN+ACK, which goes back by another way than the SYN came"
                .to_owned()
        }
        Ending::AnsweredTwice => {
            "are answered by two SYN+ACKs with different numbers: two TCP stacks answer for one address"
                .to_owned()
        }
        Ending::HalfOpen { answers, acks } => half_open(answers, acks),
        Ending::NeverAcknowledged {
            by_client,
            times,
            len,
            is_full_size,
        } => format!(
            "stall: {len} bytes of the {} are sent {times} times and never acknowledged{}",
            side(by_client),
            if is_full_size {
                ", while small segments are"
            } else {
                ""
            }
        ),
        Ending::Missing { by_client, bytes } => format!(
            "stall: {bytes} bytes of the {} are missing and never come, while what follows them did",
            side(by_client)
        ),
        Ending::TooBig { oversized } => format!(
            "stall: a router reports that segments are too large for its next link, and they are sent unchanged {oversized} times more"
        ),
        Ending::ResetAfterHandshake {
            by_client,
            is_foreign,
            is_unknown,
            is_in_use,
        } => format!(
            "are reset {} by the {}'s address{}{}",
            if is_in_use {
                "in the middle of the connection"
            } else {
                "right after the handshake"
            },
            side(by_client),
            if is_unknown {
                ", as by a host that knows no such connection"
            } else {
                ""
            },
            if is_foreign {
                "; the RST has another TTL than all other packets from there"
            } else {
                ""
            }
        ),
    }
}

/// The words for SYNs without an answer.
fn unanswered(syns: u32, ignored: Option<Ignored>) -> String {
    format!(
        "have no answer to {syns} SYN{}{}",
        if syns == 1 { "" } else { "s" },
        match ignored {
            None => "",
            Some(Ignored::Reset) => {
                ": the RSTs that came do not acknowledge them, and no kernel accepts such a RST"
            }
            Some(Ignored::Damaged) => {
                ": the SYN+ACKs that came have wrong checksums, and the client acknowledged none"
            }
        }
    )
}

/// The words for a connection whose SYN+ACK is repeated.
fn half_open(answers: u32, acks: Acks) -> String {
    format!(
        "stay half open: the SYN+ACK is sent {answers} times, {}",
        match acks {
            Acks::Missing => "and no ACK of the client arrives here",
            Acks::Sent =>
                "though the client acknowledges each: its ACKs do not arrive, or the server's accept queue is full",
            Acks::Arrived =>
                "though the client's ACKs arrive at its host: as where the server's accept queue is full",
        }
    )
}

/// When a late connection was established, and why.
pub(super) fn lateness(syns: u32, after: Duration, why: Lateness) -> String {
    format!(
        "by SYN {syns} after {}{}",
        duration(nanos(after)),
        match why {
            Lateness::Lost => "",
            Lateness::Slow => ", on a slow path",
            Lateness::Challenged => {
                ", since the server remembered an earlier connection of the same ports"
            }
        }
    )
}

const fn side(by_client: bool) -> &'static str {
    if by_client { "client" } else { "server" }
}

/// The name of an ICMP unreachable.
pub(super) const fn reason_word(reason: Unreachable) -> &'static str {
    match reason {
        Unreachable::Network => "network unreachable",
        Unreachable::Host => "host unreachable",
        Unreachable::Port => "port unreachable",
        Unreachable::Prohibited => "administratively prohibited",
        Unreachable::Other => "unreachable",
    }
}
