//! The tunnel's own packets, blocked between two nodes in one direction.

use std::collections::{BTreeMap, BTreeSet};

use crate::diagnosis::case::Case;
use crate::diagnosis::catalogue::Cause;
use crate::diagnosis::drop_point::{Death, Spot, Way, death, refused, tunnel_traffic};
use crate::diagnosis::hypothesis::{Opinion, Place, Proof};
use crate::diagnosis::overlay::neighbour::believes;
use crate::diagnosis::overlay::tunnel_down;
use crate::diagnosis::symptom::{Symptom, Unit};
use crate::packet::family::Family;
use crate::topology::NodeName;

/// Silence between nodes that no node's own word explains.
pub(crate) fn blocked(case: &Case<'_>, family: Family) -> Vec<Opinion> {
    // A tunnel that its own node has put down is blocked by nobody.
    let is_down = |node: &NodeName| tunnel_down(case, node, family).is_some();
    let silent = |unit: &Unit| {
        unit.family == family
            && unit.is_cross_node()
            && unit.symptom == Symptom::Silent
            && !is_down(&unit.client.node)
            && !(unit.server.iter()).any(|server| is_down(&server.node))
    };
    let deaths: Vec<(usize, Death)> = case
        .failing(silent)
        .map(|(at, unit)| (at, death(case, unit)))
        .collect();
    let mut located: BTreeMap<(NodeName, NodeName), Vec<(usize, String)>> = BTreeMap::new();
    let mut unclear: BTreeMap<(NodeName, NodeName), Vec<(usize, String)>> = BTreeMap::new();
    for (at, death) in deaths {
        match death.spot {
            Spot::Tunnel(from, to) => located
                .entry((from, to))
                .or_default()
                .push((at, death.because)),
            Spot::Unclear => {
                let Some(unit) = case.units.get(at) else {
                    continue;
                };
                let Some(server) = &unit.server else { continue };
                let way = match death.way {
                    Way::There => (unit.client.node.clone(), server.node.clone()),
                    Way::Back => (server.node.clone(), unit.client.node.clone()),
                };
                unclear.entry(way).or_default().push((at, death.because));
            }
            Spot::Node(_) | Spot::Elsewhere => {}
        }
    }
    let shared = |pick: fn(&(NodeName, NodeName)) -> &NodeName| {
        let ends: BTreeSet<&NodeName> = located.keys().map(pick).collect();
        (located.len() > 1 && ends.len() == 1)
            .then(|| ends.into_iter().next().cloned())
            .flatten()
    };
    let mut opinions = Vec::new();
    if let Some(node) = shared(|way| &way.1).or_else(|| shared(|way| &way.0)) {
        let all: Vec<(usize, String)> = located.values().flatten().cloned().collect();
        opinions.push(one_blocked(
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
            opinions.push(one_blocked(case, place, found, &located));
        }
    }
    for ((from, to), found) in &unclear {
        let units = found.iter().map(|(at, _)| *at).collect();
        opinions.push(
            Opinion::fits(Cause::OverlayBlocked, Place::between(from, to, None, family), units)
                .because_all(sentences(found))
                .decided_by(format!("`tcpdump -ni any udp port 8472` on {from} and {to} while a probe runs: what leaves one and does not reach the other is blocked between them"))
                .decided_by(format!("forward-drop would look the same: the counters of the FORWARD chains of {from} and {to}")),
        );
    }
    opinions
}

fn sentences(found: &[(usize, String)]) -> Vec<String> {
    let mut said: Vec<String> = found.iter().map(|(_, because)| because.clone()).collect();
    said.sort();
    said.dedup();
    said.truncate(4);
    said
}

fn one_blocked(
    case: &Case<'_>,
    place: Place,
    found: &[(usize, String)],
    located: &BTreeMap<(NodeName, NodeName), Vec<(usize, String)>>,
) -> Opinion {
    let units: BTreeSet<usize> = found.iter().map(|(at, _)| *at).collect();
    let family = place.family;
    let known = located
        .keys()
        .all(|(from, to)| matches!(believes(case, from, to, family), Some(Ok(_))));
    let dropped: Vec<String> = located
        .keys()
        .filter_map(|(from, _)| {
            let (name, sent) = tunnel_traffic(case, from, family)?;
            let said = refused(&sent)?;
            Some(format!(
                "{from} counted {said} at {name}: its own OUTPUT drops them"
            ))
        })
        .collect();
    let opinion = if known {
        Opinion::proves(Cause::OverlayBlocked, place, units.clone(), Proof::Packets)
    } else {
        Opinion::fits(Cause::OverlayBlocked, place, units.clone())
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
    let opinion = opinion.because_all(sentences(found)).because_all(dropped);
    if same {
        opinion.not(
            Cause::ForwardDrop,
            "the nodes forward between their own pods, and the packets do not get across",
        )
    } else {
        opinion
    }
}
