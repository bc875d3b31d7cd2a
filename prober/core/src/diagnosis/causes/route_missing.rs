//! `route-missing`: a node has no usable route to the pods of another.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::crossing;
use super::routing_daemon::Daemon;
use crate::data_plane::{Plugin, Transport};
use crate::diagnosis::case::Case;
use crate::diagnosis::catalogue::Cause;
use crate::diagnosis::hypothesis::{Place, Proof};
use crate::diagnosis::location::Stage;
use crate::diagnosis::model::{Fingerprint, Model, Prediction};
use crate::diagnosis::remedy::step;
use crate::diagnosis::symptom::FailureGroup;
use crate::diagnosis::{Remedy, origin};
use crate::node_facts::{Link, Lookup, Resolution, Route, RouteKind, RuleAction};
use crate::packet::family::Family;
use crate::topology::{NodeName, Path};

/// The model.
pub(crate) struct RouteMissing;

impl Model for RouteMissing {
    fn cause(&self) -> Cause {
        Cause::RouteMissing
    }

    fn places(&self, case: &Case<'_>, family: Family) -> BTreeSet<Place> {
        crossing::places(case, family)
    }

    fn predict(&self, _: &Case<'_>, place: &Place, path: &Path) -> Prediction {
        crossing::predict(place, path)
    }

    fn explains(&self, case: &Case<'_>, place: &Place, group: &FailureGroup) -> bool {
        // Another route may match, and lead elsewhere.
        let is_astray = |place: &Place| {
            crossing::fails_at_sender(case, place, group, &[Stage::Routing, Stage::ToUplink])
                || crossing::is_lost_between(case, place, group)
        };
        if is_astray(place) {
            return true;
        }
        // The routes were removed with the tunnel's link, which does not receive either.
        let Some((from, to)) = crossing::ends(place) else {
            return false;
        };
        let reverse = Place::between(to, from, Some(to), place.family);
        tunnel_down(case, from, place.family).is_some() && is_astray(&reverse)
    }

    fn fingerprint(&self, case: &Case<'_>, place: &Place, groups: &BTreeSet<usize>) -> Fingerprint {
        let Some((from, to)) = crossing::ends(place) else {
            return Fingerprint::Missing(Vec::new());
        };
        if let Some(sentence) = bad_route(case, from, to, place.family) {
            let down = tunnel_down(case, from, place.family);
            let down = down.map(|link| {
                format!(
                    "{} of {from} is down: no packet enters or leaves its tunnel",
                    link.name
                )
            });
            let seen = std::iter::once(sentence).chain(down);
            return Fingerprint::Seen(Proof::Facts, seen.collect());
        }
        let is_refused = case.at(groups).any(|group| refuses(case, group, from));
        if is_refused {
            let mut seen = crossing::icmp_errors(case, groups);
            seen.push(format!("{from} itself refuses before any packet leaves it"));
            return Fingerprint::Seen(Proof::Packets, seen);
        }
        match case.plane.transport(from, to, place.family) {
            Transport::Tunnel { .. }
            | Transport::Direct {
                by_default: false, ..
            }
            | Transport::Direct { table: Some(_), .. } => {
                Fingerprint::Refuted(format!("{from} has its route to the pods of {to}"))
            }
            Transport::Direct { .. } | Transport::ByPod { .. }
                if is_routed_by_the_network(case, from, to, place.family) =>
            {
                Fingerprint::Refuted(format!(
                    "{from} routes the packets of each of its pods to the network, which has the pods' addresses"
                ))
            }
            Transport::Direct {
                by_default: true,
                table: None,
                ..
            }
            | Transport::ByPod { .. }
            | Transport::Refused
            | Transport::NoRoute
            | Transport::Unknown => {
                Fingerprint::Missing(vec![look_up(case, from, to, place.family)])
            }
        }
    }

    fn support(&self, case: &Case<'_>, place: &Place, groups: &BTreeSet<usize>) -> Vec<String> {
        let mut said = crossing::icmp_errors(case, groups);
        if let (Some((from, _)), Some(daemon)) =
            (crossing::ends(place), Daemon::of_routes(case, place.family))
        {
            said.push(daemon.sentence(from));
        }
        said
    }

    fn remedy(&self, case: &Case<'_>, place: &Place, _: &BTreeSet<usize>) -> Vec<Remedy> {
        let ip = match place.family {
            Family::Ipv4 => "ip",
            Family::Ipv6 => "ip -6",
        };
        let mut commands = vec![format!(
            "{ip} route show table all | grep -v local; {ip} rule"
        )];
        if let Some((from, to)) = crossing::ends(place) {
            commands.extend(case.address_on(to, place.family).map(|address| {
                let get = route_get(case, from, address, place.family);
                format!("{ip} {get}   # on {from}: a pod of {to}")
            }));
        }
        let mut steps = vec![
            step(
                "Restart the network plugin's agent on this node: it writes the routes. Setting a link up again does not bring them back.",
                restart(case, place),
            ),
            step("See the routes to other nodes' pods.", commands),
        ];
        let daemon = Daemon::of_routes(case, place.family).zip(crossing::ends(place));
        steps.extend(
            daemon
                .into_iter()
                .flat_map(|(daemon, (from, _))| daemon.steps(from, place.family)),
        );
        steps
    }
}

/// The pods of the network plugin on the node, to be restarted by hand.
pub(super) fn restart(case: &Case<'_>, place: &Place) -> Vec<String> {
    let node = place.node.as_ref();
    if node.and_then(|node| case.plane.plugin(node)) == Some(Plugin::AwsVpc) {
        return vec!["kubectl -n kube-system rollout restart ds/aws-node".to_owned()];
    }
    node.map(|node| format!("kubectl get pods -A --field-selector spec.nodeName={node} -o wide"))
        .into_iter()
        .collect()
}

/// The command that shows the route.
fn look_up(case: &Case<'_>, from: &NodeName, to: &NodeName, family: Family) -> String {
    case.address_on(to, family).map_or_else(
        || format!("the routes of {from}: `ip route show table all`"),
        |address| format!("`ip {}` on {from}", route_get(case, from, address, family)),
    )
}

/// The subcommand of ip(8) that shows the route of a node's pods to an address. Where rules decide by the sender, it names one.
fn route_get(case: &Case<'_>, from: &NodeName, to: IpAddr, family: Family) -> String {
    let rules = case.facts(from).and_then(|facts| facts.rules.as_ref());
    let by_sender = rules
        .into_iter()
        .flatten()
        .any(|rule| rule.family == family && (rule.from.is_some() || rule.input.is_some()));
    let sender = (case.plane.senders().example(from, family)).filter(|_| by_sender);
    let sender = sender.map_or_else(String::new, |sender| format!(" {sender}"));
    format!("route get {to}{sender}")
}

/// The fault of the route, as a sentence; `None` where it is correct, was not read, or differs between the pods of the node.
fn bad_route(case: &Case<'_>, from: &NodeName, to: &NodeName, family: Family) -> Option<String> {
    let facts = case.facts(from)?;
    let address = case.address_on(to, family)?;
    let fault = |resolution: Resolution<'_>| fault(case, from, to, address, resolution);
    (case.plane.senders()).agree_on(facts, from, address, fault)?
}

/// The fault of a route from a node to this address of a pod of another one, as a sentence; `None` where it is correct, or was
/// not read.
pub(super) fn fault(
    case: &Case<'_>,
    from: &NodeName,
    to: &NodeName,
    address: IpAddr,
    resolution: Resolution<'_>,
) -> Option<String> {
    let pod = format!("{address}, a pod of {to}");
    let route = match resolution {
        Resolution::Route(route) | Resolution::RefusedByRoute(route) => route,
        Resolution::NoRoute => return Some(format!("{from} has no route to {pod}")),
        Resolution::RefusedByRule(rule) => {
            return Some(format!(
                "policy rule {} of {from} {} the packets of its pods to {pod}",
                rule.priority,
                refusal(rule.action)
            ));
        }
        Resolution::Local | Resolution::Unread => return None,
    };
    let table = match route.table {
        Route::MAIN => String::new(),
        other => format!(" in table {other}"),
    };
    let name = |what: &str| format!("the route of {from}{table} to {pod}, {what}");
    match route.kind {
        RouteKind::Blackhole => return Some(name("is a blackhole")),
        RouteKind::Unreachable => return Some(name("is of type unreachable")),
        RouteKind::Prohibit => return Some(name("is of type prohibit")),
        RouteKind::Throw => return Some(name("is of type throw")),
        RouteKind::Unicast | RouteKind::Local | RouteKind::Other(_) => {}
    }
    // A default route of a table that a rule chooses for pods is there for them.
    if route.destination.prefix_len() == 0
        && route.table == Route::MAIN
        && let Some((other, peer)) = explicit_route(case, Family::of(address))
    {
        let via = (route.gateway).map_or_else(String::new, |to| format!(" via {to}"));
        return Some(format!(
            "{from} has no route of its own to {pod}: only the default route{via} matches, while {other} has one to the pods of {peer}"
        ));
    }
    let dev = route.dev.as_deref()?;
    match case.facts(from)?.link(dev) {
        Lookup::Found(link) if !link.up => Some(name(&format!("leads to {dev}, which is down"))),
        Lookup::Absent => Some(name(&format!("leads to {dev}, which does not exist"))),
        Lookup::Found(_) | Lookup::Unread => None,
    }
}

/// Whether the network itself has the pods' addresses, so that a default route leads to them, and no route of a node's pods has
/// a fault.
fn is_routed_by_the_network(
    case: &Case<'_>,
    from: &NodeName,
    to: &NodeName,
    family: Family,
) -> bool {
    let (Some(facts), Some(address)) = (case.facts(from), case.address_on(to, family)) else {
        return false;
    };
    let is_usable = |resolution: Resolution<'_>| {
        matches!(resolution, Resolution::Route(_))
            && fault(case, from, to, address, resolution).is_none()
    };
    let views = case.plane.senders().views(facts, from, address, is_usable);
    case.plane.plugin(from) == Some(Plugin::AwsVpc) && views.into_iter().all(|usable| usable)
}

/// What a rule with this action does to packets, as a verb.
const fn refusal(action: RuleAction) -> &'static str {
    match action {
        RuleAction::Unreachable => "refuses (unreachable)",
        RuleAction::Prohibit => "refuses (prohibit)",
        RuleAction::Blackhole
        | RuleAction::Other(_)
        | RuleAction::Table(_)
        | RuleAction::Vrf
        | RuleAction::Goto(_)
        | RuleAction::Nop => "drops",
    }
}

/// A node that has a route of its own to the pods of another one: where nodes have such routes, a default route does not lead
/// to pods. A subnet that nodes and pods share is no such route: nodes of another subnet are behind the default route.
fn explicit_route<'a>(case: &'a Case<'_>, family: Family) -> Option<(&'a NodeName, &'a NodeName)> {
    case.plane
        .pairs(family)
        .find_map(|(from, to, transport)| match transport {
            Transport::Tunnel { .. }
            | Transport::Direct {
                by_default: false,
                gateway: Some(_),
                ..
            } => Some((from, to)),
            Transport::Direct {
                by_default: true, ..
            }
            | Transport::Direct { gateway: None, .. }
            | Transport::ByPod { .. }
            | Transport::Refused
            | Transport::NoRoute
            | Transport::Unknown => None,
        })
}

/// Whether the node itself rejected packets for lack of a route: to the client, quoting a SYN that no router has forwarded, or
/// to the server for its answer.
fn refuses(case: &Case<'_>, group: &FailureGroup, node: &NodeName) -> bool {
    if group.client.node != *node {
        return crossing::answer_is_refused(case, group);
    }
    let quoted = origin::unreachable(case, group).and_then(|(_, icmp)| icmp.quoted);
    let is_untouched = quoted.is_some_and(|quoted| {
        quoted.hop_limit == crate::data_plane::initial_hop_limit(quoted.hop_limit)
    });
    group.symptom.is_unroutable() && is_untouched
}

/// A node's own tunnel of this family, if it is down: no packet enters or leaves it.
fn tunnel_down<'a>(case: &'a Case<'_>, node: &NodeName, family: Family) -> Option<&'a Link> {
    let is_of_family = |link: &&Link| {
        let tunnel = link.vxlan.as_ref();
        tunnel.is_some_and(|tunnel| tunnel.local.is_none_or(|end| Family::of(end) == family))
    };
    // Only a link that other nodes' routes use is the data plane's.
    let is_used = |link: &&Link| {
        case.plane
            .pairs(family)
            .any(|(_, _, transport)| transport.is_tunnel() && transport.link() == Some(&link.name))
    };
    let mut links = case.facts(node)?.links.iter().flatten();
    links.find(|link| is_of_family(link) && !link.up && is_used(link))
}
