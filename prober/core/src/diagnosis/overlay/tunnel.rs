//! The tunnel's own packets, blocked between two nodes in one direction.

use std::collections::{BTreeMap, BTreeSet};

use crate::diagnosis::case::Case;
use crate::diagnosis::catalogue::Cause;
use crate::diagnosis::drop_point::{
    DropLocation, DropPoint, FlowDirection, drop_point, refused, tunnel_traffic,
};
use crate::diagnosis::hypothesis::{Hypothesis, Place, Proof};
use crate::diagnosis::overlay::neighbour::peer_entries;
use crate::diagnosis::overlay::tunnel_down;
use crate::diagnosis::symptom::{FailureGroup, Symptom};
use crate::packet::family::Family;
use crate::topology::NodeName;

/// Drops between nodes that no facts of the nodes explain.
pub(crate) fn blocked(case: &Case<'_>, family: Family) -> Vec<Hypothesis> {
    // A tunnel that is down on its own node is not blocked.
    let is_down = |node: &NodeName| tunnel_down(case, node, family).is_some();
    let silent = |group: &FailureGroup| {
        group.family == family
            && group.is_cross_node()
            && group.symptom == Symptom::Silent
            && !is_down(&group.client.node)
            && !(group.server.iter()).any(|server| is_down(&server.node))
    };
    let drop_points: Vec<(usize, DropPoint)> = case
        .failing(silent)
        .map(|(at, group)| (at, drop_point(case, group)))
        .collect();
    let mut located: BTreeMap<(NodeName, NodeName), Vec<(usize, String)>> = BTreeMap::new();
    let mut unclear: BTreeMap<(NodeName, NodeName), Vec<(usize, String)>> = BTreeMap::new();
    for (at, drop_point) in drop_points {
        match drop_point.location {
            DropLocation::Tunnel(from, to) => located
                .entry((from, to))
                .or_default()
                .push((at, drop_point.because)),
            DropLocation::Unclear => {
                let Some(group) = case.groups.get(at) else {
                    continue;
                };
                let Some(server) = &group.server else {
                    continue;
                };
                let node_pair = match drop_point.direction {
                    FlowDirection::ToServer => (group.client.node.clone(), server.node.clone()),
                    FlowDirection::ToClient => (server.node.clone(), group.client.node.clone()),
                };
                unclear
                    .entry(node_pair)
                    .or_default()
                    .push((at, drop_point.because));
            }
            DropLocation::Node(_) | DropLocation::Elsewhere => {}
        }
    }
    let shared = |pick: fn(&(NodeName, NodeName)) -> &NodeName| {
        let ends: BTreeSet<&NodeName> = located.keys().map(pick).collect();
        (located.len() > 1 && ends.len() == 1)
            .then(|| ends.into_iter().next().cloned())
            .flatten()
    };
    let mut hypotheses = Vec::new();
    if let Some(node) =
        shared(|node_pair| &node_pair.1).or_else(|| shared(|node_pair| &node_pair.0))
    {
        let all: Vec<(usize, String)> = located.values().flatten().cloned().collect();
        hypotheses.push(blocked_hypothesis(
            case,
            Place::node(&node, family),
            &all,
            &located,
        ));
    } else {
        for ((from, to), found) in &located {
            let dropped = tunnel_traffic(case, from, family)
                .is_some_and(|(_, sent)| refused(&sent).is_some());
            let at = if dropped { from } else { to };
            let place = Place::between(from, to, Some(at), family);
            hypotheses.push(blocked_hypothesis(case, place, found, &located));
        }
    }
    for ((from, to), found) in &unclear {
        let groups = found.iter().map(|(at, _)| *at).collect();
        hypotheses.push(
            Hypothesis::fits(Cause::OverlayBlocked, Place::between(from, to, None, family), groups)
                .because_all(sentences(found))
                .decided_by(format!("`tcpdump -ni any udp port 8472` on {from} and {to} while a probe runs: a packet that leaves one and does not reach the other is blocked between them"))
                .decided_by(format!("forward-drop has the same symptoms; it is decided by: the counters of the FORWARD chains of {from} and {to}")),
        );
    }
    hypotheses
}

fn sentences(found: &[(usize, String)]) -> Vec<String> {
    let mut sentences: Vec<String> = found.iter().map(|(_, because)| because.clone()).collect();
    sentences.sort();
    sentences.dedup();
    sentences.truncate(4);
    sentences
}

fn blocked_hypothesis(
    case: &Case<'_>,
    place: Place,
    found: &[(usize, String)],
    located: &BTreeMap<(NodeName, NodeName), Vec<(usize, String)>>,
) -> Hypothesis {
    let groups: BTreeSet<usize> = found.iter().map(|(at, _)| *at).collect();
    let family = place.family;
    let known = located
        .keys()
        .all(|(from, to)| matches!(peer_entries(case, from, to, family), Some(Ok(_))));
    let dropped: Vec<String> = located
        .keys()
        .filter_map(|(from, _)| {
            let (name, sent) = tunnel_traffic(case, from, family)?;
            let growth = refused(&sent)?;
            Some(format!(
                "{from} counted {growth} at {name}: its own OUTPUT drops them"
            ))
        })
        .collect();
    let hypothesis = if known {
        Hypothesis::proves(Cause::OverlayBlocked, place, groups.clone(), Proof::Packets)
    } else {
        Hypothesis::fits(Cause::OverlayBlocked, place, groups.clone())
            .decided_by("`tcpdump -ni any udp port 8472` on both nodes while a probe runs")
            .decided_by("routes, neighbours and forwarding entries of both nodes: `ip route`, `ip neigh`, `bridge fdb`")
    };
    let same = case.passes(|path| {
        path.family == family
            && path
                .server
                .as_ref()
                .is_some_and(|server| server.node == path.client.node)
    });
    let hypothesis = hypothesis
        .because_all(sentences(found))
        .because_all(dropped);
    if same {
        hypothesis.not(
            Cause::ForwardDrop,
            "the nodes forward between their own pods, and the packets do not reach the other node",
        )
    } else {
        hypothesis
    }
}
