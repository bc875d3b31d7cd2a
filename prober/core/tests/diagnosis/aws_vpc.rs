//! The AWS VPC CNI: the pods of a node have different interfaces (ENIs), each with its routing table, and the VPC drops what does
//! not leave by the pod's own one.

use prober_core::data_plane::DataPlane;
use prober_core::diagnosis::{Diagnosis, PathSegment, diagnose};
use prober_core::evidence::Comparison::SecondClient;
use prober_core::evidence::Matrix;
use prober_core::node_facts::{
    Address, Fwmark, Link, NodeFacts, Route, RouteKind, Rule, RuleAction,
};
use prober_core::packet::family::Family;
use prober_core::topology::{Path, Scope};

use super::builder::{Cluster, Story, client, node, pod_ip, server};
use super::named;

/// The table of the second ENI.
const TABLE: u32 = 2;

fn from(address: std::net::IpAddr, priority: u32) -> Rule {
    Rule {
        from: Some(address.into()),
        ..Rule::lookup(Family::Ipv4, priority, TABLE)
    }
}

/// The plugin's rules and routes on a node whose server has an address of the first ENI, and whose client one of the second.
fn set_up(facts: &mut NodeFacts, n: u8) {
    let is_tunnel = |name: &str| name.starts_with("flannel");
    let links = facts.links.as_mut().unwrap();
    links.retain(|link| !is_tunnel(&link.name));
    let first = links.iter().find(|link| link.name == "eth0").unwrap();
    links.push(Link {
        name: "eth1".to_owned(),
        ..first.clone()
    });
    let own = format!("172.20.1.{n}");
    facts.addresses.as_mut().unwrap().push(Address {
        prefix: format!("{own}/16").parse().unwrap(),
        dev: "eth1".to_owned(),
    });
    let routes = facts.routes.as_mut().unwrap();
    routes.retain(|route| !route.dev.as_deref().is_some_and(is_tunnel));
    routes.push(Route {
        dev: Some("eth1".to_owned()),
        table: TABLE,
        ..Route::main("0.0.0.0/0".parse().unwrap())
    });
    let mark = Fwmark {
        value: 0x80,
        mask: 0x80,
    };
    facts.rules.as_mut().unwrap().extend([
        Rule {
            mark: Some(mark),
            ..Rule::lookup(Family::Ipv4, 1024, Route::MAIN)
        },
        from(pod_ip(&client(n), Family::Ipv4), 1536),
        from(own.parse().unwrap(), 32_765),
    ]);
}

/// A healthy cluster of two nodes.
fn vpc() -> Cluster {
    let cluster = Cluster::new(2).routed(1).routed(2);
    let cluster = cluster.facts(1, |facts| set_up(facts, 1));
    cluster.facts(2, |facts| set_up(facts, 2))
}

/// What node-1's client sends to node-2 does not arrive, and what its server sends does.
fn without_the_second_eni(cluster: Cluster) -> Cluster {
    let is_client = |path: &Path| path.client == client(1);
    let across = move |path: &Path| is_client(path) && path.server == Some(server(2));
    let cluster = cluster
        .with_story(across, Story::Nothing)
        .with_balanced_story(is_client, &server(2), Story::Nothing);
    cluster.compared(SecondClient, [server(1), server(2)], Story::Healthy)
}

/// Node-1 let the client's packets out, and node-2 received none.
fn tracked(cluster: Cluster) -> Cluster {
    let is_across = |path: &Path| path.client == client(1) && path.scope() == Scope::CrossNode;
    cluster
        .tracks(1, is_across, "SYN_SENT")
        .tracks(2, |_| false, "SYN_SENT")
}

/// The only diagnosis, of node-1's client.
fn of_client(matrix: &Matrix) -> Diagnosis {
    let mut found = diagnose(matrix);
    assert_eq!(found.len(), 1, "{found:#?}");
    let found = found.remove(0);
    assert_eq!(found.segment, PathSegment::Pod { pod: client(1) });
    found
}

fn restarts_the_agent(found: &Diagnosis) -> bool {
    let mut commands = found.remedy.iter().flat_map(|step| &step.commands);
    commands.any(|one| one == "kubectl -n kube-system rollout restart ds/aws-node")
}

#[test]
fn a_healthy_cluster_has_no_diagnosis_and_its_plugin_is_recognised() {
    let matrix = vpc().matrix;
    assert_eq!(named(&matrix), Vec::<String>::new());
    let line = |matrix: &Matrix| {
        let plane = DataPlane::infer(matrix);
        plane.node(&node(1)).unwrap().summary()
    };
    assert_eq!(
        line(&matrix),
        "AWS VPC CNI, routed pods, routes of each pod by eth0 or eth1 to node-2, kube-proxy iptables"
    );
    // Before a pod is placed, the node has no route to it, and no rule for its packets.
    let mut early = matrix;
    for known in early.nodes.values_mut() {
        let before = known.before.as_mut().unwrap();
        before
            .rules
            .as_mut()
            .unwrap()
            .retain(|rule| rule.priority != 1536);
        (known.during, known.after) = (None, None);
    }
    assert_eq!(line(&early), "AWS VPC CNI, kube-proxy iptables");
}

#[test]
fn a_blackhole_in_the_table_of_one_eni_is_a_missing_route_of_its_pods() {
    let cluster = without_the_second_eni(vpc()).facts(1, |facts| {
        let routes = facts.routes.as_mut().unwrap();
        for route in routes.iter_mut().filter(|route| route.table == TABLE) {
            route.kind = RouteKind::Blackhole;
        }
    });
    assert_eq!(named(&cluster.matrix), ["route-missing node-1 proven"]);
    assert!(restarts_the_agent(&of_client(&cluster.matrix)));
}

#[test]
fn an_eni_that_is_down_is_a_missing_route_of_its_pods_although_main_has_one() {
    let down = |facts: &mut NodeFacts| {
        let links = facts.links.as_mut().unwrap();
        for link in links.iter_mut().filter(|link| link.name == "eth1") {
            link.up = false;
        }
        let routes = facts.routes.as_mut().unwrap();
        routes.retain(|route| route.table != TABLE);
    };
    let cluster = tracked(without_the_second_eni(vpc())).facts(1, down);
    assert_eq!(named(&cluster.matrix), ["route-missing node-1 proven"]);
    let found = of_client(&cluster.matrix);
    let says = |part: &str| found.evidence.iter().any(|said| said.contains(part));
    assert!(says("to table 2, which has no route to"), "{found:#?}");
    assert!(says("eth1 of node-1"), "{found:#?}");
    // An empty table breaks nothing where the packets arrive.
    let healthy = vpc().facts(1, down);
    assert_eq!(named(&healthy.matrix), Vec::<String>::new());
}

#[test]
fn a_pod_without_a_rule_for_its_eni_is_blocked_by_the_network() {
    let cluster = tracked(without_the_second_eni(vpc())).facts(1, |facts| {
        let rules = facts.rules.as_mut().unwrap();
        rules.retain(|rule| rule.priority != 1536);
    });
    assert_eq!(
        named(&cluster.matrix),
        ["network-blocked node-1 consistent"]
    );
    let found = of_client(&cluster.matrix);
    let by_main = format!(
        "node-1 routes the packets of {} by eth0, as table main says",
        pod_ip(&client(1), Family::Ipv4)
    );
    assert!(found.evidence.contains(&by_main), "{found:#?}");
    assert!(restarts_the_agent(&found));
}

#[test]
fn a_translated_source_between_pods_is_said() {
    let mut cluster = tracked(without_the_second_eni(vpc()));
    let known = cluster.matrix.nodes.get_mut(&node(1)).unwrap();
    let reading = known.after.as_mut().unwrap().conntrack.as_mut().unwrap();
    for entry in &mut reading.entries {
        entry.reply.destination = "172.20.0.11".parse().unwrap();
    }
    let found = of_client(&cluster.matrix);
    let said = format!(
        "node-1 translates the source of these packets from {} to 172.20.0.11",
        pod_ip(&client(1), Family::Ipv4)
    );
    assert!(found.evidence.contains(&said), "{found:#?}");
}

#[test]
fn what_leaves_by_several_enis_has_no_tunnel_and_no_missing_route() {
    let is_across = |path: &Path| path.client == client(1) && path.scope() == Scope::CrossNode;
    let is_back = |path: &Path| path.client == client(2) && path.scope() == Scope::CrossNode;
    let cluster = vpc()
        .with_story(is_across, Story::Nothing)
        .with_balanced_story(|path| path.client == client(1), &server(2), Story::Nothing)
        .with_story(is_back, Story::ReplyLost)
        .with_balanced_story(
            |path| path.client == client(2),
            &server(1),
            Story::ReplyLost,
        )
        .compared(SecondClient, [server(1), server(2)], Story::Nothing);
    let found = diagnose(&tracked(cluster).matrix);
    let causes: Vec<&str> = found
        .iter()
        .filter_map(|found| Some(found.cause?.slug()))
        .collect();
    assert_eq!(causes, ["network-blocked"], "{found:#?}");
}

#[test]
fn a_rule_for_a_mark_alone_is_what_shows_the_plugin() {
    let without = vpc().facts(1, |facts| {
        let rules = facts.rules.as_mut().unwrap();
        rules.retain(|rule| rule.mark.is_none() || rule.action != RuleAction::Table(Route::MAIN));
    });
    let plane = DataPlane::infer(&without.matrix);
    assert_eq!(plane.plugin(&node(1)), None);
    assert!(plane.plugin(&node(2)).is_some());
}
