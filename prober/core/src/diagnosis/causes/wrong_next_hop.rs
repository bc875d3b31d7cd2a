//! `wrong-next-hop`: a node's route to the pods of another leads to a router that is not that node, or that does not resolve.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::crossing;
use super::routing_daemon::{Daemon, gateway_of};
use crate::data_plane::Transport;
use crate::diagnosis::case::Case;
use crate::diagnosis::catalogue::Cause;
use crate::diagnosis::hypothesis::{Place, Proof};
use crate::diagnosis::location::Stage;
use crate::diagnosis::model::{Applies, Fingerprint, Model, Prediction};
use crate::diagnosis::remedy::step;
use crate::diagnosis::symptom::FailureGroup;
use crate::diagnosis::{Remedy, origin};
use crate::node_facts::{Lookup, NeighbourState};
use crate::packet::family::Family;
use crate::topology::{NodeName, Path};

/// The model.
pub(crate) struct WrongNextHop;

impl Model for WrongNextHop {
    fn cause(&self) -> Cause {
        Cause::WrongNextHop
    }

    fn places(&self, case: &Case<'_>, family: Family) -> BTreeSet<Place> {
        crossing::places(case, family)
    }

    fn applies(&self, case: &Case<'_>, place: &Place) -> Applies {
        let Some((from, to)) = crossing::ends(place) else {
            return Applies::Yes;
        };
        match case.plane.transport(from, to, place.family) {
            Transport::Direct {
                gateway: Some(_),
                by_default: false,
                ..
            } => Applies::Yes,
            Transport::Direct {
                by_default: true, ..
            } => Applies::No(format!(
                "{from} has no route of its own to the pods of {to}"
            )),
            Transport::Direct { link, .. } => Applies::No(format!(
                "pods of {to} are neighbours of {from} on {link}: no router is between them"
            )),
            Transport::Tunnel { link, .. } => Applies::No(format!(
                "packets of pods leave {from} for {to} in the tunnel {link}"
            )),
            Transport::ByPod { links } => Applies::No(format!(
                "policy rules of {from} choose {} for each pod by itself",
                links.join(" or ")
            )),
            Transport::Refused | Transport::NoRoute => {
                Applies::No(format!("{from} has no usable route to the pods of {to}"))
            }
            Transport::Unknown => Applies::Unknown(format!(
                "the routes and links of {from}: `ip route`, `ip -d link`"
            )),
        }
    }

    fn predict(&self, _: &Case<'_>, place: &Place, path: &Path) -> Prediction {
        crossing::predict(place, path)
    }

    fn explains(&self, case: &Case<'_>, place: &Place, group: &FailureGroup) -> bool {
        crossing::fails_at_sender(case, place, group, &[Stage::ToUplink])
            || crossing::is_lost_between(case, place, group)
    }

    fn fingerprint(&self, case: &Case<'_>, place: &Place, _: &BTreeSet<usize>) -> Fingerprint {
        let Some((from, to)) = crossing::ends(place) else {
            return Fingerprint::Missing(Vec::new());
        };
        let transport = case.plane.transport(from, to, place.family);
        let Some((link, gateway)) = gateway_of(transport) else {
            return Fingerprint::Missing(Vec::new());
        };
        if origin::owner(case, gateway) == Some(to) {
            return Fingerprint::Refuted(format!(
                "the route of {from} to the pods of {to} leads to {gateway}, an address of {to}"
            ));
        }
        let route = format!("the route of {from} to the pods of {to} leads to {gateway} on {link}");
        let own = own_address(case, from, to, link, place.family);
        let is_at = own.map_or_else(String::new, |own| format!("; {to} is at {own}"));
        if let Some(state) = unresolved(case, from, gateway) {
            let seen = format!("{route}, which does not resolve ({state}){is_at}");
            return Fingerprint::Seen(Proof::Facts, vec![seen]);
        }
        let is_router = leads_elsewhere(case, from, gateway, place.family);
        match direct_pair(case, place.family).filter(|_| own.is_some()) {
            Some((a, b)) if !is_router && origin::owner(case, gateway).is_none() => {
                let seen = format!(
                    "{route}, which is no address of {to}{is_at}, and {a} sends to the pods of {b} by {b}'s own address"
                );
                Fingerprint::Seen(Proof::Facts, vec![seen])
            }
            None if is_router => Fingerprint::Refuted(format!(
                "{gateway}, to which {from} sends packets for the pods of {to}, is its router for other destinations as well"
            )),
            Some(_) | None => Fingerprint::Missing(vec![whose(from, gateway, link)]),
        }
    }

    fn support(&self, case: &Case<'_>, place: &Place, groups: &BTreeSet<usize>) -> Vec<String> {
        let route = crossing::ends(place).and_then(|(from, to)| {
            let (link, gateway) = gateway_of(case.plane.transport(from, to, place.family))?;
            Some(format!(
                "{from} sends packets for the pods of {to} to {gateway} on {link}, which is no address of {to}"
            ))
        });
        let icmp = crossing::icmp_errors(case, groups);
        route.into_iter().chain(icmp).collect()
    }

    fn remedy(&self, case: &Case<'_>, place: &Place, _: &BTreeSet<usize>) -> Vec<Remedy> {
        let ip = match place.family {
            Family::Ipv4 => "ip",
            Family::Ipv6 => "ip -6",
        };
        let Some((from, to)) = crossing::ends(place) else {
            return Vec::new();
        };
        let transport = case.plane.transport(from, to, place.family);
        let (link, gateway) = gateway_of(transport).unzip();
        let link = link.unwrap_or("LINK");
        let mut commands = vec![format!("{ip} neigh show dev {link}")];
        commands.extend(
            case.address_on(to, place.family)
                .map(|pod| format!("{ip} route get {pod}   # on {from}: a pod of {to}")),
        );
        let summary = gateway.map_or_else(
            || "See the route and its next hop.".to_owned(),
            |gateway| format!("See the route, and which host has {gateway}."),
        );
        let mut steps = vec![step(&summary, commands)];
        match Daemon::of_routes(case, place.family) {
            Some(daemon) => steps.extend(daemon.steps(from, place.family)),
            None => steps.push(step(
                "Restart the network plugin's agent on this node: it writes the route again, by the other node's address in the API.",
                [
                    format!("kubectl get pods -A --field-selector spec.nodeName={from} -o wide"),
                    format!("kubectl get node {to} -o wide"),
                ],
            )),
        }
        steps
    }
}

/// The observation that would show which host a next hop is.
fn whose(from: &NodeName, gateway: IpAddr, link: &str) -> String {
    format!(
        "which host {gateway} is, and what it does with packets of pods: `ip neigh show {gateway} dev {link}` on {from}"
    )
}

/// The state of a neighbour that a node has requested in vain.
fn unresolved(case: &Case<'_>, from: &NodeName, gateway: IpAddr) -> Option<&'static str> {
    let known = case.matrix.nodes.get(from)?;
    // An entry that failed is soon removed; one that resolved at any time is there.
    let mut found = None;
    for facts in known.readings() {
        if let Lookup::Found(entry) = facts.neighbour(gateway) {
            match (entry.mac, entry.state) {
                (Some(_), _) => return None,
                (None, NeighbourState::Failed) => found = Some("FAILED"),
                (None, NeighbourState::Incomplete) => found = found.or(Some("INCOMPLETE")),
                (
                    None,
                    NeighbourState::Reachable
                    | NeighbourState::Stale
                    | NeighbourState::Delay
                    | NeighbourState::Probe
                    | NeighbourState::Noarp
                    | NeighbourState::Permanent
                    | NeighbourState::None,
                ) => {}
            }
        }
    }
    found
}

/// The address of a node that is in a subnet of another one's link: it needs no router there.
fn own_address(
    case: &Case<'_>,
    from: &NodeName,
    to: &NodeName,
    link: &str,
    family: Family,
) -> Option<IpAddr> {
    let subnets = case.facts(from)?.addresses.as_ref()?;
    let subnets = || subnets.iter().filter(|address| address.dev == link);
    let addresses = case.facts(to)?.addresses.as_ref()?;
    addresses
        .iter()
        .map(|address| address.prefix.addr())
        .filter(|address| Family::of(*address) == family && !is_link_local(*address))
        .find(|address| subnets().any(|subnet| subnet.prefix.trunc().contains(address)))
}

const fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    }
}

/// Two nodes of which one sends to the pods of the other by that node's own address.
fn direct_pair<'a>(case: &'a Case<'_>, family: Family) -> Option<(&'a NodeName, &'a NodeName)> {
    let mut pairs = case.plane.pairs(family);
    pairs.find_map(|(from, to, transport)| {
        let (_, gateway) = gateway_of(transport)?;
        (origin::owner(case, gateway) == Some(to)).then_some((from, to))
    })
}

/// Whether a node sends other packets to this router as well: by its default route, or to the pods of a third node.
fn leads_elsewhere(case: &Case<'_>, from: &NodeName, gateway: IpAddr, family: Family) -> bool {
    let routes = case.facts(from).and_then(|facts| facts.routes.as_ref());
    let is_default = (routes.into_iter().flatten())
        .any(|route| route.destination.prefix_len() == 0 && route.gateway == Some(gateway));
    let uses = |(at, _, transport): (&NodeName, &NodeName, &Transport)| {
        at == from && gateway_of(transport).is_some_and(|(_, other)| other == gateway)
    };
    is_default || case.plane.pairs(family).filter(|pair| uses(*pair)).count() > 1
}
