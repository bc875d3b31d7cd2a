//! Access paths that involve the nodes themselves: node ports, and clients in a node's own network.
//!
//! A cause is found from the access paths between pods, where both ends observe packets. These access paths lead to the
//! same pods and nodes by other rules: their failures may follow from a cause at one of their ends, and their successes
//! bound it. A failure that no cause explains remains unknown.

use std::collections::BTreeSet;

use super::PathSegment;
use super::case::Case;
use super::symptom::FailureGroup;
use crate::diagnosis::hypothesis::Hypothesis;
use crate::topology::AgentId;

/// The failing groups of these access paths that follow from a hypothesis.
pub(crate) fn explained(case: &Case<'_>, best: &Hypothesis) -> BTreeSet<usize> {
    let claimed: BTreeSet<&AgentId> = case
        .at(&best.groups)
        .filter_map(|group| group.server.as_ref())
        .collect();
    let is_affected = |group: &FailureGroup| match &best.place.segment {
        PathSegment::Pod { pod } => group.client == *pod || group.server.as_ref() == Some(pod),
        PathSegment::Node { node } => group.involves(node),
        PathSegment::Between { from, to } => group.involves(from) && group.involves(to),
        PathSegment::Service | PathSegment::Namespace => group
            .server
            .as_ref()
            .is_some_and(|server| claimed.contains(server)),
        PathSegment::Unknown => (best.place.node.as_ref()).is_none_or(|node| group.involves(node)),
    };
    case.node_groups
        .iter()
        .copied()
        .filter(|at| {
            let group = case.groups.get(*at);
            group.is_some_and(|group| group.family == best.place.family && is_affected(group))
        })
        .collect()
}
