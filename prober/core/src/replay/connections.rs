//! What happened to each connection, in stable words.

use std::collections::BTreeMap;

use super::ending::Ending;
use super::host::Position;
use super::join::Connection;
use super::paths::{Group, GroupKey};
use super::words;
use crate::evidence::connections::{CapturedAt, ConnectionOutcome, ConnectionReport, Connections};
use crate::topology::PathId;

/// The most connections that are listed one by one.
const MAX_LISTED: usize = 10_000;

/// The connections of groups, without paths.
pub(super) fn of(groups: &BTreeMap<GroupKey, Group>) -> Connections {
    let connections = groups.values().flat_map(|group| &group.connections);
    let mut all: Vec<&Connection> = connections.collect();
    all.sort_by_key(|connection| {
        let outcome = outcome(connection.ending);
        let rank = (!outcome.is_failure()).then_some(outcome);
        (rank, connection.client.attempt.started)
    });
    let more = groups.values().map(|group| group.more);
    let left_out = u64::try_from(all.len().saturating_sub(MAX_LISTED)).unwrap_or(u64::MAX);
    Connections {
        listed: all.into_iter().take(MAX_LISTED).map(listed).collect(),
        omitted: more.fold(left_out, u64::saturating_add),
    }
}

/// Adds the paths that connections are part of.
pub(super) fn place(connections: &mut Connections, ids: &BTreeMap<GroupKey, PathId>) {
    for connection in &mut connections.listed {
        let is_judged = connection.outcome != ConnectionOutcome::Undecided;
        let id = ids.get(&(connection.client.ip(), connection.target));
        connection.path = id.copied().filter(|_| is_judged);
    }
}

fn listed(connection: &Connection) -> ConnectionReport {
    let leg = connection.leg();
    ConnectionReport {
        path: None,
        client: leg.client,
        target: leg.target,
        started: connection.client.attempt.started,
        outcome: outcome(connection.ending),
        summary: words::predicate(&connection.ending, 1),
        captured: (connection.views().map(|view| captured_at(view.position))).collect(),
    }
}

const fn captured_at(position: Position) -> CapturedAt {
    match position {
        Position::Client => CapturedAt::Client,
        Position::InTransit => CapturedAt::Between,
        Position::Server => CapturedAt::Server,
    }
}

const fn outcome(ending: Ending) -> ConnectionOutcome {
    match ending {
        Ending::Established => ConnectionOutcome::Established,
        Ending::Late { .. } => ConnectionOutcome::Late,
        Ending::Undecided { .. } => ConnectionOutcome::Undecided,
        Ending::Looping { .. } => ConnectionOutcome::Looping,
        Ending::WrongAddress { .. } => ConnectionOutcome::AnsweredByAnother,
        Ending::RefusedElsewhere { .. } => ConnectionOutcome::RefusedByAnother,
        Ending::Refused { .. } => ConnectionOutcome::Refused,
        Ending::Unreachable { .. } => ConnectionOutcome::Unreachable,
        Ending::Unanswered { .. } => ConnectionOutcome::Unanswered,
        Ending::GivenUp { .. } | Ending::RefusedByClient => ConnectionOutcome::RefusedByClient,
        Ending::AnsweredTwice => ConnectionOutcome::AnsweredTwice,
        Ending::HalfOpen { .. } => ConnectionOutcome::HalfOpen,
        Ending::NeverAcknowledged { .. } | Ending::Missing { .. } | Ending::TooBig { .. } => {
            ConnectionOutcome::Stalled
        }
        Ending::ResetAfterHandshake { .. } => ConnectionOutcome::Reset,
    }
}
