//! Groups of which only some probes were lost or late, and the node that they have in common.

use std::collections::BTreeSet;

use crate::diagnosis::case::Case;
use crate::diagnosis::symptom::{FailureGroup, Symptom};
use crate::packet::family::Family;
use crate::topology::NodeName;

/// Whether a group lost some of its probes, as far as its client could observe that. A path that opened late lost none.
pub(crate) fn is_lossy(case: &Case<'_>, group: &FailureGroup, family: Family) -> bool {
    group.family == family
        && group.symptom == Symptom::Lossy
        && case.opening(group).is_none()
        && !case.is_inconclusive(group)
}

/// Whether one end of a group is on a node, or its endpoint is not known.
pub(crate) fn involves(group: &FailureGroup, node: &NodeName) -> bool {
    group.server.is_none() || group.involves(node)
}

/// The node that all these groups involve, preferably one with failures among its own pods.
pub(crate) fn common_node(case: &Case<'_>, groups: &BTreeSet<usize>) -> Option<NodeName> {
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
pub(crate) fn most_involved(case: &Case<'_>, groups: &BTreeSet<usize>) -> Option<NodeName> {
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

/// The client's node and the server's, where all groups with a known server are between these two.
pub(crate) fn only_pair<'c>(
    case: &'c Case<'_>,
    groups: &'c BTreeSet<usize>,
) -> Option<(&'c NodeName, &'c NodeName)> {
    let mut pairs = case.at(groups).filter_map(|group| {
        let server = group.server.as_ref()?;
        Some((&group.client.node, &server.node))
    });
    let first = pairs.next()?;
    let is_same = |(from, to)| (from, to) == first || (to, from) == first;
    pairs.all(is_same).then_some(first)
}
