//! What the API says of the Service's endpoints, and what is there.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::diagnosis::case::Case;
use crate::diagnosis::catalogue::Cause;
use crate::diagnosis::endpoint::{direct_is_well, is_slot, list, served_nodes, untranslated_error};
use crate::diagnosis::hypothesis::{Opinion, Place, Proof};
use crate::diagnosis::symptom::{ServerEnd, Symptom, Unit, led_to};
use crate::packet::family::Family;
use crate::packet::{Body, ResolutionKind, Unreachable};
use crate::probe::outcome::Errno;
use crate::topology::{AccessPath, AgentId, NodeName};

pub(crate) fn no_endpoints(case: &Case<'_>, server: &AgentId, family: Family) -> Option<Opinion> {
    let refused = |unit: &Unit| match unit.symptom.unreachable() {
        Some(Unreachable::Port | Unreachable::Other) => true,
        // Without a route to the Service's address, IPv6 says so before the rule is met.
        Some(Unreachable::Network) => family == Family::Ipv6,
        Some(Unreachable::Host | Unreachable::Prohibited) | None => false,
    };
    // A program on connect(2) that finds no backend refuses by EHOSTUNREACH; before Linux 5.15 it can only say EPERM.
    let refused_in_connect = |unit: &Unit| {
        let path = case.path(unit.path);
        let errno = unit.symptom.refused_locally();
        path.is_some_and(|path| path.socket_level)
            && matches!(errno, Some(Errno::Ehostunreach | Errno::Eperm))
    };
    let units = case.places(|unit| {
        is_slot(unit, server, family)
            && (refused(unit) || refused_in_connect(unit))
            && direct_is_well(case, unit)
    });
    if units.is_empty() {
        return None;
    }
    let empty = case
        .at(&units)
        .filter_map(|unit| case.path(unit.path))
        .find(|path| path.backends.iter().all(|backend| !backend.ready));
    let by = case
        .at(&units)
        .find_map(|unit| untranslated_error(case, unit));
    let elsewhere = served_nodes(case, server, family);
    let place = Place::service(family);
    let asked = case
        .at(&units)
        .find_map(|unit| case.path(unit.path))
        .map(|path| path.target)?;
    let at_connect = (case.at(&units)).find_map(|unit| unit.symptom.refused_locally());
    let at_connect = at_connect.map(Errno::sentence);
    let opinion = if let Some(path) = empty {
        Opinion::proves(Cause::NoEndpoints, place, units, Proof::Facts)
            .because(format!(
                "the EndpointSlice behind {} names no ready endpoint",
                path.target
            ))
            .because_all(at_connect)
    } else if let (Some(by), true) = (by, elsewhere.is_empty()) {
        Opinion::proves(Cause::NoEndpoints, place, units, Proof::Packets).because(format!(
            "{asked} is refused by ICMP from {by}, the node itself, without translation, and on every node that asked"
        ))
    } else if elsewhere.is_empty() {
        Opinion::fits(Cause::NoEndpoints, place, units)
            .because(format!("{asked} is refused on every node that asked"))
            .because_all(at_connect)
            .decided_by("`kubectl get endpointslices` of the Service")
    } else {
        return Some(Opinion::excludes(
            Cause::NoEndpoints,
            place,
            units,
            format!("clients of {} reach the same port", list(&elsewhere)),
        ));
    };
    Some(
        opinion
            .not(
                Cause::NotListening,
                format!("{server} answers by its own address"),
            )
            .not(
                Cause::ServiceRulesMissing,
                "the node knows the Service: it refuses at once",
            ),
    )
}

pub(crate) fn no_local_endpoint(
    case: &Case<'_>,
    node: &NodeName,
    family: Family,
) -> Option<Opinion> {
    let units = case.places(|unit| {
        unit.family == family
            && unit.access_path == AccessPath::ClusterIpLocal
            && unit.client.node == *node
            && matches!(
                unit.symptom,
                Symptom::Silent | Symptom::Unreachable(_) | Symptom::RefusedLocally(_)
            )
    });
    let path = case.at(&units).find_map(|unit| case.path(unit.path))?;
    let place = Place::node(node, family);
    let ready = path.backends.iter().any(|backend| {
        backend.ready
            && backend
                .agent
                .as_ref()
                .is_none_or(|agent| agent.node == *node)
    });
    if ready {
        return Some(Opinion::excludes(
            Cause::NoLocalEndpoint,
            place,
            units,
            format!("the endpoint on {node} is ready, says the API"),
        ));
    }
    Some(
        Opinion::proves(Cause::NoLocalEndpoint, place, units, Proof::Facts)
            .because(format!("the API calls no endpoint on {node} ready, and {} stays on the node: it drops there by design", path.target))
            .not(Cause::ServiceRulesMissing, "a Service that keeps to the node drops where it has no ready endpoint"),
    )
}

pub(crate) fn stale_endpoint(case: &Case<'_>, server: &AgentId, family: Family) -> Vec<Opinion> {
    let gone = |unit: &Unit| {
        matches!(
            unit.symptom,
            Symptom::Silent | Symptom::Unreachable(Unreachable::Host | Unreachable::Other)
        ) && matches!(unit.server_end, ServerEnd::Nothing | ServerEnd::Unheard)
    };
    let units = case.places(|unit| is_slot(unit, server, family) && gone(unit));
    let said = case.at(&units).find_map(|unit| {
        let path = case.path(unit.path)?;
        let dead = path
            .backends
            .iter()
            .find(|backend| backend.agent.is_none())?;
        Some(dead.address)
    });
    if let Some(address) = said {
        return vec![
            Opinion::proves(
                Cause::StaleEndpoint,
                Place::service(family),
                units.clone(),
                Proof::Facts,
            )
            .because(format!(
                "the EndpointSlice leads to {address}, which no live pod has"
            ))
            .because_all(how_it_died(case, &units)),
        ];
    }
    let mut opinions: Vec<Opinion> = unplugged(case, server, family).into_iter().collect();
    let units: BTreeSet<usize> = units
        .into_iter()
        .filter(|at| {
            case.units
                .get(*at)
                .is_some_and(|unit| direct_is_well(case, unit))
        })
        .collect();
    let dead = case.at(&units).find_map(|unit| dead_address(case, unit));
    let unresolved = case.at(&units).any(|unit| {
        matches!(unit.symptom, Symptom::Unreachable(Unreachable::Host))
            && untranslated_error(case, unit).is_none()
    });
    if units.is_empty() || (dead.is_none() && !unresolved) {
        return opinions;
    }
    let elsewhere = served_nodes(case, server, family);
    let named = dead
        .map(|address| format!("the SYN went on to {address}, which is none of the run's pods"));
    if elsewhere.is_empty() {
        opinions.push(
            Opinion::proves(
                Cause::StaleEndpoint,
                Place::service(family),
                units.clone(),
                Proof::Packets,
            )
            .because_all(named)
            .because_all(how_it_died(case, &units))
            .not(Cause::StaleRules, "every node that asked is led there")
            .not(
                Cause::NotListening,
                format!("{server} answers by its own address"),
            )
            .not(
                Cause::MissingMasquerade,
                "no copy of the SYN came back to the sender's own address",
            ),
        );
    } else {
        opinions.extend(led_astray(case, server, &units, &elsewhere, named.as_ref()));
    }
    opinions
}

/// Nodes that alone are led to a dead address: their rules are older than the API's word.
fn led_astray(
    case: &Case<'_>,
    server: &AgentId,
    units: &BTreeSet<usize>,
    elsewhere: &BTreeSet<NodeName>,
    named: Option<&String>,
) -> Vec<Opinion> {
    let nodes: BTreeSet<(NodeName, Family)> = case
        .at(units)
        .map(|unit| (unit.client.node.clone(), unit.family))
        .collect();
    let one = |(node, family): (NodeName, Family)| {
        let own: BTreeSet<usize> = units
            .iter()
            .copied()
            .filter(|at| {
                case.units
                    .get(*at)
                    .is_some_and(|unit| unit.client.node == node)
            })
            .collect();
        let place = Place::node(&node, family);
        Opinion::proves(Cause::StaleRules, place, own.clone(), Proof::Packets)
            .because_all(named.cloned())
            .because_all(how_it_died(case, &own))
            .because(format!(
                "clients of {} reach {server} through the same port",
                list(elsewhere)
            ))
            .not(Cause::StaleEndpoint, "other nodes are led to a live pod")
    };
    nodes.into_iter().map(one).collect()
}

/// The address that the Service led to, where it shows: a flooded copy of the SYN, or the node
/// asking for a neighbour that nobody is.
fn dead_address(case: &Case<'_>, unit: &Unit) -> Option<IpAddr> {
    let copied = case
        .probes(unit)
        .find_map(|probe| led_to(&probe.client))
        .map(|address| address.ip())
        .filter(|address| !is_known(case, *address));
    copied.or_else(|| {
        case.client_packets(unit)
            .find_map(|seen| match seen.packet.body {
                // The node asks, which is no pod, for somebody who is none either.
                Body::Resolution(asked)
                    if asked.kind == ResolutionKind::Request
                        && Family::of(asked.target) == unit.family
                        && asked.target != asked.sender
                        && !is_pod(case, asked.sender)
                        && !is_known(case, asked.target) =>
                {
                    Some(asked.target)
                }
                Body::Resolution(_) | Body::Tcp(..) | Body::Icmp(..) => None,
            })
    })
}

/// Whether one of the run's pods has this address.
fn is_pod(case: &Case<'_>, address: IpAddr) -> bool {
    let family = Family::of(address);
    case.matrix
        .agents
        .keys()
        .any(|agent| case.address(agent, family) == Some(address))
}

/// Whether the address is a pod's, a node's, or some router's that has answered.
fn is_known(case: &Case<'_>, address: IpAddr) -> bool {
    let node = case.matrix.nodes.keys().any(|node| {
        case.facts(node)
            .is_some_and(|facts| facts.address(address).found().is_some())
    });
    let router = case
        .matrix
        .paths
        .values()
        .flat_map(|path| &path.probes)
        .flat_map(|probe| &probe.client.observations)
        .filter_map(|seen| seen.packet.icmp())
        .any(|(ip, _)| ip.src == address);
    is_pod(case, address) || node || router
}

fn how_it_died(case: &Case<'_>, units: &BTreeSet<usize>) -> Vec<String> {
    let mut said: Vec<String> = case
        .at(units)
        .flat_map(|unit| case.client_packets(unit))
        .filter_map(|seen| {
            let (ip, icmp) = seen.packet.icmp()?;
            let inner = icmp.quoted?.hop_limit;
            let what = match inner {
                64 => "resolution failed on the client's own node",
                63 => "resolution failed on the client's node, after routing",
                _ => "resolution failed on another node",
            };
            Some(format!(
                "ICMP {}/{} from {} (TTL {}, quoting TTL {inner}): neighbour {what}",
                icmp.type_code.0, icmp.type_code.1, ip.src, ip.hop_limit
            ))
        })
        .collect();
    said.sort();
    said.dedup();
    said.truncate(2);
    if let Some(address) = case.at(units).find_map(|unit| dead_address(case, unit)) {
        said.push(format!(
            "the node looked for {address}, and nobody answered"
        ));
    }
    said
}

/// A pod whose port on the bridge is down: every route to it is dead, its process is not.
fn unplugged(case: &Case<'_>, server: &AgentId, family: Family) -> Option<Opinion> {
    let units = case.places(|unit| {
        unit.family == family
            && unit.server.as_ref() == Some(server)
            && matches!(
                unit.symptom,
                Symptom::Silent
                    | Symptom::Unreachable(
                        Unreachable::Host | Unreachable::Other | Unreachable::Network
                    )
            )
            && matches!(unit.server_end, ServerEnd::Nothing | ServerEnd::Unheard)
    });
    let reached = case.passes(|path| path.family == family && path.server.as_ref() == Some(server));
    if reached
        || !case
            .at(&units)
            .any(|unit| unit.access_path == AccessPath::PodIp)
    {
        return None;
    }
    let facts = case.facts(&server.node);
    let port = facts.and_then(|facts| {
        let links = facts.links.as_ref()?;
        links.iter().find(|link| {
            link.master.is_some()
                && link.kind.as_deref() == Some("veth")
                && !(link.up && link.carrier)
        })
    });
    let place = Place::pod(server, family);
    if let Some(port) = port {
        let bridge = port.master.as_deref().unwrap_or("the bridge");
        return Some(
            Opinion::proves(Cause::StaleEndpoint, place, units.clone(), Proof::Facts)
                .because(format!(
                    "the port {} of {bridge} on {} is {}: the pod behind it is cut off",
                    port.name,
                    server.node,
                    if port.up { "without carrier" } else { "down" }
                ))
                .because_all(how_it_died(case, &units))
                .not(Cause::NetworkPolicy, "a filter does not take a port down"),
        );
    }
    let unresolved = case
        .at(&units)
        .any(|unit| unit.symptom == Symptom::Unreachable(Unreachable::Host));
    unresolved.then(|| {
        Opinion::fits(Cause::StaleEndpoint, place, units.clone())
            .because(format!(
                "no route reaches {server}, and its address is not resolved"
            ))
            .because_all(how_it_died(case, &units))
            .decided_by(format!(
                "`bridge link` on {}: the state of the pod's port",
                server.node
            ))
    })
}
