//! The Service's endpoints in the API, compared with the pods that run.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::diagnosis::case::Case;
use crate::diagnosis::catalogue::Cause;
use crate::diagnosis::endpoint::{direct_is_well, is_slot, list, served_nodes, untranslated_error};
use crate::diagnosis::hypothesis::{Hypothesis, Place, Proof};
use crate::diagnosis::symptom::{FailureGroup, ServerEnd, Symptom, led_to};
use crate::packet::family::Family;
use crate::packet::{Body, ResolutionKind, Unreachable};
use crate::probe::outcome::Errno;
use crate::topology::{AccessPath, AgentId, NodeName};

pub(crate) fn no_endpoints(
    case: &Case<'_>,
    server: &AgentId,
    family: Family,
) -> Option<Hypothesis> {
    let refused = |group: &FailureGroup| match group.symptom.unreachable() {
        Some(Unreachable::Port | Unreachable::Other) => true,
        // Without a route to the Service's address, IPv6 fails with this error before the rule applies.
        Some(Unreachable::Network) => family == Family::Ipv6,
        Some(Unreachable::Host | Unreachable::Prohibited) | None => false,
    };
    // A program on connect(2) that finds no backend returns EHOSTUNREACH; before Linux 5.15 it can only return EPERM.
    let refused_in_connect = |group: &FailureGroup| {
        let path = case.path(group.path);
        let errno = group.symptom.refused_locally();
        path.is_some_and(|path| path.socket_level)
            && matches!(errno, Some(Errno::Ehostunreach | Errno::Eperm))
    };
    let groups = case.places(|group| {
        is_slot(group, server, family)
            && (refused(group) || refused_in_connect(group))
            && direct_is_well(case, group)
    });
    if groups.is_empty() {
        return None;
    }
    let empty = case
        .at(&groups)
        .filter_map(|group| case.path(group.path))
        .find(|path| path.backends.iter().all(|backend| !backend.ready));
    let by = case
        .at(&groups)
        .find_map(|group| untranslated_error(case, group));
    let elsewhere = served_nodes(case, server, family);
    let place = Place::service(family);
    let asked = case
        .at(&groups)
        .find_map(|group| case.path(group.path))
        .map(|path| path.target)?;
    let at_connect = (case.at(&groups)).find_map(|group| group.symptom.refused_locally());
    let at_connect = at_connect.map(Errno::sentence);
    let hypothesis = if let Some(path) = empty {
        Hypothesis::proves(Cause::NoEndpoints, place, groups, Proof::Facts)
            .because(format!(
                "the EndpointSlice behind {} names no ready endpoint",
                path.target
            ))
            .because_all(at_connect)
    } else if let (Some(by), true) = (by, elsewhere.is_empty()) {
        Hypothesis::proves(Cause::NoEndpoints, place, groups, Proof::Packets).because(format!(
            "{asked} is refused by ICMP from {by}, the node itself, without translation, and on every node that asked"
        ))
    } else if elsewhere.is_empty() {
        Hypothesis::fits(Cause::NoEndpoints, place, groups)
            .because(format!("{asked} is refused on every node that asked"))
            .because_all(at_connect)
            .decided_by("`kubectl get endpointslices` of the Service")
    } else {
        return Some(Hypothesis::excludes(
            Cause::NoEndpoints,
            place,
            groups,
            format!("clients of {} reach the same port", list(&elsewhere)),
        ));
    };
    Some(
        hypothesis
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
) -> Option<Hypothesis> {
    let groups = case.places(|group| {
        group.family == family
            && group.access_path == AccessPath::ClusterIpLocal
            && group.client.node == *node
            && matches!(
                group.symptom,
                Symptom::Silent | Symptom::Unreachable(_) | Symptom::RefusedLocally(_)
            )
    });
    let path = case.at(&groups).find_map(|group| case.path(group.path))?;
    let place = Place::node(node, family);
    let ready = path.backends.iter().any(|backend| {
        backend.ready
            && backend
                .agent
                .as_ref()
                .is_none_or(|agent| agent.node == *node)
    });
    if ready {
        return Some(Hypothesis::excludes(
            Cause::NoLocalEndpoint,
            place,
            groups,
            format!("the endpoint on {node} is ready, says the API"),
        ));
    }
    Some(
        Hypothesis::proves(Cause::NoLocalEndpoint, place, groups, Proof::Facts)
            .because(format!("the API calls no endpoint on {node} ready, and {} stays on the node: it drops there by design", path.target))
            .not(Cause::ServiceRulesMissing, "a Service that keeps to the node drops where it has no ready endpoint"),
    )
}

pub(crate) fn stale_endpoint(case: &Case<'_>, server: &AgentId, family: Family) -> Vec<Hypothesis> {
    let gone = |group: &FailureGroup| {
        matches!(
            group.symptom,
            Symptom::Silent | Symptom::Unreachable(Unreachable::Host | Unreachable::Other)
        ) && matches!(group.server_end, ServerEnd::Nothing | ServerEnd::Unknown)
    };
    let groups = case.places(|group| is_slot(group, server, family) && gone(group));
    let said = case.at(&groups).find_map(|group| {
        let path = case.path(group.path)?;
        let dead = path
            .backends
            .iter()
            .find(|backend| backend.agent.is_none())?;
        Some(dead.address)
    });
    if let Some(address) = said {
        return vec![
            Hypothesis::proves(
                Cause::StaleEndpoint,
                Place::service(family),
                groups.clone(),
                Proof::Facts,
            )
            .because(format!(
                "the EndpointSlice leads to {address}, which no live pod has"
            ))
            .because_all(how_it_died(case, &groups)),
        ];
    }
    let mut hypotheses: Vec<Hypothesis> = unplugged(case, server, family).into_iter().collect();
    let groups: BTreeSet<usize> = groups
        .into_iter()
        .filter(|at| {
            case.groups
                .get(*at)
                .is_some_and(|group| direct_is_well(case, group))
        })
        .collect();
    let dead = case.at(&groups).find_map(|group| dead_address(case, group));
    let unresolved = case.at(&groups).any(|group| {
        matches!(group.symptom, Symptom::Unreachable(Unreachable::Host))
            && untranslated_error(case, group).is_none()
    });
    if groups.is_empty() || (dead.is_none() && !unresolved) {
        return hypotheses;
    }
    let elsewhere = served_nodes(case, server, family);
    let named = dead
        .map(|address| format!("the SYN went on to {address}, which is none of the run's pods"));
    if elsewhere.is_empty() {
        hypotheses.push(
            Hypothesis::proves(
                Cause::StaleEndpoint,
                Place::service(family),
                groups.clone(),
                Proof::Packets,
            )
            .because_all(named)
            .because_all(how_it_died(case, &groups))
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
        hypotheses.extend(led_astray(
            case,
            server,
            &groups,
            &elsewhere,
            named.as_ref(),
        ));
    }
    hypotheses
}

/// Nodes that, unlike the others, lead to an address without a pod: their rules are older than the EndpointSlices.
fn led_astray(
    case: &Case<'_>,
    server: &AgentId,
    groups: &BTreeSet<usize>,
    elsewhere: &BTreeSet<NodeName>,
    named: Option<&String>,
) -> Vec<Hypothesis> {
    let nodes: BTreeSet<(NodeName, Family)> = case
        .at(groups)
        .map(|group| (group.client.node.clone(), group.family))
        .collect();
    let one = |(node, family): (NodeName, Family)| {
        let own: BTreeSet<usize> = groups
            .iter()
            .copied()
            .filter(|at| {
                case.groups
                    .get(*at)
                    .is_some_and(|group| group.client.node == node)
            })
            .collect();
        let place = Place::node(&node, family);
        Hypothesis::proves(Cause::StaleRules, place, own.clone(), Proof::Packets)
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

/// The address that the Service led to, where a packet shows it: a flooded copy of the SYN, or a resolution by the node
/// of an address that no pod has.
fn dead_address(case: &Case<'_>, group: &FailureGroup) -> Option<IpAddr> {
    let copied = case
        .probes(group)
        .find_map(|probe| led_to(&probe.client))
        .map(|address| address.ip())
        .filter(|address| !is_known(case, *address));
    copied.or_else(|| {
        case.client_packets(group)
            .find_map(|seen| match seen.packet.body {
                // A node resolves an address that belongs to no pod.
                Body::Resolution(asked)
                    if asked.kind == ResolutionKind::Request
                        && Family::of(asked.target) == group.family
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

/// Whether the address is a pod's, a node's, or that of a router that has answered.
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

fn how_it_died(case: &Case<'_>, groups: &BTreeSet<usize>) -> Vec<String> {
    let mut said: Vec<String> = case
        .at(groups)
        .flat_map(|group| case.client_packets(group))
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
    if let Some(address) = case.at(groups).find_map(|group| dead_address(case, group)) {
        said.push(format!(
            "the node looked for {address}, and nobody answered"
        ));
    }
    said
}

/// A pod with its bridge port down: no access path reaches it, although its process runs.
fn unplugged(case: &Case<'_>, server: &AgentId, family: Family) -> Option<Hypothesis> {
    let groups = case.places(|group| {
        group.family == family
            && group.server.as_ref() == Some(server)
            && matches!(
                group.symptom,
                Symptom::Silent
                    | Symptom::Unreachable(
                        Unreachable::Host | Unreachable::Other | Unreachable::Network
                    )
            )
            && matches!(group.server_end, ServerEnd::Nothing | ServerEnd::Unknown)
    });
    let reached = case.passes(|path| path.family == family && path.server.as_ref() == Some(server));
    if reached
        || !case
            .at(&groups)
            .any(|group| group.access_path == AccessPath::PodIp)
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
            Hypothesis::proves(Cause::StaleEndpoint, place, groups.clone(), Proof::Facts)
                .because(format!(
                    "the port {} of {bridge} on {} is {}: the pod behind it is cut off",
                    port.name,
                    server.node,
                    if port.up { "without carrier" } else { "down" }
                ))
                .because_all(how_it_died(case, &groups))
                .not(Cause::NetworkPolicy, "a filter does not take a port down"),
        );
    }
    let unresolved = case
        .at(&groups)
        .any(|group| group.symptom == Symptom::Unreachable(Unreachable::Host));
    unresolved.then(|| {
        Hypothesis::fits(Cause::StaleEndpoint, place, groups.clone())
            .because(format!(
                "no route reaches {server}, and its address is not resolved"
            ))
            .because_all(how_it_died(case, &groups))
            .decided_by(format!(
                "`bridge link` on {}: the state of the pod's port",
                server.node
            ))
    })
}
