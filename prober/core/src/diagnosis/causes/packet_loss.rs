//! `packet-loss`: a share of all packets is lost on the way.

use std::collections::BTreeSet;

use super::lossy::{common_node, involves, is_lossy, most_involved};
use super::scattered_losses::Scatter;
use super::transient_outage::{TransientOutage, ended_together};
use crate::diagnosis::Remedy;
use crate::diagnosis::case::{Case, counts};
use crate::diagnosis::catalogue::Cause;
use crate::diagnosis::hypothesis::{Place, Proof};
use crate::diagnosis::model::{Fingerprint, Model, Prediction};
use crate::diagnosis::remedy::step;
use crate::diagnosis::symptom::{FailureGroup, Symptom};
use crate::evidence::statistics::wilson;
use crate::packet::family::Family;
use crate::packet::observation::Direction;
use crate::probe::event::OutcomeCounts;
use crate::topology::{AccessPath, Path};

/// The model.
pub(crate) struct PacketLoss;

impl Model for PacketLoss {
    fn cause(&self) -> Cause {
        Cause::PacketLoss
    }

    fn places(&self, case: &Case<'_>, family: Family) -> BTreeSet<Place> {
        let lossy = case.places(|group| is_lossy(case, group, family));
        if lossy.is_empty() || !TransientOutage.places(case, family).is_empty() {
            return BTreeSet::new();
        }
        if !is_direct(case, &lossy) {
            return BTreeSet::from([Place::service(family)]);
        }
        let pinned: BTreeSet<usize> =
            case.places(|group| is_lossy(case, group, family) && group.server.is_some());
        let node = common_node(case, &pinned).or_else(|| most_involved(case, &pinned));
        BTreeSet::from([match node {
            Some(node) => Place::node(&node, family),
            None => between(case, &pinned, family),
        }])
    }

    fn predict(&self, _: &Case<'_>, _: &Place, _: &Path) -> Prediction {
        Prediction::MayFail
    }

    fn explains(&self, case: &Case<'_>, place: &Place, group: &FailureGroup) -> bool {
        let is_here =
            |group: &FailureGroup| (place.node.as_ref()).is_none_or(|node| involves(group, node));
        let is_lossy_here =
            |group: &FailureGroup| is_lossy(case, group, place.family) && is_here(group);
        if is_lossy_here(group) {
            return true;
        }
        // Heavy loss also breaks the exchange after a handshake.
        let is_knock_on = group.family == place.family
            && is_here(group)
            && matches!(
                group.symptom,
                Symptom::NoData | Symptom::Stalled | Symptom::Silent
            );
        // Most groups end here: what all lossy groups add up to is counted for the others alone.
        let is_beside_loss =
            || group.server.is_none() || case.failing_on(group.path).any(is_lossy_here);
        if !is_knock_on || !is_beside_loss() {
            return false;
        }
        let lossy = case.places(is_lossy_here);
        let (lost, sent) = counted(case, &lossy);
        !lossy.is_empty() && wilson(lost, sent).0 > 0.02
    }

    fn fingerprint(&self, case: &Case<'_>, place: &Place, groups: &BTreeSet<usize>) -> Fingerprint {
        let lossy = case.places(|group| is_lossy(case, group, place.family));
        if !is_direct(case, &lossy) {
            // Each retry is balanced anew: a SYN that one endpoint rejects or drops only makes the connection late.
            return Fingerprint::Refuted("every endpoint is reached without loss by its own address and port; only the balanced port is late, as if one of its endpoints dropped or rejected".to_owned());
        }
        let untranslated = (case.at(groups)).any(|group| group.access_path == AccessPath::PodIp);
        let (lost, _) = counted(case, groups);
        // A full connection table also lets a small share of connections through.
        let unread = place
            .node
            .as_ref()
            .filter(|node| case.facts(node).is_none());
        match unread {
            Some(node) => Fingerprint::Missing(vec![format!(
                "nf_conntrack_count against nf_conntrack_max on {node}: a full table lets some through as well"
            )]),
            None => match Scatter::of(case, groups, place.family) {
                Scatter::Lasting => Fingerprint::Missing(vec![
                    "the same run again: nothing is known to have been answered since the first of these losses, as when a drop rule comes into force (network-policy, forward-drop, network-blocked)".to_owned(),
                ]),
                Scatter::Alternating if !ended_together(case, place.family) && untranslated && lost >= 3 => {
                    Fingerprint::Seen(Proof::Packets, vec![share(case, groups)])
                }
                Scatter::Alternating | Scatter::Unclear => Fingerprint::Missing(vec![
                    "the same run again, with more probes: too little is known to have been answered between these losses to distinguish them from an outage".to_owned(),
                ]),
            },
        }
    }

    fn support(&self, case: &Case<'_>, _: &Place, groups: &BTreeSet<usize>) -> Vec<String> {
        let share = std::iter::once(share(case, groups));
        share.chain(directions(case, groups)).collect()
    }

    fn remedy(&self, case: &Case<'_>, place: &Place, _: &BTreeSet<usize>) -> Vec<Remedy> {
        let uplinks: BTreeSet<&str> = case
            .plane
            .pairs(place.family)
            .filter(|(from, ..)| place.node.as_ref() == Some(from))
            .filter_map(|(.., transport)| transport.link())
            .collect();
        let mut commands = vec!["ip -s -s link".to_owned(), "tc -s qdisc".to_owned()];
        commands.extend(
            uplinks
                .into_iter()
                .map(|link| format!("ethtool -S {link} | grep -i -e drop -e err -e discard")),
        );
        vec![step(
            "Look for drops at each hop of this stretch, then for the same on the physical path.",
            commands,
        )]
    }
}

/// Whether a path that leads to one server is lossy, and not only the balanced port.
fn is_direct(case: &Case<'_>, lossy: &BTreeSet<usize>) -> bool {
    (case.at(lossy)).any(|group| group.access_path != AccessPath::ClusterIpAny)
}

/// The share of first SYNs without a timely answer, as a sentence.
fn share(case: &Case<'_>, groups: &BTreeSet<usize>) -> String {
    let (lost, sent) = counted(case, groups);
    let (low, high) = wilson(lost, sent);
    format!(
        "{lost} of {sent} first SYNs had no answer in time: {} (95 % interval {} to {})",
        percent(ratio(lost, sent)),
        percent(low),
        percent(high)
    )
}

/// The pair of nodes between which the lossy groups are.
fn between(case: &Case<'_>, groups: &BTreeSet<usize>, family: Family) -> Place {
    let pair = case.at(groups).find_map(|group| {
        let server = group.server.as_ref()?;
        Some((group.client.node.clone(), server.node.clone()))
    });
    match pair {
        Some((from, to)) => {
            let (there, back) = lost_where(case, groups);
            if back > there {
                Place::between(&to, &from, None, family)
            } else {
                Place::between(&from, &to, None, family)
            }
        }
        None => Place {
            node: None,
            segment: crate::diagnosis::PathSegment::Unknown,
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
    let sum = |counts: &dyn Fn(&(OutcomeCounts, u64)) -> u64| {
        totals.iter().map(counts).fold(0, u64::saturating_add)
    };
    let sent = sum(&|(outcomes, _)| outcomes.total());
    let well = sum(&|(_, in_time)| *in_time);
    (sent.saturating_sub(well), sent)
}

/// Packets lost on the way to the server and on the way to the client, where both ends reported.
fn lost_where(case: &Case<'_>, groups: &BTreeSet<usize>) -> (u32, u32) {
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
    let (there, back) = lost_where(case, groups);
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
