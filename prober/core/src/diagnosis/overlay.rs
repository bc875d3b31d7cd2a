//! Rules for the way between nodes: routes, the tunnel's neighbours, its packets, their size.

use std::collections::BTreeSet;

use crate::diagnosis::case::Case;
use crate::diagnosis::hypothesis::{Opinion, Place};
use crate::diagnosis::symptom::{ServerEnd, Symptom, Unit};
use crate::node_facts::Link;
use crate::packet::family::Family;
use crate::topology::NodeName;

/// The size of packets.
mod mtu;
/// What a node believes of its peer's tunnel end.
mod neighbour;
/// Routes to the other node's pods.
mod route;
/// The tunnel's own packets.
mod tunnel;

/// What this family has to say.
pub(crate) fn opinions(case: &Case<'_>) -> Vec<Opinion> {
    let mut opinions = Vec::new();
    for family in case.families() {
        for (from, to) in ways(case, family) {
            opinions.extend(route::route_missing(case, &from, &to, family));
            opinions.extend(neighbour::stale_neighbour(case, &from, &to, family));
        }
        opinions.extend(tunnel::blocked(case, family));
        opinions.extend(mtu::mtu(case, family));
    }
    opinions
}

/// Every ordered pair of nodes that a failing packet or its answer should have crossed.
fn ways(case: &Case<'_>, family: Family) -> BTreeSet<(NodeName, NodeName)> {
    case.failing(|unit| unit.family == family && unit.is_cross_node())
        .filter_map(|(_, unit)| {
            Some((unit.client.node.clone(), unit.server.as_ref()?.node.clone()))
        })
        .flat_map(|(a, b)| [(a.clone(), b.clone()), (b, a)])
        .collect()
}

/// The unexplained units that depend on one node's way to another, and the place that this way is;
/// `None` where there are none.
fn on_the_way(
    case: &Case<'_>,
    from: &NodeName,
    to: &NodeName,
    family: Family,
) -> Option<(BTreeSet<usize>, Place)> {
    let units = case.places(|unit| depends_on(unit, from, to, family));
    (!units.is_empty()).then(|| (units, Place::between(from, to, Some(from), family)))
}

/// Units that die if nothing gets from one node to the other: SYNs there, or answers.
fn depends_on(unit: &Unit, from: &NodeName, to: &NodeName, family: Family) -> bool {
    let Some(server) = &unit.server else {
        return false;
    };
    let there = unit.client.node == *from
        && server.node == *to
        && matches!(unit.server_end, ServerEnd::Nothing | ServerEnd::Unheard);
    let back = unit.client.node == *to
        && server.node == *from
        && matches!(unit.server_end, ServerEnd::SynAck | ServerEnd::Unheard);
    unit.family == family
        && (there || back)
        && matches!(unit.symptom, Symptom::Silent | Symptom::Unreachable(_))
}

/// A node's own tunnel of this family, if it is down: nothing gets into it, and nothing out.
fn tunnel_down<'a>(case: &'a Case<'_>, node: &NodeName, family: Family) -> Option<&'a Link> {
    let is_of_family = |link: &&Link| {
        let tunnel = link.vxlan.as_ref();
        tunnel.is_some_and(|tunnel| tunnel.local.is_none_or(|end| Family::of(end) == family))
    };
    let mut links = case.facts(node)?.links.iter().flatten();
    links.find(|link| is_of_family(link) && !link.up)
}
