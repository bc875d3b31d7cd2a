//! Faults of filters, in each direction and place.

use prober_core::diagnosis::catalogue::Cause;
use prober_core::diagnosis::{Confidence, diagnose};
use prober_core::evidence::policies::{ApiPolicies, ApiPolicy, Denial, PolicyKind};
use prober_core::node_facts::SysctlState;
use prober_core::packet::Unreachable;
use prober_core::packet::family::Family;
use prober_core::packet::mac::Mac;
use prober_core::probe::outcome::{EngineKind, Outcome, OutcomeKind};
use prober_core::topology::{AccessPath, Path, Scope};

use super::builder::{
    CLUSTER_IP, Cluster, SILENT, Story, bridge_mac, client, cluster_ip, exceeded, gateway, node,
    pod_ip, server, underlay, vtep,
};
use super::named;

fn across(from: u8, to: u8) -> impl Fn(&Path) -> bool + Copy {
    move |path: &Path| {
        path.client == client(from)
            && path.server == Some(server(to))
            && path.access_path != AccessPath::Hairpin
    }
}

/// Paths from or to node-1.
fn at_1(path: &Path) -> bool {
    path.client.node == node(1)
        || path
            .server
            .as_ref()
            .is_some_and(|server| server.node == node(1))
}

#[test]
fn a_node_that_forwards_nothing_has_a_forward_drop() {
    let cluster = Cluster::new(2)
        .with_story(at_1, Story::Nothing)
        .with_balanced_story(|path| path.client == client(2), &server(1), Story::Nothing)
        .ttl_probe(across(1, 2), [exceeded(64), SILENT, SILENT, SILENT])
        .ttl_probe(across(2, 1), [exceeded(64), exceeded(63), SILENT, SILENT])
        .tracks(1, |_| false, "SYN_SENT");
    assert_eq!(named(&cluster.matrix), ["forward-drop node-1 proven"]);
    assert_eq!(
        named(&cluster.without_facts().matrix),
        ["forward-drop node-1 consistent"]
    );
}

#[test]
fn a_drop_on_a_node_with_calicos_links_is_reported_in_calicos_words() {
    let cluster = Cluster::new(2)
        .with_story(at_1, Story::Nothing)
        .with_balanced_story(|path| path.client == client(2), &server(1), Story::Nothing)
        .ttl_probe(across(1, 2), [exceeded(64), SILENT, SILENT, SILENT])
        .ttl_probe(across(2, 1), [exceeded(64), exceeded(63), SILENT, SILENT])
        .tracks(1, |_| false, "SYN_SENT")
        .facts(1, |facts| {
            for link in facts.links.iter_mut().flatten() {
                if link.name == "vethclient" {
                    link.name = "cali0a1b2c3d4e5".to_owned();
                }
            }
        });
    let found = diagnose(&cluster.matrix);
    assert_eq!(found[0].cause, Some(Cause::ForwardDrop));
    let is_reported = |said: &String| said.contains("Calico's") && said.contains("Felix");
    assert!(
        found[0].evidence.iter().any(is_reported),
        "{:?}",
        found[0].evidence
    );
    let mut commands = found[0].remedy.iter().flat_map(|step| &step.commands);
    assert!(commands.any(|command| command.starts_with("calicoctl get globalnetworkpolicy")));
}

/// A policy that denies this of ingress.
fn policy(kind: PolicyKind, ingress: Denial) -> ApiPolicy {
    ApiPolicy {
        kind,
        namespace: kind.is_namespaced().then(|| "prod".to_owned()),
        name: "default-deny".to_owned(),
        ingress,
        egress: Denial::Nothing,
    }
}

#[test]
fn policies_that_block_the_agents_are_the_cause_only_where_nothing_passes() {
    let policies = || ApiPolicies {
        denying: vec![policy(PolicyKind::NetworkPolicy, Denial::Everything)],
        unread: Vec::new(),
    };
    let mut blocked = Cluster::dual(2)
        .with_story(|_| true, Story::Nothing)
        .with_balanced_story(|_| true, &server(1), Story::Nothing)
        .matrix;
    let unaware = named(&blocked);
    assert!(
        !unaware
            .iter()
            .any(|name| name.starts_with("network-policy"))
    );
    blocked.policies = policies();
    assert_eq!(named(&blocked), ["network-policy - consistent"]);

    let mut ignored = Cluster::new(2)
        .with_story(at_1, Story::Nothing)
        .with_balanced_story(|path| path.client == client(2), &server(1), Story::Nothing)
        .ttl_probe(across(1, 2), [exceeded(64), SILENT, SILENT, SILENT])
        .ttl_probe(across(2, 1), [exceeded(64), exceeded(63), SILENT, SILENT])
        .tracks(1, |_| false, "SYN_SENT")
        .matrix;
    ignored.policies = policies();
    assert_eq!(named(&ignored), ["forward-drop node-1 proven"]);

    let mut healthy = Cluster::dual(2).matrix;
    healthy.policies = policies();
    assert!(named(&healthy).is_empty());
}

#[test]
fn a_drop_of_what_leaves_a_node_is_distinguished_from_a_blocked_tunnel_by_both_ttl_probes() {
    let cluster = Cluster::new(2)
        .with_story(across(1, 2), Story::Nothing)
        .with_story(across(2, 1), Story::ReplyLost)
        .with_balanced_story(|path| path.client == client(1), &server(2), Story::Nothing)
        .with_balanced_story(
            |path| path.client == client(2),
            &server(1),
            Story::ReplyLost,
        )
        .ttl_probe(across(1, 2), [exceeded(64), SILENT, SILENT, SILENT])
        .ttl_probe(across(2, 1), [exceeded(64), exceeded(63), SILENT, SILENT])
        .tracks(1, across(2, 1), "SYN_RECV")
        .tracks(2, across(2, 1), "SYN_SENT");
    assert_eq!(named(&cluster.matrix), ["forward-drop node-1 proven"]);
}

#[test]
fn a_drop_of_what_comes_to_a_nodes_pods_is_distinguished_too() {
    let cluster = Cluster::new(2)
        .with_story(across(1, 2), Story::ReplyLost)
        .with_story(across(2, 1), Story::Nothing)
        .with_balanced_story(
            |path| path.client == client(1),
            &server(2),
            Story::ReplyLost,
        )
        .with_balanced_story(|path| path.client == client(2), &server(1), Story::Nothing)
        .ttl_probe(across(1, 2), [exceeded(64), SILENT, SILENT, SILENT])
        .ttl_probe(across(2, 1), [exceeded(64), exceeded(63), SILENT, SILENT])
        .tracks(1, across(1, 2), "SYN_RECV")
        .tracks(2, across(2, 1), "SYN_SENT")
        .tracks(2, across(1, 2), "SYN_RECV");
    assert_eq!(named(&cluster.matrix), ["forward-drop node-1 proven"]);
}

#[test]
fn a_drop_of_answers_is_no_policy_even_if_it_affects_one_pod_alone() {
    let to_client = |path: &Path| path.client == client(1);
    let cluster = Cluster::new(2)
        .with_story(to_client, Story::ReplyLost)
        .ttl_probe(across(1, 2), [exceeded(64), SILENT, SILENT, SILENT])
        .tracks(1, to_client, "SYN_RECV");
    assert_eq!(named(&cluster.matrix), ["forward-drop node-1 consistent"]);
}

#[test]
fn a_node_that_drops_all_replies_is_named_from_both_sides() {
    let cluster = Cluster::new(2)
        .with_story(at_1, Story::ReplyLost)
        .ttl_probe(across(1, 2), [exceeded(64), SILENT, SILENT, SILENT])
        .ttl_probe(across(2, 1), [exceeded(64), exceeded(63), SILENT, SILENT])
        .tracks(1, at_1, "SYN_RECV");
    assert_eq!(named(&cluster.matrix), ["forward-drop node-1 consistent"]);
}

/// Node-2 of three drops packets to its pods, and all clients but that of node-1 have sent TTL probes.
fn dropping_at_2() -> Cluster {
    Cluster::new(3)
        .with_story(
            |path| path.server == Some(server(2)) && path.scope() == Scope::CrossNode,
            Story::Nothing,
        )
        .with_story(
            |path| path.client == client(2) && path.scope() == Scope::CrossNode,
            Story::ReplyLost,
        )
        .ttl_probe(across(3, 2), [exceeded(64), exceeded(63), SILENT, SILENT])
        .ttl_probe(across(2, 1), [exceeded(64), SILENT, SILENT, SILENT])
        .ttl_probe(across(2, 3), [exceeded(64), SILENT, SILENT, SILENT])
        .tracks(2, |path| path.client == client(2), "SYN_RECV")
        .tracks(1, across(1, 2), "SYN_SENT")
        .tracks(3, across(3, 2), "SYN_SENT")
}

#[test]
fn the_servers_node_that_drops_is_named_by_the_second_router() {
    let cluster =
        dropping_at_2().ttl_probe(across(1, 2), [exceeded(64), exceeded(63), SILENT, SILENT]);
    assert_eq!(named(&cluster.matrix), ["forward-drop node-2 proven"]);
}

#[test]
fn a_node_that_drops_needs_no_second_fault_where_one_client_made_no_ttl_probe() {
    let matrix = dropping_at_2().matrix;
    assert_eq!(named(&matrix), ["forward-drop node-2 proven"]);
}

#[test]
fn one_pod_whose_neighbours_pass_has_a_policy() {
    let hit = |path: &Path| path.server == Some(server(1));
    let cluster = Cluster::new(2)
        .with_story(hit, Story::Nothing)
        .with_balanced_story(|_| true, &server(1), Story::Nothing)
        .ttl_probe(across(2, 1), [exceeded(64), exceeded(63), SILENT, SILENT]);
    assert_eq!(named(&cluster.matrix), ["network-policy node-1 proven"]);
    let port = cluster.other_port(across(1, 1), OutcomeKind::Established);
    assert_eq!(named(&port.matrix), ["network-policy node-1 proven"]);
    let egress = Cluster::new(2)
        .with_story(|path| path.client == client(1), Story::Nothing)
        .ttl_probe(across(1, 2), [exceeded(64), SILENT, SILENT, SILENT])
        .tracks(1, |_| false, "SYN_SENT");
    assert_eq!(named(&egress.matrix), ["network-policy node-1 proven"]);
}

#[test]
fn a_policy_that_answers_prohibited_is_a_policy() {
    let story = |by, hop_limit, inner| Story::Icmp {
        by,
        reason: Unreachable::Prohibited,
        hop_limit,
        inner,
        after_ms: 0,
    };
    let cluster = Cluster::new(2)
        .with_story(
            |path| path.server == Some(server(1)) && path.client.node == node(1),
            story(CLUSTER_IP, 64, 64),
        )
        .with_story(across(2, 1), story(CLUSTER_IP, 63, 62))
        // Where nothing is translated, the node answers by its own address.
        .with_story(
            |path| across(1, 1)(path) && path.access_path == AccessPath::PodIp,
            story(gateway(1, Family::Ipv4), 64, 64),
        )
        .with_story(
            |path| across(2, 1)(path) && path.access_path == AccessPath::PodIp,
            story(gateway(1, Family::Ipv4), 63, 62),
        )
        .with_balanced_story(
            |path| path.client == client(2),
            &server(1),
            story(CLUSTER_IP, 63, 62),
        );
    assert_eq!(named(&cluster.matrix), ["network-policy node-1 proven"]);
}

#[test]
fn a_rst_that_the_server_never_sent_is_a_rule_that_rejects() {
    let forged = Story::Reset {
        hop_limit: 64,
        mac: None,
        sent: false,
    };
    let cluster = Cluster::new(2)
        .with_story(
            |path| across(1, 1)(path) && path.access_path == AccessPath::PodIp,
            forged,
        )
        .with_story(
            |path| across(1, 1)(path) && path.access_path != AccessPath::PodIp,
            Story::ResetFromWrongSource { sent: false },
        )
        .with_story(
            across(2, 1),
            Story::Reset {
                hop_limit: 63,
                mac: None,
                sent: false,
            },
        );
    assert_eq!(named(&cluster.matrix), ["reject-reset node-1 proven"]);
}

#[test]
fn a_service_that_its_node_rejects_by_rst_is_recognised_by_the_routers_address() {
    let router = Story::Reset {
        hop_limit: 64,
        mac: Some(bridge_mac(1)),
        sent: false,
    };
    let cluster = Cluster::new(2).with_story(
        |path| {
            path.client.node == node(1)
                && path.access_path.is_translated()
                && path.access_path != AccessPath::ClusterIpLocal
        },
        router,
    );
    assert_eq!(named(&cluster.matrix), ["reject-reset node-1 proven"]);
}

#[test]
fn a_rejected_syn_that_is_balanced_anew_is_late_and_no_packet_loss() {
    let late = Story::Late {
        syns: 2,
        lost: super::builder::Lost::Syn,
        started_ms: 0,
    };
    let only_late =
        Cluster::new(2).with_balanced_story(|path| path.client == client(1), &server(2), late);
    assert_eq!(named(&only_late.matrix), ["unknown node-1 consistent"]);
    let cluster = Cluster::new(2)
        .with_balanced_story(|path| path.client == client(1), &server(2), late)
        .with_balanced_story(
            |path| path.client == client(1),
            &server(1),
            Story::ResetFromWrongSource { sent: false },
        )
        .with_balanced_story(
            |path| path.client == client(2),
            &server(1),
            Story::Reset {
                hop_limit: 63,
                mac: None,
                sent: false,
            },
        );
    assert_eq!(named(&cluster.matrix), ["reject-reset node-1 proven"]);
}

#[test]
fn ip_forward_off_leaves_only_pods_that_need_no_router() {
    let hit = |path: &Path| {
        at_1(path) && !(path.access_path == AccessPath::PodIp && path.scope() == Scope::SameNode)
    };
    let broken = Cluster::new(2).with_story(hit, Story::Nothing);
    let cluster = broken
        .clone()
        .facts(1, |facts| facts.ip_forward = Some(SysctlState::Value(0)))
        .grows(1, "IpInAddrErrors", 12);
    assert_eq!(named(&cluster.matrix), ["ip-forward-off node-1 proven"]);
    let unread = diagnose(&broken.without_facts().matrix);
    assert_eq!(unread[0].confidence, Confidence::Consistent);
    assert_eq!(unread[0].cause, Some(Cause::IpForwardOff));
}

#[test]
fn without_forwarding_in_ipv6_same_node_services_go_on() {
    let hit =
        |path: &Path| path.family == Family::Ipv6 && at_1(path) && path.scope() == Scope::CrossNode;
    let cluster = Cluster::dual(2)
        .with_story(hit, Story::Nothing)
        .facts(1, |facts| facts.ip6_forward = Some(SysctlState::Value(0)));
    assert_eq!(named(&cluster.matrix), ["ip-forward-off node-1 proven"]);
    assert_eq!(cluster_ip(Family::Ipv4), CLUSTER_IP);
}

/// One node sends to another's pods outside the tunnel, where a strict reverse-path filter is.
fn past_the_tunnel(cluster: Cluster, from: u8, to: u8) -> Cluster {
    cluster
        .facts(from, |facts| {
            for route in facts.routes.iter_mut().flatten() {
                if route.gateway == Some(vtep(to, Family::Ipv4)) {
                    route.gateway = Some(underlay(to, Family::Ipv4));
                    route.dev = Some("eth0".to_owned());
                }
            }
        })
        .facts(to, |facts| {
            let filters = facts.rp_filter.as_mut().unwrap();
            filters.insert("eth0".to_owned(), SysctlState::Value(1));
        })
}

#[test]
fn reverse_path_filtering_is_proven_by_its_setting_and_the_asymmetric_route() {
    let back = Cluster::new(2)
        .with_story(across(1, 2), Story::ReplyLost)
        .with_story(across(2, 1), Story::Nothing)
        .grows(1, "TcpExtIPReversePathFilter", 12);
    let asymmetric = past_the_tunnel(back.clone(), 2, 1);
    assert_eq!(named(&asymmetric.matrix), ["rp-filter node-1 proven"]);
    let there = Cluster::new(2)
        .with_story(across(1, 2), Story::Nothing)
        .with_story(across(2, 1), Story::ReplyLost)
        .grows(2, "TcpExtIPReversePathFilter", 12);
    let asymmetric = past_the_tunnel(there, 1, 2);
    assert_eq!(named(&asymmetric.matrix), ["rp-filter node-2 proven"]);
    // The counter is one of the whole node, and here nothing filters.
    assert!(!named(&back.matrix).concat().contains("rp-filter"));
}

#[test]
fn a_full_connection_table_is_proven_by_its_count() {
    let cluster = Cluster::new(2)
        .with_story(at_1, Story::Nothing)
        .facts(1, |facts| facts.conntrack_count = Some(262_144))
        .grows(1, "ConntrackDrop", 9);
    assert_eq!(named(&cluster.matrix), ["conntrack-full node-1 proven"]);
}

#[test]
fn what_a_full_connection_table_lets_through_shows_no_other_place() {
    let full = |cluster: Cluster| {
        let mut cluster = cluster
            .facts(1, |facts| facts.conntrack_count = Some(262_144))
            .grows(1, "ConntrackDrop", 9);
        // Its table drops what is for kube-proxy of the node as well.
        let known = cluster.matrix.nodes.get_mut(&node(1)).unwrap();
        known.after.as_mut().unwrap().kube_proxy = None;
        named(&cluster.matrix)
    };
    // The pod's own address was reached before the table was full.
    let was_reached = |path: &Path| across(1, 1)(path) && path.access_path == AccessPath::PodIp;
    let services = |path: &Path| at_1(path) && !was_reached(path);
    let silent = Cluster::new(2).with_story(services, Story::Nothing);
    assert_eq!(full(silent), ["conntrack-full node-1 proven"]);
    // One SYN of a TTL probe got as far as the other node.
    let one_passed = [SILENT, exceeded(63), SILENT, SILENT];
    let silent = Cluster::new(2)
        .with_story(at_1, Story::Nothing)
        .ttl_probe(across(1, 2), one_passed);
    assert_eq!(full(silent), ["conntrack-full node-1 proven"]);
}

#[test]
fn two_faults_at_once_are_both_named() {
    // bridge-nf off hides a blocked port behind timeouts on its own node.
    let cluster = Cluster::new(2)
        .with_story(
            |path| path.server == Some(server(1)) && path.access_path == AccessPath::PodIp,
            Story::Reset {
                hop_limit: 64,
                mac: None,
                sent: true,
            },
        )
        .with_story(
            |path| {
                across(2, 1)(path)
                    || path.access_path == AccessPath::Hairpin && path.client == server(1)
            },
            Story::Reset {
                hop_limit: 62,
                mac: None,
                sent: true,
            },
        )
        .with_story(
            |path| across(1, 1)(path) && path.access_path != AccessPath::PodIp,
            Story::ResetFromWrongSource { sent: true },
        )
        .facts(1, |facts| {
            facts.bridge_nf_call_iptables = Some(SysctlState::Value(0));
        });
    assert_eq!(
        named(&cluster.matrix),
        [
            "bridge-netfilter-off node-1 proven",
            "not-listening node-1 proven"
        ]
    );
    assert_eq!(gateway(1, Family::Ipv4).to_string(), "100.96.1.1");
    assert_ne!(bridge_mac(1), Mac::BROADCAST);
}

#[test]
fn silence_beside_a_rate_limited_refusal_of_the_same_pair_is_no_second_fault() {
    let refused = Story::Icmp {
        by: gateway(1, Family::Ipv4),
        reason: Unreachable::Prohibited,
        hop_limit: 64,
        inner: 64,
        after_ms: 0,
    };
    let cluster = Cluster::new(2)
        .with_story(|path| path.server == Some(server(1)), Story::Nothing)
        .with_story(
            |path| across(1, 1)(path) && path.access_path == AccessPath::PodIp,
            refused,
        )
        .with_balanced_story(|_| true, &server(1), Story::Nothing)
        .ttl_probe(across(2, 1), [exceeded(64), exceeded(63), SILENT, SILENT]);
    assert_eq!(named(&cluster.matrix), ["network-policy node-1 proven"]);
}

#[test]
fn a_clients_own_unanswered_solicitation_is_silence_and_no_error_of_a_router() {
    let mut cluster = Cluster::new(2)
        .with_story(at_1, Story::Nothing)
        .ttl_probe(across(2, 1), [exceeded(64), exceeded(63), SILENT, SILENT]);
    for path in cluster.matrix.paths.values_mut() {
        if path.path.access_path == AccessPath::PodIp && path.path.scope() == Scope::SameNode {
            for probe in path.probes.iter_mut().filter(|probe| probe.client.syns > 1) {
                probe.client.outcome = Outcome::Unreachable {
                    by: Some(probe.client.src.ip()),
                    reason: Unreachable::Host,
                };
            }
        }
    }
    assert_eq!(named(&cluster.matrix), ["forward-drop node-1 consistent"]);
}

#[test]
fn a_raw_probes_own_closing_rst_is_no_refusal_of_the_answer() {
    let mut cluster = Cluster::new(2)
        .with_story(|path| path.client == client(1), Story::ClientAddressTaken)
        .ttl_probe(across(1, 2), [exceeded(64), SILENT, SILENT, SILENT])
        .tracks(1, |path| path.client == client(1), "SYN_RECV");
    assert_eq!(named(&cluster.matrix), ["duplicate-ip node-1 proven"]);
    for path in cluster.matrix.paths.values_mut() {
        for probe in &mut path.probes {
            probe.client.engine = EngineKind::Raw;
        }
    }
    assert_eq!(named(&cluster.matrix), ["forward-drop node-1 consistent"]);
}

/// Pods with devices of their own on the network of the nodes, to each of which its node has a route for what it translates.
fn own_devices() -> Cluster {
    let mut cluster = Cluster::new(2).routed(1).routed(2);
    for evidence in cluster.matrix.paths.values_mut() {
        if evidence.path.access_path != AccessPath::PodIp {
            continue;
        }
        for probe in &mut evidence.probes {
            for seen in &mut probe.client.observations {
                if let prober_core::packet::Body::Tcp(ip, _) = &mut seen.packet.body {
                    ip.hop_limit = 64;
                }
            }
        }
    }
    cluster
}

#[test]
fn where_pods_own_packets_pass_no_node_a_node_that_forwards_nothing_has_a_forward_drop() {
    let by_service = |path: &Path| {
        let is_balanced = path.server.is_none();
        path.client.node == node(1) && path.access_path != AccessPath::PodIp && !is_balanced
    };
    let cluster = own_devices()
        .with_story(by_service, Story::Nothing)
        .ttl_probe(by_service, [exceeded(64), SILENT, SILENT, SILENT])
        .tracks(1, |_| false, "SYN_SENT");
    let names = named(&cluster.matrix);
    assert!(
        names
            .iter()
            .any(|name| name.starts_with("forward-drop node-1")),
        "{names:?}"
    );
    assert!(
        !names.iter().any(|name| name.starts_with("stale-rules")),
        "{names:?}"
    );
}

#[test]
fn an_error_that_the_clients_own_kernel_reports_is_no_refusal_of_its_node() {
    let unresolved = Story::Icmp {
        by: pod_ip(&client(1), Family::Ipv4),
        reason: Unreachable::Host,
        hop_limit: 64,
        inner: 64,
        after_ms: 3000,
    };
    let cluster = Cluster::new(2).with_story(|path| path.client == client(1), unresolved);
    let text: Vec<String> = (diagnose(&cluster.matrix).into_iter())
        .flat_map(|diagnosis| diagnosis.evidence)
        .collect();
    assert!(
        !text
            .iter()
            .any(|said| said.contains("refuses what it forwards")),
        "{text:?}"
    );
}
