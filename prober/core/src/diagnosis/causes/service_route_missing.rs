//! `service-route-missing`: a node has no route that covers the address of a Service, so its own connect() to it fails.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::service_proxy;
use crate::diagnosis::Remedy;
use crate::diagnosis::case::Case;
use crate::diagnosis::catalogue::Cause;
use crate::diagnosis::hypothesis::{Place, Proof};
use crate::diagnosis::model::{Applies, Fingerprint, Model, Prediction};
use crate::diagnosis::remedy::step;
use crate::diagnosis::symptom::FailureGroup;
use crate::node_facts::{Resolution, RouteQuery};
use crate::packet::family::Family;
use crate::topology::{AccessPath, NodeName, Path};

/// The model.
pub(crate) struct ServiceRouteMissing;

impl Model for ServiceRouteMissing {
    fn cause(&self) -> Cause {
        Cause::ServiceRouteMissing
    }

    fn places(&self, case: &Case<'_>, family: Family) -> BTreeSet<Place> {
        case.failing(|group| group.family == family && group.is_unrouted())
            .map(|(_, group)| Place::node(&group.client.node, family))
            .collect()
    }

    fn applies(&self, case: &Case<'_>, place: &Place) -> Applies {
        place.node.as_ref().map_or(Applies::Yes, |node| {
            service_proxy::applies(
                case,
                node,
                "no route to the address of a Service is looked up there",
            )
        })
    }

    fn predict(&self, _: &Case<'_>, place: &Place, path: &Path) -> Prediction {
        // What pods send is translated before the node looks up a route, and other Services may have one.
        if path.access_path == AccessPath::HostNetwork
            && place.node.as_ref() == Some(&path.client.node)
        {
            Prediction::MayFail
        } else {
            Prediction::Passes
        }
    }

    fn explains(&self, _: &Case<'_>, place: &Place, group: &FailureGroup) -> bool {
        group.is_unrouted() && place.node.as_ref() == Some(&group.client.node)
    }

    fn fingerprint(&self, case: &Case<'_>, place: &Place, groups: &BTreeSet<usize>) -> Fingerprint {
        let Some(node) = &place.node else {
            return Fingerprint::Missing(Vec::new());
        };
        let services = targets(case, groups);
        if let Some(works) = reached(case, place, &services) {
            return Fingerprint::Refuted(works);
        }
        for service in &services {
            let facts = case.facts(node);
            let route = facts.map_or(Resolution::Unread, |facts| {
                facts.resolve(RouteQuery::to(*service))
            });
            match route {
                Resolution::NoRoute => {}
                Resolution::Unread => {
                    return Fingerprint::Missing(vec![format!(
                        "`ip route get {service}` on {node}"
                    )]);
                }
                Resolution::Local
                | Resolution::Route(_)
                | Resolution::RefusedByRoute(_)
                | Resolution::RefusedByRule(_) => {
                    return Fingerprint::Refuted(format!(
                        "a route or a rule of {node} covers {service}"
                    ));
                }
            }
        }
        let services: Vec<String> = services.iter().map(ToString::to_string).collect();
        let services = services.join(" and ");
        Fingerprint::Seen(
            Proof::Facts,
            vec![
                format!(
                    "{node} has no route that covers {services}, and a Service is translated only after a route was found"
                ),
                format!(
                    "connect() on {node} failed at once with ENETUNREACH: the kernel sent no packet"
                ),
            ],
        )
    }

    fn remedy(&self, case: &Case<'_>, place: &Place, groups: &BTreeSet<usize>) -> Vec<Remedy> {
        let ip = match place.family {
            Family::Ipv4 => "ip",
            Family::Ipv6 => "ip -6",
        };
        let router = place
            .node
            .as_ref()
            .and_then(|node| router_of_others(case, node, place.family));
        let by_router = router.map(|(router, link)| {
            step(
                "Give the node the default route that other nodes have.",
                [format!("{ip} route add default via {router} dev {link}")],
            )
        });
        let by_dummy = match place.family {
            Family::Ipv4 => vec![
                "ip addr add 203.0.113.254/31 dev dummy0",
                "ip route add default via 203.0.113.255 dev dummy0 metric 1000",
            ],
            Family::Ipv6 => vec!["ip -6 route add default dev dummy0 metric 1000"],
        };
        let links = ["ip link add dummy0 type dummy", "ip link set dummy0 up"];
        let lookups = targets(case, groups).into_iter();
        let lookups = lookups.map(|service| format!("{ip} route get {service}"));
        by_router
            .into_iter()
            .chain([
                step(
                    "Where the node has no router (an air-gapped site), let a default route lead to a dummy link: a Service is translated before a packet takes it. A route of type blackhole does not help: connect() fails with it as well.",
                    links.into_iter().chain(by_dummy),
                ),
                step(
                    "Write the route into the node's network configuration as well, and see that it covers the Services.",
                    lookups,
                ),
            ])
            .collect()
    }
}

/// The Services' addresses that the probes of these groups were for.
fn targets(case: &Case<'_>, groups: &BTreeSet<usize>) -> BTreeSet<IpAddr> {
    case.at(groups)
        .filter_map(|group| Some(case.path(group.path)?.target.ip()))
        .collect()
}

/// A healthy connection of the node itself to one of these addresses, as a sentence.
fn reached(case: &Case<'_>, place: &Place, services: &BTreeSet<IpAddr>) -> Option<String> {
    let mut healthy = case.all_healthy();
    let works = healthy.find(|evidence| {
        evidence.path.access_path == AccessPath::HostNetwork
            && place.node.as_ref() == Some(&evidence.path.client.node)
            && services.contains(&evidence.target.ip())
    })?;
    Some(format!("{} works", case.named(works)))
}

/// The router that another node has as its default route, and the link on which this node reaches it directly.
fn router_of_others<'a>(
    case: &Case<'a>,
    node: &NodeName,
    family: Family,
) -> Option<(IpAddr, &'a str)> {
    let own = case.facts(node)?;
    let others = case.nodes().into_iter().filter(|other| *other != node);
    let mut routes = others
        .filter_map(|other| case.facts(other)?.routes.as_ref())
        .flatten();
    routes.find_map(|route| {
        let router = route.gateway.filter(|router| {
            route.destination.prefix_len() == 0 && Family::of(*router) == family
        })?;
        match own.resolve(RouteQuery::to(router)) {
            Resolution::Route(direct) if direct.gateway.is_none() => {
                Some((router, direct.dev.as_deref()?))
            }
            Resolution::Route(_)
            | Resolution::Local
            | Resolution::RefusedByRoute(_)
            | Resolution::RefusedByRule(_)
            | Resolution::NoRoute
            | Resolution::Unread => None,
        }
    })
}
