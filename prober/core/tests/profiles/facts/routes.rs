//! The routes and policy rules of a node.

use std::net::IpAddr;

use ipnet::IpNet;
use prober_core::node_facts::{Route, RouteKind, Rule};
use prober_core::packet::family::Family;

use super::links::{CILIUM_HOST, veth_name};
use crate::address::{client, in_range, node_ip, range, router_ip, segment, server, tunnel_ip};
use crate::cluster::{BrokenRoute, Cluster};
use crate::profile::{Attachment, Translation, Transport, UnusedAddress};

/// The table of the pods' second interface.
const POD_TABLE: u32 = 2;

/// Every route, without those of table `local`.
pub(super) fn routes(cluster: &Cluster, node: u8) -> Vec<Route> {
    let families = cluster.families.iter();
    families
        .flat_map(|&family| {
            let mut routes = of_uplinks(cluster, node, family);
            routes.extend(to_own_pods(cluster, node, family));
            // The pods of all nodes are on one segment there.
            if !cluster.profile.is_layer_2() {
                routes.extend(to_peers(cluster, node, family));
            }
            routes
        })
        .collect()
}

fn via(destination: &str, gateway: Option<IpAddr>, dev: &str) -> Route {
    Route {
        gateway,
        dev: Some(dev.to_owned()),
        ..Route::main(destination.parse().unwrap())
    }
}

fn refusing(destination: &str, kind: RouteKind) -> Route {
    Route {
        kind,
        ..Route::main(destination.parse().unwrap())
    }
}

/// The default routes, and the segment of the uplink.
fn of_uplinks(cluster: &Cluster, node: u8, family: Family) -> Vec<Route> {
    let (profile, settings) = (cluster.profile, cluster.node(node));
    let any = match family {
        Family::Ipv4 => "0.0.0.0/0",
        Family::Ipv6 => "::/0",
    };
    let router = Some(router_ip(profile, node, family));
    let mut routes = vec![via(&segment(profile, node, family), None, "eth0")];
    if settings.has_default_route {
        routes.push(via(any, router, "eth0"));
    }
    if profile.policy_routing {
        let route = if settings.is_pod_table_blackhole {
            refusing(any, RouteKind::Blackhole)
        } else {
            via(any, router, "eth1")
        };
        routes.push(Route {
            table: POD_TABLE,
            ..route
        });
    }
    routes
}

fn to_own_pods(cluster: &Cluster, node: u8, family: Family) -> Vec<Route> {
    let own = range(node, family);
    let (prefix, unused) = match cluster.profile.attachment {
        Attachment::Bridge { name } => return vec![via(&own, None, name)],
        Attachment::OwnLayer2 => {
            let segment = match family {
                Family::Ipv4 => "10.244.0.0/16",
                Family::Ipv6 => "fd00:244::/32",
            };
            return vec![via(segment, None, "shim0")];
        }
        // Cilium has no route for each pod: its programs know them.
        Attachment::RoutedVeth { .. } if cluster.profile.translation == Translation::Socket => {
            return vec![via(&own, Some(in_range(node, 1, family)), CILIUM_HOST)];
        }
        Attachment::RoutedVeth { prefix, unused, .. } => (prefix, unused),
    };
    let lost = &cluster.node(node).lost_pod_routes;
    let pods = [client(node), server(node)].into_iter();
    let pods = pods.filter(|pod| !lost.contains(pod)).map(|pod| {
        let to = IpNet::from(cluster.ip(pod, family)).to_string();
        via(&to, None, &veth_name(prefix, pod))
    });
    let rest = match unused {
        UnusedAddress::DefaultRoute => None,
        UnusedAddress::Blackhole => Some(refusing(&own, RouteKind::Blackhole)),
        UnusedAddress::Unreachable => Some(refusing(&own, RouteKind::Unreachable)),
    };
    pods.chain(rest).collect()
}

fn to_peers(cluster: &Cluster, node: u8, family: Family) -> Vec<Route> {
    let profile = cluster.profile;
    let to_peer = |peer| {
        let to = range(peer, family);
        let (gateway, dev) = match profile.transport(node, peer) {
            Transport::Vxlan { .. } if profile.translation == Translation::Socket => {
                (in_range(node, 1, family), CILIUM_HOST)
            }
            Transport::Vxlan { link, .. } => (tunnel_ip(peer, family), link),
            Transport::Direct => (node_ip(profile, peer, family), "eth0"),
            Transport::Fabric => (router_ip(profile, node, family), "eth0"),
        };
        match cluster.node(node).routes.get(&peer) {
            // The cloud routes between the nodes' ranges.
            None if profile.policy_routing => None,
            None => Some(via(&to, Some(gateway), dev)),
            Some(BrokenRoute::Absent) => None,
            Some(BrokenRoute::Blackhole) => Some(refusing(&to, RouteKind::Blackhole)),
            Some(BrokenRoute::Unreachable) => Some(refusing(&to, RouteKind::Unreachable)),
        }
    };
    let peers = cluster.numbers().filter(|&peer| peer != node);
    peers.filter_map(to_peer).collect()
}

/// The policy rules: those of a new namespace, and with policy routing two for each pod.
pub(super) fn rules(cluster: &Cluster, node: u8) -> Vec<Rule> {
    let mut rules = Vec::new();
    for &family in &cluster.families {
        rules.extend_from_slice(Rule::defaults(family));
        if !cluster.profile.policy_routing {
            continue;
        }
        for pod in [client(node), server(node)] {
            let pod = Some(IpNet::from(cluster.ip(pod, family)));
            rules.push(Rule {
                to: pod,
                ..Rule::lookup(family, 512, Route::MAIN)
            });
            rules.push(Rule {
                from: pod,
                ..Rule::lookup(family, 1536, POD_TABLE)
            });
        }
    }
    rules.sort_by_key(|rule| (rule.family, rule.priority));
    rules
}
