//! Nodes of Cilium: BPF programs forward pods' packets past the chains, translate Services, and send into their own tunnel.

use prober_core::data_plane::DataPlane;
use prober_core::diagnosis::diagnose;
use prober_core::node_facts::{Link, NodeFacts, Route, Vxlan};
use prober_core::packet::Unreachable;
use prober_core::packet::family::Family;
use prober_core::topology::{AccessPath, Path};

use super::builder::{CLUSTER_IP, Cluster, Lost, Story, client, gateway, node, server, underlay};
use super::named;

const TUNNEL: &str = "cilium_vxlan";

/// A node without chains and bridges: every route to pods leads to Cilium's own device, or to the other nodes themselves.
fn become_cilium(facts: &mut NodeFacts, n: u8, is_native: bool) {
    let links = facts.links.as_mut().unwrap();
    links.retain(|link| link.name == "eth0");
    // The node is a container itself.
    for uplink in links.iter_mut() {
        uplink.kind = Some("veth".to_owned());
    }
    let veths = [
        "cilium_host",
        "cilium_net",
        "lxc0a1b2c3d4e5f",
        "lxc5f4e3d2c1b0a",
    ];
    links.extend(veths.map(|name| Link {
        name: name.to_owned(),
        kind: Some("veth".to_owned()),
        up: true,
        mtu: Some(1500),
        ..Link::default()
    }));
    if !is_native {
        links.push(Link {
            name: TUNNEL.to_owned(),
            kind: Some("vxlan".to_owned()),
            up: true,
            mtu: Some(1500),
            vxlan: Some(Vxlan {
                id: Some(0),
                port: Some(8472),
                ..Vxlan::default()
            }),
            ..Link::default()
        });
    }
    facts.fdb = Some(Vec::new());
    facts.kube_proxy = None;
    let own = gateway(n, Family::Ipv4);
    facts.routes.as_mut().unwrap().push(Route {
        dev: Some("cilium_host".to_owned()),
        ..Route::main(own.into())
    });
    for route in facts.routes.as_mut().unwrap() {
        if route.destination.prefix_len() % 32 == 0 || route.dev.as_deref() == Some("eth0") {
            continue;
        }
        let peer = match route.destination.addr() {
            std::net::IpAddr::V4(ip) => ip.octets()[2],
            std::net::IpAddr::V6(_) => continue,
        };
        if is_native && peer != n {
            route.gateway = Some(underlay(peer, Family::Ipv4));
            route.dev = Some("eth0".to_owned());
        } else {
            route.gateway = Some(own);
            route.dev = Some("cilium_host".to_owned());
        }
    }
}

fn cilium(nodes: u8, is_native: bool) -> Cluster {
    (1..=nodes).fold(Cluster::new(nodes), |cluster, n| {
        cluster.facts(n, |facts| become_cilium(facts, n, is_native))
    })
}

/// The line of a node in the report.
fn line(cluster: &Cluster) -> String {
    let plane = DataPlane::infer(&cluster.matrix);
    plane.node(&node(1)).unwrap().summary()
}

/// The commands of the first diagnosis.
fn commands(cluster: &Cluster) -> String {
    let found = diagnose(&cluster.matrix);
    let steps = found[0].remedy.iter().flat_map(|step| &step.commands);
    steps.cloned().collect::<Vec<_>>().join("\n")
}

#[test]
fn the_report_says_cilium_and_how_it_connects_nodes_and_translates() {
    assert_eq!(
        line(&cilium(2, false)),
        "Cilium, vxlan cilium_vxlan to node-2, Services translated by BPF at the pods' links"
    );
    assert_eq!(
        line(&cilium(2, true).translated_in_connect(|_| true)),
        "Cilium, routes by eth0 to node-2, Services translated at connect()"
    );
}

fn across(from: u8, to: u8) -> impl Fn(&Path) -> bool + Copy {
    move |path: &Path| path.client == client(from) && path.server == Some(server(to))
}

#[test]
fn a_blocked_tunnel_of_its_programs_is_named_with_its_port() {
    let blocked = cilium(2, false)
        .with_story(across(1, 2), Story::Nothing)
        .with_story(across(2, 1), Story::ReplyLost)
        .translated_in_connect(|_| true)
        .traffic(1, TUNNEL, 9, 9, 0)
        .traffic(2, TUNNEL, 9, 0, 0);
    let names = named(&blocked.matrix);
    assert!(names[0].starts_with("overlay-blocked node-2"), "{names:?}");
    assert!(!names.iter().any(|name| name.contains("forward-drop")));
    let commands = commands(&blocked);
    assert!(commands.contains("udp port 8472"), "{commands}");
}

#[test]
fn without_a_tunnel_the_network_between_the_nodes_is_named() {
    let blocked = cilium(2, true)
        .with_story(across(1, 2), Story::Nothing)
        .with_story(across(2, 1), Story::ReplyLost)
        .translated_in_connect(|_| true);
    let names = named(&blocked.matrix);
    assert!(names[0].starts_with("network-blocked"), "{names:?}");
}

#[test]
fn a_port_that_its_programs_refuse_in_the_services_name_has_no_endpoints() {
    let refused = Story::Icmp {
        by: CLUSTER_IP,
        reason: Unreachable::Port,
        hop_limit: 64,
        inner: 64,
        after_ms: 0,
    };
    let is_slot =
        |path: &Path| path.server == Some(server(2)) && path.access_path == AccessPath::ClusterIp;
    let cluster = cilium(2, false).with_story(is_slot, refused);
    assert_eq!(named(&cluster.matrix), ["no-endpoints - consistent"]);
    let found = diagnose(&cluster.matrix);
    let said = found[0].evidence.join("\n");
    assert!(said.contains("the balancer of the client's node"), "{said}");
}

#[test]
fn a_policy_of_its_programs_is_found_by_its_own_commands() {
    let cluster = cilium(2, false)
        .with_story(|path| path.server == Some(server(2)), Story::Nothing)
        .with_balanced_story(
            |_| true,
            &server(2),
            Story::Late {
                syns: 2,
                lost: Lost::Syn,
                started_ms: 0,
            },
        )
        .translated_in_connect(|_| true);
    let names = named(&cluster.matrix);
    assert!(names[0].starts_with("network-policy node-2"), "{names:?}");
    // The route to Cilium's own address is none to a pod.
    let of_routes = |name: &String| name.starts_with("pod-route-missing");
    assert!(!names.iter().any(of_routes), "{names:?}");
    let commands = commands(&cluster);
    assert!(
        commands.contains("cilium-dbg monitor --type drop"),
        "{commands}"
    );
    assert!(
        commands.contains("ciliumclusterwidenetworkpolicies"),
        "{commands}"
    );
    assert!(!commands.contains("iptables"), "{commands}");
}

#[test]
fn a_node_whose_maps_of_services_are_empty_translates_nothing_and_no_bridge_is_blamed() {
    let is_at_node_1 = |path: &Path| path.client.node == node(1);
    let is_service = move |path: &Path| path.access_path.is_translated() && is_at_node_1(path);
    let cluster = cilium(2, false).with_story(is_service, Story::Nothing);
    let names = named(&cluster.matrix);
    assert!(!names.is_empty());
    let is_rules = |name: &String| name.starts_with("service-rules-missing node-1");
    assert!(names.iter().all(is_rules), "{names:?}");
    let commands = commands(&cluster);
    assert!(commands.contains("cilium-dbg service list"), "{commands}");
    assert!(!commands.contains("kube-proxy"), "{commands}");
}
