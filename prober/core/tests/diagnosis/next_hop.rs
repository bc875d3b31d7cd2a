//! Routes that lead to a wrong router, tunnels that differ, and the words of the programs that write them.

use std::net::IpAddr;

use prober_core::diagnosis::catalogue::Cause;
use prober_core::diagnosis::diagnose;
use prober_core::node_facts::{Address, Neighbour, NeighbourState, NodeFacts, Route, Vxlan};
use prober_core::packet::family::Family;
use prober_core::topology::Path;

use super::builder::{Cluster, Story, client, node, server, underlay, vtep};
use super::named;

const V4: Family = Family::Ipv4;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn across(from: u8, to: u8) -> impl Fn(&Path) -> bool + Copy {
    move |path: &Path| path.client == client(from) && path.server == Some(server(to))
}

/// A cluster in which no packet of pods gets from node-1 to node-2.
fn one_way(nodes: u8) -> Cluster {
    Cluster::new(nodes)
        .with_story(across(1, 2), Story::Nothing)
        .with_story(across(2, 1), Story::ReplyLost)
        .with_balanced_story(|path| path.client == client(1), &server(2), Story::Nothing)
        .with_balanced_story(
            |path| path.client == client(2),
            &server(1),
            Story::ReplyLost,
        )
        .tracks(1, across(1, 2), "SYN_SENT")
        .tracks(1, across(2, 1), "SYN_RECV")
        .tracks(2, across(2, 1), "SYN_SENT")
}

/// Changes the routes to other nodes' pods so that they lead there by the nodes' own addresses.
pub(crate) fn plain(facts: &mut NodeFacts, n: u8, nodes: u8) {
    for route in facts.routes.iter_mut().flatten() {
        for peer in (1..=nodes).filter(|peer| *peer != n) {
            if route.gateway == Some(vtep(peer, V4)) {
                route.gateway = Some(underlay(peer, V4));
                route.dev = Some("eth0".to_owned());
                route.protocol = Some(12);
            }
        }
    }
    let links = facts.links.as_mut().unwrap();
    links.retain(|link| link.vxlan.is_none());
    facts.addresses = Some(vec![Address {
        prefix: ipnet::IpNet::new(underlay(n, V4), 24).unwrap(),
        dev: "eth0".to_owned(),
    }]);
}

/// The route of node-1 to the pods of node-2.
fn route(facts: &mut NodeFacts) -> &mut Route {
    let pods: ipnet::IpNet = format!("{}/24", vtep(2, V4)).parse().unwrap();
    let mut routes = facts.routes.iter_mut().flatten();
    routes.find(|route| route.destination == pods).unwrap()
}

/// Plain routes between three nodes, of which node-1 has another next hop to node-2.
fn by(gateway: &str, state: Option<NeighbourState>) -> Cluster {
    let mut cluster = one_way(3);
    for n in 1..=3 {
        cluster = cluster.facts(n, |facts| plain(facts, n, 3));
    }
    cluster.facts(1, |facts| {
        route(facts).gateway = Some(ip(gateway));
        let neighbours = facts.neighbours.as_mut().unwrap();
        neighbours.extend(state.map(|state| Neighbour {
            ip: ip(gateway),
            mac: None,
            dev: "eth0".to_owned(),
            state,
        }));
    })
}

#[test]
fn a_next_hop_that_does_not_resolve_is_wrong_and_no_route_is_missing() {
    let cluster = by("172.20.0.250", Some(NeighbourState::Failed));
    assert_eq!(named(&cluster.matrix), ["wrong-next-hop node-1 proven"]);
    let [only] = &diagnose(&cluster.matrix)[..] else {
        panic!("one diagnosis");
    };
    assert_eq!(
        only.evidence[0],
        "the route of node-1 to the pods of node-2 leads to 172.20.0.250 on eth0, which does not resolve (FAILED); node-2 is \
         at 172.20.0.12"
    );
    let commands: Vec<&String> = only.remedy.iter().flat_map(|step| &step.commands).collect();
    assert!(
        commands
            .iter()
            .any(|one| one.starts_with("birdcl show protocols"))
    );
    assert!(commands.iter().all(|one| !one.contains("flannel")));
}

#[test]
fn a_next_hop_that_is_no_node_is_wrong_where_nodes_are_each_others_next_hops() {
    let cluster = by("172.20.0.250", None);
    assert_eq!(named(&cluster.matrix), ["wrong-next-hop node-1 proven"]);
}

#[test]
fn a_next_hop_that_may_be_a_router_proves_nothing() {
    // The router of the default route, and a third node.
    for gateway in ["172.20.0.1", "172.20.0.13"] {
        let found = named(&by(gateway, None).matrix);
        assert!(
            found.iter().all(|one| one.ends_with("consistent")),
            "{gateway}: {found:?}"
        );
    }
}

#[test]
fn where_the_next_hop_is_the_other_node_the_network_between_them_drops() {
    let cluster = by("172.20.0.12", None);
    let found = diagnose(&cluster.matrix);
    let cause = found[0].cause.map(Cause::slug);
    assert_eq!((found.len(), cause), (1, Some("network-blocked")));
    let excluded = found[0].excluded.iter();
    let reason = excluded
        .filter(|one| one.cause.slug() == "wrong-next-hop")
        .map(|one| one.because.as_str());
    assert_eq!(
        reason.collect::<Vec<_>>(),
        ["the route of node-1 to the pods of node-2 leads to 172.20.0.12, an address of node-2"]
    );
}

#[test]
fn a_lost_route_of_a_routing_daemon_is_reported_in_its_words() {
    let cluster = by("172.20.0.12", None).facts(1, |facts| {
        let pods = route(facts).destination;
        let routes = facts.routes.as_mut().unwrap();
        routes.retain(|route| route.destination != pods);
    });
    assert_eq!(named(&cluster.matrix), ["route-missing node-1 proven"]);
    let [only] = &diagnose(&cluster.matrix)[..] else {
        panic!("one diagnosis");
    };
    assert!(only.evidence.iter().any(|said| said.contains("are BIRD's")));
    let mut commands = only.remedy.iter().flat_map(|step| &step.commands);
    assert!(commands.any(|command| command == "calicoctl node status"));
}

/// Gives the tunnel of a node another port and VNI.
fn other_tunnel(facts: &mut NodeFacts) {
    for link in facts.links.iter_mut().flatten() {
        if let Some(vxlan) = &mut link.vxlan {
            *vxlan = Vxlan {
                id: Some(4096),
                port: Some(4789),
                ..vxlan.clone()
            };
        }
    }
}

/// Neither packets of node-1 arrive on other nodes, nor theirs on node-1.
fn cut_off(nodes: u8) -> Cluster {
    let is_cut = |path: &Path| {
        let is_1 = |of: &prober_core::topology::AgentId| of.node == node(1);
        path.server
            .as_ref()
            .is_some_and(|server| is_1(server) != is_1(&path.client))
    };
    Cluster::new(nodes)
        .with_story(is_cut, Story::Nothing)
        .with_balanced_story(|path| path.client == client(1), &server(2), Story::Nothing)
        .with_balanced_story(|path| path.client == client(2), &server(1), Story::Nothing)
}

#[test]
fn tunnels_of_two_nodes_with_another_port_and_vni_are_named_between_them() {
    let cluster = cut_off(2);
    let alike = named(&cluster.matrix);
    let is_named = |one: &String| one.starts_with("encapsulation-mismatch");
    assert!(!alike.iter().any(is_named), "{alike:?}");
    let odd = cluster.facts(1, other_tunnel);
    assert_eq!(named(&odd.matrix), ["encapsulation-mismatch - proven"]);
    let [only] = &diagnose(&odd.matrix)[..] else {
        panic!("one diagnosis");
    };
    assert_eq!(
        only.evidence[0],
        "node-1 sends packets for the pods of node-2 by flannel.1 to UDP port 4789 with VNI 4096, which no link of node-2 \
         receives: flannel.1 there has port 8472 and VNI 1"
    );
}

#[test]
fn the_tunnel_of_the_other_family_receives_nothing_of_this_one() {
    let with_other_family = |facts: &mut NodeFacts| {
        let links = facts.links.as_mut().unwrap();
        let mut six = links
            .iter()
            .find(|link| link.vxlan.is_some())
            .unwrap()
            .clone();
        six.name = "flannel-v6.1".to_owned();
        six.vxlan.as_mut().unwrap().local = Some(ip("fd00::1"));
        links.push(six);
    };
    let cluster = cut_off(2).facts(1, with_other_family).facts(1, |facts| {
        let links = facts.links.iter_mut().flatten();
        let own = links.filter(|link| link.name != "flannel-v6.1");
        for vxlan in own.filter_map(|link| link.vxlan.as_mut()) {
            (vxlan.id, vxlan.port) = (Some(4096), Some(4789));
        }
    });
    assert_eq!(named(&cluster.matrix), ["encapsulation-mismatch - proven"]);
}

#[test]
fn among_three_nodes_the_one_whose_tunnel_differs_is_named() {
    let cluster =
        cut_off(3).with_balanced_story(|path| path.client == client(3), &server(1), Story::Nothing);
    let found = named(&cluster.facts(1, other_tunnel).matrix);
    assert!(
        found
            .iter()
            .all(|one| one == "encapsulation-mismatch node-1 proven"),
        "{found:?}"
    );
}

#[test]
fn a_tunnel_that_takes_the_vni_from_each_packet_receives_all() {
    let cluster = cut_off(2).facts(1, |facts| {
        for link in facts.links.iter_mut().flatten() {
            if let Some(vxlan) = &mut link.vxlan {
                vxlan.id = Some(0);
            }
        }
    });
    let found = named(&cluster.matrix);
    assert!(
        found
            .iter()
            .all(|one| !one.starts_with("encapsulation-mismatch")),
        "{found:?}"
    );
}
