//! Faults of translation.

use prober_core::diagnosis::catalogue::Cause;
use prober_core::diagnosis::{End, diagnose, unexpected_packet};
use prober_core::node_facts::SysctlState;
use prober_core::packet::observation::{Direction, Observation};
use prober_core::probe::event::TtlStepAnswer;
use prober_core::probe::outcome::Outcome;
use prober_core::topology::{AccessPath, Path, Scope};

use super::builder::{Cluster, MS, Story, client, gateway, node, server};
use super::named;
use prober_core::packet::family::Family;
use prober_core::packet::{Body, EthernetAddresses, Packet, Resolution, ResolutionKind};

/// Same-node Services of node-1, as bridge-netfilter off breaks them.
fn founding(cluster: Cluster, family: Family) -> Cluster {
    let story = Story::SynAckFromWrongSource {
        refused: true,
        hop_limit: 64,
    };
    let own = move |path: &Path| {
        path.client.node == node(1)
            && path.scope() == Scope::SameNode
            && path.family == family
            && matches!(
                path.access_path,
                AccessPath::ClusterIp | AccessPath::ClusterIpLocal
            )
    };
    let exceeded = TtlStepAnswer::TimeExceeded {
        by: gateway(1, family),
        hop_limit: 64,
    };
    let answer = TtlStepAnswer::SynAck {
        from: "100.96.1.20:8080".parse().unwrap(),
        hop_limit: 64,
    };
    cluster
        .with_story(own, story)
        .with_balanced_story(
            move |path| path.client.node == node(1) && path.family == family,
            &server(1),
            story,
        )
        .ttl_probe(own, [exceeded, answer, answer, answer])
        .grows(1, "IcmpOutRedirects", 5)
}

#[test]
fn a_healthy_cluster_has_no_diagnosis() {
    assert_eq!(named(&Cluster::new(2).matrix), Vec::<String>::new());
    assert_eq!(named(&Cluster::dual(3).matrix), Vec::<String>::new());
    assert_eq!(
        named(&Cluster::new(2).without_facts().matrix),
        Vec::<String>::new()
    );
    assert_eq!(
        named(&Cluster::new(2).without_packets().matrix),
        Vec::<String>::new()
    );
}

#[test]
fn syns_that_are_lost_beside_untranslated_answers_follow_from_the_same_cause() {
    let mut matrix = founding(Cluster::new(2), Family::Ipv4)
        .facts(1, |facts| {
            facts.bridge_nf_call_iptables = Some(SysctlState::Value(0));
        })
        .matrix;
    let own = |path: &Path| {
        path.access_path == AccessPath::ClusterIp
            && path.client == client(1)
            && path.server == Some(server(1))
    };
    let evidence = matrix
        .paths
        .values_mut()
        .find(|evidence| own(&evidence.path));
    let evidence = evidence.unwrap();
    let mut vanished = evidence.probes[0].clone();
    vanished.client.outcome = Outcome::Timeout;
    vanished.client.observations.truncate(1);
    let server_trace = vanished.server.as_mut().unwrap();
    (
        server_trace.syns,
        server_trace.syn_acks,
        server_trace.resets_received,
    ) = (0, 0, 0);
    server_trace.observations.clear();
    evidence.probes.push(vanished.clone());
    assert_eq!(named(&matrix), ["bridge-netfilter-off node-1 proven"]);

    // If there are more of them than of the others, they are a fault of their own.
    let evidence = matrix
        .paths
        .values_mut()
        .find(|evidence| own(&evidence.path));
    let evidence = evidence.unwrap();
    let more = vec![vanished; evidence.probes.len()];
    evidence.probes.extend(more);
    assert_eq!(named(&matrix).len(), 2);
}

#[test]
fn an_arp_reply_does_not_show_the_address_of_the_router() {
    let mut matrix = founding(Cluster::new(2), Family::Ipv4)
        .facts(1, |facts| {
            facts.bridge_nf_call_iptables = Some(SysctlState::Value(0));
        })
        .matrix;
    for evidence in matrix.paths.values_mut() {
        for probe in &mut evidence.probes {
            let seen = &mut probe.client.observations;
            let answered = |seen: &&Observation| seen.direction == Direction::Received;
            let Some(answer) = seen.iter().find(answered).copied() else {
                continue;
            };
            let link = answer.packet.link.unwrap();
            let reply = Observation {
                direction: Direction::Sent,
                packet: Packet {
                    link: Some(EthernetAddresses {
                        src: link.dst.unwrap(),
                        dst: Some(link.src),
                    }),
                    body: Body::Resolution(Resolution {
                        kind: ResolutionKind::Reply,
                        sender: probe.client.src.ip(),
                        sender_mac: link.dst,
                        target: probe.client.src.ip(),
                    }),
                },
                ..answer
            };
            seen.insert(0, reply);
        }
    }
    assert_eq!(named(&matrix), ["bridge-netfilter-off node-1 proven"]);
}

#[test]
fn the_founding_fault_is_proven_by_the_facts_of_the_node() {
    for state in [SysctlState::Value(0), SysctlState::Absent] {
        let cluster = founding(Cluster::dual(2), Family::Ipv4)
            .facts(1, |facts| facts.bridge_nf_call_iptables = Some(state));
        assert_eq!(
            named(&cluster.matrix),
            ["bridge-netfilter-off node-1 proven"]
        );
    }
}

#[test]
fn a_fault_that_is_healed_while_it_is_probed_is_named() {
    let mut cluster = founding(Cluster::dual(2), Family::Ipv4).facts(1, |facts| {
        facts.bridge_nf_call_iptables = Some(SysctlState::Value(0));
    });
    let known = cluster.matrix.nodes.get_mut(&node(1)).unwrap();
    let after = known.after.as_mut().unwrap();
    after.bridge_nf_call_iptables = Some(SysctlState::Value(1));
    assert_eq!(
        named(&cluster.matrix),
        ["bridge-netfilter-off node-1 proven"]
    );
}

#[test]
fn without_node_facts_the_founding_fault_is_only_consistent_and_names_the_sysctl() {
    let cluster = founding(Cluster::new(2), Family::Ipv4).without_facts();
    assert_eq!(
        named(&cluster.matrix),
        ["bridge-netfilter-off node-1 consistent"]
    );
    let found = diagnose(&cluster.matrix);
    assert!(found[0].would_decide[0].contains("net.bridge.bridge-nf-call-iptables"));
    assert!(
        found[0]
            .evidence
            .iter()
            .any(|sentence| sentence.contains("TTL 1"))
    );
}

#[test]
fn without_packets_the_counters_fingerprint_the_founding_fault() {
    let cluster = founding(Cluster::new(2), Family::Ipv4)
        .agent_grows(&client(1), "TcpOutRsts", 6)
        .agent_grows(&server(1), "TcpExtEmbryonicRsts", 6)
        .without_packets()
        .without_facts();
    assert_eq!(
        named(&cluster.matrix),
        ["bridge-netfilter-off node-1 consistent"]
    );
}

#[test]
fn the_founding_fault_of_ipv6_is_named_for_its_family_and_both_together_for_both() {
    let six = founding(Cluster::dual(2), Family::Ipv6).facts(1, |facts| {
        facts.bridge_nf_call_ip6tables = Some(SysctlState::Value(0));
    });
    assert_eq!(named(&six.matrix), ["bridge-netfilter-off node-1 proven"]);
    assert_eq!(diagnose(&six.matrix)[0].family, Some(Family::Ipv6));
    let both = founding(six, Family::Ipv4).facts(1, |facts| {
        facts.bridge_nf_call_iptables = Some(SysctlState::Value(0));
    });
    assert_eq!(named(&both.matrix), ["bridge-netfilter-off node-1 proven"]);
    assert_eq!(diagnose(&both.matrix)[0].family, None);
}

#[test]
fn the_unexpected_packet_of_the_founding_fault_is_the_answer_from_the_wrong_address() {
    let cluster = founding(Cluster::new(2), Family::Ipv4).facts(1, |facts| {
        facts.bridge_nf_call_iptables = Some(SysctlState::Value(0));
    });
    let found = diagnose(&cluster.matrix);
    let (path, at) = found[0].sample.unwrap();
    let (end, packet, why) = unexpected_packet(&cluster.matrix.paths[&path].probes[at]).unwrap();
    assert_eq!((end, packet), (End::Client, 1));
    assert!(why.contains("100.96.1.20:8080"), "{why}");
    assert_eq!(MS, 1_000_000);
}

#[test]
fn replies_that_are_never_tracked_are_no_fault_of_the_bridge() {
    let story = Story::SynAckFromWrongSource {
        refused: false,
        hop_limit: 64,
    };
    let cluster = Cluster::new(2)
        .with_story(
            |path| path.client.node == node(1) && path.access_path == AccessPath::ClusterIp,
            story,
        )
        .with_story(
            |path| path.client == client(1) && path.access_path == AccessPath::PodIp,
            Story::NoData { completed: false },
        )
        .grows(1, "ConntrackInvalid", 6);
    assert_eq!(named(&cluster.matrix), ["reply-bypasses-nat node-1 proven"]);
}

#[test]
fn the_remedy_of_the_founding_fault_can_be_pasted_and_lasts() {
    let cluster = founding(Cluster::new(2), Family::Ipv4).facts(1, |facts| {
        facts.bridge_nf_call_iptables = Some(SysctlState::Value(0));
    });
    let found = diagnose(&cluster.matrix);
    let commands: Vec<&str> = found[0]
        .remedy
        .iter()
        .flat_map(|step| &step.commands)
        .map(String::as_str)
        .collect();
    assert_eq!(commands[0], "modprobe br_netfilter");
    for wanted in [
        "/etc/modules-load.d/",
        "/etc/sysctl.d/",
        "hooks:",
        "network-pre.target",
        "kubelet.service",
    ] {
        assert!(
            commands.iter().any(|command| command.contains(wanted)),
            "{wanted}"
        );
    }
}

#[test]
fn every_cause_that_is_named_comes_with_a_remedy_and_a_sample() {
    let cluster = founding(Cluster::new(2), Family::Ipv4);
    for diagnosis in diagnose(&cluster.matrix) {
        assert!(!diagnosis.remedy.is_empty(), "{diagnosis:?}");
        assert!(diagnosis.sample.is_some(), "{diagnosis:?}");
    }
}

/// The answers of every Service of node-1 come from the backends' own addresses.
fn bypassed(cluster: Cluster) -> Cluster {
    let story = Story::SynAckFromWrongSource {
        refused: true,
        hop_limit: 64,
    };
    cluster.with_story(
        |path| path.client.node == node(1) && path.access_path == AccessPath::ClusterIp,
        story,
    )
}

#[test]
fn where_no_pod_is_on_a_bridge_its_netfilter_is_no_cause() {
    let off = |cluster: Cluster| {
        cluster.facts(1, |facts| {
            facts.bridge_nf_call_iptables = Some(SysctlState::Absent);
        })
    };
    for cluster in [Cluster::new(2).macvlan(1), Cluster::new(2).routed(1)] {
        let matrix = off(bypassed(cluster)).matrix;
        assert_eq!(named(&matrix), ["reply-bypasses-nat node-1 proven"]);
        let found = diagnose(&matrix);
        assert!(
            found[0].excluded.iter().any(|exclusion| {
                exclusion.cause == Cause::BridgeNetfilterOff
                    && exclusion.because == "the pods of node-1 are not ports of a bridge"
            }),
            "{found:?}"
        );
    }
}

#[test]
fn replies_of_one_node_that_are_never_tracked_need_no_bridge() {
    let own = |path: &Path| {
        path.client.node == node(1)
            && path.access_path == AccessPath::ClusterIp
            && path.scope() == Scope::SameNode
    };
    let story = Story::SynAckFromWrongSource {
        refused: false,
        hop_limit: 63,
    };
    let cluster = Cluster::new(2)
        .routed(1)
        .docker0(1)
        .with_story(own, story)
        .facts(1, |facts| {
            facts.bridge_nf_call_iptables = Some(SysctlState::Value(0));
        });
    assert_eq!(named(&cluster.matrix), ["reply-bypasses-nat node-1 proven"]);
}

#[test]
fn another_bridge_changes_nothing_about_the_founding_fault() {
    let cluster = founding(Cluster::new(2).docker0(1), Family::Ipv4).facts(1, |facts| {
        facts.bridge_nf_call_iptables = Some(SysctlState::Value(0));
    });
    assert_eq!(
        named(&cluster.matrix),
        ["bridge-netfilter-off node-1 proven"]
    );
}

#[test]
fn an_answer_from_an_address_that_is_no_backends_is_no_reply_without_translation() {
    let mut cluster = bypassed(Cluster::new(2));
    for evidence in cluster.matrix.paths.values_mut() {
        for backend in &mut evidence.backends {
            backend.address.set_port(9999);
        }
    }
    let names = named(&cluster.matrix);
    assert!(
        !names.iter().any(|name| name.contains("proven")),
        "{names:?}"
    );
}
