//! Faults between nodes.

use std::net::{IpAddr, SocketAddr};

use prober_core::diagnosis::{Confidence, Diagnosis, diagnose};
use prober_core::node_facts::{Address, RouteKind, Rule};
use prober_core::packet::Unreachable;
use prober_core::packet::family::Family;
use prober_core::packet::mac::Mac;
use prober_core::plan::RESPONDER_PORT;
use prober_core::probe::event::TtlStepAnswer;
use prober_core::topology::{AccessPath, AgentId, Path, Scope};

use super::builder::{
    CLUSTER_IP, Cluster, SILENT, Story, client, gateway, node, pod_ip, server, vtep,
};
use super::named;

fn across(from: u8, to: u8) -> impl Fn(&Path) -> bool + Copy {
    move |path: &Path| path.client == client(from) && path.server == Some(server(to))
}

/// No packet gets from one node to the other; the path back is open.
fn one_way(cluster: Cluster, from: u8, to: u8) -> Cluster {
    let exceeded = TtlStepAnswer::TimeExceeded {
        by: CLUSTER_IP,
        hop_limit: 64,
    };
    cluster
        .with_story(across(from, to), Story::Nothing)
        .with_story(across(to, from), Story::ReplyLost)
        .with_balanced_story(
            |path| path.client == client(from),
            &server(to),
            Story::Nothing,
        )
        .with_balanced_story(
            |path| path.client == client(to),
            &server(from),
            Story::ReplyLost,
        )
        .ttl_probe(across(from, to), [exceeded, SILENT, SILENT, SILENT])
        .ttl_probe(across(to, from), [exceeded, SILENT, SILENT, SILENT])
        .tracks(from, across(from, to), "SYN_SENT")
        .tracks(from, across(to, from), "SYN_RECV")
        .tracks(to, across(to, from), "SYN_SENT")
        .traffic(from, "flannel.1", 9, 9, 0)
        .traffic(to, "flannel.1", 9, 0, 0)
}

#[test]
fn a_tunnel_that_is_blocked_one_way_is_named_with_its_direction() {
    let cluster = one_way(Cluster::new(2), 2, 1);
    assert_eq!(named(&cluster.matrix), ["overlay-blocked node-1 proven"]);
    let counted = one_way(Cluster::new(2), 1, 2)
        .traffic(1, "flannel.1", 9, 9, 0)
        .traffic(2, "flannel.1", 9, 0, 0);
    assert_eq!(named(&counted.matrix), ["overlay-blocked node-2 proven"]);
    let output = one_way(Cluster::new(2), 1, 2)
        .traffic(1, "flannel.1", 9, 9, 9)
        .traffic(2, "flannel.1", 9, 0, 0);
    assert_eq!(named(&output.matrix), ["overlay-blocked node-1 proven"]);
}

/// An answer of node-1's own, from an address a hop behind its pods' (as `cilium_host`), to this one of three TTLs.
fn by_node_1_itself(ttl: usize) -> [TtlStepAnswer; 4] {
    let mut steps = [SILENT; 4];
    steps[ttl - 1] = TtlStepAnswer::TimeExceeded {
        by: gateway(1, Family::Ipv4),
        hop_limit: 63,
    };
    steps
}

#[test]
fn a_syn_with_ttl_1_reached_no_second_router_however_distant_its_answer() {
    let cluster = one_way(Cluster::new(2), 1, 2).ttl_probe(across(1, 2), by_node_1_itself(1));
    assert_eq!(named(&cluster.matrix), ["overlay-blocked node-2 proven"]);
}

#[test]
fn an_answer_of_the_clients_own_node_is_not_from_a_second_router() {
    let cluster = one_way(Cluster::new(2), 1, 2).ttl_probe(across(1, 2), by_node_1_itself(2));
    let by_facts = cluster.clone().facts(1, |facts| {
        let own = Address {
            prefix: ipnet::IpNet::new(gateway(1, Family::Ipv4), 32).unwrap(),
            dev: "cilium_host".to_owned(),
        };
        facts.addresses = Some(vec![own]);
    });
    assert_eq!(named(&by_facts.matrix), ["overlay-blocked node-2 proven"]);
    let mut by_host = cluster;
    let mut host = by_host.matrix.agents[&client(1)].clone();
    host.hello.as_mut().unwrap().addresses = vec![gateway(1, Family::Ipv4)];
    let agent = AgentId::new("node-1", "node-1-host");
    by_host.matrix.agents.insert(agent, host);
    assert_eq!(named(&by_host.matrix), ["overlay-blocked node-2 proven"]);
}

#[test]
fn a_node_that_no_tunnel_packet_reaches_is_named_once() {
    let cluster = one_way(one_way(Cluster::new(3), 2, 1), 3, 1);
    assert_eq!(named(&cluster.matrix), ["overlay-blocked node-1 proven"]);
}

#[test]
fn a_blocked_tunnel_of_one_family_leaves_the_other() {
    let four = |path: &Path| path.family == Family::Ipv4;
    let cluster = Cluster::dual(2)
        .with_story(move |path| four(path) && across(1, 2)(path), Story::Nothing)
        .with_story(
            move |path| four(path) && across(2, 1)(path),
            Story::ReplyLost,
        )
        .tracks(1, move |path| four(path) && across(1, 2)(path), "SYN_SENT")
        .tracks(2, move |path| four(path) && across(2, 1)(path), "SYN_SENT")
        .traffic(1, "flannel.1", 9, 9, 0)
        .traffic(2, "flannel.1", 9, 0, 0);
    assert_eq!(named(&cluster.matrix), ["overlay-blocked node-2 proven"]);
}

#[test]
fn without_node_facts_silence_between_nodes_is_only_consistent() {
    let cluster = one_way(Cluster::new(2), 1, 2).without_facts();
    let found = diagnose(&cluster.matrix);
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].confidence, Confidence::Consistent);
    let rivals = found[0].would_decide.concat();
    assert!(rivals.contains("overlay-blocked"), "{rivals}");
}

#[test]
fn a_wrong_mac_or_host_of_the_peers_tunnel_end_is_stale() {
    let mac = one_way(Cluster::new(3), 1, 2).facts(1, |facts| {
        let neighbours = facts.neighbours.as_mut().unwrap();
        let entry = neighbours
            .iter_mut()
            .find(|one| one.ip == vtep(2, Family::Ipv4))
            .unwrap();
        entry.mac = Some(Mac([2, 0, 0, 0, 0, 2]));
    });
    assert_eq!(
        named(&mac.matrix),
        ["stale-overlay-neighbour node-1 proven"]
    );
    let host = one_way(Cluster::new(3), 1, 2).facts(1, |facts| {
        for entry in facts.fdb.as_mut().unwrap() {
            if entry
                .destination
                .is_some_and(|end| end.to_string() == "172.20.0.12")
            {
                entry.destination = Some("172.20.0.250".parse().unwrap());
            }
        }
    });
    assert_eq!(
        named(&host.matrix),
        ["stale-overlay-neighbour node-1 proven"]
    );
    let lost = one_way(Cluster::new(2), 1, 2).facts(1, |facts| {
        facts.neighbours.as_mut().unwrap().clear();
    });
    assert_eq!(
        named(&lost.matrix),
        ["stale-overlay-neighbour node-1 proven"]
    );
}

#[test]
fn a_lost_route_is_read_from_the_node_and_explains_both_directions() {
    let cluster = one_way(Cluster::new(2), 1, 2).facts(1, |facts| {
        facts.routes.as_mut().unwrap().retain(|route| {
            route.destination.prefix_len() == 0 || route.dev.as_deref() != Some("flannel.1")
        });
    });
    assert_eq!(named(&cluster.matrix), ["route-missing node-1 proven"]);
    let blackhole = one_way(Cluster::new(2), 2, 1).facts(2, |facts| {
        for route in facts.routes.as_mut().unwrap() {
            if route.dev.as_deref() == Some("flannel.1") {
                route.kind = RouteKind::Blackhole;
            }
        }
    });
    assert_eq!(named(&blackhole.matrix), ["route-missing node-2 proven"]);
}

#[test]
fn a_default_route_in_a_table_of_the_pods_own_is_no_lost_route() {
    let cluster = one_way(Cluster::new(2), 1, 2).facts(1, |facts| {
        let rules = facts.rules.as_mut().unwrap();
        rules.extend([client(1), server(1)].map(|pod| Rule {
            from: Some(pod_ip(&pod, Family::Ipv4).into()),
            ..Rule::lookup(Family::Ipv4, 1536, 2)
        }));
        for route in facts.routes.as_mut().unwrap() {
            if route.destination.prefix_len() == 0 {
                route.table = 2;
            }
        }
    });
    let named = named(&cluster.matrix);
    assert!(!named.is_empty());
    let is_lost_route = |one: &String| one.starts_with("route-missing") && one.ends_with("proven");
    assert!(!named.iter().any(is_lost_route), "{named:?}");
}

#[test]
fn a_tunnel_that_is_down_explains_both_directions() {
    let both_ways = [(1, 2), (2, 1)]
        .into_iter()
        .fold(Cluster::new(2), |cluster, (from, to)| {
            let of_client = move |path: &Path| path.client == client(from);
            let cluster = cluster.with_story(across(from, to), Story::Nothing);
            cluster.with_balanced_story(of_client, &server(to), Story::Nothing)
        });
    let cluster = both_ways.facts(1, |facts| {
        let routes = facts.routes.as_mut().unwrap();
        routes.retain(|route| route.dev.as_deref() != Some("flannel.1"));
        for link in facts.links.as_mut().unwrap() {
            link.up &= link.name != "flannel.1";
        }
    });
    assert_eq!(named(&cluster.matrix), ["route-missing node-1 proven"]);
}

#[test]
fn an_unreachable_at_once_from_the_own_node_is_a_missing_route_without_facts_too() {
    let story = |by| Story::Icmp {
        by,
        reason: Unreachable::Host,
        hop_limit: 64,
        inner: 64,
        after_ms: 0,
    };
    let cluster = Cluster::new(2)
        .with_story(
            |path| across(1, 2)(path) && path.access_path == AccessPath::PodIp,
            story(gateway(1, Family::Ipv4)),
        )
        .with_story(
            |path| across(1, 2)(path) && path.access_path == AccessPath::ClusterIp,
            story(CLUSTER_IP),
        )
        .with_story(across(2, 1), Story::ReplyLost)
        .without_facts();
    assert_eq!(named(&cluster.matrix)[0], "route-missing node-1 proven");
}

#[test]
fn a_refusal_that_only_the_balanced_port_received_belongs_to_the_silence_of_its_pair() {
    let cluster = one_way(Cluster::new(2), 1, 2)
        .with_balanced_story(
            |path| path.client == client(1),
            &server(2),
            Story::Icmp {
                by: CLUSTER_IP,
                reason: Unreachable::Host,
                hop_limit: 64,
                inner: 64,
                after_ms: 0,
            },
        )
        .facts(1, |facts| {
            for route in facts.routes.as_mut().unwrap() {
                if route.dev.as_deref() == Some("flannel.1") {
                    route.kind = RouteKind::Unreachable;
                }
            }
        });
    assert_eq!(named(&cluster.matrix), ["route-missing node-1 proven"]);
}

#[test]
fn a_process_that_is_slow_to_echo_what_its_kernel_acknowledged_is_no_mtu_black_hole() {
    let cross = |path: &Path| path.scope() == Scope::CrossNode;
    let cluster = Cluster::new(2).with_story(cross, Story::Slow);
    assert_eq!(named(&cluster.matrix), [""; 0]);
}

#[test]
fn an_exchange_that_stops_with_every_other_packet_is_no_mtu_black_hole() {
    let same =
        |path: &Path| path.scope() == Scope::SameNode && path.access_path == AccessPath::ClusterIp;
    let stalled = Story::Stalled { received: 0 };
    let exceeded = TtlStepAnswer::TimeExceeded {
        by: gateway(1, Family::Ipv4),
        hop_limit: 64,
    };
    let syn_ack = |ip, port| TtlStepAnswer::SynAck {
        from: SocketAddr::new(ip, port),
        hop_limit: 64,
    };
    let ttl_probed = |answer| {
        let cluster = Cluster::new(1).with_story(same, stalled);
        cluster.ttl_probe(same, [exceeded, answer, answer, answer])
    };
    let cut = ttl_probed(syn_ack(pod_ip(&server(1), Family::Ipv4), RESPONDER_PORT));
    assert_eq!(named(&cut.matrix), ["unknown node-1 consistent"]);
    // The slot of node-1.
    let big = ttl_probed(syn_ack(CLUSTER_IP, 8101));
    assert_eq!(named(&big.matrix), ["mtu-black-hole - proven"]);
}

#[test]
fn handshakes_and_banners_that_pass_where_bulk_stalls_are_an_mtu_black_hole() {
    let cross = |path: &Path| path.scope() == Scope::CrossNode;
    let stalled = Story::Stalled { received: 0 };
    let cluster = Cluster::new(2).with_story(cross, stalled);
    assert_eq!(named(&cluster.matrix), ["mtu-black-hole - proven"]);
    let pods = cluster
        .grows(1, "IpFragFails", 8)
        .grows(2, "IpFragFails", 8);
    assert_eq!(
        named(&pods.matrix),
        [
            "mtu-black-hole node-1 proven",
            "mtu-black-hole node-2 proven"
        ]
    );
    let three = Cluster::new(3).with_story(
        |path| cross(path) && (path.client.node == node(1) || path.server == Some(server(1))),
        stalled,
    );
    assert_eq!(named(&three.matrix), ["mtu-black-hole node-1 proven"]);
}

#[test]
fn a_router_that_answers_behind_the_node_places_the_drop_between_the_nodes() {
    let exceeded_by = |by: IpAddr, hop_limit| TtlStepAnswer::TimeExceeded { by, hop_limit };
    let own = exceeded_by(gateway(1, Family::Ipv4), 64);
    let top_of_rack = exceeded_by("198.51.100.1".parse().unwrap(), 63);
    let direct = |path: &Path| across(1, 2)(path) && path.access_path == AccessPath::PodIp;
    let dropped = |second| {
        let cluster = Cluster::new(2)
            .with_story(across(1, 2), Story::Nothing)
            .ttl_probe(direct, [own, second, SILENT, SILENT]);
        diagnose(&cluster.matrix)
    };
    let sentence =
        "a SYN with TTL 2 was answered by time exceeded from 198.51.100.1, a router behind node-1";
    for (second, is_answered) in [(top_of_rack, true), (SILENT, false)] {
        let found = dropped(second);
        let mut evidence = found.iter().flat_map(|diagnosis| &diagnosis.evidence);
        assert_eq!(
            evidence.any(|said| said == sentence),
            is_answered,
            "{found:#?}"
        );
        let is_at_sender = |diagnosis: &Diagnosis| diagnosis.node == Some(node(1));
        assert!(
            !is_answered || !found.iter().any(is_at_sender),
            "{found:#?}"
        );
    }
}
