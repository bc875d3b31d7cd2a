//! Traffic that looks odd and is no fault: what is left out, and what is reported in a sentence.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use super::ending::{Ending, Lateness};
use super::observer::Observer;
use super::paths::{Group, GroupKey};
use super::words;

/// A client that fails on this many ports of one host, and succeeds on none, is a port scanner.
const SCAN_MIN_PORTS: usize = 10;

/// Requests for an address without an answer from which it is worth a note.
const UNRESOLVED_AFTER: u32 = 3;

/// The most notes about single connections and hosts.
const MAX_NOTES: usize = 8;

/// Leaves out what cannot be judged, unless there is nothing else, and what is no fault; returns a sentence for each.
pub(super) fn leave_out(groups: &mut BTreeMap<GroupKey, Group>) -> Vec<String> {
    let mut notes = Vec::new();
    let is_nothing_known = (groups.values().flat_map(|group| &group.connections))
        .all(|connection| connection.ending.is_undecided());
    let (mut unanswered, mut unstarted, mut one_sided) = (0, 0, 0);
    for ((client, target), group) in groups.iter_mut() {
        notes.extend(late(group).into_iter().map(|(count, latest)| {
            let connections = if count == 1 {
                "a connection".to_owned()
            } else {
                format!("{count} connections")
            };
            format!("{connections} from {client} to {target} {latest}")
        }));
        for connection in &group.connections {
            if let Ending::Undecided { is_one_sided, .. } = connection.ending {
                let count = if connection.client.attempt.syn_count == 0 {
                    &mut unstarted
                } else if is_one_sided {
                    &mut one_sided
                } else {
                    &mut unanswered
                };
                *count += 1;
            }
        }
        group.connections.retain(|connection| {
            let is_unanswered = connection.client.attempt.syn_count > 0;
            !connection.ending.is_undecided() || (is_nothing_known && is_unanswered)
        });
    }
    groups.retain(|_, group| !group.connections.is_empty());
    if notes.len() > MAX_NOTES {
        let more = notes.len() - MAX_NOTES;
        notes.truncate(MAX_NOTES);
        notes.push(format!("and {more} more such notes"));
    }
    if unstarted > 0 {
        notes.push(format!(
            "connections that began before the capture: {unstarted}, not judged, since too little of them is in it"
        ));
    }
    if unanswered > 0 && !is_nothing_known {
        notes.push(format!(
            "connections that were unanswered when the capture ended: {unanswered}, not judged, since an answer may have come"
        ));
    }
    if one_sided > 0 && !is_nothing_known {
        notes.push(format!(
            "connections of one SYN in files without any packet to a client: {one_sided}, not judged, since a filter may leave out the answers"
        ));
    }
    notes
}

/// The late connections of a group: how many for each reason, and the latest in words.
fn late(group: &Group) -> Vec<(usize, String)> {
    let mut late: BTreeMap<Lateness, (usize, Duration, u32)> = BTreeMap::new();
    for connection in &group.connections {
        if let Ending::Late { syns, after, why } = connection.ending {
            let (count, latest, of_latest) = late.entry(why).or_default();
            *count += 1;
            if after > *latest {
                (*latest, *of_latest) = (after, syns);
            }
        }
    }
    let in_words = |(why, (count, after, syns))| {
        let latest = words::lateness(syns, after, why);
        let words = if count == 1 {
            format!("was established late, {latest}")
        } else {
            format!("were established late, the latest {latest}")
        };
        (count, words)
    };
    late.into_iter().map(in_words).collect()
}

/// The failing connections that are left out, since there are too many to keep.
pub(super) fn left_out(observers: &[Observer]) -> Option<String> {
    let left_out = observers.iter().map(|observer| observer.tracker.uncounted);
    let count = left_out.fold(0_u64, u64::saturating_add);
    (count > 0).then(|| {
        format!(
            "{count} more connections that failed are left out: narrow the question with --about, --client or --service"
        )
    })
}

/// What captures without any connection show: RSTs of connections that began before, and addresses that were requested again and
/// again by ARP or neighbour discovery without an answer.
pub(super) fn without_connections(observers: &[Observer]) -> Vec<String> {
    let trackers = || observers.iter().map(|observer| &observer.tracker);
    let resets: u64 = trackers().map(|tracker| tracker.stray_resets).sum();
    let resets = (resets > 0).then(|| {
        format!(
            "{resets} RSTs are of connections whose other packets are not in the capture: they are older, or its filter leaves them out"
        )
    });
    let unresolved = trackers().flat_map(|tracker| tracker.neighbours.unanswered(UNRESOLVED_AFTER));
    let unresolved = unresolved.take(MAX_NOTES).map(|(address, requests)| {
        format!(
            "{address} was requested {requests} times by ARP or neighbour discovery without an answer: no host there has it, or its answers are not in the capture"
        )
    });
    resets.into_iter().chain(unresolved).collect()
}

/// Leaves out port scans: clients that failed on many ports of one host and reached none.
pub(super) fn leave_out_scans(groups: &mut BTreeMap<GroupKey, Group>) -> Vec<String> {
    let mut failed: BTreeMap<(IpAddr, IpAddr), usize> = BTreeMap::new();
    for ((client, target), group) in groups.iter() {
        if fails(group) {
            *failed.entry((*client, target.ip())).or_default() += 1;
        }
    }
    failed.retain(|_, ports| *ports >= SCAN_MIN_PORTS);
    groups.retain(|(from, target), group| {
        !failed.contains_key(&(*from, target.ip())) || !fails(group)
    });
    (failed.into_iter())
        .take(MAX_NOTES)
        .map(|((client, host), ports)| {
            format!(
                "{client} failed on all {ports} ports of {host} that it tried: a port scan, not judged"
            )
        })
        .collect()
}

/// Whether no connection was established.
fn fails(group: &Group) -> bool {
    !(group.connections.iter()).any(|connection| connection.ending.is_established())
}
