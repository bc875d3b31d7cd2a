//! `encapsulation-mismatch`: a node puts packets for the pods of another into a tunnel that the other node does not have.

use std::collections::{BTreeMap, BTreeSet};

use super::crossing;
use crate::diagnosis::Remedy;
use crate::diagnosis::case::Case;
use crate::diagnosis::catalogue::Cause;
use crate::diagnosis::hypothesis::{Place, Proof};
use crate::diagnosis::location::Stage;
use crate::diagnosis::model::{Applies, Fingerprint, Model, Prediction};
use crate::diagnosis::remedy::step;
use crate::diagnosis::symptom::FailureGroup;
use crate::node_facts::{Link, Vxlan};
use crate::packet::family::Family;
use crate::topology::{NodeName, Path};

/// The model.
pub(crate) struct EncapsulationMismatch;

/// What a VXLAN packet must have in common with the link that receives it.
type Encapsulation = (u16, u32);

impl Model for EncapsulationMismatch {
    fn cause(&self) -> Cause {
        Cause::EncapsulationMismatch
    }

    fn places(&self, case: &Case<'_>, family: Family) -> BTreeSet<Place> {
        let ends = |place: &Place| {
            let (from, to) = crossing::ends(place)?;
            Some((from.clone(), to.clone()))
        };
        let pairs = crossing::places(case, family);
        // Where neither node has the tunnel of the other, they disagree once.
        let is_first = |(from, to): &(NodeName, NodeName)| {
            from < to || mismatch(case, to, from, family).is_none()
        };
        pairs
            .iter()
            .filter_map(ends)
            .filter(is_first)
            .map(|(from, to)| {
                let odd = odd_one(case, &from, &to, family);
                Place::between(&from, &to, odd.as_ref(), family)
            })
            .collect()
    }

    fn applies(&self, case: &Case<'_>, place: &Place) -> Applies {
        crossing::applies_in_vxlan(case, place, "port or network of its own")
    }

    fn predict(&self, _: &Case<'_>, place: &Place, path: &Path) -> Prediction {
        crossing::predict(place, path)
    }

    fn explains(&self, case: &Case<'_>, place: &Place, group: &FailureGroup) -> bool {
        let is_lost = |place: &Place| {
            crossing::fails_at_sender(case, place, group, &[Stage::ToUplink])
                || crossing::is_lost_between(case, place, group)
        };
        let Some((from, to)) = crossing::ends(place) else {
            return false;
        };
        let reverse = Place::between(to, from, Some(to), place.family);
        is_lost(place) || mismatch(case, to, from, place.family).is_some() && is_lost(&reverse)
    }

    fn fingerprint(&self, case: &Case<'_>, place: &Place, _: &BTreeSet<usize>) -> Fingerprint {
        let Some((from, to)) = crossing::ends(place) else {
            return Fingerprint::Missing(Vec::new());
        };
        if let Some(seen) = mismatch(case, from, to, place.family) {
            let back = mismatch(case, to, from, place.family);
            let seen = std::iter::once(seen).chain(back);
            return Fingerprint::Seen(Proof::Facts, seen.collect());
        }
        let sent = sent(case, from, to, place.family);
        let links = case.facts(to).and_then(|facts| facts.links.as_ref());
        match (sent, links) {
            (Some((_, (port, id))), Some(_)) => Fingerprint::Refuted(format!(
                "{to} has a tunnel with port {port} and VNI {id}, as {from} sends"
            )),
            (None, _) | (_, None) => Fingerprint::Missing(vec![format!(
                "the ports and VNIs of the tunnels of {from} and {to}: `ip -d link show type vxlan`"
            )]),
        }
    }

    fn remedy(&self, case: &Case<'_>, place: &Place, _: &BTreeSet<usize>) -> Vec<Remedy> {
        let Some((from, to)) = crossing::ends(place) else {
            return Vec::new();
        };
        let odd = odd_one(case, from, to, place.family);
        let node = odd.as_ref().unwrap_or(from);
        vec![
            step(
                "Compare the tunnels: the port, the VNI and the state of both nodes.",
                ["ip -d link show type vxlan".to_owned()],
            ),
            step(
                "Give the network plugin of all nodes one configuration, and restart its agent where the tunnel differs.",
                [format!(
                    "kubectl get pods -A --field-selector spec.nodeName={node} -o wide"
                )],
            ),
        ]
    }
}

/// The port and the VNI of a link; `None` where it is no VXLAN link or takes them from each packet.
fn encapsulation(link: &Link) -> Option<Encapsulation> {
    let Vxlan { id, port, .. } = link.vxlan.as_ref()?;
    // A link that programs fill ("external") has the VNI 0.
    let id = id.filter(|id| *id != 0)?;
    Some(((*port)?, id))
}

/// The link by which a node sends to the pods of another, and what its packets have.
fn sent<'a>(
    case: &'a Case<'_>,
    from: &NodeName,
    to: &NodeName,
    family: Family,
) -> Option<(&'a str, Encapsulation)> {
    let transport = case.plane.transport(from, to, family);
    if !transport.is_tunnel() {
        return None;
    }
    let link = case.facts(from)?.link(transport.link()?).found()?;
    Some((link.name.as_str(), encapsulation(link)?))
}

/// How the tunnel that one node sends by differs from all that the other receives by, as a sentence; `None` where one of them
/// agrees, or may.
fn mismatch(case: &Case<'_>, from: &NodeName, to: &NodeName, family: Family) -> Option<String> {
    let (link, (port, id)) = sent(case, from, to, family)?;
    let sender = case.facts(from)?.link(link).found()?;
    let links = case.facts(to)?.links.as_ref()?;
    let is_receiving = |link: &&Link| link.up && link.vxlan.is_some() && may_meet(sender, link);
    let mut receiving = links.iter().filter(is_receiving);
    let agrees = |link: &Link| encapsulation(link).is_none_or(|other| other == (port, id));
    if receiving.clone().any(agrees) {
        return None;
    }
    let other = match receiving.find_map(|link| Some((link, encapsulation(link)?))) {
        Some((other, (port, id))) => format!("{} there has port {port} and VNI {id}", other.name),
        None => "no tunnel of VXLAN is up there".to_owned(),
    };
    Some(format!(
        "{from} sends packets for the pods of {to} by {link} to UDP port {port} with VNI {id}, which no link of {to} receives: {other}"
    ))
}

/// Whether outer packets of one link may reach the other: their own addresses are of one family, as far as both name them.
fn may_meet(a: &Link, b: &Link) -> bool {
    let family = |link: &Link| Some(Family::of(link.vxlan.as_ref()?.local?));
    match (family(a), family(b)) {
        (Some(a), Some(b)) => a == b,
        (None, _) | (_, None) => true,
    }
}

/// The one of two nodes whose tunnel the fewest other nodes have; `None` where that does not distinguish them.
fn odd_one(case: &Case<'_>, from: &NodeName, to: &NodeName, family: Family) -> Option<NodeName> {
    let mut alike: BTreeMap<Encapsulation, BTreeSet<&NodeName>> = BTreeMap::new();
    for (node, peer, _) in case.plane.pairs(family) {
        if let Some((_, encapsulation)) = sent(case, node, peer, family) {
            alike.entry(encapsulation).or_default().insert(node);
        }
    }
    let share = |node: &NodeName| {
        let of_node = alike.values().filter(|nodes| nodes.contains(node));
        of_node.map(BTreeSet::len).min().unwrap_or(0)
    };
    match share(from).cmp(&share(to)) {
        std::cmp::Ordering::Less => Some(from.clone()),
        std::cmp::Ordering::Greater => Some(to.clone()),
        std::cmp::Ordering::Equal => None,
    }
}
