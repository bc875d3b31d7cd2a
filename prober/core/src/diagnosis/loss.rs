//! Rules for what passes now and then: loss with its rate and direction, and a single outage.

use std::collections::BTreeSet;

use super::case::{Case, counts};
use super::catalogue::Cause;
use super::symptom::{Symptom, Unit};
use crate::diagnosis::hypothesis::{Opinion, Place, Proof};
use crate::evidence::Evidence;
use crate::evidence::statistics::wilson;
use crate::packet::family::Family;
use crate::packet::observation::Direction;
use crate::probe::outcome::{Outcome, ProbeResult};
use crate::time::Timestamp;
use crate::topology::{AccessPath, NodeName};

/// What this family has to say.
pub(crate) fn opinions(case: &Case<'_>) -> Vec<Opinion> {
    let mut opinions = Vec::new();
    for family in case.families() {
        match outage(case, family) {
            Some(outage) => opinions.push(outage),
            None => opinions.extend(packet_loss(case, family)),
        }
    }
    opinions
}

fn is_lossy(case: &Case<'_>, unit: &Unit, family: Family) -> bool {
    unit.family == family && unit.symptom == Symptom::Lossy && !case.is_inconclusive(unit)
}

fn touches(unit: &Unit, node: &NodeName) -> bool {
    unit.client.node == *node
        || unit
            .server
            .as_ref()
            .is_none_or(|server| server.node == *node)
}

/// The node that all these units touch, preferring one whose own pods suffer among each other.
fn common_node(case: &Case<'_>, units: &BTreeSet<usize>) -> Option<NodeName> {
    let all: Vec<NodeName> = case
        .nodes()
        .into_iter()
        .filter(|node| case.at(units).all(|unit| touches(unit, node)))
        .cloned()
        .collect();
    let own = |node: &&NodeName| {
        case.at(units)
            .any(|unit| unit.is_same_node() && unit.client.node == **node)
    };
    all.iter()
        .find(own)
        .or_else(|| if all.len() == 1 { all.first() } else { None })
        .cloned()
}

/// The node that most of the lossy units touch, where none is common to all.
fn most_touched(case: &Case<'_>, units: &BTreeSet<usize>) -> Option<NodeName> {
    case.nodes()
        .into_iter()
        .filter(|node| {
            case.at(units)
                .any(|unit| unit.is_same_node() && unit.client.node == **node)
        })
        .max_by_key(|node| case.at(units).filter(|unit| touches(unit, node)).count())
        .cloned()
}

/// When a late probe's way opened: after its last unanswered SYN, before its answer.
fn opening(probe: &ProbeResult) -> Option<(Timestamp, Option<Timestamp>)> {
    let sent: Vec<Timestamp> = probe
        .observations
        .iter()
        .filter(|seen| {
            seen.direction == Direction::Sent
                && seen.packet.tcp().is_some_and(|(_, tcp)| tcp.flags.is_syn())
        })
        .map(|seen| seen.at)
        .collect();
    let answered = probe
        .observations
        .iter()
        .find(|seen| {
            seen.direction == Direction::Received
                && seen.packet.tcp_src() == Some(probe.dst)
                && seen
                    .packet
                    .tcp()
                    .is_some_and(|(_, tcp)| tcp.flags.is_syn_ack())
        })
        .map(|seen| seen.at);
    let before = match answered {
        Some(at) => {
            let until: Vec<Timestamp> = sent.into_iter().filter(|syn| *syn <= at).collect();
            // The last of them was answered; the one before it was not.
            until
                .len()
                .checked_sub(2)
                .and_then(|place| until.get(place))
                .copied()
        }
        None => sent.last().copied(),
    }?;
    Some((before, answered))
}

/// Everything through a node was silent until one instant, and well from then on.
fn outage(case: &Case<'_>, family: Family) -> Option<Opinion> {
    let units = case
        .places(|unit| is_lossy(case, unit, family) && !case.is_share_of_a_silent_endpoint(unit));
    let paths: BTreeSet<_> = case.at(&units).map(|unit| unit.path).collect();
    let late: Vec<&Evidence> = case.at(&units).flat_map(|unit| case.probes(unit)).collect();
    let windows: Vec<(Timestamp, Option<Timestamp>)> = late
        .iter()
        .filter_map(|probe| opening(&probe.client))
        .collect();
    if paths.len() < 2 || windows.len() < 3 {
        return None;
    }
    // All but one in twenty: neighbours that are being resolved again delay a few.
    let mut silent: Vec<Timestamp> = windows.iter().map(|window| window.0).collect();
    let mut answered: Vec<Timestamp> = windows.iter().filter_map(|window| window.1).collect();
    silent.sort_unstable();
    answered.sort_unstable();
    let from = *silent.get(silent.len() - 1 - silent.len() / 20)?;
    let until = *answered.get(answered.len() / 20)?;
    let began = late.iter().map(|probe| probe.client.started).min()?;
    if from >= until {
        return None;
    }
    let mut well = 0;
    let mut contradictions = 0;
    // A balanced port goes on with the endpoints that are still reached: it contradicts nothing.
    let pinned = paths
        .iter()
        .filter_map(|&id| case.path(id))
        .filter(|path| path.path.server.is_some());
    for path in pinned {
        well += counts(path).1;
        let contradicts = |probe: &&Evidence| {
            let probe = &probe.client;
            matches!(probe.outcome, Outcome::Established { .. })
                && probe.syns <= 1
                && probe.started > began
                && probe.started < from
        };
        contradictions += path.probes.iter().filter(contradicts).count();
    }
    if contradictions > late.len() / 20 {
        return None;
    }
    let lost = u64::try_from(late.len()).unwrap_or(u64::MAX);
    if lost.saturating_mul(2) < well {
        return None;
    }
    let node = common_node(case, &units).or_else(|| most_touched(case, &units))?;
    let lasted = from.since(began).as_millis();
    Some(
        Opinion::proves(Cause::TransientOutage, Place::node(&node, family), units, Proof::Packets)
            .because(format!(
                "{} probes on {} paths were silent together for at least {lasted} ms, and all were answered from {until} on, within {} ms of each other's last silence",
                late.len(),
                paths.len(),
                until.since(from).as_millis()
            ))
            .not(Cause::PacketLoss, "random loss does not end on every path at the same instant"),
    )
}

fn packet_loss(case: &Case<'_>, family: Family) -> Vec<Opinion> {
    let lossy = case.places(|unit| is_lossy(case, unit, family));
    let direct = case
        .at(&lossy)
        .any(|unit| unit.access_path != AccessPath::ClusterIpAny);
    if lossy.is_empty() {
        return Vec::new();
    }
    if !direct {
        // Balanced anew at each try, a SYN that one endpoint rejects or drops is only late.
        let place = Place::service(family);
        return vec![Opinion::excludes(
            Cause::PacketLoss,
            place,
            lossy,
            "every endpoint is reached without loss by its own address and port; only the balanced port is late, as if one of its endpoints dropped or rejected",
        )];
    }
    let pinned = case.places(|unit| is_lossy(case, unit, family) && unit.server.is_some());
    let node = common_node(case, &pinned);
    let place = match &node {
        Some(node) => Place::node(node, family),
        None => match most_touched(case, &pinned) {
            Some(node) => Place::node(&node, family),
            None => between(case, &pinned, family),
        },
    };
    let here = |unit: &Unit| match &place.node {
        Some(node) => touches(unit, node),
        None => true,
    };
    let mut units = case.places(|unit| is_lossy(case, unit, family) && here(unit));
    let (lost, sent) = counted(case, &units);
    let (low, high) = wilson(lost, sent);
    // Heavy loss also breaks off what follows a handshake.
    if low > 0.02 {
        units.extend(case.places(|unit| {
            unit.family == family
                && here(unit)
                && matches!(
                    unit.symptom,
                    Symptom::Mute | Symptom::Stalled | Symptom::Silent
                )
                && case
                    .at(&lossy)
                    .any(|other| other.path == unit.path || unit.server.is_none())
        }));
    }
    let untranslated = case
        .at(&units)
        .any(|unit| unit.access_path == AccessPath::PodIp);
    // A full connection table lets one in many through as well.
    let table = place
        .node
        .as_ref()
        .filter(|node| case.facts(node).is_none())
        .map(|node| format!("nf_conntrack_count against nf_conntrack_max on {node}: a full table lets some through as well"));
    let opinion = if untranslated && lost >= 3 && table.is_none() {
        Opinion::proves(Cause::PacketLoss, place, units.clone(), Proof::Packets)
    } else {
        Opinion::fits(Cause::PacketLoss, place, units.clone()).decided_by(table.unwrap_or_else(
            || "more probes on the same paths: few losses leave a wide interval".to_owned(),
        ))
    };
    vec![
        opinion
            .because(format!(
                "{lost} of {sent} first SYNs had no answer in time: {} (95 % interval {} to {})",
                percent(ratio(lost, sent)),
                percent(low),
                percent(high)
            ))
            .because_all(directions(case, &units)),
    ]
}

/// The pair of nodes that the lossy units lie between.
fn between(case: &Case<'_>, units: &BTreeSet<usize>, family: Family) -> Place {
    let pair = case.at(units).find_map(|unit| {
        let server = unit.server.as_ref()?;
        Some((unit.client.node.clone(), server.node.clone()))
    });
    match pair {
        Some((from, to)) => {
            let (there, back) = lost_where(case, units);
            if back > there {
                Place::between(&to, &from, None, family)
            } else {
                Place::between(&from, &to, None, family)
            }
        }
        None => Place {
            node: None,
            segment: super::PathSegment::Unknown,
            family,
        },
    }
}

/// First SYNs without a timely answer, and first SYNs, on the paths of these units.
fn counted(case: &Case<'_>, units: &BTreeSet<usize>) -> (u64, u64) {
    let paths: BTreeSet<_> = case.at(units).map(|unit| unit.path).collect();
    let totals: Vec<_> = paths
        .into_iter()
        .filter_map(|id| case.path(id))
        .map(counts)
        .collect();
    let sent: u64 = totals.iter().map(|(outcomes, _)| outcomes.total()).sum();
    let well: u64 = totals.iter().map(|(_, well)| well).sum();
    (sent.saturating_sub(well), sent)
}

/// Losses on the way there and on the way back, where both ends tell.
fn lost_where(case: &Case<'_>, units: &BTreeSet<usize>) -> (u32, u32) {
    let mut there = 0;
    let mut back = 0;
    for probe in case.at(units).flat_map(|unit| case.probes(unit)) {
        let Some(witness) = &probe.server else {
            continue;
        };
        there += probe.client.syns.saturating_sub(witness.syns);
        let answers = probe
            .client
            .observations
            .iter()
            .filter(|seen| {
                seen.direction == Direction::Received
                    && seen
                        .packet
                        .tcp()
                        .is_some_and(|(_, tcp)| tcp.flags.is_syn_ack())
            })
            .count();
        back += witness
            .syn_acks
            .saturating_sub(u32::try_from(answers).unwrap_or(u32::MAX));
    }
    (there, back)
}

fn directions(case: &Case<'_>, units: &BTreeSet<usize>) -> Option<String> {
    let (there, back) = lost_where(case, units);
    (there + back > 0).then(|| {
        format!(
            "by both ends: {there} SYNs did not reach the server, {back} SYN+ACKs did not come back"
        )
    })
}

#[expect(
    clippy::cast_precision_loss,
    reason = "counts of probes are far below 2^52"
)]
fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 {
        0.0
    } else {
        part as f64 / whole as f64
    }
}

fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}
