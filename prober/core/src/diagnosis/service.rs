//! Rules for what a Service leads to: its endpoints, and each node's rules for them.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::case::{Case, rung};
use super::catalogue::Cause;
use super::opinion::{Opinion, Place, Proof};
use super::symptom::{ServerEnd, Symptom, Unit, named_by_own_copy};
use crate::event::RungAnswer;
use crate::family::Family;
use crate::observation::Exchange;
use crate::topology::{AgentId, NodeName, Route};
use crate::wire::{Body, ResolutionKind, Unreachable};

/// What this family has to say.
pub(crate) fn opinions(case: &Case<'_>) -> Vec<Opinion> {
    let mut opinions = Vec::new();
    for family in case.families() {
        for server in servers(case, family) {
            opinions.extend(no_endpoints(case, &server, family));
            opinions.extend(stale_endpoint(case, &server, family));
        }
        for node in case.nodes() {
            opinions.extend(no_local_endpoint(case, node, family));
            opinions.extend(stale_rules(case, node, family));
            opinions.extend(rules_missing(case, node, family));
        }
    }
    opinions
}

/// Every server that something failing should have met.
pub(crate) fn servers(case: &Case<'_>, family: Family) -> BTreeSet<AgentId> {
    case.failing(|unit| unit.family == family)
        .filter_map(|(_, unit)| unit.server.clone())
        .collect()
}

/// The Service port that leads to this server alone.
fn is_slot(unit: &Unit, server: &AgentId, family: Family) -> bool {
    unit.family == family
        && matches!(unit.route, Route::ClusterIp | Route::Hairpin)
        && unit.server.as_ref() == Some(server)
}

/// Whether the same client reaches the same server by its own address.
pub(crate) fn direct_is_well(case: &Case<'_>, unit: &Unit) -> bool {
    unit.route == Route::Hairpin
        || case.passes(|path| {
            path.route == Route::PodIp
                && path.family == unit.family
                && path.client == unit.client
                && path.server == unit.server
        })
}

/// Nodes whose clients reach the server's Service port.
fn served_nodes(case: &Case<'_>, server: &AgentId, family: Family) -> BTreeSet<NodeName> {
    case.healthy()
        .filter(|evidence| {
            let path = &evidence.path;
            path.route == Route::ClusterIp
                && path.family == family
                && path.server.as_ref() == Some(server)
        })
        .map(|evidence| evidence.path.client.node.clone())
        .collect()
}

/// Who sent the ICMP error: the `ClusterIP` means that the SYN had been translated.
fn untranslated_error(case: &Case<'_>, unit: &Unit) -> Option<IpAddr> {
    case.probes(unit).find_map(|probe| {
        let by = match probe.client.outcome {
            crate::observation::Outcome::Unreachable { by, .. } => by,
            crate::observation::Outcome::Established { .. }
            | crate::observation::Outcome::Reset { .. }
            | crate::observation::Outcome::Mismatched { .. }
            | crate::observation::Outcome::Timeout => return None,
        };
        (by != probe.client.dst.ip()).then_some(by)
    })
}

fn no_endpoints(case: &Case<'_>, server: &AgentId, family: Family) -> Option<Opinion> {
    let refused = |unit: &Unit| match unit.symptom {
        Symptom::Unreachable(Unreachable::Port | Unreachable::Other) => true,
        // Without a route to the Service's address, IPv6 says so before the rule is met.
        Symptom::Unreachable(Unreachable::Network) => family == Family::Ipv6,
        Symptom::Unreachable(Unreachable::Host | Unreachable::Prohibited)
        | Symptom::ForeignSynAck
        | Symptom::ForeignReset
        | Symptom::Reset
        | Symptom::Silent
        | Symptom::Lossy
        | Symptom::Mute
        | Symptom::Stalled
        | Symptom::Broken
        | Symptom::Impostor => false,
    };
    let units = case.places(|unit| {
        is_slot(unit, server, family) && refused(unit) && direct_is_well(case, unit)
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
    let opinion = if let Some(path) = empty {
        Opinion::proves(Cause::NoEndpoints, place, units, Proof::Facts).because(format!(
            "the EndpointSlice behind {} names no ready endpoint",
            path.target
        ))
    } else if let (Some(by), true) = (by, elsewhere.is_empty()) {
        Opinion::proves(Cause::NoEndpoints, place, units, Proof::Packets).because(format!(
            "{asked} is refused by ICMP from {by}, the node itself, without translation, and on every node that asked"
        ))
    } else if elsewhere.is_empty() {
        Opinion::fits(Cause::NoEndpoints, place, units)
            .because(format!("{asked} is refused on every node that asked"))
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

/// Names, in one line.
pub(crate) fn list<T: ToString>(items: &BTreeSet<T>) -> String {
    items
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(", ")
}

/// The address that the Service led to, where it shows: a flooded copy of the SYN, or the node
/// asking for a neighbour that nobody is.
fn dead_address(case: &Case<'_>, unit: &Unit) -> Option<IpAddr> {
    let copied = case
        .probes(unit)
        .find_map(|probe| named_by_own_copy(&probe.client))
        .map(|address| address.ip());
    copied.or_else(|| {
        case.client_packets(unit)
            .find_map(|seen| match seen.packet.body {
                Body::Resolution(asked)
                    if asked.kind == ResolutionKind::Request
                        && !is_known(case, asked.target, unit.family)
                        && !is_own(case, unit, asked.sender) =>
                {
                    Some(asked.target)
                }
                Body::Resolution(_) | Body::Tcp(..) | Body::Icmp(..) => None,
            })
    })
}

fn is_own(case: &Case<'_>, unit: &Unit, address: IpAddr) -> bool {
    case.probes(unit)
        .any(|probe| probe.client.src.ip() == address)
}

fn is_known(case: &Case<'_>, address: IpAddr, family: Family) -> bool {
    let agent = case
        .matrix
        .agents
        .keys()
        .any(|agent| case.address(agent, family) == Some(address));
    let gateway = case.matrix.nodes.keys().any(|node| {
        case.facts(node)
            .is_some_and(|facts| facts.address(address).found().is_some())
    });
    let tried = case
        .matrix
        .paths
        .values()
        .flat_map(|path| &path.probes)
        .flat_map(|probe| &probe.client.observations)
        .filter_map(|seen| seen.packet.icmp())
        .any(|(ip, _)| ip.src == address);
    agent || gateway || tried
}

fn stale_endpoint(case: &Case<'_>, server: &AgentId, family: Family) -> Vec<Opinion> {
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
        let nodes: BTreeSet<NodeName> = case
            .at(&units)
            .map(|unit| unit.client.node.clone())
            .collect();
        for node in nodes {
            let own: BTreeSet<usize> = units
                .iter()
                .copied()
                .filter(|at| {
                    case.units
                        .get(*at)
                        .is_some_and(|unit| unit.client.node == node)
                })
                .collect();
            opinions.push(
                Opinion::proves(
                    Cause::StaleRules,
                    Place::node(&node, family),
                    own.clone(),
                    Proof::Packets,
                )
                .because_all(named.clone())
                .because_all(how_it_died(case, &own))
                .because(format!(
                    "clients of {} reach {server} through the same port",
                    list(&elsewhere)
                ))
                .not(Cause::StaleEndpoint, "other nodes are led to a live pod"),
            );
        }
    }
    opinions
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
    if reached || !case.at(&units).any(|unit| unit.route == Route::PodIp) {
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

fn no_local_endpoint(case: &Case<'_>, node: &NodeName, family: Family) -> Option<Opinion> {
    let units = case.places(|unit| {
        unit.family == family
            && unit.route == Route::ProberLocal
            && unit.client.node == *node
            && matches!(unit.symptom, Symptom::Silent | Symptom::Unreachable(_))
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

fn stale_rules(case: &Case<'_>, node: &NodeName, family: Family) -> Option<Opinion> {
    let units = case.places(|unit| {
        unit.family == family
            && unit.symptom == Symptom::Impostor
            && unit.client.node == *node
            && matches!(
                unit.route,
                Route::ClusterIp | Route::Hairpin | Route::ProberLocal
            )
    });
    let unit = case.at(&units).next()?;
    let expected = unit.server.clone()?;
    let met = case
        .probes(unit)
        .find_map(|probe| match &probe.client.exchange {
            Exchange::Greeted { banner, .. } => {
                Some((banner.pod.clone(), banner.node.clone(), probe.client.dst))
            }
            Exchange::NotTried | Exchange::NoBanner | Exchange::Foreign | Exchange::Reset => None,
        });
    let place = Place::node(node, family);
    let said = met.map(|(pod, at, asked)| {
        format!("{asked} leads to {expected} according to the API, but from {node} {pod} on {at} answered")
    });
    let elsewhere = served_nodes(case, &expected, family);
    let opinion =
        Opinion::proves(Cause::StaleRules, place, units.clone(), Proof::Packets).because_all(said);
    Some(if elsewhere.is_empty() {
        opinion
    } else {
        opinion.because(format!(
            "clients of {} meet {expected} there",
            list(&elsewhere)
        ))
    })
}

/// Whether the ladder shows that nothing translated the SYN: its first router answers in its own
/// name. `None` where no ladder tells.
fn untranslated(case: &Case<'_>, unit: &Unit) -> Option<IpAddr> {
    let ladder = case.ladder(unit.path)?;
    match rung(ladder, 1)? {
        RungAnswer::TimeExceeded { by, .. } => (by != ladder.target.ip()).then_some(by),
        RungAnswer::Silent
        | RungAnswer::SynAck { .. }
        | RungAnswer::Reset { .. }
        | RungAnswer::Unreachable { .. } => None,
    }
}

fn translated(case: &Case<'_>, unit: &Unit) -> bool {
    case.ladder(unit.path).is_some_and(|ladder| {
        ladder.rungs.iter().any(|rung| match rung.answer {
            RungAnswer::TimeExceeded { by, .. } => by == ladder.target.ip(),
            RungAnswer::Silent
            | RungAnswer::SynAck { .. }
            | RungAnswer::Reset { .. }
            | RungAnswer::Unreachable { .. } => false,
        })
    })
}

fn rules_missing(case: &Case<'_>, node: &NodeName, family: Family) -> Option<Opinion> {
    let lost = |unit: &Unit| {
        unit.family == family
            && unit.client.node == *node
            && unit.route.is_translated()
            && matches!(unit.server_end, ServerEnd::Nothing | ServerEnd::Unheard)
            && !translated(case, unit)
            && match unit.symptom {
                Symptom::Silent => true,
                // A port without endpoints is refused on every node.
                Symptom::Unreachable(Unreachable::Port) => {
                    unit.server.as_ref().is_some_and(|server| {
                        untranslated_error(case, unit).is_some()
                            && !served_nodes(case, server, family).is_empty()
                    })
                }
                Symptom::Unreachable(_) => untranslated_error(case, unit).is_some(),
                Symptom::ForeignSynAck
                | Symptom::ForeignReset
                | Symptom::Reset
                | Symptom::Lossy
                | Symptom::Mute
                | Symptom::Stalled
                | Symptom::Broken
                | Symptom::Impostor => false,
            }
            && (unit.server.is_none() || direct_is_well(case, unit))
    };
    let units = case.places(lost);
    // The port that stays on the node, or a pod's way to itself, fail alone for reasons of their own.
    let telling = case.at(&units).any(|unit| unit.route == Route::ClusterIp);
    if !telling {
        return None;
    }
    let place = Place::node(node, family);
    let all = !case.passes(|path| {
        path.family == family && path.client.node == *node && path.route.is_translated()
    });
    let by = case.at(&units).find_map(|unit| untranslated(case, unit));
    let what = if all {
        "no Service port"
    } else {
        "not every Service port"
    };
    let scope = format!("{what} works from {node}, while the pods' own addresses do");
    let opinion = match by {
        Some(by) => Opinion::proves(Cause::ServiceRulesMissing, place, units, Proof::Packets)
            .because(format!("a SYN with TTL 1 to the ClusterIP met time exceeded from {by}, not from the ClusterIP: no rule translated it"))
            .because(scope),
        None => {
            let both = case.at(&units).any(Unit::is_cross_node) && case.at(&units).any(Unit::is_same_node);
            let opinion = Opinion::fits(Cause::ServiceRulesMissing, place, units)
                .because(scope)
                .decided_by(format!("the Service's chains on {node}: `iptables-save -t nat | grep CLUSTER-IP`"))
                .decided_by("a TTL ladder: time exceeded from the gateway means untranslated");
            if both {
                opinion.not(Cause::BridgeNetfilterOff, "Services of pods on other nodes fail as well")
            } else {
                opinion
            }
        }
    };
    Some(opinion.not(
        Cause::ForwardDrop,
        "the same pods are reached by their own addresses",
    ))
}
