//! Whose an answer is, on data planes where Ethernet addresses, distances or the Service's address show less than on a bridge.

use prober_core::node_facts::{Address, KubeProxyMode, Link, NodeFacts, Route};
use prober_core::packet::family::Family;
use prober_core::packet::mac::Mac;
use prober_core::packet::observation::{Direction, Observation};
use prober_core::packet::{Body, TcpFlags, Unreachable};
use prober_core::topology::{AccessPath, Path};

use super::builder::{
    CLUSTER_IP, Cluster, Story, bridge_mac, client, node, pod_ip, pod_mac, server,
};
use super::named;
use super::next_hop::plain;

/// The address that routed veths have on the node's side.
const GATEWAY: Mac = Mac([0xee; 6]);

fn to(n: u8) -> impl Fn(&Path) -> bool + Copy {
    move |path: &Path| path.server == Some(server(n))
}

fn slot_of(n: u8) -> impl Fn(&Path) -> bool + Copy {
    move |path: &Path| to(n)(path) && path.access_path == AccessPath::ClusterIp
}

const fn reset(hop_limit: u8, mac: Option<Mac>, sent: bool) -> Story {
    Story::Reset {
        hop_limit,
        mac,
        sent,
    }
}

/// Every packet of a pod comes from its node or goes there; same-node answers are routed once.
fn through_node(seen: &mut Observation) {
    let Some(link) = &mut seen.packet.link else {
        return;
    };
    if seen.direction == Direction::Sent {
        link.dst = Some(GATEWAY);
        return;
    }
    link.src = GATEWAY;
    if let Body::Tcp(ip, tcp) = &mut seen.packet.body
        && tcp.flags == TcpFlags::SYN_ACK
        && ip.hop_limit == 64
    {
        ip.hop_limit = 63;
    }
}

/// The pods of every node behind routed veths, without a bridge.
fn routed(mut cluster: Cluster, nodes: u8) -> Cluster {
    for n in 1..=nodes {
        cluster = cluster.facts(n, |facts| {
            let links = facts.links.as_mut().unwrap();
            links.retain(|link| link.name != "cni0");
            for link in links.iter_mut().filter(|link| link.master.is_some()) {
                link.master = None;
                link.hairpin = None;
                link.mac = Some(GATEWAY);
            }
            let routes = facts.routes.as_mut().unwrap();
            routes.retain(|route| route.dev.as_deref() != Some("cni0"));
            for (pod, dev) in [(client(n), "vethclient"), (server(n), "vethserver")] {
                routes.push(Route {
                    dev: Some(dev.to_owned()),
                    ..Route::main(pod_ip(&pod, Family::Ipv4).into())
                });
            }
        });
    }
    for path in cluster.matrix.paths.values_mut() {
        for probe in &mut path.probes {
            probe.client.observations.iter_mut().for_each(through_node);
            if let Some(trace) = &mut probe.server {
                trace.observations.iter_mut().for_each(through_node);
            }
        }
    }
    cluster
}

/// The ends of these servers did not report.
fn unheard(mut cluster: Cluster, wanted: impl Fn(&Path) -> bool) -> Cluster {
    for path in cluster.matrix.paths.values_mut() {
        if wanted(&path.path) {
            for probe in &mut path.probes {
                probe.server = None;
                probe.server_agent = None;
            }
        }
    }
    cluster
}

/// A bridge of another program, before all other links.
fn with_docker(facts: &mut NodeFacts) {
    let links = facts.links.as_mut().unwrap();
    let bridge = Link {
        name: "docker0".to_owned(),
        kind: Some("bridge".to_owned()),
        mac: Some(Mac([2, 0x42, 0, 0, 0, 1])),
        ..links[0].clone()
    };
    links.insert(0, bridge);
}

fn closed(same_node: u8) -> Cluster {
    Cluster::new(2)
        .with_story(
            |path| to(1)(path) && path.client.node == node(1),
            reset(same_node, None, true),
        )
        .with_story(
            |path| to(1)(path) && path.client.node == node(2),
            reset(62, None, true),
        )
}

#[test]
fn a_closed_port_behind_a_routed_veth_is_no_rule_where_its_end_is_not_heard() {
    let heard = routed(closed(63), 2);
    assert_eq!(named(&heard.matrix), ["not-listening node-1 proven"]);
    let unheard = unheard(heard, to(1));
    assert_eq!(named(&unheard.matrix), ["not-listening node-1 consistent"]);
}

#[test]
fn a_closed_port_on_a_bridge_is_only_consistent_where_its_end_is_not_heard() {
    let unheard = unheard(closed(64), to(1));
    assert_eq!(named(&unheard.matrix), ["not-listening node-1 consistent"]);
}

/// node-1 answers by RST for its server, to clients of both nodes.
fn rejected_by_node_1() -> Cluster {
    Cluster::new(2)
        .with_story(
            |path| to(1)(path) && path.client == client(1),
            reset(64, None, false),
        )
        .with_story(
            |path| to(1)(path) && path.client == client(2),
            reset(63, None, false),
        )
}

#[test]
fn a_rule_on_a_node_with_routed_veths_is_recognised_by_its_distance() {
    let plain = routed(rejected_by_node_1(), 2);
    assert_eq!(named(&plain.matrix), ["reject-reset node-1 proven"]);
    let beside_docker = plain.facts(1, with_docker).facts(2, with_docker);
    assert_eq!(named(&beside_docker.matrix), ["reject-reset node-1 proven"]);
}

#[test]
fn a_rule_explains_refusals_that_the_server_may_have_sent_as_well() {
    let from_other_node = |path: &Path| to(1)(path) && path.client == client(2);
    // No healthy path shows how many routers are between the pods of node-1 and node-2.
    let plain = unheard(routed(rejected_by_node_1(), 2), from_other_node)
        .facts(1, |facts| plain(facts, 1, 2))
        .facts(2, |facts| plain(facts, 2, 2));
    assert_eq!(named(&plain.matrix), ["reject-reset node-1 proven"]);
}

#[test]
fn a_rule_explains_resets_from_the_pod_itself_where_its_end_is_not_heard() {
    let on_one_bridge = |path: &Path| to(1)(path) && path.client == client(1);
    let rejected = Cluster::new(2)
        .with_story(to(1), reset(63, None, false))
        .with_story(on_one_bridge, reset(64, Some(pod_mac(&server(1))), false))
        .with_story(
            |path| on_one_bridge(path) && slot_of(1)(path),
            Story::ResetFromWrongSource { sent: false },
        );
    let unheard = unheard(rejected, on_one_bridge);
    assert_eq!(named(&unheard.matrix), ["reject-reset node-1 proven"]);
}

#[test]
fn a_rule_explains_refusals_whose_packets_nothing_captured() {
    let rejected = |path: &Path| to(1)(path);
    let mut cluster = Cluster::new(2).with_story(rejected, reset(64, Some(bridge_mac(1)), false));
    for path in cluster.matrix.paths.values_mut() {
        if path.path.client == client(2) && rejected(&path.path) {
            for probe in &mut path.probes {
                probe.client.observations.clear();
                probe.server = None;
                probe.server_agent = None;
            }
        }
    }
    assert_eq!(named(&cluster.matrix), ["reject-reset node-1 proven"]);
}

#[test]
fn another_bridge_does_not_turn_the_gateway_into_another_host() {
    let router = reset(64, Some(bridge_mac(1)), false);
    let cluster = Cluster::new(2)
        .with_story(|path| path.client == client(1) && slot_of(1)(path), router)
        .facts(1, with_docker);
    assert_eq!(named(&cluster.matrix), ["reject-reset node-1 proven"]);
}

#[test]
fn a_node_that_answers_for_its_pods_is_no_second_host_with_their_address() {
    let silent = Cluster::new(2).with_story(to(1), Story::Nothing);
    let mut cluster = routed(silent, 2);
    let address = pod_ip(&server(1), Family::Ipv4);
    for path in cluster.matrix.paths.values_mut() {
        for probe in &mut path.probes {
            if path.path.client == client(1)
                && let Some(first) = probe.client.observations.first().copied()
            {
                let mut reply = first;
                reply.direction = Direction::Received;
                reply.packet.body = Body::Resolution(prober_core::packet::Resolution {
                    kind: prober_core::packet::ResolutionKind::Reply,
                    sender: address,
                    sender_mac: Some(GATEWAY),
                    target: pod_ip(&client(1), Family::Ipv4),
                });
                probe.client.observations.push(reply);
            }
        }
    }
    let names = named(&cluster.matrix);
    let is_duplicate = names.iter().any(|name| name.starts_with("duplicate-ip"));
    assert!(!is_duplicate, "{names:?}");
}

#[test]
fn syn_acks_that_a_rule_refuses_are_no_proof_of_another_pod() {
    let taken = |path: &Path| path.client == client(1) && to(2)(path);
    let mut cluster = Cluster::new(2).with_story(taken, Story::ClientAddressTaken);
    assert_eq!(named(&cluster.matrix), ["duplicate-ip node-1 proven"]);
    for path in cluster.matrix.paths.values_mut() {
        for trace in path
            .probes
            .iter_mut()
            .filter_map(|probe| probe.server.as_mut())
        {
            for seen in &mut trace.observations {
                if let Body::Tcp(ip, tcp) = &mut seen.packet.body
                    && tcp.flags.has(TcpFlags::RST)
                {
                    ip.hop_limit = 63;
                }
            }
        }
    }
    assert_eq!(named(&cluster.matrix), ["duplicate-ip node-1 consistent"]);
}

#[test]
fn a_veth_of_another_pod_that_is_down_cuts_no_pod_off() {
    let denied = Cluster::new(2)
        .with_story(to(1), Story::Nothing)
        .with_balanced_story(|_| true, &server(1), Story::Nothing)
        .facts(1, |facts| {
            let links = facts.links.as_mut().unwrap();
            let mut other = links.last().unwrap().clone();
            other.name = "vethother".to_owned();
            other.kind = Some("veth".to_owned());
            other.master = Some("cni0".to_owned());
            (other.up, other.carrier) = (false, false);
            links.insert(0, other);
        });
    let names = named(&denied.matrix);
    let is_stale = names.iter().any(|name| name.starts_with("stale-endpoint"));
    assert!(!is_stale && !names.is_empty(), "{names:?}");
}

#[test]
fn a_port_that_the_bridge_has_forgotten_is_found_by_an_earlier_reading_or_as_the_one_that_remains()
{
    let down = |facts: &mut NodeFacts| {
        let links = facts.links.as_mut().unwrap();
        let port = links
            .iter_mut()
            .find(|link| link.name == "vethserver")
            .unwrap();
        (port.up, port.carrier) = (false, false);
    };
    let forget = |facts: &mut NodeFacts| {
        let entries = facts.fdb.as_mut().unwrap();
        entries.retain(|entry| entry.dev != "vethserver");
    };
    let cut = Cluster::new(2)
        .with_story(
            |path| to(1)(path) && path.access_path != AccessPath::Hairpin,
            Story::Nothing,
        )
        .with_story(
            |path| to(1)(path) && path.access_path == AccessPath::Hairpin,
            Story::Nothing,
        )
        .with_balanced_story(|_| true, &server(1), Story::Nothing)
        .facts(1, down);
    let mut earlier = cut.clone();
    let known = earlier.matrix.nodes.get_mut(&node(1)).unwrap();
    for facts in [&mut known.during, &mut known.after] {
        forget(facts.as_mut().unwrap());
    }
    assert_eq!(named(&earlier.matrix), ["stale-endpoint node-1 proven"]);
    let remaining = cut.facts(1, forget);
    assert_eq!(named(&remaining.matrix), ["stale-endpoint node-1 proven"]);
}

/// Nodes whose balancer has the Service's address.
fn ipvs(cluster: Cluster) -> Cluster {
    let change = |facts: &mut NodeFacts| {
        facts.kube_proxy = Some(KubeProxyMode::Ipvs);
        facts.addresses = Some(vec![Address {
            prefix: CLUSTER_IP.into(),
            dev: "kube-ipvs0".to_owned(),
        }]);
    };
    cluster.facts(1, change).facts(2, change)
}

#[test]
fn a_balancer_without_destinations_is_no_filter() {
    let refused = Story::Icmp {
        by: CLUSTER_IP,
        reason: Unreachable::Port,
        hop_limit: 64,
        inner: 64,
        after_ms: 0,
    };
    let everywhere = ipvs(Cluster::new(2).with_story(slot_of(2), refused));
    assert_eq!(named(&everywhere.matrix), ["no-endpoints - consistent"]);
    let on_one = ipvs(Cluster::new(2).with_story(
        |path| slot_of(2)(path) && path.client.node == node(1),
        refused,
    ));
    let names = named(&on_one.matrix);
    assert_eq!(names, ["service-rules-missing node-1 consistent"]);
}

#[test]
fn an_unreachable_host_that_is_reported_at_once_may_be_a_rule() {
    let story = |after_ms| Story::Icmp {
        by: CLUSTER_IP,
        reason: Unreachable::Host,
        hop_limit: 64,
        inner: 64,
        after_ms,
    };
    let slow = Cluster::new(1).with_story(slot_of(1), story(3060));
    assert_eq!(named(&slow.matrix), ["stale-endpoint - proven"]);
    let at_once = Cluster::new(1).with_story(slot_of(1), story(0));
    assert_eq!(named(&at_once.matrix), ["stale-endpoint - consistent"]);
}

#[test]
fn a_neighbour_that_refuses_past_the_routed_link_of_a_client_has_the_servers_address() {
    let foreign = Mac([0x0a, 0x58, 0xde, 0xad, 1, 1]);
    let direct = |path: &Path| to(1)(path) && path.access_path == AccessPath::PodIp;
    // A rule of the client's node answers by the client's own link.
    for (mac, cause) in [(foreign, "duplicate-ip"), (GATEWAY, "reject-reset")] {
        let mut cluster = routed(Cluster::new(2), 2);
        cluster = cluster.with_story(direct, reset(64, Some(mac), false));
        let names = named(&cluster.matrix);
        assert!(
            names.iter().all(|name| name.starts_with(cause)),
            "{names:?}"
        );
        assert!(!names.is_empty());
    }
}

#[test]
fn a_rst_from_the_own_bridge_for_a_server_of_another_node_is_by_stale_rules() {
    let refused = |mac: Mac| {
        let stale = |path: &Path| slot_of(2)(path) && path.client == client(1);
        let cluster = Cluster::new(2).with_story(stale, reset(64, Some(mac), false));
        named(&cluster.matrix)
    };
    assert_eq!(refused(pod_mac(&server(1))), ["stale-rules node-1 proven"]);
    assert_eq!(refused(bridge_mac(1)), ["reject-reset node-1 proven"]);
}
