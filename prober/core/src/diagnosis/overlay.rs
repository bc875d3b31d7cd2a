//! Rules for the way between nodes: routes, the tunnel's neighbours, its packets, their size.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::case::Case;
use super::catalogue::Cause;
use super::locate::{Death, Spot, Way, death, tunnel_traffic};
use super::opinion::{Opinion, Place, Proof};
use super::symptom::{ServerEnd, Symptom, Unit};
use crate::facts::{Link, Lookup, NodeFacts, RouteKind};
use crate::family::Family;
use crate::observation::{Echo, Exchange};
use crate::topology::NodeName;
use crate::wire::Unreachable;

/// What this family has to say.
pub(crate) fn opinions(case: &Case<'_>) -> Vec<Opinion> {
    let mut opinions = Vec::new();
    for family in case.families() {
        for (from, to) in ways(case, family) {
            opinions.extend(route_missing(case, &from, &to, family));
            opinions.extend(stale_neighbour(case, &from, &to, family));
        }
        opinions.extend(blocked(case, family));
        opinions.extend(mtu(case, family));
    }
    opinions
}

/// Every ordered pair of nodes that a failing packet or its answer should have crossed.
fn ways(case: &Case<'_>, family: Family) -> BTreeSet<(NodeName, NodeName)> {
    case.failing(|unit| unit.family == family && unit.is_cross_node())
        .filter_map(|(_, unit)| {
            Some((unit.client.node.clone(), unit.server.as_ref()?.node.clone()))
        })
        .flat_map(|(a, b)| [(a.clone(), b.clone()), (b, a)])
        .collect()
}

/// Units that die if nothing gets from one node to the other: SYNs there, or answers.
fn depends_on(unit: &Unit, from: &NodeName, to: &NodeName, family: Family) -> bool {
    let Some(server) = &unit.server else {
        return false;
    };
    let there = unit.client.node == *from
        && server.node == *to
        && matches!(unit.server_end, ServerEnd::Nothing | ServerEnd::Unheard);
    let back = unit.client.node == *to
        && server.node == *from
        && matches!(unit.server_end, ServerEnd::SynAck | ServerEnd::Unheard);
    unit.family == family
        && (there || back)
        && matches!(unit.symptom, Symptom::Silent | Symptom::Unreachable(_))
}

/// What is wrong with the route, in words; `None` where it is well or was not read.
fn bad_route(case: &Case<'_>, from: &NodeName, to: &NodeName, family: Family) -> Option<String> {
    let facts = case.facts(from)?;
    let address = case.address_on(to, family)?;
    let routes = facts.routes_to(address)?;
    let Some(route) = routes.first() else {
        return Some(format!("{from} has no route to {address}, a pod of {to}"));
    };
    let name = |what: &str| format!("the route of {from} to {address}, a pod of {to}, {what}");
    match route.kind {
        RouteKind::Blackhole => return Some(name("is a blackhole")),
        RouteKind::Unreachable => return Some(name("says unreachable")),
        RouteKind::Prohibit => return Some(name("says prohibited")),
        RouteKind::Throw => return Some(name("is left to other tables")),
        RouteKind::Unicast | RouteKind::Other(_) => {}
    }
    if route.destination.length() == 0 && tunnels_exist(case) {
        let via = route
            .gateway
            .map_or_else(String::new, |gateway| format!(" via {gateway}"));
        return Some(format!(
            "{from} has no route of its own to {address}, a pod of {to}: only the default route{via} matches, past the tunnel"
        ));
    }
    let dev = route.dev.as_deref()?;
    match facts.link(dev) {
        Lookup::Found(link) if !link.up => Some(name(&format!("leads to {dev}, which is down"))),
        Lookup::Absent => Some(name(&format!("leads to {dev}, which does not exist"))),
        Lookup::Found(_) | Lookup::Unread => None,
    }
}

/// Whether some node reaches other nodes' pods by a tunnel: then a default route is no way.
fn tunnels_exist(case: &Case<'_>) -> bool {
    case.nodes()
        .into_iter()
        .filter_map(|node| case.facts(node))
        .any(|facts| {
            let is_tunnel = |name: &str| {
                facts
                    .link(name)
                    .found()
                    .is_some_and(|link| link.vxlan.is_some())
            };
            facts
                .routes
                .iter()
                .flatten()
                .any(|route| route.dev.as_deref().is_some_and(is_tunnel))
        })
}

fn route_missing(
    case: &Case<'_>,
    from: &NodeName,
    to: &NodeName,
    family: Family,
) -> Option<Opinion> {
    let units = case.places(|unit| depends_on(unit, from, to, family));
    if units.is_empty() {
        return None;
    }
    let place = Place::between(from, to, Some(from), family);
    if let Some(said) = bad_route(case, from, to, family) {
        return Some(
            Opinion::proves(Cause::RouteMissing, place, units.clone(), Proof::Facts)
                .because(said)
                .because_all(at_once(case, &units)),
        );
    }
    let told =
        case.places(|unit| depends_on(unit, from, to, family) && refuses_route(case, unit, from));
    if !told.is_empty() {
        return Some(
            Opinion::proves(Cause::RouteMissing, place, units, Proof::Packets)
                .because_all(at_once(case, &told))
                .because(format!("{from} itself refuses, before anything left it"))
                .not(Cause::OverlayBlocked, "the tunnel was never reached"),
        );
    }
    let facts = case.facts(from)?;
    facts.routes.is_some().then(|| {
        Opinion::excludes(
            Cause::RouteMissing,
            place,
            units,
            format!("{from} has its route to the pods of {to}"),
        )
    })
}

/// Whether the node itself refused at once for want of a route: to the client (quoting a SYN that
/// no router has touched), or to the server for its answer.
fn refuses_route(case: &Case<'_>, unit: &Unit, node: &NodeName) -> bool {
    if unit.client.node == *node {
        let refused = matches!(
            unit.symptom,
            Symptom::Unreachable(
                Unreachable::Network | Unreachable::Host | Unreachable::Prohibited
            )
        );
        refused
            && case.client_packets(unit).any(|seen| {
                seen.packet
                    .icmp()
                    .and_then(|(_, icmp)| icmp.quoted)
                    .is_some_and(|quoted| quoted.hop_limit == 64)
            })
    } else {
        case.server_packets(unit).any(|seen| {
            seen.packet.icmp().is_some_and(|(_, icmp)| {
                matches!(icmp.kind, crate::wire::IcmpKind::Unreachable { .. })
            })
        })
    }
}

fn at_once(case: &Case<'_>, units: &BTreeSet<usize>) -> Vec<String> {
    let mut said: Vec<String> = case
        .at(units)
        .flat_map(|unit| case.client_packets(unit).chain(case.server_packets(unit)))
        .filter_map(|seen| {
            let (ip, icmp) = seen.packet.icmp()?;
            let inner = icmp.quoted?.hop_limit;
            Some(format!(
                "ICMP {}/{} from {} (TTL {}, quoting TTL {inner})",
                icmp.type_code.0, icmp.type_code.1, ip.src, ip.hop_limit
            ))
        })
        .collect();
    said.sort();
    said.dedup();
    said.truncate(2);
    said
}

/// The tunnel by which one node reaches a pod of the other, and the next router's address.
fn tunnel_to<'a>(facts: &'a NodeFacts, address: IpAddr) -> Option<(&'a Link, IpAddr)> {
    let routes = facts.routes_to(address)?;
    let route = routes.first()?;
    let link = facts.link(route.dev.as_deref()?).found()?;
    link.vxlan.as_ref()?;
    Some((link, route.gateway?))
}

/// What is wrong with what a node believes of its peer's tunnel end; `Ok` where it agrees.
fn believes(
    case: &Case<'_>,
    from: &NodeName,
    to: &NodeName,
    family: Family,
) -> Option<Result<String, String>> {
    let facts = case.facts(from)?;
    let (link, router) = tunnel_to(facts, case.address_on(to, family)?)?;
    let dev = &link.name;
    let peer = case.facts(to).and_then(|facts| {
        let back = case.address_on(from, family)?;
        let by_route = tunnel_to(facts, back).map(|(link, _)| link);
        let by_name = facts.link(dev).found();
        by_route.or(by_name)
    });
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
    if let Some(own) = peer.and_then(|peer| peer.mac)
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
        let ends = ends
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(", ");
        return Some(Err(format!(
            "{from} tunnels what is for {mac} to {ends}, but {to} is at {local}"
        )));
    }
    Some(Ok(format!(
        "{from} sends to {mac} for {router}, as {to} has it"
    )))
}

fn stale_neighbour(
    case: &Case<'_>,
    from: &NodeName,
    to: &NodeName,
    family: Family,
) -> Option<Opinion> {
    let units = case.places(|unit| depends_on(unit, from, to, family));
    if units.is_empty() {
        return None;
    }
    let place = Place::between(from, to, Some(from), family);
    match believes(case, from, to, family) {
        Some(Err(said)) => Some(
            Opinion::proves(Cause::StaleOverlayNeighbour, place, units, Proof::Facts).because(said),
        ),
        Some(Ok(said)) => Some(Opinion::excludes(
            Cause::StaleOverlayNeighbour,
            place,
            units,
            said,
        )),
        None => {
            let unresolved = case.places(|unit| {
                depends_on(unit, from, to, family)
                    && unit.client.node == *from
                    && unit.symptom == Symptom::Unreachable(Unreachable::Host)
                    && case.client_packets(unit).any(|seen| {
                        seen.packet
                            .icmp()
                            .and_then(|(_, icmp)| icmp.quoted)
                            .is_some_and(|quoted| quoted.hop_limit == 63)
                    })
            });
            (!unresolved.is_empty()).then(|| {
                Opinion::fits(Cause::StaleOverlayNeighbour, place, unresolved.clone())
                    .because(format!("{from} routes, and then does not find its next router"))
                    .because_all(at_once(case, &unresolved))
                    .decided_by(format!("`ip neigh show dev flannel.1` and `bridge fdb show dev flannel.1` on {from}, against the annotation flannel.alpha.coreos.com/backend-data of {to}"))
            })
        }
    }
}

/// Silence between nodes that no node's own word explains.
fn blocked(case: &Case<'_>, family: Family) -> Vec<Opinion> {
    let silent = |unit: &Unit| {
        unit.family == family && unit.is_cross_node() && unit.symptom == Symptom::Silent
    };
    let deaths: Vec<(usize, Death)> = case
        .failing(silent)
        .map(|(at, unit)| (at, death(case, unit)))
        .collect();
    let mut located: BTreeMap<(NodeName, NodeName), Vec<(usize, String)>> = BTreeMap::new();
    let mut unclear: BTreeMap<(NodeName, NodeName), Vec<(usize, String)>> = BTreeMap::new();
    for (at, death) in deaths {
        match death.spot {
            Spot::Tunnel(from, to) => located
                .entry((from, to))
                .or_default()
                .push((at, death.because)),
            Spot::Unclear => {
                let Some(unit) = case.units.get(at) else {
                    continue;
                };
                let Some(server) = &unit.server else { continue };
                let way = match death.way {
                    Way::There => (unit.client.node.clone(), server.node.clone()),
                    Way::Back => (server.node.clone(), unit.client.node.clone()),
                };
                unclear.entry(way).or_default().push((at, death.because));
            }
            Spot::Node(_) | Spot::Elsewhere => {}
        }
    }
    let shared = |pick: fn(&(NodeName, NodeName)) -> &NodeName| {
        let ends: BTreeSet<&NodeName> = located.keys().map(pick).collect();
        (located.len() > 1 && ends.len() == 1)
            .then(|| ends.into_iter().next().cloned())
            .flatten()
    };
    let mut opinions = Vec::new();
    if let Some(node) = shared(|way| &way.1).or_else(|| shared(|way| &way.0)) {
        let all: Vec<(usize, String)> = located.values().flatten().cloned().collect();
        opinions.push(one_blocked(
            case,
            Place::node(&node, family),
            &all,
            &located,
        ));
    } else {
        for ((from, to), found) in &located {
            let dropped =
                tunnel_traffic(case, from, family).is_some_and(|(_, sent)| sent.tx_dropped > 0);
            let at = if dropped { from } else { to };
            let place = Place::between(from, to, Some(at), family);
            opinions.push(one_blocked(case, place, found, &located));
        }
    }
    for ((from, to), found) in &unclear {
        let units = found.iter().map(|(at, _)| *at).collect();
        opinions.push(
            Opinion::fits(Cause::OverlayBlocked, Place::between(from, to, None, family), units)
                .because_all(sentences(found))
                .decided_by(format!("`tcpdump -ni any udp port 8472` on {from} and {to} while a probe runs: what leaves one and does not reach the other is blocked between them"))
                .decided_by(format!("forward-drop would look the same: the counters of the FORWARD chains of {from} and {to}")),
        );
    }
    opinions
}

fn sentences(found: &[(usize, String)]) -> Vec<String> {
    let mut said: Vec<String> = found.iter().map(|(_, because)| because.clone()).collect();
    said.sort();
    said.dedup();
    said.truncate(4);
    said
}

fn one_blocked(
    case: &Case<'_>,
    place: Place,
    found: &[(usize, String)],
    located: &BTreeMap<(NodeName, NodeName), Vec<(usize, String)>>,
) -> Opinion {
    let units: BTreeSet<usize> = found.iter().map(|(at, _)| *at).collect();
    let family = place.family;
    let known = located
        .keys()
        .all(|(from, to)| matches!(believes(case, from, to, family), Some(Ok(_))));
    let dropped: Vec<String> = located
        .keys()
        .filter_map(|(from, _)| {
            let (name, sent) = tunnel_traffic(case, from, family)?;
            (sent.tx_dropped > 0).then(|| {
                format!(
                    "{from} counted tx_dropped +{} at {name}: its own OUTPUT drops them",
                    sent.tx_dropped
                )
            })
        })
        .collect();
    let opinion = if known {
        Opinion::proves(Cause::OverlayBlocked, place, units.clone(), Proof::Packets)
    } else {
        Opinion::fits(Cause::OverlayBlocked, place, units.clone())
            .decided_by("`tcpdump -ni any udp port 8472` on both nodes while a probe runs")
            .decided_by("routes, neighbours and forwarding entries of both nodes: `ip route`, `ip neigh`, `bridge fdb`")
    };
    let same = case.passes(|path| {
        path.family == family
            && path
                .server
                .as_ref()
                .is_some_and(|server| server.node == path.client.node)
    });
    let opinion = opinion.because_all(sentences(found)).because_all(dropped);
    if same {
        opinion.not(
            Cause::ForwardDrop,
            "the nodes forward between their own pods, and the packets do not get across",
        )
    } else {
        opinion
    }
}

fn mtu(case: &Case<'_>, family: Family) -> Vec<Opinion> {
    let stalled = |unit: &Unit| unit.family == family && unit.symptom == Symptom::Stalled;
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

fn how_far(case: &Case<'_>, units: &BTreeSet<usize>) -> Option<String> {
    case.at(units)
        .flat_map(|unit| case.probes(unit))
        .find_map(|probe| match probe.client.exchange {
            Exchange::Greeted {
                echo: Echo::Stalled { sent, received },
                ..
            } => Some(format!(
                "of {sent} bytes handed over, {received} came back before the deadline"
            )),
            Exchange::Greeted { .. }
            | Exchange::NotTried
            | Exchange::NoBanner
            | Exchange::Foreign
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
