//! `transient-outage`: every path through a node was silent until one instant, and healthy from then on.

use std::collections::BTreeSet;

use super::lossy::{common_node, is_lossy, most_involved};
use crate::diagnosis::Remedy;
use crate::diagnosis::case::{Case, counts};
use crate::diagnosis::catalogue::Cause;
use crate::diagnosis::hypothesis::{Place, Proof};
use crate::diagnosis::model::{Fingerprint, Model, Prediction};
use crate::diagnosis::remedy::step;
use crate::diagnosis::symptom::FailureGroup;
use crate::evidence::Evidence;
use crate::evidence::start_up::{MAX_START_UP, Opening};
use crate::packet::family::Family;
use crate::packet::observation::Direction;
use crate::probe::outcome::{Outcome, ProbeResult};
use crate::time::{Timestamp, nanos};
use crate::topology::{NodeName, Path};
use crate::units::duration;

/// The model.
pub(crate) struct TransientOutage;

impl Model for TransientOutage {
    fn cause(&self) -> Cause {
        Cause::TransientOutage
    }

    fn places(&self, case: &Case<'_>, family: Family) -> BTreeSet<Place> {
        let node = outage(case, family).and_then(|outage| outage.node);
        let place = node.map(|node| Place::node(&node, family));
        place.into_iter().collect()
    }

    fn predict(&self, _: &Case<'_>, _: &Place, _: &Path) -> Prediction {
        Prediction::MayFail
    }

    // What ended together is one outage, whichever nodes it involves; the place is the node that most of it involves.
    fn explains(&self, case: &Case<'_>, place: &Place, group: &FailureGroup) -> bool {
        is_lossy(case, group, place.family) && !case.is_share_of_a_silent_endpoint(group)
    }

    fn fingerprint(&self, case: &Case<'_>, place: &Place, _: &BTreeSet<usize>) -> Fingerprint {
        match outage(case, place.family) {
            Some(outage) => Fingerprint::Seen(Proof::Packets, vec![outage.said]),
            None => Fingerprint::Refuted("the failures did not end together".to_owned()),
        }
    }

    fn remedy(&self, _: &Case<'_>, _: &Place, _: &BTreeSet<usize>) -> Vec<Remedy> {
        vec![step(
            "See what was restored at that moment: the network plugin, the Services' rules, a firewall, a link.",
            ["journalctl --since '-10 min' | grep -i -e cni -e proxy -e firewall -e 'link is'"],
        )]
    }
}

/// Whether failures of a family ended together, wherever that was.
pub(super) fn ended_together(case: &Case<'_>, family: Family) -> bool {
    outage(case, family).is_some_and(|outage| outage.paths > 3)
}

/// An outage that ended.
struct Outage {
    /// The node that all of it involves, if there is one.
    node: Option<NodeName>,
    /// How many paths it involves.
    paths: usize,
    said: String,
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
                && seen.packet.tcp_src() == Some(probe.peer())
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

/// An outage of pods that were new: their paths opened later than any start-up takes.
fn late_start(case: &Case<'_>, groups: &BTreeSet<usize>) -> Option<Outage> {
    let openings: Option<Vec<&Opening>> =
        case.at(groups).map(|group| case.opening(group)).collect();
    let openings = openings?;
    let longest = openings.iter().map(|opening| opening.after).max()?;
    let failures: usize = openings.iter().map(|opening| opening.failures).sum();
    let paths: BTreeSet<_> = case.at(groups).map(|group| group.path).collect();
    Some(Outage {
        node: common_node(case, groups).or_else(|| most_involved(case, groups)),
        paths: paths.len(),
        said: format!(
            "{failures} probes on {} paths failed from the first one on, and all were answered after that: the paths opened up to {} after their pods were ready, and start-up takes at most {}",
            paths.len(),
            duration(nanos(longest)),
            duration(nanos(MAX_START_UP)),
        ),
    })
}

/// Finds an outage: every path through a node was silent until one instant, and healthy from then on.
fn outage(case: &Case<'_>, family: Family) -> Option<Outage> {
    let groups = case.places(|group| {
        is_lossy(case, group, family) && !case.is_share_of_a_silent_endpoint(group)
    });
    if let Some(outage) = late_start(case, &groups) {
        return Some(outage);
    }
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
    let mut well = 0;
    let mut contradictions = 0;
    // A balanced port continues with the endpoints that are still reached: this contradicts nothing.
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
    let node = common_node(case, &groups).or_else(|| most_involved(case, &groups));
    let lasted = from.since(began).as_millis();
    Some(Outage {
        node,
        paths: paths.len(),
        said: format!(
            "{} probes on {} paths were silent together for at least {lasted} ms, and all were answered from {until} on, within {} ms of each other's last silence",
            late.len(),
            paths.len(),
            until.since(from).as_millis()
        ),
    })
}
