//! Whether losses are scattered among answered probes, as random ones are, or fall into one interval, as those of an outage do.

use std::collections::BTreeSet;
use std::time::Duration;

use super::lossy::is_lossy;
use crate::diagnosis::case::{Case, counts};
use crate::diagnosis::symptom::FailureGroup;
use crate::evidence::PathEvidence;
use crate::packet::family::Family;
use crate::time::Timestamp;
use crate::topology::{NodeName, PathId};

/// Whether something was answered between the losses of these groups, by the clock of a node with their clients. A balanced
/// port is left out: it continues with the endpoints that are still reached.
pub(super) fn is_scattered(case: &Case<'_>, groups: &BTreeSet<usize>, family: Family) -> bool {
    let pinned: Vec<&FailureGroup> = case
        .at(groups)
        .filter(|group| group.server.is_some() && is_lossy(case, group, family))
        .collect();
    let nodes: BTreeSet<&NodeName> = pinned.iter().map(|group| &group.client.node).collect();
    nodes.into_iter().any(|node| {
        let of_node = pinned.iter().filter(|group| group.client.node == *node);
        let of_node: Vec<&FailureGroup> = of_node.copied().collect();
        let paths: BTreeSet<PathId> = of_node.iter().map(|group| group.path).collect();
        is_answered_between(case, &of_node, &paths) || is_sparse(case, node, &of_node, &paths)
    })
}

/// Whether reported probes of these paths were answered between the first loss and the last. One in twenty is left out at each
/// end, and of the answers: renewed neighbour resolutions delay a few.
fn is_answered_between(
    case: &Case<'_>,
    groups: &[&FailureGroup],
    paths: &BTreeSet<PathId>,
) -> bool {
    let lost = groups.iter().flat_map(|group| case.probes(group));
    let mut lost: Vec<Timestamp> = lost
        .flat_map(|probe| {
            let last = probe.client.opening().map(|(last, _)| last);
            std::iter::once(probe.client.started).chain(last)
        })
        .collect();
    lost.sort_unstable();
    let few = lost.len() / 20;
    let Some((from, until)) = lost.get(few).zip(lost.iter().rev().nth(few)) else {
        return false;
    };
    let evidence = paths.iter().filter_map(|&id| case.path(id));
    let answered = evidence
        .flat_map(PathEvidence::counted)
        .filter_map(|(_, probe)| probe.client.answered_at())
        .filter(|at| from < at && at < until);
    answered.count() > few
}

/// Whether fewer first SYNs were lost between the first loss and the last than half of those that an even pace sends then: the
/// healthy probes that were only counted were answered in between.
fn is_sparse(
    case: &Case<'_>,
    node: &NodeName,
    groups: &[&FailureGroup],
    paths: &BTreeSet<PathId>,
) -> bool {
    let lost = groups.iter().flat_map(|group| case.probes(group));
    let lasted = span(lost.map(|probe| probe.client.started));
    let of_node = case.matrix.paths.values();
    let of_node = of_node.filter(|path| path.path.client.node == *node);
    let probes = of_node.flat_map(|path| &path.probes);
    let probed = span(probes.map(|probe| probe.client.started));
    let (mut sent, mut well) = (0_u128, 0_u128);
    for (outcomes, in_time) in paths.iter().filter_map(|&id| case.path(id)).map(counts) {
        sent += u128::from(outcomes.total());
        well += u128::from(in_time);
    }
    let lost = sent.saturating_sub(well);
    // Without times, the counts alone decide.
    let (lasted, probed) = if probed.is_zero() {
        (1, 1)
    } else {
        (lasted.as_nanos(), probed.as_nanos())
    };
    2 * lost * probed < sent * lasted
}

/// The time from the first of these moments to the last.
fn span(moments: impl Iterator<Item = Timestamp>) -> Duration {
    let moments: Vec<Timestamp> = moments.collect();
    let ends = moments.iter().min().zip(moments.iter().max());
    ends.map_or(Duration::ZERO, |(first, last)| last.since(*first))
}
