//! Faults in the Service's endpoints and rules.

use prober_core::diagnosis::diagnose;
use prober_core::node_facts::{KubeProxyMode, SysctlState};
use prober_core::packet::Unreachable;
use prober_core::packet::family::Family;
use prober_core::probe::event::TtlStepAnswer;
use prober_core::topology::{AccessPath, Path, Scope};

use super::builder::{CLUSTER_IP, Cluster, Story, client, gateway, node, server};
use super::named;

fn slot_of(n: u8) -> impl Fn(&Path) -> bool + Copy {
    move |path: &Path| {
        path.server == Some(server(n))
            && matches!(
                path.access_path,
                AccessPath::ClusterIp | AccessPath::Hairpin
            )
    }
}

/// The answers to a TTL probe that one router forwards, and nothing answers after it.
fn routed_once(by: std::net::IpAddr) -> [TtlStepAnswer; 4] {
    let exceeded = TtlStepAnswer::TimeExceeded { by, hop_limit: 64 };
    let silent = TtlStepAnswer::Silent;
    [exceeded, silent, silent, silent]
}

fn refused(by: std::net::IpAddr, reason: Unreachable, inner: u8, after_ms: u64) -> Story {
    Story::Icmp {
        by,
        reason,
        hop_limit: 64,
        inner,
        after_ms,
    }
}

#[test]
fn a_slot_without_endpoints_is_refused_by_each_node_itself() {
    let cluster = Cluster::new(2)
        .with_story(
            |path| slot_of(1)(path) && path.client.node == node(1),
            refused(gateway(1, Family::Ipv4), Unreachable::Port, 63, 0),
        )
        .with_story(
            |path| slot_of(1)(path) && path.client.node == node(2),
            refused(gateway(2, Family::Ipv4), Unreachable::Port, 63, 0),
        );
    // The API names a ready endpoint: every node may be behind it, or a rule refuses.
    assert_eq!(named(&cluster.matrix), ["no-endpoints - consistent"]);
    let mut empty = cluster.without_facts();
    for path in empty.matrix.paths.values_mut() {
        if slot_of(1)(&path.path) {
            path.backends[0].ready = false;
        }
    }
    assert_eq!(named(&empty.matrix), ["no-endpoints - proven"]);
}

#[test]
fn a_slot_that_leads_to_a_dead_address_is_a_stale_endpoint() {
    let dead = refused(CLUSTER_IP, Unreachable::Host, 64, 3060);
    let cluster = Cluster::new(2).with_story(slot_of(1), dead);
    assert_eq!(named(&cluster.matrix), ["stale-endpoint - proven"]);
    let mut by_api = Cluster::new(2).with_story(slot_of(1), Story::Nothing);
    for path in by_api
        .matrix
        .paths
        .values_mut()
        .filter(|path| slot_of(1)(&path.path))
    {
        path.backends[0].agent = None;
    }
    assert_eq!(named(&by_api.matrix), ["stale-endpoint - proven"]);
}

#[test]
fn a_recently_dead_endpoint_is_silent_and_floods_the_own_syn_without_lacking_a_masquerade() {
    let flooded = Story::OwnSyn {
        to: Some("100.96.1.99".parse().unwrap()),
    };
    let cluster = Cluster::new(2)
        .with_story(
            |path| slot_of(1)(path) && path.client.node == node(1),
            flooded,
        )
        .with_story(
            |path| slot_of(1)(path) && path.client.node == node(2),
            Story::Nothing,
        );
    assert_eq!(named(&cluster.matrix)[0], "stale-endpoint - proven");
}

#[test]
fn one_node_that_is_led_to_a_dead_address_has_stale_rules() {
    let dead = refused(CLUSTER_IP, Unreachable::Host, 62, 3060);
    let cluster =
        Cluster::new(2).with_story(|path| slot_of(2)(path) && path.client.node == node(1), dead);
    assert_eq!(named(&cluster.matrix), ["stale-rules node-1 proven"]);
}

#[test]
fn an_old_backend_that_answers_one_node_only_shows_stale_rules() {
    let cluster = Cluster::new(2).with_story(
        |path| {
            path.client == client(1)
                && path.access_path == AccessPath::ClusterIp
                && path.server == Some(server(1))
        },
        Story::Banner(2),
    );
    assert_eq!(named(&cluster.matrix), ["stale-rules node-1 proven"]);
}

#[test]
fn a_lost_jump_silences_every_service_of_one_node_and_the_gateway_answers_ttl_1() {
    let own = |path: &Path| path.client.node == node(1) && path.access_path.is_translated();
    let cluster = Cluster::new(2).with_story(own, Story::Nothing);
    assert_eq!(
        named(&cluster.matrix),
        ["service-rules-missing node-1 consistent"]
    );
    let cluster = cluster.ttl_probe(own, routed_once(gateway(1, Family::Ipv4)));
    assert_eq!(
        named(&cluster.matrix),
        ["service-rules-missing node-1 proven"]
    );
}

#[test]
fn a_lost_chain_silences_one_port_from_one_node() {
    let own = |path: &Path| slot_of(1)(path) && path.client.node == node(1);
    let cluster = Cluster::new(2)
        .with_story(own, Story::Nothing)
        .ttl_probe(own, routed_once(gateway(1, Family::Ipv4)));
    assert_eq!(
        named(&cluster.matrix),
        ["service-rules-missing node-1 proven"]
    );
}

#[test]
fn a_port_that_stays_on_a_node_without_a_ready_endpoint_is_no_fault_of_the_network() {
    let own =
        |path: &Path| path.client.node == node(1) && path.access_path == AccessPath::ClusterIpLocal;
    let mut cluster = Cluster::new(2).with_story(own, Story::Nothing);
    for path in cluster.matrix.paths.values_mut() {
        for backend in &mut path.backends {
            if backend.agent == Some(server(1)) {
                backend.ready = false;
            }
        }
    }
    assert_eq!(named(&cluster.matrix), ["no-local-endpoint node-1 proven"]);
}

#[test]
fn a_port_of_the_bridge_that_is_down_cuts_its_pod_off() {
    let hit = |path: &Path| path.server == Some(server(1));
    let cluster = Cluster::new(2)
        .with_story(hit, Story::Nothing)
        .with_balanced_story(|_| true, &server(1), Story::Nothing)
        .facts(1, |facts| {
            let links = facts.links.as_mut().unwrap();
            let port = links
                .iter_mut()
                .find(|link| link.name == "vethserver")
                .unwrap();
            port.up = false;
            port.carrier = false;
        });
    assert_eq!(named(&cluster.matrix), ["stale-endpoint node-1 proven"]);
}

#[test]
fn hairpin_mode_off_fails_the_path_of_one_pod_to_itself() {
    let own = |path: &Path| path.access_path == AccessPath::Hairpin && path.client == server(1);
    let cluster = Cluster::new(2)
        .with_story(own, Story::Nothing)
        .facts(1, |facts| {
            let links = facts.links.as_mut().unwrap();
            links
                .iter_mut()
                .find(|link| link.name == "vethserver")
                .unwrap()
                .hairpin = Some(false);
        });
    assert_eq!(named(&cluster.matrix), ["hairpin-off node-1 proven"]);
    assert_eq!(
        named(&cluster.without_facts().matrix),
        ["hairpin-off node-1 consistent"]
    );
}

#[test]
fn hairpin_mode_off_is_harmless_where_every_hairpin_path_is_healthy() {
    let cluster = Cluster::new(2).facts(1, |facts| {
        facts.bridge_nf_call_iptables = Some(SysctlState::Value(0));
        for link in facts.links.as_mut().unwrap() {
            link.hairpin = link.hairpin.map(|_| false);
        }
    });
    assert_eq!(named(&cluster.matrix), Vec::<String>::new());
}

#[test]
fn the_own_syn_delivered_to_its_sender_is_a_missing_masquerade() {
    let own = |path: &Path| path.access_path == AccessPath::Hairpin && path.client.node == node(1);
    let cluster = Cluster::new(2).with_story(own, Story::OwnSyn { to: None });
    assert_eq!(named(&cluster.matrix), ["missing-masquerade node-1 proven"]);
    assert_eq!(
        cluster
            .matrix
            .paths
            .values()
            .filter(|path| path.path.scope() == Scope::Any)
            .count(),
        2
    );
}

#[test]
fn a_port_of_another_bridge_is_no_pods() {
    let own = |path: &Path| path.access_path == AccessPath::Hairpin && path.client == server(1);
    let cluster = Cluster::new(2).with_story(own, Story::Nothing).docker0(1);
    let routed = cluster.clone().routed(1);
    for matrix in [&cluster.matrix, &routed.matrix] {
        let names = named(matrix);
        let is_hairpin = names.iter().any(|name| name.contains("hairpin-off"));
        assert!(!is_hairpin, "{names:?}");
    }
}

#[test]
fn the_remedy_of_hairpin_mode_names_the_pods_own_bridge() {
    let own = |path: &Path| path.access_path == AccessPath::Hairpin && path.client == server(1);
    let cluster = Cluster::new(2)
        .with_story(own, Story::Nothing)
        .docker0(1)
        .facts(1, |facts| {
            for link in facts.links.as_mut().unwrap() {
                link.hairpin = link.hairpin.map(|_| false);
            }
        });
    let found = diagnose(&cluster.matrix);
    let command = &found[0].remedy[0].commands[0];
    assert!(command.contains("/sys/class/net/cni0/brif/"), "{command}");
    assert!(found[0].evidence[0].contains("vethserver"), "{found:?}");
}

#[test]
fn where_nothing_shows_what_translates_a_router_that_answers_proves_no_missing_rule() {
    // A program at the pod's link translates, and no rule of netfilter rewrites the errors.
    let dead = |path: &Path| slot_of(2)(path) && path.client.node == node(1);
    let cluster = Cluster::new(2)
        .routed(1)
        .with_story(dead, Story::Nothing)
        .ttl_probe(dead, routed_once(gateway(1, Family::Ipv4)))
        .facts(1, |facts| facts.kube_proxy = None)
        .facts(2, |facts| facts.kube_proxy = None);
    assert_eq!(named(&cluster.matrix), ["stale-rules node-1 consistent"]);
    let found = diagnose(&cluster.matrix);
    let decides = &found[0].would_decide;
    assert!(
        decides[0].contains("what translates Services on node-1"),
        "{found:?}"
    );
    assert!(
        decides
            .iter()
            .any(|one| one.contains("service-rules-missing has the same symptoms")),
        "{found:?}"
    );
    let first = &found[0].remedy[0].summary;
    assert!(first.contains("what translates Services"), "{first}");
}

#[test]
fn a_kube_proxy_that_does_not_answer_while_others_do_is_restarted() {
    let own = |path: &Path| path.client.node == node(1) && path.access_path.is_translated();
    let silent = Cluster::new(2)
        .with_story(own, Story::Nothing)
        .facts(1, |facts| facts.kube_proxy = None);
    let found = diagnose(&silent.matrix);
    let evidence = found[0].evidence.join("\n");
    let said =
        "kube-proxy of node-1 does not answer at its metrics address, while that of node-2 does";
    assert!(evidence.contains(said), "{evidence}");
    let first = &found[0].remedy[0].summary;
    assert!(first.starts_with("Restart kube-proxy"), "{first}");

    // It ended during the run.
    let mut ended = Cluster::new(2).with_story(own, Story::Nothing);
    let facts = ended.matrix.nodes.get_mut(&node(1)).unwrap();
    facts.after.as_mut().unwrap().kube_proxy = None;
    let found = diagnose(&ended.matrix);
    let evidence = found[0].evidence.join("\n");
    let said = "kube-proxy of node-1 answered at its metrics address when the run began";
    assert!(evidence.contains(said), "{evidence}");

    // In IPVS mode it is the link that shows the mode, and where none answers nothing is known.
    for mode in [Some(KubeProxyMode::Ipvs), None] {
        let unknown = silent.clone().facts(2, |facts| facts.kube_proxy = mode);
        let found = diagnose(&unknown.matrix);
        let evidence = found[0].evidence.join("\n");
        assert!(!evidence.contains("metrics address"), "{evidence}");
    }
}

#[test]
fn a_router_that_is_not_the_node_proves_no_missing_rule() {
    let own = |path: &Path| path.client.node == node(1) && path.access_path.is_translated();
    let cluster = Cluster::new(2)
        .with_story(own, Story::Nothing)
        .ttl_probe(own, routed_once("172.20.0.1".parse().unwrap()));
    assert_eq!(
        named(&cluster.matrix),
        ["service-rules-missing node-1 consistent"]
    );
}

#[test]
fn another_pod_that_answers_at_the_pods_own_address_too_shows_no_stale_rule() {
    let cluster = Cluster::new(2).with_story(
        |path| {
            path.client == client(1)
                && matches!(path.access_path, AccessPath::ClusterIp | AccessPath::PodIp)
                && path.server == Some(server(1))
        },
        Story::Banner(2),
    );
    let names = named(&cluster.matrix);
    assert!(
        !names.contains(&"stale-rules node-1 proven".to_owned()),
        "{names:?}"
    );
}
