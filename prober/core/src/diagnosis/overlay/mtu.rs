//! Packets that are too big for the path.

use std::collections::BTreeSet;

use crate::diagnosis::case::{Case, completes};
use crate::diagnosis::catalogue::Cause;
use crate::diagnosis::hypothesis::{Hypothesis, Place, Proof};
use crate::diagnosis::symptom::{FailureGroup, Symptom};
use crate::packet::family::Family;
use crate::probe::outcome::{Echo, Exchange};
use crate::topology::NodeName;

pub(crate) fn mtu(case: &Case<'_>, family: Family) -> Vec<Hypothesis> {
    let stalled = |group: &FailureGroup| {
        group.family == family && group.symptom == Symptom::Stalled && !is_cut_off(case, group)
    };
    let pairs: BTreeSet<(NodeName, NodeName)> = case
        .failing(stalled)
        .filter_map(|(_, group)| {
            Some((
                group.client.node.clone(),
                group.server.as_ref()?.node.clone(),
            ))
        })
        .collect();
    if pairs.is_empty() {
        return Vec::new();
    }
    let nodes: BTreeSet<&NodeName> = pairs.iter().flat_map(|(a, b)| [a, b]).collect();
    let faulty: Vec<(NodeName, String)> = nodes
        .iter()
        .filter_map(|node| Some(((*node).clone(), too_big(case, node)?)))
        .collect();
    let lossy = case.fails(|group| {
        group.family == family && group.symptom == Symptom::Lossy && group.is_cross_node()
    });
    let mut hypotheses = Vec::new();
    let mut taken = BTreeSet::new();
    for (node, sentence) in &faulty {
        let alone = faulty.len() == 1;
        let groups = case.places(|group| {
            stalled(group)
                && (group.client.node == *node
                    || alone
                        && group
                            .server
                            .as_ref()
                            .is_some_and(|server| server.node == *node))
        });
        if groups.is_empty() {
            continue;
        }
        taken.extend(groups.iter().copied());
        hypotheses.push(
            Hypothesis::proves(
                Cause::MtuBlackHole,
                Place::node(node, family),
                groups.clone(),
                Proof::Facts,
            )
            .because(sentence.clone())
            .because_all(echo_progress(case, &groups)),
        );
    }
    let rest = case.places(|group| stalled(group) && group.server.is_some());
    let rest: BTreeSet<usize> = rest.difference(&taken).copied().collect();
    let Some((from, to)) = case.at(&rest).find_map(|group| {
        Some((
            group.client.node.clone(),
            group.server.as_ref()?.node.clone(),
        ))
    }) else {
        return hypotheses;
    };
    let shared = nodes
        .iter()
        .find(|node| pairs.len() > 2 && pairs.iter().all(|(a, b)| a == **node || b == **node));
    let place = shared.map_or_else(
        || Place::between(&from, &to, None, family),
        |node| Place::node(node, family),
    );
    let hypothesis = if lossy {
        Hypothesis::fits(Cause::MtuBlackHole, place, rest.clone())
            .decided_by("`ping -M do -s SIZE` between the pods: a size above which nothing passes")
    } else {
        Hypothesis::proves(Cause::MtuBlackHole, place, rest.clone(), Proof::Packets)
    };
    hypotheses.push(
        hypothesis
            .because_all(echo_progress(case, &rest))
            .because("the handshake and the banner pass, full-sized segments do not")
            .not(Cause::EndpointFrozen, "the banner came")
            .not(
                Cause::PacketLoss,
                "small packets of the same paths are not lost",
            ),
    );
    hypotheses
}

/// Whether even SYNs no longer arrived when the path was probed again: a fault that began during the exchange stops
/// packets of every size.
fn is_cut_off(case: &Case<'_>, group: &FailureGroup) -> bool {
    let Some(server) = &group.server else {
        return false;
    };
    let mut ttl_probed = case
        .ttl_probes(&group.client.node, &server.node, group.family)
        .peekable();
    ttl_probed.peek().is_some() && !ttl_probed.any(completes)
}

fn echo_progress(case: &Case<'_>, groups: &BTreeSet<usize>) -> Option<String> {
    case.at(groups)
        .flat_map(|group| case.probes(group))
        .find_map(|probe| match probe.client.exchange {
            Exchange::BannerReceived {
                echo: Echo::Stalled { sent, received },
                ..
            } => Some(format!(
                "of {sent} bytes written, {received} came back before the deadline"
            )),
            Exchange::BannerReceived { .. }
            | Exchange::NotTried
            | Exchange::NoBanner
            | Exchange::InvalidBanner
            | Exchange::Reset => None,
        })
}

/// A node's own evidence of packets that were too big for it.
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
