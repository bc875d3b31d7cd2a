//! Traffic that looks odd and is no fault: what is left out, and what is reported in a sentence.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::ending::Ending;
use super::observer::Observer;
use super::paths::{Group, GroupKey};
use super::words;

/// A client that fails on this many ports of one host, and succeeds on none, is a port scanner.
const SCAN_MIN_PORTS: usize = 10;

/// The most notes about single connections and hosts.
const MAX_NOTES: usize = 8;

/// Leaves out what cannot be judged, unless there is nothing else, and what is no fault; returns a sentence for each.
pub(super) fn leave_out(groups: &mut BTreeMap<GroupKey, Group>) -> Vec<String> {
    let mut notes = Vec::new();
    let is_nothing_known = (groups.values().flat_map(|group| &group.connections))
        .all(|connection| connection.ending.is_undecided());
    let (mut unanswered, mut unstarted) = (0, 0);
    for ((client, target), group) in groups.iter_mut() {
        for connection in &group.connections {
            if connection.ending.is_undecided() {
                let count = if connection.client.attempt.syn_count > 0 {
                    &mut unanswered
                } else {
                    &mut unstarted
                };
                *count += 1;
            }
            if let Ending::Late { .. } = connection.ending {
                notes.push(format!(
                    "a connection from {client} to {target} {}",
                    words::predicate(&connection.ending, 1)
                ));
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
    notes
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
