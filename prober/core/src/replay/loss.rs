//! Whether the late connections of a pair of addresses show loss, and not one slow or dead server.

use std::collections::BTreeMap;

use super::ending::{Ending, Lateness};
use super::paths::{Group, GroupKey};

/// The least number of connections of which a share can be computed.
const MIN_CONNECTIONS: usize = 6;

/// The least number of connections that needed a second SYN.
const MIN_LATE: usize = 3;

/// The most connections for one of which that is late: below is what every network loses.
const MAX_PER_LATE: usize = 100;

/// Whether packets of these connections are lost at random: some needed a second SYN. A server that answers none of its
/// connections makes no other one late.
pub(super) fn has_loss(groups: &BTreeMap<GroupKey, Group>) -> bool {
    let kept: usize = groups.values().map(|group| group.connections.len()).sum();
    let more = groups
        .values()
        .map(|group| group.more)
        .fold(0_u64, u64::saturating_add);
    let judged = kept.saturating_add(usize::try_from(more).unwrap_or(usize::MAX));
    let late: usize = groups.values().map(late).sum();
    late >= MIN_LATE && judged >= MIN_CONNECTIONS && judged <= late.saturating_mul(MAX_PER_LATE)
}

/// The number of connections that needed a second SYN since a packet was lost.
pub(super) fn late(group: &Group) -> usize {
    let is_late = |ending: Ending| {
        matches!(
            ending,
            Ending::Late {
                why: Lateness::Lost,
                ..
            }
        )
    };
    (group.connections.iter())
        .filter(|connection| is_late(connection.ending))
        .count()
}

/// Whether some connections are answered at once and others, of the same time, not at all: one of several servers behind the
/// address is dead. Silence at one time for all of them is something else.
pub(super) fn has_dead_server(group: &Group) -> bool {
    let silent = || {
        (group.connections.iter())
            .filter(|connection| matches!(connection.ending, Ending::Unanswered { .. }))
            .map(|connection| connection.client.attempt.started)
    };
    let Some((first, last)) = silent().min().zip(silent().max()) else {
        return false;
    };
    (group.connections.iter()).any(|connection| {
        let at = connection.client.attempt.started;
        connection.ending.is_established() && first < at && at < last
    })
}
