//! Packets that are too big for the way.

use std::collections::BTreeSet;

use crate::diagnosis::case::{Case, completes};
use crate::diagnosis::catalogue::Cause;
use crate::diagnosis::hypothesis::{Opinion, Place, Proof};
use crate::diagnosis::symptom::{Symptom, Unit};
use crate::packet::family::Family;
use crate::probe::outcome::{Echo, Exchange};
use crate::topology::NodeName;

pub(crate) fn mtu(case: &Case<'_>, family: Family) -> Vec<Opinion> {
    let stalled = |unit: &Unit| {
        unit.family == family && unit.symptom == Symptom::Stalled && !is_cut_off(case, unit)
    };
    let pairs: BTreeSet<(NodeName, NodeName)> = case
        .failing(stalled)
        .filter_map(|(_, unit)| {
            Some((unit.client.node.clone(), unit.server.as_ref()?.node.clone()))
        })
        .collect();
    if pairs.is_empty() {
        return Vec::new();
    }
    let nodes: BTreeSet<&NodeName> = pairs.iter().flat_map(|(a, b)| [a, b]).collect();
    let guilty: Vec<(NodeName, String)> = nodes
        .iter()
        .filter_map(|node| Some(((*node).clone(), too_big(case, node)?)))
        .collect();
    let lossy = case.fails(|unit| {
        unit.family == family && unit.symptom == Symptom::Lossy && unit.is_cross_node()
    });
    let mut opinions = Vec::new();
    let mut taken = BTreeSet::new();
    for (node, said) in &guilty {
        let alone = guilty.len() == 1;
        let units = case.places(|unit| {
            stalled(unit)
                && (unit.client.node == *node
                    || alone
                        && unit
                            .server
                            .as_ref()
                            .is_some_and(|server| server.node == *node))
        });
        if units.is_empty() {
            continue;
        }
        taken.extend(units.iter().copied());
        opinions.push(
            Opinion::proves(
                Cause::MtuBlackHole,
                Place::node(node, family),
                units.clone(),
                Proof::Facts,
            )
            .because(said.clone())
            .because_all(how_far(case, &units)),
        );
    }
    let rest = case.places(|unit| stalled(unit) && unit.server.is_some());
    let rest: BTreeSet<usize> = rest.difference(&taken).copied().collect();
    let Some((from, to)) = case
        .at(&rest)
        .find_map(|unit| Some((unit.client.node.clone(), unit.server.as_ref()?.node.clone())))
    else {
        return opinions;
    };
    let shared = nodes
        .iter()
        .find(|node| pairs.len() > 2 && pairs.iter().all(|(a, b)| a == **node || b == **node));
    let place = shared.map_or_else(
        || Place::between(&from, &to, None, family),
        |node| Place::node(node, family),
    );
    let opinion = if lossy {
        Opinion::fits(Cause::MtuBlackHole, place, rest.clone())
            .decided_by("`ping -M do -s SIZE` between the pods: a size above which nothing passes")
    } else {
        Opinion::proves(Cause::MtuBlackHole, place, rest.clone(), Proof::Packets)
    };
    opinions.push(
        opinion
            .because_all(how_far(case, &rest))
            .because("the handshake and the banner pass, full-sized segments do not")
            .not(Cause::EndpointFrozen, "the banner came")
            .not(
                Cause::PacketLoss,
                "small packets of the same paths are not lost",
            ),
    );
    opinions
}

/// Whether even a SYN did not come through any more, when the path was looked at again: what broke while they talked stops
/// packets of every size.
fn is_cut_off(case: &Case<'_>, unit: &Unit) -> bool {
    let Some(server) = &unit.server else {
        return false;
    };
    let mut climbed = case
        .ladders(&unit.client.node, &server.node, unit.family)
        .peekable();
    climbed.peek().is_some() && !climbed.any(completes)
}

fn how_far(case: &Case<'_>, units: &BTreeSet<usize>) -> Option<String> {
    case.at(units)
        .flat_map(|unit| case.probes(unit))
        .find_map(|probe| match probe.client.exchange {
            Exchange::BannerReceived {
                echo: Echo::Stalled { sent, received },
                ..
            } => Some(format!(
                "of {sent} bytes handed over, {received} came back before the deadline"
            )),
            Exchange::BannerReceived { .. }
            | Exchange::NotTried
            | Exchange::NoBanner
            | Exchange::InvalidBanner
            | Exchange::Reset => None,
        })
}

/// What a node says of packets that were too big for it.
fn too_big(case: &Case<'_>, node: &NodeName) -> Option<String> {
    if let Some(grown) = case.grown(node, "IpFragFails").filter(|&grown| grown > 0) {
        let facts = case.facts(node);
        let links = facts.iter().flat_map(|facts| facts.links.iter().flatten());
        let of = |kind: &str| {
            links
                .clone()
                .find(|link| link.kind.as_deref() == Some(kind))
                .and_then(|link| Some((link.name.clone(), link.mtu?)))
        };
        let sizes = of("bridge")
            .zip(of("vxlan"))
            .filter(|(pods, tunnel)| pods.1 > tunnel.1);
        let sizes = sizes.map_or_else(String::new, |(pods, tunnel)| {
            format!(
                "; {} has MTU {}, {} only {}",
                pods.0, pods.1, tunnel.0, tunnel.1
            )
        });
        return Some(format!(
            "IpFragFails +{grown} on {node} while failing paths were probed{sizes}"
        ));
    }
    let uplink = case
        .facts(node)?
        .links
        .iter()
        .flatten()
        .find_map(|link| link.vxlan.as_ref()?.underlay.clone())?;
    let dropped = case.traffic(node, &uplink)?.tx_dropped;
    (dropped > 0).then(|| format!("{node} counted tx_dropped +{dropped} at {uplink}"))
}
