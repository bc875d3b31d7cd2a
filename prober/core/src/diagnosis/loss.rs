//! Rules for intermittent failures: loss with its rate and direction, and a single outage.

use std::collections::BTreeSet;

use super::case::{Case, counts};
use super::catalogue::Cause;
use super::symptom::{FailureGroup, Symptom};
use crate::diagnosis::hypothesis::{Hypothesis, Place, Proof};
use crate::evidence::Evidence;
use crate::evidence::statistics::wilson;
use crate::packet::family::Family;
use crate::packet::observation::Direction;
use crate::probe::outcome::{Outcome, ProbeResult};
use crate::time::Timestamp;
use crate::topology::{AccessPath, NodeName};

/// Hypotheses about loss and outages.
pub(crate) fn hypotheses(case: &Case<'_>) -> Vec<Hypothesis> {
    let mut hypotheses = Vec::new();
    for family in case.families() {
        match outage(case, family) {
            Some(outage) => hypotheses.push(outage),
            None => hypotheses.extend(packet_loss(case, family)),
        }
    }
    hypotheses
}

fn is_lossy(case: &Case<'_>, group: &FailureGroup, family: Family) -> bool {
    group.family == family && group.symptom == Symptom::Lossy && !case.is_inconclusive(group)
}

fn involves(group: &FailureGroup, node: &NodeName) -> bool {
    group.client.node == *node
        || group
            .server
            .as_ref()
            .is_none_or(|server| server.node == *node)
}

/// The node that all these groups involve, preferably one with failures among its own pods.
fn common_node(case: &Case<'_>, groups: &BTreeSet<usize>) -> Option<NodeName> {
    let all: Vec<NodeName> = case
        .nodes()
        .into_iter()
        .filter(|node| case.at(groups).all(|group| involves(group, node)))
        .cloned()
        .collect();
    let own = |node: &&NodeName| {
        case.at(groups)
            .any(|group| group.is_same_node() && group.client.node == **node)
    };
    all.iter()
        .find(own)
        .or_else(|| if all.len() == 1 { all.first() } else { None })
        .cloned()
}

/// The node that most of the lossy groups involve, where no node is common to all.
fn most_involved(case: &Case<'_>, groups: &BTreeSet<usize>) -> Option<NodeName> {
    case.nodes()
        .into_iter()
        .filter(|node| {
            case.at(groups)
                .any(|group| group.is_same_node() && group.client.node == **node)
        })
        .max_by_key(|node| {
            case.at(groups)
                .filter(|group| involves(group, node))
                .count()
        })
        .cloned()
}

/// When a late probe's path opened: after its last unanswered SYN, before its answer.
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
            // The last of them was answered, the one before it was not.
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

/// Every path through a node was silent until one instant, and healthy from then on.
fn outage(case: &Case<'_>, family: Family) -> Option<Hypothesis> {
    let groups = case.places(|group| {
        is_lossy(case, group, family) && !case.is_share_of_a_silent_endpoint(group)
    });
    let paths: BTreeSet<_> = case.at(&groups).map(|group| group.path).collect();
    let late: Vec<&Evidence> = case
        .at(&groups)
        .flat_map(|group| case.probes(group))
        .collect();
    let windows: Vec<(Timestamp, Option<Timestamp>)> = late
        .iter()
        .filter_map(|probe| opening(&probe.client))
        .collect();
    if paths.len() < 2 || windows.len() < 3 {
        return None;
    }
    // All but one in twenty: renewed neighbour resolutions delay a few.
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
    let mut healthy = 0;
    let mut contradictions = 0;
    // A balanced port continues with the endpoints that are still reached: this contradicts nothing.
    let pinned = paths
        .iter()
        .filter_map(|&id| case.path(id))
        .filter(|path| path.path.server.is_some());
    for path in pinned {
        healthy += counts(path).1;
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
    if lost.saturating_mul(2) < healthy {
        return None;
    }
    let node = common_node(case, &groups).or_else(|| most_involved(case, &groups))?;
    let lasted = from.since(began).as_millis();
    Some(
        Hypothesis::proves(Cause::TransientOutage, Place::node(&node, family), groups, Proof::Packets)
            .because(format!(
                "{} probes on {} paths were silent together for at least {lasted} ms, and all were answered from {until} on, within {} ms of each other's last silence",
                late.len(),
                paths.len(),
                until.since(from).as_millis()
            ))
            .not(Cause::PacketLoss, "random loss does not end on every path at the same instant"),
    )
}

fn packet_loss(case: &Case<'_>, family: Family) -> Vec<Hypothesis> {
    let lossy = case.places(|group| is_lossy(case, group, family));
    let direct = case
        .at(&lossy)
        .any(|group| group.access_path != AccessPath::ClusterIpAny);
    if lossy.is_empty() {
        return Vec::new();
    }
    if !direct {
        // Each retry is balanced anew: a SYN that one endpoint rejects or drops only makes the connection late.
        let place = Place::service(family);
        return vec![Hypothesis::excludes(
            Cause::PacketLoss,
            place,
            lossy,
            "every endpoint is reached without loss by its own address and port; only the balanced port is late, as if one of its endpoints dropped or rejected",
        )];
    }
    let pinned = case.places(|group| is_lossy(case, group, family) && group.server.is_some());
    let node = common_node(case, &pinned);
    let place = match &node {
        Some(node) => Place::node(node, family),
        None => match most_involved(case, &pinned) {
            Some(node) => Place::node(&node, family),
            None => between(case, &pinned, family),
        },
    };
    let here = |group: &FailureGroup| match &place.node {
        Some(node) => involves(group, node),
        None => true,
    };
    let mut groups = case.places(|group| is_lossy(case, group, family) && here(group));
    let (lost, sent) = counted(case, &groups);
    let (low, high) = wilson(lost, sent);
    // Heavy loss also breaks the exchange after a handshake.
    if low > 0.02 {
        groups.extend(case.places(|group| {
            group.family == family
                && here(group)
                && matches!(
                    group.symptom,
                    Symptom::NoData | Symptom::Stalled | Symptom::Silent
                )
                && case
                    .at(&lossy)
                    .any(|other| other.path == group.path || group.server.is_none())
        }));
    }
    let untranslated = case
        .at(&groups)
        .any(|group| group.access_path == AccessPath::PodIp);
    // A full connection table also lets a small share of connections through.
    let table = place
        .node
        .as_ref()
        .filter(|node| case.facts(node).is_none())
        .map(|node| format!("nf_conntrack_count against nf_conntrack_max on {node}: a full table lets some through as well"));
    let hypothesis = if untranslated && lost >= 3 && table.is_none() {
        Hypothesis::proves(Cause::PacketLoss, place, groups.clone(), Proof::Packets)
    } else {
        Hypothesis::fits(Cause::PacketLoss, place, groups.clone()).decided_by(table.unwrap_or_else(
            || "more probes on the same paths: few losses leave a wide interval".to_owned(),
        ))
    };
    vec![
        hypothesis
            .because(format!(
                "{lost} of {sent} first SYNs had no answer in time: {} (95 % interval {} to {})",
                percent(ratio(lost, sent)),
                percent(low),
                percent(high)
            ))
            .because_all(directions(case, &groups)),
    ]
}

/// The pair of nodes between which the lossy groups are.
fn between(case: &Case<'_>, groups: &BTreeSet<usize>, family: Family) -> Place {
    let pair = case.at(groups).find_map(|group| {
        let server = group.server.as_ref()?;
        Some((group.client.node.clone(), server.node.clone()))
    });
    match pair {
        Some((from, to)) => {
            let (there, back) = lost_by_direction(case, groups);
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

/// The number of first SYNs without a timely answer, and of all first SYNs, on the paths of these groups.
fn counted(case: &Case<'_>, groups: &BTreeSet<usize>) -> (u64, u64) {
    let paths: BTreeSet<_> = case.at(groups).map(|group| group.path).collect();
    let totals: Vec<_> = paths
        .into_iter()
        .filter_map(|id| case.path(id))
        .map(counts)
        .collect();
    let sent: u64 = totals.iter().map(|(outcomes, _)| outcomes.total()).sum();
    let in_time: u64 = totals.iter().map(|(_, in_time)| in_time).sum();
    (sent.saturating_sub(in_time), sent)
}

/// The number of SYNs lost on the path to the server, and of SYN+ACKs lost on the path to the client, where both ends
/// reported.
fn lost_by_direction(case: &Case<'_>, groups: &BTreeSet<usize>) -> (u32, u32) {
    let mut there = 0;
    let mut back = 0;
    for probe in case.at(groups).flat_map(|group| case.probes(group)) {
        let Some(server_trace) = &probe.server else {
            continue;
        };
        there += probe.client.syns.saturating_sub(server_trace.syns);
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
        back += server_trace
            .syn_acks
            .saturating_sub(u32::try_from(answers).unwrap_or(u32::MAX));
    }
    (there, back)
}

fn directions(case: &Case<'_>, groups: &BTreeSet<usize>) -> Option<String> {
    let (there, back) = lost_by_direction(case, groups);
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
