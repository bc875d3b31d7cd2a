//! Connections as probes: what the models of the diagnosis and the report take.

use std::net::SocketAddr;
use std::time::Duration;

use super::attempt::Attempt;
use super::ending::Ending;
use super::host::Position;
use super::join::{Connection, View};
use super::neighbours::Neighbours;
use super::seen::Seen;
use crate::packet::mac::Mac;
use crate::packet::observation::{Direction, Observation};
use crate::packet::{Body, TcpFlags};
use crate::probe::event::ServerTrace;
use crate::probe::outcome::{EngineKind, Exchange, Outcome, ProbeResult};
use crate::time::nanos;
use crate::topology::PathId;

/// How long after a SYN resolutions are part of its story.
const RESOLVED_WITHIN: Duration = Duration::from_secs(5);

/// The most resolutions of a probe.
const MAX_RESOLUTIONS: usize = 16;

/// The probe that a connection is.
pub(super) fn probe(connection: &Connection, neighbours: &Neighbours) -> ProbeResult {
    let view = &connection.client;
    let observations = if view.position == Position::Server {
        Vec::new()
    } else {
        observations(view, neighbours)
    };
    ProbeResult {
        observations,
        ..without_packets(connection)
    }
}

/// The same, without its packets.
pub(super) fn without_packets(connection: &Connection) -> ProbeResult {
    let attempt = &connection.client.attempt;
    let leg = attempt.first_leg();
    let outcome = outcome(connection);
    ProbeResult {
        path: PathId(0),
        engine: EngineKind::Kernel,
        src: leg.client,
        dst: leg.target,
        started: attempt.started,
        isn: attempt.isn,
        server_isn: attempt.right_answer().map(|answer| answer.seq),
        outcome,
        syns: syns(connection),
        exchange: Exchange::NotTried,
        observations: Vec::new(),
    }
}

/// The number of SYNs until the answer.
fn syns(connection: &Connection) -> u32 {
    let all = connection.client.attempt.syn_count;
    match connection.ending {
        Ending::Late { syns, .. } => syns,
        // A SYN after the answer waits for nothing.
        Ending::Established => all.min(1),
        Ending::Undecided { .. }
        | Ending::Looping { .. }
        | Ending::WrongAddress { .. }
        | Ending::RefusedElsewhere { .. }
        | Ending::Refused { .. }
        | Ending::Unreachable { .. }
        | Ending::Unanswered { .. }
        | Ending::GivenUp { .. }
        | Ending::RefusedByClient
        | Ending::AnsweredTwice
        | Ending::HalfOpen { .. }
        | Ending::NeverAcknowledged { .. }
        | Ending::Missing { .. }
        | Ending::TooBig { .. }
        | Ending::ResetAfterHandshake { .. } => all,
    }
}

fn outcome(connection: &Connection) -> Outcome {
    let attempt = &connection.client.attempt;
    let target = attempt.first_leg().target;
    match connection.ending {
        Ending::Undecided { .. }
        | Ending::Unanswered { .. }
        | Ending::Looping { .. }
        | Ending::RefusedElsewhere { .. } => Outcome::Timeout,
        Ending::WrongAddress { from } => Outcome::Mismatched { from },
        Ending::Refused { hop_limit } => Outcome::Reset {
            by: target.ip(),
            hop_limit,
        },
        Ending::Unreachable { by, reason, .. } => Outcome::Unreachable {
            by: Some(by),
            reason,
        },
        Ending::Established
        | Ending::Late { .. }
        | Ending::GivenUp { .. }
        | Ending::RefusedByClient
        | Ending::AnsweredTwice
        | Ending::HalfOpen { .. }
        | Ending::NeverAcknowledged { .. }
        | Ending::Missing { .. }
        | Ending::TooBig { .. }
        | Ending::ResetAfterHandshake { .. } => established(attempt),
    }
}

/// The times of an established connection; none where the file lacks its handshake.
fn established(attempt: &Attempt) -> Outcome {
    let answer = attempt.right_answer();
    let since = |from| answer.map_or(0, |answer| nanos(answer.first.since(from)));
    let syn_before =
        answer.and_then(|answer| (attempt.syns.iter()).rfind(|syn| syn.at <= answer.first));
    Outcome::Established {
        rtt_ns: since(syn_before.map_or(attempt.started, |syn| syn.at)),
        connect_ns: since(attempt.started),
    }
}

/// The packets of the view nearest to the client, with resolutions of that time.
fn observations(view: &View, neighbours: &Neighbours) -> Vec<Observation> {
    let attempt = &view.attempt;
    let mut observations: Vec<Observation> = directed(view);
    let until = attempt.started + RESOLVED_WITHIN;
    let resolutions = neighbours.between(attempt.started, until);
    observations.extend(
        resolutions
            .take(MAX_RESOLUTIONS)
            .map(|seen| seen.observation(seen.direction.unwrap_or(Direction::Overheard))),
    );
    observations.sort_by_key(|seen| seen.at);
    observations
}

/// The packets of a view with their directions.
pub(super) fn directed(view: &View) -> Vec<Observation> {
    let own = own(view);
    (view.attempt.packets.iter())
        .map(|seen| seen.observation(direction(view, own, seen)))
        .collect()
}

/// The Ethernet address of the observer's end.
fn own(view: &View) -> Option<Mac> {
    let link = view.attempt.first_leg().link;
    let own = match view.position {
        Position::Client => link.map(|link| link.src),
        Position::Server => link.and_then(|link| link.dst),
        Position::InTransit => None,
    };
    own.filter(|mac| *mac != Mac::LOOPBACK)
}

fn direction(view: &View, own: Option<Mac>, seen: &Seen) -> Direction {
    if let (Some(own), Some(link)) = (own, seen.packet.link)
        && let Some(dst) = link.dst
    {
        let group = dst.0.first().is_some_and(|first| first & 1 == 1);
        return if link.src == own {
            Direction::Sent
        } else if dst == own || group {
            Direction::Received
        } else {
            Direction::Overheard
        };
    }
    let leg = view.attempt.first_leg();
    let from = seen.packet.tcp_src();
    let to = seen.packet.tcp_dst();
    let is_syn = seen.tcp().is_some_and(|(_, tcp)| tcp.flags.is_syn());
    // What was translated already is another packet than the client's.
    let is_elsewhere = (is_syn && to != Some(leg.target))
        || (from.is_some() && from != Some(leg.client) && to != Some(leg.client));
    if is_elsewhere {
        return Direction::Overheard;
    }
    if view.position != Position::InTransit
        && let Some(recorded) = seen.direction
    {
        return recorded;
    }
    let from_client = match &seen.packet.body {
        Body::Tcp(..) => from == Some(leg.client),
        Body::Icmp(..) | Body::Resolution(_) => false,
    };
    match (view.position, from_client) {
        (Position::Client | Position::InTransit, true) | (Position::Server, false) => {
            Direction::Sent
        }
        (Position::Client | Position::InTransit, false) | (Position::Server, true) => {
            Direction::Received
        }
    }
}

/// The trace of the server's end.
pub(super) fn server_trace(view: &View) -> ServerTrace {
    let leg = view.attempt.first_leg();
    let mut trace = ServerTrace {
        isn: view.attempt.isn.unwrap_or_default(),
        peer: leg.client,
        local: view.attempt.last_leg().target,
        syns: 0,
        syn_acks: 0,
        acks: 0,
        resets_received: 0,
        resets_sent: 0,
        observations: directed(view),
    };
    for seen in &trace.observations {
        let Some((_, tcp)) = seen.packet.tcp() else {
            continue;
        };
        let reset = tcp.flags.has(TcpFlags::RST);
        match seen.direction {
            Direction::Received if reset => trace.resets_received += 1,
            Direction::Received if tcp.flags.is_syn() => trace.syns += 1,
            Direction::Received => trace.acks += 1,
            Direction::Sent if reset => trace.resets_sent += 1,
            Direction::Sent if tcp.flags.is_syn_ack() => trace.syn_acks += 1,
            Direction::Sent | Direction::Overheard => {}
        }
    }
    trace
}

/// The address that answers a connection, as far as it is known.
pub(super) fn backend(connection: &Connection) -> SocketAddr {
    if let Ending::WrongAddress { from } = connection.ending {
        from
    } else {
        connection.translated().unwrap_or(connection.leg().target)
    }
}
