//! Access paths that do not stay among pods: node ports, and hosts that ask as their nodes do.
//!
//! A cause is found by the access paths between pods, whose ends both see packets. These here meet the
//! same pods and nodes by other rules: where they fail as well they follow from a cause at one of
//! their ends, and where they work they bound it. What no cause explains stays unknown.

use std::collections::BTreeSet;

use super::PathSegment;
use super::case::Case;
use super::symptom::Unit;
use crate::diagnosis::hypothesis::Opinion;
use crate::topology::{AgentId, NodeName};

/// The failing units of these access paths that follow from an opinion.
pub(crate) fn explained(case: &Case<'_>, best: &Opinion) -> BTreeSet<usize> {
    let claimed: BTreeSet<&AgentId> = case
        .at(&best.units)
        .filter_map(|unit| unit.server.as_ref())
        .collect();
    let meets = |unit: &Unit| match &best.place.segment {
        PathSegment::Pod { pod } => unit.client == *pod || unit.server.as_ref() == Some(pod),
        PathSegment::Node { node } => touches(unit, node),
        PathSegment::Between { from, to } => touches(unit, from) && touches(unit, to),
        PathSegment::Service | PathSegment::Namespace => unit
            .server
            .as_ref()
            .is_some_and(|server| claimed.contains(server)),
        PathSegment::Unknown => (best.place.node.as_ref()).is_none_or(|node| touches(unit, node)),
    };
    case.beside
        .iter()
        .copied()
        .filter(|at| {
            let unit = case.units.get(*at);
            unit.is_some_and(|unit| unit.family == best.place.family && meets(unit))
        })
        .collect()
}

/// Whether one end of a unit is on a node.
fn touches(unit: &Unit, node: &NodeName) -> bool {
    unit.client.node == *node || (unit.server.as_ref()).is_some_and(|server| server.node == *node)
}
