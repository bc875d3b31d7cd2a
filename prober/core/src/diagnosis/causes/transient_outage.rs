//! `transient-outage`: every path through a node was silent until one instant, and healthy from then on.

use std::collections::BTreeSet;

use super::lossy::{common_node, is_lossy, most_involved, only_pair};
use crate::diagnosis::Remedy;
use crate::diagnosis::case::{Case, counts};
use crate::diagnosis::catalogue::Cause;
use crate::diagnosis::hypothesis::{Place, Proof};
use crate::diagnosis::model::{Fingerprint, Model, Prediction};
use crate::diagnosis::remedy::step;
use crate::diagnosis::symptom::FailureGroup;
use crate::evidence::Evidence;
use crate::packet::family::Family;
use crate::probe::outcome::Outcome;
use crate::time::Timestamp;
use crate::topology::Path;

/// The least number of late probes that show an outage between two nodes, where no path within a node takes part in it: of six
/// random losses, the first SYNs are lost and the second ones are answered at most once in 4096 times.
const MIN_LATE_BETWEEN: usize = 6;

/// The model.
pub(crate) struct TransientOutage;

impl Model for TransientOutage {
    fn cause(&self) -> Cause {
        Cause::TransientOutage
    }

    fn places(&self, case: &Case<'_>, family: Family) -> BTreeSet<Place> {
        let place = outage(case, family).and_then(|outage| outage.place);
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
    /// The node that all of it involves, or the only two nodes; `None` if there are more.
    place: Option<Place>,
    /// How many paths it involves.
    paths: usize,
    said: String,
}

/// The node that all of these groups involve; the only two nodes, where another fault hides which of them it is.
fn place(case: &Case<'_>, groups: &BTreeSet<usize>, family: Family) -> Option<Place> {
    let node = common_node(case, groups).or_else(|| most_involved(case, groups));
    let of_node = node.map(|node| Place::node(&node, family));
    of_node.or_else(|| {
        let (from, to) = only_pair(case, groups)?;
        Some(Place::between(from, to, None, family))
    })
}

/// Finds an outage: every path through a node was silent until one instant, and healthy from then on.
fn outage(case: &Case<'_>, family: Family) -> Option<Outage> {
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
        .filter_map(|probe| probe.client.opening())
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
    let lasted = from.since(began).as_millis();
    let is_shown =
        |place: &Place| place.node.is_some() || (windows.len() >= MIN_LATE_BETWEEN && lost >= well);
    Some(Outage {
        place: place(case, &groups, family).filter(is_shown),
        paths: paths.len(),
        said: format!(
            "{} probes on {} paths were silent together for at least {lasted} ms, and all were answered from {until} on, within {} ms of each other's last silence",
            late.len(),
            paths.len(),
            until.since(from).as_millis()
        ),
    })
}
