//! Rules for the path between nodes: routes, the tunnel's neighbours, its packets, their size.

use std::collections::BTreeSet;

use crate::diagnosis::case::Case;
use crate::diagnosis::hypothesis::{Hypothesis, Place};
use crate::diagnosis::symptom::{FailureGroup, ServerEnd, Symptom};
use crate::node_facts::Link;
use crate::packet::family::Family;
use crate::topology::NodeName;

/// The size of packets.
mod mtu;
/// The tunnel's forwarding entries for a peer.
mod neighbour;
/// Routes to the other node's pods.
mod route;
/// The tunnel's own packets.
mod tunnel;

/// Hypotheses about the path between nodes.
pub(crate) fn hypotheses(case: &Case<'_>) -> Vec<Hypothesis> {
    let mut hypotheses = Vec::new();
    for family in case.families() {
        for (from, to) in node_pairs(case, family) {
            hypotheses.extend(route::route_missing(case, &from, &to, family));
            hypotheses.extend(neighbour::stale_neighbour(case, &from, &to, family));
        }
        hypotheses.extend(tunnel::blocked(case, family));
        hypotheses.extend(mtu::mtu(case, family));
    }
    hypotheses
}

/// Every ordered pair of nodes that a failing packet or its answer was expected to cross.
fn node_pairs(case: &Case<'_>, family: Family) -> BTreeSet<(NodeName, NodeName)> {
    case.failing(|group| group.family == family && group.is_cross_node())
        .filter_map(|(_, group)| {
            Some((
                group.client.node.clone(),
                group.server.as_ref()?.node.clone(),
            ))
        })
        .flat_map(|(a, b)| [(a.clone(), b.clone()), (b, a)])
        .collect()
}

/// The unexplained groups that depend on one node's path to another, and the place of that path; `None` where there are
/// none.
fn depending_groups(
    case: &Case<'_>,
    from: &NodeName,
    to: &NodeName,
    family: Family,
) -> Option<(BTreeSet<usize>, Place)> {
    let groups = case.places(|group| depends_on(group, from, to, family));
    (!groups.is_empty()).then(|| (groups, Place::between(from, to, Some(from), family)))
}

/// Whether a group fails if no packet gets from one node to the other: SYNs in that direction, or answers.
fn depends_on(group: &FailureGroup, from: &NodeName, to: &NodeName, family: Family) -> bool {
    let Some(server) = &group.server else {
        return false;
    };
    let there = group.client.node == *from
        && server.node == *to
        && matches!(group.server_end, ServerEnd::Nothing | ServerEnd::Unknown);
    let back = group.client.node == *to
        && server.node == *from
        && matches!(group.server_end, ServerEnd::SynAck | ServerEnd::Unknown);
    group.family == family
        && (there || back)
        && matches!(group.symptom, Symptom::Silent | Symptom::Unreachable(_))
}

/// A node's own tunnel of this family, if it is down: no packet enters or leaves it.
fn tunnel_down<'a>(case: &'a Case<'_>, node: &NodeName, family: Family) -> Option<&'a Link> {
    let is_of_family = |link: &&Link| {
        let tunnel = link.vxlan.as_ref();
        tunnel.is_some_and(|tunnel| tunnel.local.is_none_or(|end| Family::of(end) == family))
    };
    let mut links = case.facts(node)?.links.iter().flatten();
    links.find(|link| is_of_family(link) && !link.up)
}
