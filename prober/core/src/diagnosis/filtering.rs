//! Rules for filters: chains, policies, REJECTs, and the kernel's own checks.

use std::collections::{BTreeMap, BTreeSet};

use super::case::Case;
use super::catalogue::Cause;
use super::endpoint::{Resetter, reset_packet, resetter};
use super::locate::{Death, Spot, Way, death};
use super::opinion::{Opinion, Place, Proof};
use super::service::direct_is_well;
use super::symptom::{ServerEnd, Symptom, Unit};
use crate::facts::SysctlState;
use crate::family::Family;
use crate::observation::{Outcome, OutcomeKind};
use crate::topology::{AgentId, NodeName, Path, Route, Scope};
use crate::wire::Unreachable;

/// What this family has to say.
pub(crate) fn opinions(case: &Case<'_>) -> Vec<Opinion> {
    let mut opinions = Vec::new();
    for family in case.families() {
        for node in case.nodes() {
            opinions.extend(conntrack_full(case, node, family));
            opinions.extend(ip_forward_off(case, node, family));
            opinions.extend(rp_filter(case, node, family));
            opinions.extend(reject_reset(case, node, family));
            opinions.extend(rejected(case, node, family));
            opinions.extend(dropped(case, node, family));
        }
    }
    opinions
}

fn through(unit: &Unit, node: &NodeName, family: Family) -> bool {
    unit.family == family
        && (unit.client.node == *node
            || unit
                .server
                .as_ref()
                .is_some_and(|server| server.node == *node))
}

fn is_quiet(unit: &Unit) -> bool {
    matches!(unit.symptom, Symptom::Silent | Symptom::Lossy)
}

fn conntrack_full(case: &Case<'_>, node: &NodeName, family: Family) -> Option<Opinion> {
    let units = case.places(|unit| through(unit, node, family) && is_quiet(unit));
    if units.is_empty() {
        return None;
    }
    let known = case.matrix.nodes.get(node)?;
    let readings = [&known.during, &known.after, &known.before];
    let (count, most) = readings
        .into_iter()
        .flatten()
        .filter_map(|facts| facts.conntrack_count.zip(facts.conntrack_max))
        .max_by_key(|(count, _)| *count)?;
    let dropped = case.grown(node, "ConntrackDrop");
    let place = Place::node(node, family);
    // Entries end all the time: the table need not be full at the moment of the reading.
    let full = count.saturating_mul(100) >= most.saturating_mul(99);
    if full && dropped != Some(0) {
        let counted = dropped.map(|grown| {
            format!("ConntrackDrop +{grown} on {node} while failing paths were probed")
        });
        return Some(
            Opinion::proves(Cause::ConntrackFull, place, units, Proof::Facts)
                .because(format!(
                    "{node} tracks {count} connections of at most {most}"
                ))
                .because_all(counted),
        );
    }
    Some(Opinion::excludes(
        Cause::ConntrackFull,
        place,
        units,
        format!("{node} tracks {count} connections of at most {most}"),
    ))
}

/// The name of the sysctl that lets a node forward a family.
const fn forward_sysctl(family: Family) -> (&'static str, &'static str) {
    match family {
        Family::Ipv4 => ("net.ipv4.ip_forward", "IpInAddrErrors"),
        Family::Ipv6 => ("net.ipv6.conf.all.forwarding", "Ip6InAddrErrors"),
    }
}

fn ip_forward_off(case: &Case<'_>, node: &NodeName, family: Family) -> Option<Opinion> {
    let routed = |unit: &Unit| match family {
        Family::Ipv4 => !(unit.route == Route::PodIp && unit.is_same_node()),
        // A Service of a pod on the same node is translated on the bridge, which needs no routing.
        Family::Ipv6 => !unit.is_same_node(),
    };
    let units = case.places(|unit| {
        through(unit, node, family)
            && routed(unit)
            && matches!(
                unit.symptom,
                Symptom::Silent | Symptom::Unreachable(Unreachable::Host)
            )
            && matches!(unit.server_end, ServerEnd::Nothing | ServerEnd::Unheard)
    });
    if units.is_empty() {
        return None;
    }
    let (sysctl, counter) = forward_sysctl(family);
    let place = Place::node(node, family);
    let direct = case.passes(|path| {
        path.route == Route::PodIp
            && path.family == family
            && path.client.node == *node
            && path.scope() == Scope::SameNode
    });
    match case.facts(node).and_then(|facts| facts.forwarding(family)) {
        Some(SysctlState::Value(0)) => {
            let counted = case
                .grown(node, counter)
                .filter(|&grown| grown > 0)
                .map(|grown| {
                    format!("{counter} +{grown} on {node}: packets to be forwarded were refused")
                });
            Some(
                Opinion::proves(Cause::IpForwardOff, place, units, Proof::Facts)
                    .because(format!("{sysctl} is 0 on {node}"))
                    .because_all(counted),
            )
        }
        Some(SysctlState::Value(value)) => Some(Opinion::excludes(
            Cause::IpForwardOff,
            place,
            units,
            format!("{sysctl} is {value} on {node}"),
        )),
        Some(SysctlState::Absent | SysctlState::Unreadable) | None => {
            let everything = !case.passes(|path| {
                path.family == family
                    && (path.client.node == *node
                        || path
                            .server
                            .as_ref()
                            .is_some_and(|server| server.node == *node))
                    && !(path.route == Route::PodIp && path.scope() == Scope::SameNode)
            });
            (direct && everything && family == Family::Ipv4).then(|| {
                Opinion::fits(Cause::IpForwardOff, place, units)
                    .because(format!("only pods of {node} reach each other by their own addresses; whatever {node} must forward is silent"))
                    .decided_by(format!("`sysctl {sysctl}` on {node}"))
            })
        }
    }
}

fn rp_filter(case: &Case<'_>, node: &NodeName, family: Family) -> Option<Opinion> {
    if family == Family::Ipv6 {
        return None;
    }
    let units = case.places(|unit| {
        let arrives = unit
            .server
            .as_ref()
            .is_some_and(|server| server.node == *node)
            && matches!(unit.server_end, ServerEnd::Nothing | ServerEnd::Unheard);
        let returns = unit.client.node == *node
            && matches!(unit.server_end, ServerEnd::SynAck | ServerEnd::Unheard);
        unit.family == family && unit.is_cross_node() && is_quiet(unit) && (arrives || returns)
    });
    if units.is_empty() {
        return None;
    }
    let counter = "TcpExtIPReversePathFilter";
    let grown = case.grown(node, counter)?;
    let place = Place::node(node, family);
    if grown == 0 {
        return Some(Opinion::excludes(
            Cause::RpFilter,
            place,
            units,
            format!("{counter} +0 on {node} while failing paths were probed"),
        ));
    }
    let strict: Vec<String> = case
        .facts(node)
        .and_then(|facts| {
            let names = facts.rp_filter.as_ref()?.keys();
            Some(
                names
                    .filter(|name| facts.rp_filter_in_force(name) == Some(1))
                    .filter(|name| !matches!(name.as_str(), "all" | "default" | "lo"))
                    .cloned()
                    .collect(),
            )
        })
        .unwrap_or_default();
    let shown = strict
        .iter()
        .take(3)
        .cloned()
        .collect::<Vec<_>>()
        .join(", ");
    let strict =
        (!strict.is_empty()).then(|| format!("rp_filter is strict (1) on {node} at {shown}"));
    Some(
        Opinion::proves(Cause::RpFilter, place, units, Proof::Facts)
            .because(format!(
                "{counter} +{grown} on {node} while failing paths were probed"
            ))
            .because_all(strict),
    )
}

/// A rule that answers with RST: it comes from a node, or nobody's end sent it.
fn reject_reset(case: &Case<'_>, node: &NodeName, family: Family) -> Option<Opinion> {
    let units = case.places(|unit| {
        unit.family == family
            && matches!(unit.symptom, Symptom::Reset | Symptom::ForeignReset)
            && resetter(case, unit) == Resetter::Node(node.clone())
    });
    let unit = case.at(&units).next()?;
    let place = Place::node(node, family);
    let seen = reset_packet(case, unit)?;
    let (ip, _) = seen.packet.tcp()?;
    let link = seen
        .packet
        .link
        .map_or_else(String::new, |link| format!(", source MAC {}", link.src));
    let said = format!(
        "{} got a RST from {} with TTL {}{link}",
        unit.client, ip.src, ip.hop_limit
    );
    let heard = case
        .at(&units)
        .any(|unit| unit.server_end != ServerEnd::Unheard);
    let foreign = case
        .at(&units)
        .any(|unit| unit.symptom == Symptom::ForeignReset)
        .then(|| "on the bridge the forged RST comes from the pod's own address, so the client ignores it and times out".to_owned());
    let mut opinion = Opinion::proves(Cause::RejectReset, place, units.clone(), Proof::Packets)
        .because(said)
        .because_all(heard.then(|| "the server's end saw no SYN and sent no RST".to_owned()))
        .because_all(foreign)
        .not(
            Cause::NotListening,
            if heard {
                "the server's end sent no RST"
            } else {
                "the RST's TTL is a node's, not a pod's"
            },
        );
    if case
        .at(&units)
        .all(|unit| unit.route == Route::ClusterIpAny)
    {
        opinion = opinion.because("only what was balanced to one endpoint is rejected; a rejected SYN is balanced anew when it is sent again");
    }
    // What the same rule hides: tries that were balanced anew, or whose RST nobody could use.
    let hidden = case.places(|unit| {
        unit.family == family
            && (unit.route == Route::ClusterIpAny || unit.route == Route::Hairpin)
            && matches!(
                unit.symptom,
                Symptom::Lossy | Symptom::Silent | Symptom::Reset | Symptom::ForeignReset
            )
            && case
                .at(&units)
                .any(|known| known.route == unit.route || known.server == unit.server)
            && matches!(
                unit.server_end,
                ServerEnd::Nothing | ServerEnd::Unheard | ServerEnd::SynAck | ServerEnd::Completed
            )
            && !matches!(resetter(case, unit), Resetter::Server)
    });
    opinion.units.extend(hidden);
    Some(opinion)
}

/// A rule that answers with ICMP, after the translation: the `ClusterIP` or the gateway says so.
fn rejected(case: &Case<'_>, node: &NodeName, family: Family) -> Option<Opinion> {
    let by_rule = |unit: &Unit| match unit.symptom {
        Symptom::Unreachable(Unreachable::Prohibited) => true,
        Symptom::Unreachable(Unreachable::Port) => {
            !unit.route.is_translated() || {
                case.probes(unit).any(|probe| match probe.client.outcome {
                    Outcome::Unreachable { by, .. } => by == probe.client.dst.ip(),
                    Outcome::Established { .. }
                    | Outcome::Reset { .. }
                    | Outcome::Mismatched { .. }
                    | Outcome::Timeout => false,
                })
            }
        }
        Symptom::Unreachable(Unreachable::Network | Unreachable::Host | Unreachable::Other)
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
    let at_node = |unit: &Unit| match &unit.server {
        Some(server) if server.node != unit.client.node => match icmp_ttl(case, unit) {
            Some(64) => unit.client.node == *node,
            Some(_) | None => server.node == *node,
        },
        Some(_) | None => unit.client.node == *node,
    };
    let units = case.places(|unit| unit.family == family && by_rule(unit) && at_node(unit));
    let unit = case.at(&units).next()?;
    let said = case.client_packets(unit).find_map(|seen| {
        let (ip, icmp) = seen.packet.icmp()?;
        let inner = icmp.quoted?.hop_limit;
        Some(format!(
            "{} got ICMP {}/{} from {} (TTL {}, quoting TTL {inner})",
            unit.client, icmp.type_code.0, icmp.type_code.1, ip.src, ip.hop_limit
        ))
    });
    let deaths = units.iter().map(|&at| (at, Way::There)).collect();
    Some(
        blame(case, node, family, &deaths, units)
            .because_all(said)
            .because("a filter answers for the server, whose end saw nothing"),
    )
}

fn icmp_ttl(case: &Case<'_>, unit: &Unit) -> Option<u8> {
    case.client_packets(unit)
        .find_map(|seen| seen.packet.icmp().map(|(ip, _)| ip.hop_limit))
}

/// Silence whose place is this node.
fn dropped(case: &Case<'_>, node: &NodeName, family: Family) -> Option<Opinion> {
    let located: Vec<(usize, Death)> = case
        .failing(|unit| {
            // What passes untranslated meets the same chain: then it is the Service that fails.
            let service_only = unit.route.is_translated()
                && unit.route != Route::Hairpin
                && direct_is_well(case, unit);
            unit.family == family && unit.symptom == Symptom::Silent && !service_only
        })
        .map(|(at, unit)| (at, death(case, unit)))
        .filter(|(_, death)| death.spot == Spot::Node(node.clone()))
        .collect();
    let units: BTreeSet<usize> = located.iter().map(|(at, _)| *at).collect();
    let unit = case.at(&units).next()?;
    if unit.is_same_node()
        && case
            .at(&units)
            .all(|unit| unit.route == Route::Hairpin || unit.route == Route::ProberLocal)
    {
        return None;
    }
    let mut said: Vec<String> = located
        .iter()
        .map(|(_, death)| death.because.clone())
        .collect();
    said.sort();
    said.dedup();
    said.truncate(4);
    let deaths = located.iter().map(|(at, death)| (*at, death.way)).collect();
    Some(blame(case, node, family, &deaths, units).because_all(said))
}

/// One pod or port, or the node's FORWARD: who is hit, and who passes beside it.
fn blame(
    case: &Case<'_>,
    node: &NodeName,
    family: Family,
    ways: &BTreeMap<usize, Way>,
    units: BTreeSet<usize>,
) -> Opinion {
    let forward_only = ways.values().all(|way| *way == Way::There);
    let port = case
        .at(&units)
        .filter(|unit| unit.route == Route::PodIp)
        .find(|unit| {
            case.path(unit.path).and_then(|path| path.other_port) == Some(OutcomeKind::Established)
        })
        .and_then(|unit| unit.server.clone());
    let one_pod = forward_only
        .then(|| common_pod(case, node, family, &units))
        .flatten();
    let unheard = case.best_server_end(&units) == ServerEnd::Unheard;
    let known = case.facts(node).is_some();
    let make = |cause, place, units: BTreeSet<usize>| {
        if known && !unheard {
            Opinion::proves(cause, place, units, Proof::Packets)
        } else {
            Opinion::fits(cause, place, units)
                .decided_by(format!("the counters of {node}'s rules before and after a failing probe: `iptables-save -c`"))
                .decided_by(format!("`sysctl {}`, nf_conntrack_count against nf_conntrack_max, and `ip route` on {node}", forward_sysctl(family).0))
        }
    };
    if let Some(pod) = port {
        return make(Cause::NetworkPolicy, Place::pod(&pod, family), units)
            .because(format!("another port of {pod} answers the same client"))
            .not(Cause::ForwardDrop, "packets to the same pod pass");
    }
    if let Some((pod, passing)) = one_pod {
        return make(Cause::NetworkPolicy, Place::pod(&pod, family), units)
            .because(format!(
                "only new connections of or to {pod} fail on {node}; {passing} passes"
            ))
            .not(
                Cause::ForwardDrop,
                format!("{node} forwards for other pods"),
            );
    }
    let opinion = make(Cause::ForwardDrop, Place::node(node, family), units);
    if forward_only {
        opinion.not(
            Cause::NetworkPolicy,
            "no pod beside the failing ones passes",
        )
    } else {
        opinion
            .because(format!(
                "{node} drops answers of connections that it let begin"
            ))
            .not(
                Cause::NetworkPolicy,
                "a policy judges new connections, not their answers",
            )
    }
}

/// The one pod of the node that all these units have as client or server, if a neighbour's
/// traffic through the same chain passes.
fn common_pod(
    case: &Case<'_>,
    node: &NodeName,
    family: Family,
    units: &BTreeSet<usize>,
) -> Option<(AgentId, String)> {
    let ends = |unit: &Unit| -> BTreeSet<AgentId> {
        std::iter::once(&unit.client)
            .chain(unit.server.as_ref())
            .filter(|agent| agent.node == *node)
            .cloned()
            .collect()
    };
    let mut all = case.at(units).map(ends);
    let first = all.next()?;
    let common = all.fold(first, |common, next| {
        common.intersection(&next).cloned().collect()
    });
    let routed = |path: &Path| {
        let here = path.client.node == *node
            || path
                .server
                .as_ref()
                .is_some_and(|server| server.node == *node);
        path.family == family
            && here
            && !(path.route == Route::PodIp && path.scope() == Scope::SameNode)
    };
    common.into_iter().find_map(|pod| {
        let as_client = case.at(units).any(|unit| unit.client == pod);
        let as_server = case
            .at(units)
            .any(|unit| unit.server.as_ref() == Some(&pod));
        let passing = case.healthy().find(|evidence| {
            let path = &evidence.path;
            let involved = (as_client && path.client == pod)
                || (as_server && path.server.as_ref() == Some(&pod));
            routed(path) && !involved && path.scope() != Scope::Any
        })?;
        let path = &passing.path;
        let server = path
            .server
            .as_ref()
            .map_or("any", |server| server.pod.as_str());
        Some((
            pod,
            format!("{} {} -> {server}", path.route, path.client.pod),
        ))
    })
}
