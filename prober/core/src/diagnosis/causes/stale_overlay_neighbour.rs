//! `stale-overlay-neighbour`: a node's tunnel entries for its peer differ from the peer's own addresses.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::crossing;
use crate::data_plane::{Transport, TunnelKind};
use crate::diagnosis::Remedy;
use crate::diagnosis::case::Case;
use crate::diagnosis::catalogue::Cause;
use crate::diagnosis::hypothesis::{Place, Proof};
use crate::diagnosis::location::Stage;
use crate::diagnosis::model::{Applies, Fingerprint, Model, Prediction};
use crate::diagnosis::remedy::step;
use crate::diagnosis::symptom::{FailureGroup, Symptom};
use crate::node_facts::{Link, Lookup};
use crate::packet::Unreachable;
use crate::packet::family::Family;
use crate::topology::{NodeName, Path};

/// The model.
pub(crate) struct StaleOverlayNeighbour;

impl Model for StaleOverlayNeighbour {
    fn cause(&self) -> Cause {
        Cause::StaleOverlayNeighbour
    }

    fn places(&self, case: &Case<'_>, family: Family) -> BTreeSet<Place> {
        crossing::places(case, family)
    }

    fn applies(&self, case: &Case<'_>, place: &Place) -> Applies {
        crossing::applies_in_vxlan(case, place, "such entries")
    }

    fn predict(&self, _: &Case<'_>, place: &Place, path: &Path) -> Prediction {
        crossing::predict(place, path)
    }

    fn explains(&self, case: &Case<'_>, place: &Place, group: &FailureGroup) -> bool {
        let is_refusal_of_another_kind = match group.symptom.unreachable() {
            Some(Unreachable::Host | Unreachable::Other) | None => false,
            Some(Unreachable::Network | Unreachable::Port | Unreachable::Prohibited) => true,
        };
        !is_refusal_of_another_kind
            && (crossing::fails_at_sender(case, place, group, &[Stage::ToUplink])
                || crossing::is_lost_between(case, place, group))
    }

    fn fingerprint(&self, case: &Case<'_>, place: &Place, _: &BTreeSet<usize>) -> Fingerprint {
        let Some((from, to)) = crossing::ends(place) else {
            return Fingerprint::Missing(Vec::new());
        };
        match peer_entries(case, from, to, place.family) {
            Some(Err(sentence)) => Fingerprint::Seen(Proof::Facts, vec![sentence]),
            Some(Ok(sentence)) => Fingerprint::Refuted(sentence),
            None => Fingerprint::Missing(vec![format!(
                "{from}'s neighbour and forwarding entries for {to}, against the addresses of {to}'s tunnel: `ip neigh`, `bridge fdb`, `ip -d link`"
            )]),
        }
    }

    fn support(&self, case: &Case<'_>, place: &Place, groups: &BTreeSet<usize>) -> Vec<String> {
        let mut said = Vec::new();
        let is_unresolved =
            |group: &FailureGroup| group.symptom == Symptom::Unreachable(Unreachable::Host);
        if let Some((from, _)) = crossing::ends(place)
            && case.at(groups).any(is_unresolved)
        {
            said.push(format!(
                "{from} routes the packet, and then does not resolve its next router"
            ));
        }
        said.extend(crossing::icmp_errors(case, groups));
        said
    }

    fn remedy(&self, case: &Case<'_>, place: &Place, _: &BTreeSet<usize>) -> Vec<Remedy> {
        let link = crossing::ends(place).and_then(|(from, to)| {
            let transport = case.plane.transport(from, to, place.family);
            transport.link().map(str::to_owned)
        });
        let link = link.unwrap_or_else(|| "LINK".to_owned());
        vec![
            step(
                "Restart the network plugin's agent on this node: only its start writes neighbours and forwarding entries again.",
                place.node.as_ref().map(|node| {
                    format!("kubectl get pods -A --field-selector spec.nodeName={node} -o wide")
                }),
            ),
            step(
                "Compare with what the peer announces.",
                [
                    format!("ip neigh show dev {link}; bridge fdb show dev {link}"),
                    "kubectl get nodes -o custom-columns=N:.metadata.name,VTEP:.metadata.annotations.flannel\\\\.alpha\\\\.coreos\\\\.com/backend-data".to_owned(),
                ],
            ),
        ]
    }
}

/// The error in a node's tunnel entries for its peer; `Ok` where they agree with the peer's own addresses. `None` where they
/// were not read, or packets do not cross in a vxlan tunnel.
fn peer_entries(
    case: &Case<'_>,
    from: &NodeName,
    to: &NodeName,
    family: Family,
) -> Option<Result<String, String>> {
    let facts = case.facts(from)?;
    let (link, router) = tunnel_to(case, from, to, family)?;
    let dev = &link.name;
    let peer = tunnel_to(case, to, from, family)
        .map(|(link, _)| link)
        .or_else(|| case.facts(to)?.link(dev).found());
    let mac = match facts.neighbour(router) {
        Lookup::Unread => return None,
        Lookup::Absent => {
            return Some(Err(format!(
                "{from} has no neighbour entry for {router}, the tunnel end of {to}, on {dev}"
            )));
        }
        Lookup::Found(neighbour) => match neighbour.mac {
            Some(mac) => mac,
            None => {
                return Some(Err(format!(
                    "{from} does not know the MAC of {router}, the tunnel end of {to}, on {dev}"
                )));
            }
        },
    };
    let own = peer.and_then(|peer| peer.mac);
    if let Some(own) = own
        && own != mac
    {
        return Some(Err(format!(
            "{from} sends to {mac} for {router} on {dev}, but {to}'s {dev} is {own}"
        )));
    }
    let entries = facts.fdb(mac)?;
    let ends: BTreeSet<IpAddr> = entries
        .iter()
        .filter(|entry| entry.dev == *dev)
        .filter_map(|entry| entry.destination)
        .collect();
    if ends.is_empty() {
        return Some(Err(format!(
            "{from} has no forwarding entry for {mac}, the tunnel end of {to}, on {dev}"
        )));
    }
    let local = peer.and_then(|peer| peer.vxlan.as_ref()?.local);
    if let Some(local) = local
        && !ends.contains(&local)
    {
        let ends: Vec<String> = ends.iter().map(ToString::to_string).collect();
        return Some(Err(format!(
            "{from} tunnels packets for {mac} to {}, but {to} is at {local}",
            ends.join(", ")
        )));
    }
    // What the peer did not report is not confirmed.
    own?;
    Some(Ok(format!(
        "{from} sends to {mac} for {router}, as {to} reports it"
    )))
}

/// The vxlan link by which one node reaches the pods of the other, and the other end's address on it.
fn tunnel_to<'a>(
    case: &'a Case<'_>,
    from: &NodeName,
    to: &NodeName,
    family: Family,
) -> Option<(&'a Link, IpAddr)> {
    match case.plane.transport(from, to, family) {
        Transport::Tunnel {
            tunnel: TunnelKind::Vxlan,
            link,
            gateway: Some(gateway),
            ..
        } => Some((case.facts(from)?.link(link).found()?, *gateway)),
        Transport::Tunnel { .. }
        | Transport::Direct { .. }
        | Transport::ByPod { .. }
        | Transport::Refused
        | Transport::NoRoute
        | Transport::Unknown => None,
    }
}
