//! What the models of the diagnosis name, as far as the packets of a capture bear it.

use std::collections::BTreeSet;

use super::ending::Ending;
use super::host::Position;
use super::join::Connection;
use super::rules::Evidence;
use crate::diagnosis::Diagnosis;
use crate::diagnosis::catalogue::Cause;
use crate::topology::PathId;

/// The named diagnoses that the capture bears.
pub(super) fn revise(evidence: &Evidence<'_>, named: Vec<Diagnosis>) -> Vec<Diagnosis> {
    (named.into_iter())
        .filter(|diagnosis| match diagnosis.cause {
            None => false,
            Some(Cause::AcceptQueueFull) => has_accepted(evidence, &diagnosis.paths),
            Some(_) => true,
        })
        .map(|mut diagnosis| {
            if diagnosis.cause == Some(Cause::BridgeNetfilterOff)
                && let Some(because) = is_not_bridged(evidence, &diagnosis.paths)
            {
                diagnosis.cause = Some(Cause::ReplyBypassesNat);
                diagnosis.evidence.insert(0, because);
                diagnosis.remedy.clear();
            }
            if diagnosis.cause == Some(Cause::PacketLoss)
                && let Some(because) = has_twin(evidence, &diagnosis.paths)
            {
                diagnosis.cause = None;
                diagnosis.evidence.insert(0, because);
                diagnosis.remedy.clear();
            }
            diagnosis
        })
        .collect()
}

/// Why untranslated answers of these paths did not pass a bridge without netfilter.
fn is_not_bridged(evidence: &Evidence<'_>, paths: &[PathId]) -> Option<String> {
    let paths: BTreeSet<PathId> = paths.iter().copied().collect();
    let connections: Vec<&Connection> = (evidence.groups.iter())
        .filter(|(key, _)| evidence.ids.get(*key).is_some_and(|id| paths.contains(id)))
        .flat_map(|(_, group)| &group.connections)
        .filter(|connection| matches!(connection.ending, Ending::WrongAddress { .. }))
        .collect();
    if connections.iter().any(|connection| is_switched(connection)) {
        return Some(
            "the SYN reached the server over the bridge without a router, though its address was translated: the bridge does pass netfilter".to_owned(),
        );
    }
    if (connections.iter()).any(|connection| connection.client.attempt.right_answer().is_some()) {
        return Some(
            "the same connection was answered from the right address a moment later: the way of answers is translated"
                .to_owned(),
        );
    }
    let has_place = connections.iter().any(|connection| {
        let attempt = &connection.client.attempt;
        connection.server.is_some()
            || attempt.legs.len() > 1
            || attempt
                .packets
                .iter()
                .any(|seen| seen.packet.link.is_some())
    });
    (!has_place).then(|| {
        "the file has no Ethernet addresses: nothing shows that the answer stayed on a bridge"
            .to_owned()
    })
}

/// Whether a translated SYN reached the server's end without a router: netfilter translated it on the bridge.
fn is_switched(connection: &Connection) -> bool {
    let Some(server) = &connection.server else {
        return false;
    };
    let (here, there) = (connection.leg(), server.attempt.first_leg());
    server.position == Position::Server
        && here.target != there.target
        && here.hop_limit == there.hop_limit
        && (here.link.zip(there.link)).is_some_and(|(here, there)| here.src == there.src)
}

/// The least number of paths that end at a server which is alive and answers none.
const MIN_PATHS: usize = 3;

/// Whether the servers of these paths accepted other connections, or get those of many paths: a host that answers none of one
/// client may as well not be the server.
fn has_accepted(evidence: &Evidence<'_>, paths: &[PathId]) -> bool {
    if paths.len() >= MIN_PATHS {
        return true;
    }
    let servers: BTreeSet<_> = (evidence.groups.iter())
        .filter(|(key, _)| evidence.ids.get(*key).is_some_and(|id| paths.contains(id)))
        .flat_map(|(_, group)| &group.connections)
        .map(super::probe::backend)
        .collect();
    (evidence.groups.values())
        .flat_map(|group| &group.connections)
        .any(|connection| {
            connection.ending.is_established()
                && servers.contains(&super::probe::backend(connection))
        })
}

/// Two addresses with one Ethernet address, of which one is an end of these paths: a bridge sends the packets of one to the port
/// of the other.
fn has_twin(evidence: &Evidence<'_>, paths: &[PathId]) -> Option<String> {
    let ends: BTreeSet<_> = (evidence.groups.iter())
        .filter(|(key, _)| evidence.ids.get(*key).is_some_and(|id| paths.contains(id)))
        .flat_map(|(key, group)| {
            let backends = group.connections.iter().map(super::probe::backend);
            backends
                .map(|backend| backend.ip())
                .chain([key.0, key.1.ip()])
        })
        .collect();
    evidence.observers.iter().find_map(|observer| {
        let mut twins = (ends.iter())
            .filter_map(|address| Some((address, observer.tracker.neighbours.twin(*address)?)));
        let (address, twin) = twins.next()?;
        Some(format!(
            "{address} and {twin} have one Ethernet address: a bridge or switch delivers the packets of one to the other"
        ))
    })
}
