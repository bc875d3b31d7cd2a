//! The Service's endpoints in the API, compared with the pods that run.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::diagnosis::case::Case;
use crate::diagnosis::catalogue::Cause;
use crate::diagnosis::endpoint::{
    is_reached_directly, is_slot, list, served_nodes, untranslated_error,
};
use crate::diagnosis::hypothesis::{Hypothesis, Place, Proof};
use crate::diagnosis::symptom::{FailureGroup, ServerEnd, Symptom, translated_destination};
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
            && is_reached_directly(case, group)
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
    let target = case
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
            "{target} is refused by ICMP from {by}, the node itself, without translation, and on every node that probed it"
        ))
    } else if elsewhere.is_empty() {
        Hypothesis::fits(Cause::NoEndpoints, place, groups)
            .because(format!("{target} is refused on every node that probed it"))
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
                "the node has a rule for the Service: it refuses at once",
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
            format!("according to the API, the endpoint on {node} is ready"),
        ));
    }
    Some(
        Hypothesis::proves(Cause::NoLocalEndpoint, place, groups, Proof::Facts)
            .because(format!("according to the API, no endpoint on {node} is ready, and traffic to {} stays on the node, which drops it by design", path.target))
            .not(Cause::ServiceRulesMissing, "a node drops the traffic of a Service that stays on it where no endpoint is ready"),
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
    let stale = case.at(&groups).find_map(|group| {
        let path = case.path(group.path)?;
        let stale = path
            .backends
            .iter()
            .find(|backend| backend.agent.is_none())?;
        Some(stale.address)
    });
    if let Some(address) = stale {
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
            .because_all(resolution_failures(case, &groups)),
        ];
    }
    let mut hypotheses: Vec<Hypothesis> = port_down(case, server, family).into_iter().collect();
    let groups: BTreeSet<usize> = groups
        .into_iter()
        .filter(|at| {
            case.groups
                .get(*at)
                .is_some_and(|group| is_reached_directly(case, group))
        })
        .collect();
    let stale = case
        .at(&groups)
        .find_map(|group| address_without_pod(case, group));
    let unresolved = case.at(&groups).any(|group| {
        matches!(group.symptom, Symptom::Unreachable(Unreachable::Host))
            && untranslated_error(case, group).is_none()
    });
    if groups.is_empty() || (stale.is_none() && !unresolved) {
        return hypotheses;
    }
    let elsewhere = served_nodes(case, server, family);
    let named =
        stale.map(|address| format!("the SYN went on to {address}, which no pod of the run has"));
    if elsewhere.is_empty() {
        hypotheses.push(
            Hypothesis::proves(
                Cause::StaleEndpoint,
                Place::service(family),
                groups.clone(),
                Proof::Packets,
            )
            .because_all(named)
            .because_all(resolution_failures(case, &groups))
            .not(Cause::StaleRules, "every node that probed it leads there")
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
        hypotheses.extend(stale_rules_by_node(
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
fn stale_rules_by_node(
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
            .because_all(resolution_failures(case, &own))
            .because(format!(
                "clients of {} reach {server} through the same port",
                list(elsewhere)
            ))
            .not(Cause::StaleEndpoint, "other nodes lead to a live pod")
    };
    nodes.into_iter().map(one).collect()
}

/// The address that the Service led to, where a packet shows it: a flooded copy of the SYN, or a resolution by the node
/// of an address that no pod has.
fn address_without_pod(case: &Case<'_>, group: &FailureGroup) -> Option<IpAddr> {
    let copied = case
        .probes(group)
        .find_map(|probe| translated_destination(&probe.client))
        .map(|address| address.ip())
        .filter(|address| !is_known(case, *address));
    copied.or_else(|| {
        case.client_packets(group)
            .find_map(|seen| match seen.packet.body {
                // A node resolves an address that belongs to no pod.
                Body::Resolution(request)
                    if request.kind == ResolutionKind::Request
                        && Family::of(request.target) == group.family
                        && request.target != request.sender
                        && !is_pod(case, request.sender)
                        && !is_known(case, request.target) =>
                {
                    Some(request.target)
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

fn resolution_failures(case: &Case<'_>, groups: &BTreeSet<usize>) -> Vec<String> {
    let mut sentences: Vec<String> = case
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
    sentences.sort();
    sentences.dedup();
    sentences.truncate(2);
    if let Some(address) = case
        .at(groups)
        .find_map(|group| address_without_pod(case, group))
    {
        sentences.push(format!(
            "the node tried to resolve {address}, and no host answered"
        ));
    }
    sentences
}

/// A pod whose bridge port is down: no access path reaches it, although its process runs.
fn port_down(case: &Case<'_>, server: &AgentId, family: Family) -> Option<Hypothesis> {
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
                .because_all(resolution_failures(case, &groups))
                .not(Cause::NetworkPolicy, "a filter does not take a port down"),
        );
    }
    let unresolved = case
        .at(&groups)
        .any(|group| group.symptom == Symptom::Unreachable(Unreachable::Host));
    unresolved.then(|| {
        Hypothesis::fits(Cause::StaleEndpoint, place, groups.clone())
            .because(format!(
                "no access path reaches {server}, and its address is not resolved"
            ))
            .because_all(resolution_failures(case, &groups))
            .decided_by(format!(
                "`bridge link` on {}: the state of the pod's port",
                server.node
            ))
    })
}
