//! From endings to causes: what a capture allows to name where the models of the diagnosis do not decide.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use super::ending::{Acks, Ending};
use super::host::Position;
use super::join::{Connection, View};
use super::observer::Observer;
use super::paths::{Group, GroupKey};
use super::words;
use crate::diagnosis::catalogue::Cause;
use crate::diagnosis::{Confidence, Diagnosis, PathSegment};
use crate::evidence::Matrix;
use crate::packet::Unreachable;
use crate::packet::family::Family;
use crate::probe::tier::Tier;
use crate::topology::PathId;

/// The most groups of connections that a diagnosis lists.
const MAX_SENTENCES: usize = 8;

/// Two answers of different hosts for one address within this time contest it.
const CONTESTED_WITHIN: Duration = Duration::from_secs(2);

/// What all rules see.
pub(super) struct Evidence<'a> {
    pub(super) observers: &'a [Observer],
    pub(super) groups: &'a BTreeMap<GroupKey, Group>,
    pub(super) ids: &'a BTreeMap<GroupKey, PathId>,
    pub(super) matrix: &'a Matrix,
    /// The observers that have a part of some connection.
    pub(super) used: BTreeSet<usize>,
    /// The number of targets that each client reached.
    pub(super) reached: BTreeMap<IpAddr, usize>,
}

impl<'a> Evidence<'a> {
    pub(super) fn new(
        observers: &'a [Observer],
        groups: &'a BTreeMap<GroupKey, Group>,
        ids: &'a BTreeMap<GroupKey, PathId>,
        matrix: &'a Matrix,
    ) -> Self {
        let mut used = BTreeSet::new();
        let mut reached: BTreeMap<IpAddr, usize> = BTreeMap::new();
        for (key, group) in groups {
            for connection in &group.connections {
                used.extend(connection.views().map(|view| view.observer));
            }
            if (group.connections.iter()).any(|connection| connection.ending.is_established()) {
                *reached.entry(key.0).or_default() += 1;
            }
        }
        Self {
            observers,
            groups,
            ids,
            matrix,
            used,
            reached,
        }
    }
}

/// The failures that one diagnosis explains.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Kind {
    cause: Option<Cause>,
    symptom: u8,
    family: Family,
}

/// A diagnosis for each kind of failure that `explained` leaves; the one with the most connections first.
pub(super) fn diagnose(evidence: &Evidence<'_>, explained: &BTreeSet<PathId>) -> Vec<Diagnosis> {
    let mut kinds: BTreeMap<Kind, Vec<(PathId, &GroupKey, &Connection)>> = BTreeMap::new();
    for (key, group) in evidence.groups {
        let Some(&id) = evidence.ids.get(key) else {
            continue;
        };
        for connection in &group.connections {
            let is_named = explained.contains(&id) && is_of_models(connection.ending);
            // What is not decided is here only where nothing else is.
            let is_healthy = connection.ending.is_healthy() && !connection.ending.is_undecided();
            if is_healthy || is_named {
                continue;
            }
            let kind = Kind {
                cause: cause(evidence, key, group, connection),
                symptom: symptom(connection.ending),
                family: Family::of(key.0),
            };
            kinds.entry(kind).or_default().push((id, key, connection));
        }
    }
    let mut kinds: Vec<_> = kinds.into_iter().collect();
    kinds.sort_by_key(|(kind, found)| (usize::MAX - found.len(), *kind));
    (kinds.iter())
        .map(|(kind, found)| diagnosis(evidence, *kind, found))
        .collect()
}

/// Whether the models of the diagnosis judge such failures.
const fn is_of_models(ending: Ending) -> bool {
    matches!(
        ending,
        Ending::WrongAddress { .. } | Ending::Unanswered { .. }
    )
}

/// The kind of an ending, the clearest failures first.
const fn symptom(ending: Ending) -> u8 {
    match ending {
        Ending::WrongAddress { .. } => 0,
        Ending::Looping { .. } => 1,
        Ending::TooBig { .. } => 2,
        Ending::Unanswered { .. } => 3,
        Ending::Refused { .. } => 4,
        Ending::RefusedElsewhere { .. } => 5,
        Ending::Unreachable { .. } => 6,
        Ending::HalfOpen { .. } => 7,
        Ending::NeverAcknowledged { .. } => 8,
        Ending::Missing { .. } => 9,
        Ending::AnsweredTwice => 10,
        Ending::RefusedByClient => 11,
        Ending::GivenUp { .. } => 12,
        Ending::ResetAfterHandshake { .. } => 13,
        Ending::Late { .. } => 14,
        Ending::Established => 15,
        Ending::Undecided { .. } => 16,
    }
}

/// The cause that explains a failure best; `None` where the capture does not say.
fn cause(
    evidence: &Evidence<'_>,
    key: &GroupKey,
    group: &Group,
    connection: &Connection,
) -> Option<Cause> {
    if is_contested(evidence, key.1.ip()) || is_contested(evidence, key.0) {
        return Some(Cause::DuplicateIp);
    }
    match connection.ending {
        Ending::WrongAddress { .. } => Some(Cause::ReplyBypassesNat),
        Ending::RefusedElsewhere { .. } => Some(Cause::RejectReset),
        Ending::Refused { .. } if is_elsewhere(evidence, connection) => Some(Cause::StaleEndpoint),
        Ending::Refused { .. } => Some(Cause::NotListening),
        Ending::Unreachable {
            reason: Unreachable::Port,
            by,
            ..
        } if by != key.1.ip() => Some(Cause::NoEndpoints),
        Ending::Unreachable {
            reason: Unreachable::Network,
            by,
            ..
        } if is_untranslated(key, by) => Some(Cause::NoEndpoints),
        Ending::HalfOpen {
            acks: Acks::Arrived,
            ..
        } => Some(Cause::AcceptQueueFull),
        Ending::TooBig { .. }
        | Ending::NeverAcknowledged {
            is_full_size: true, ..
        } => Some(Cause::MtuBlackHole),
        Ending::Unanswered { .. } => unanswered(evidence, group, connection),
        Ending::Unreachable { .. }
        | Ending::Looping { .. }
        | Ending::HalfOpen { .. }
        | Ending::NeverAcknowledged { .. }
        | Ending::Missing { .. }
        | Ending::AnsweredTwice
        | Ending::RefusedByClient
        | Ending::GivenUp { .. }
        | Ending::ResetAfterHandshake { .. }
        | Ending::Late { .. }
        | Ending::Established
        | Ending::Undecided { .. } => None,
    }
}

/// Whether the router beside an IPv6 client has no route to an address that is of no network of the cluster's pods: as to the
/// address of a Service that it does not translate, for which a node needs none.
fn is_untranslated((client, target): &GroupKey, by: IpAddr) -> bool {
    let prefix = |address: IpAddr, bits: u32| match address {
        IpAddr::V6(address) => Some(address.to_bits() >> (128 - bits)),
        IpAddr::V4(_) => None,
    };
    let is_beside = prefix(by, 64).is_some() && prefix(by, 64) == prefix(*client, 64);
    is_beside && prefix(target.ip(), 48) != prefix(*client, 48)
}

/// The answers left the server and did not get back: a filter on the way back; between nodes, where pods of one node do reach
/// each other, their network. Captures of the way show between which two places they are lost.
fn unanswered(evidence: &Evidence<'_>, group: &Group, connection: &Connection) -> Option<Cause> {
    let server = connection.server.as_ref()?;
    if server.attempt.answers.is_empty() {
        return None;
    }
    let has_answers = |view: &&View| !view.attempt.answers.is_empty();
    let is_on_wire = |view: &View| view.attempt.legs.iter().any(|leg| leg.tunnel.is_some());
    let arrives = connection.views().find(has_answers)?;
    let lost_before = connection.views().take_while(|view| !has_answers(view));
    let is_between_nodes = is_on_wire(arrives) && lost_before.last().is_some_and(is_on_wire);
    if is_between_nodes {
        return Some(Cause::OverlayBlocked);
    }
    if server.position != Position::Server {
        return None;
    }
    if connection.views().any(is_on_wire) {
        return Some(Cause::ForwardDrop);
    }
    let hops = |leg: &super::attempt::Leg| leg.hop_limit;
    let is_routed = hops(&server.attempt.first_leg()) < hops(&connection.leg());
    let own = usize::from((group.connections.iter()).any(|other| other.ending.is_established()));
    let client = connection.leg().client.ip();
    let passes_nearby = evidence
        .reached
        .get(&client)
        .is_some_and(|reached| *reached > own);
    Some(if is_routed && passes_nearby {
        Cause::OverlayBlocked
    } else {
        Cause::ForwardDrop
    })
}

/// Whether two hosts answered for an address shortly after each other.
fn is_contested(evidence: &Evidence<'_>, address: IpAddr) -> bool {
    evidence.observers.iter().any(|observer| {
        (observer.tracker.neighbours.of(address))
            .and_then(|neighbour| neighbour.contested)
            .is_some_and(|gap| gap <= CONTESTED_WITHIN)
    })
}

/// Whether another host was captured at that time, and has none of the connections: what refused them is elsewhere.
fn is_elsewhere(evidence: &Evidence<'_>, connection: &Connection) -> bool {
    if connection.server.is_some() {
        return false;
    }
    let own = connection.client.observer;
    let at = connection.client.attempt.started;
    let mut others = evidence.observers.iter().enumerate();
    others.any(|(number, other)| {
        let is_used = evidence.used.contains(&number);
        let slack = Duration::from_secs(1);
        let covers = other.from.is_some_and(|from| from <= at + slack) && at <= other.until + slack;
        number != own && !is_used && covers
    })
}

fn diagnosis(
    evidence: &Evidence<'_>,
    kind: Kind,
    found: &[(PathId, &GroupKey, &Connection)],
) -> Diagnosis {
    let paths: BTreeSet<PathId> = found.iter().map(|(id, ..)| *id).collect();
    let mut said: BTreeMap<(&GroupKey, Ending), usize> = BTreeMap::new();
    for (_, key, connection) in found {
        *said.entry((key, connection.ending)).or_default() += 1;
    }
    let more = said.len().saturating_sub(MAX_SENTENCES);
    let mut sentences: Vec<String> = (said.into_iter())
        .take(MAX_SENTENCES)
        .map(|(((client, target), ending), count)| {
            let predicate = words::predicate(&ending, count);
            let connections = if count == 1 {
                "1 connection".to_owned()
            } else {
                format!("{count} connections")
            };
            format!("{connections} from {client} to {target} {predicate}")
        })
        .collect();
    if more > 0 {
        sentences.push(format!("and {more} more such groups of connections"));
    }
    if (found.iter())
        .any(|(_, key, _)| (evidence.groups.get(*key)).is_some_and(super::loss::has_dead_server))
    {
        sentences.push(
            "other connections of the same time and target are answered at once: as where one of several servers behind the address is dead, and not as where packets are lost".to_owned(),
        );
    }
    sentences.extend(super::vantage::sentences(evidence, found));
    let candidates = found.first().and_then(|(_, key, connection)| {
        super::candidates::sentence(kind.cause, evidence.groups.get(*key), connection)
    });
    let mut would_decide = super::vantage::would_decide(kind.cause, found);
    would_decide.extend(candidates);
    Diagnosis {
        cause: kind.cause,
        node: None,
        segment: PathSegment::Unknown,
        family: Some(kind.family),
        confidence: Confidence::Consistent,
        tier: Tier::T1,
        paths: paths.into_iter().collect(),
        evidence: sentences,
        excluded: Vec::new(),
        would_decide,
        remedy: Vec::new(),
        sample: found
            .iter()
            .find_map(|(id, _, connection)| sample(evidence.matrix, *id, connection)),
    }
}

/// The probe of a connection, where the matrix kept it.
fn sample(matrix: &Matrix, id: PathId, connection: &Connection) -> Option<(PathId, usize)> {
    let attempt = &connection.client.attempt;
    let probes = &matrix.paths.get(&id)?.probes;
    let place = probes.iter().position(|probe| {
        probe.client.isn == attempt.isn && probe.client.started == attempt.started
    })?;
    Some((id, place))
}
