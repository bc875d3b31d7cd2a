//! Services that are translated inside connect(2), as Cilium does: crafted packets are not translated there.

use prober_core::diagnosis::diagnose;
use prober_core::evidence::Matrix;
use prober_core::node_facts::Route;
use prober_core::packet::Unreachable;
use prober_core::packet::family::Family;
use prober_core::packet::mac::Mac;
use prober_core::probe::outcome::{EngineKind, Errno, Outcome};
use prober_core::topology::{AccessPath, AgentId, Path, PathId, Scope};

use super::builder::{
    Cluster, Lost, SILENT, Story, client, exceeded, gateway, node, pod_ip, server,
};
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

/// The path by the Service from the client of node-1 to the server of node-2.
fn through_service(path: &Path) -> bool {
    path.client == client(1)
        && path.server == Some(server(2))
        && path.access_path == AccessPath::ClusterIp
}

fn everywhere(_: &prober_core::topology::NodeName) -> bool {
    true
}

/// The evidence of all diagnoses.
fn sentences(matrix: &Matrix) -> String {
    let diagnoses = diagnose(matrix);
    let evidence = diagnoses.iter().flat_map(|found| &found.evidence);
    evidence.cloned().collect::<Vec<_>>().join("\n")
}

#[test]
fn a_healthy_cluster_has_no_diagnosis_and_every_service_path_is_socket_level() {
    let cluster = Cluster::dual(2).translated_in_connect(everywhere);
    assert_eq!(named(&cluster.matrix), Vec::<String>::new());
    for evidence in cluster.matrix.paths.values() {
        let is_service = evidence.path.access_path != AccessPath::PodIp;
        assert_eq!(evidence.socket_level, is_service, "{:?}", evidence.path);
        assert!(evidence.is_clean(), "{:?}", evidence.path);
        let expected = [EngineKind::Kernel];
        assert!(!is_service || evidence.engines() == expected);
    }
}

#[test]
fn it_is_a_property_of_the_clients_node_alone() {
    let cluster = Cluster::new(2).translated_in_connect(|at| *at == node(1));
    for evidence in cluster.matrix.paths.values() {
        let path = &evidence.path;
        let expected = path.client.node == node(1) && path.access_path != AccessPath::PodIp;
        assert_eq!(evidence.socket_level, expected, "{path:?}");
    }
}

#[test]
fn crafted_packets_that_fail_where_connect_sends_to_the_service_itself_do_count() {
    let mut cluster = Cluster::new(2);
    let ids: Vec<PathId> = cluster.matrix.paths.keys().copied().collect();
    for id in ids {
        cluster.matrix.learn_socket_level(id);
    }
    assert!(cluster.matrix.socket_level.is_empty());
}

#[test]
fn a_server_that_does_not_listen_is_named_alone() {
    let refuses = Story::Reset {
        hop_limit: 63,
        mac: None,
        sent: true,
    };
    let cluster = Cluster::new(2)
        .with_story(|path| path.server == Some(server(2)), refuses)
        .with_balanced_story(|_| true, &server(2), refuses)
        .translated_in_connect(everywhere);
    assert_eq!(named(&cluster.matrix), ["not-listening node-2 proven"]);
}

#[test]
fn a_pod_that_refuses_itself_over_its_loopback_device_is_no_duplicate() {
    let refuses = |mac, sent| Story::Reset {
        hop_limit: 64,
        mac,
        sent,
    };
    let to_itself = |path: &Path| path.server == Some(path.client.clone());
    let named = |mac| {
        let cluster = Cluster::new(2)
            .with_story(
                |path| path.server == Some(server(2)) && !to_itself(path),
                refuses(None, true),
            )
            .with_story(
                |path| path.server == Some(server(2)) && to_itself(path),
                refuses(Some(mac), false),
            )
            .with_balanced_story(|_| true, &server(2), refuses(None, true))
            .translated_in_connect(everywhere);
        named(&cluster.matrix)
    };
    assert_eq!(named(Mac::LOOPBACK), ["not-listening node-2 proven"]);
    let by_another_host = named(Mac([2, 0, 0, 0, 0, 9]));
    assert!(
        by_another_host.contains(&"duplicate-ip node-2 proven".to_owned()),
        "{by_another_host:?}"
    );
}

/// A cluster whose node-1 translates nothing; no node has kube-proxy.
fn untranslated_on_1(cluster: Cluster) -> Cluster {
    let is_service = |path: &Path| path.client == client(1) && path.access_path.is_translated();
    let cluster = cluster.with_story(is_service, Story::Nothing);
    let without_proxy = |cluster: Cluster, n| cluster.facts(n, |facts| facts.kube_proxy = None);
    let mut cluster = without_proxy(without_proxy(cluster, 1), 2).tracks(1, is_service, "SYN_SENT");
    let known = cluster.matrix.nodes.get_mut(&node(1)).unwrap();
    let reading = known.after.as_mut().unwrap().conntrack.as_mut().unwrap();
    for entry in &mut reading.entries {
        entry.reply.source = entry.original.destination;
    }
    cluster
}

#[test]
fn a_node_without_the_translation_in_connect_that_the_others_have_lacks_its_program() {
    let cluster = Cluster::new(2).translated_in_connect(|at| *at == node(2));
    let cluster = untranslated_on_1(cluster);
    assert_eq!(
        named(&cluster.matrix),
        ["service-rules-missing node-1 proven"]
    );
    let found = diagnose(&cluster.matrix).remove(0);
    let said = "node-2 translates Services inside connect(2), and nothing shows that node-1 does: its program is not attached, or has no entry of them";
    assert!(found.evidence.iter().any(|line| line == said), "{found:#?}");
    let mut commands = found.remedy.iter().flat_map(|step| &step.commands);
    assert!(
        !commands.any(|one| one.contains("kube-proxy")),
        "{found:#?}"
    );
    // Where nothing shows what translates on the others, it may be anything.
    let unknown = untranslated_on_1(Cluster::new(2));
    assert_eq!(
        named(&unknown.matrix),
        ["service-rules-missing node-1 consistent"]
    );
}

#[test]
fn one_lost_syn_is_one_lost_syn() {
    let mut cluster = Cluster::new(2);
    let late = Story::Late {
        syns: 2,
        lost: Lost::Syn,
        started_ms: 0,
    };
    let evidence = cluster.clone().with_story(through_service, late).matrix;
    let (id, late) = evidence
        .paths
        .iter()
        .find(|(_, evidence)| through_service(&evidence.path))
        .unwrap();
    let evidence = cluster.matrix.paths.get_mut(id).unwrap();
    evidence.probes[0] = late.probes[0].clone();
    let tally = evidence.tallies.get_mut(&EngineKind::Kernel).unwrap();
    tally.first_syn_success = 1;
    let cluster = cluster.translated_in_connect(everywhere);
    let text = sentences(&cluster.matrix);
    assert!(text.contains("1 of 2 first SYNs"), "{text}");
}

#[test]
fn a_port_without_backend_is_refused_inside_connect_and_has_no_endpoints() {
    let refused = Story::RefusedLocally(Errno::Ehostunreach);
    let mut cluster = Cluster::new(2)
        .with_story(slot_of(2), refused)
        .translated_in_connect(everywhere);
    let by_packets = named(&cluster.matrix);
    assert_eq!(by_packets, ["no-endpoints - consistent"]);
    for evidence in cluster.matrix.paths.values_mut() {
        if slot_of(2)(&evidence.path) {
            evidence.backends[0].ready = false;
        }
    }
    assert_eq!(named(&cluster.matrix), ["no-endpoints - proven"]);
    let text = sentences(&cluster.matrix);
    let sentence = "connect() failed at once with EHOSTUNREACH: the kernel sent no packet";
    assert!(text.contains(sentence), "{text}");
}

#[test]
fn where_every_connect_is_refused_a_crafted_syn_that_leaves_shows_where() {
    let refused = Story::RefusedLocally(Errno::Ehostunreach);
    let is_service = |path: &Path| path.access_path != AccessPath::PodIp;
    let cluster = Cluster::new(2)
        .with_story(is_service, refused)
        .translated_in_connect(everywhere);
    assert_eq!(cluster.matrix.socket_level.len(), 2);
    let unrouted = Story::RefusedLocally(Errno::Enetunreach);
    let cluster = Cluster::new(2)
        .with_story(is_service, unrouted)
        .translated_in_connect(everywhere);
    assert!(cluster.matrix.socket_level.is_empty());
}

#[test]
fn a_service_without_an_entry_on_a_node_shows_in_the_syn_of_connect() {
    let mut cluster = Cluster::new(2)
        .with_story(through_service, Story::Nothing)
        .ttl_probe(through_service, [exceeded(64), SILENT, SILENT, SILENT]);
    let untouched = cluster.matrix.clone();
    cluster = cluster.translated_in_connect(everywhere);
    for (id, evidence) in &mut cluster.matrix.paths {
        if through_service(&evidence.path) {
            let crafted = evidence.probes.pop().unwrap();
            evidence.probes.clone_from(&untouched.paths[id].probes);
            evidence.probes.push(crafted);
            assert!(evidence.counted_ttl_probe().is_none());
        }
    }
    assert_eq!(
        named(&cluster.matrix),
        ["service-rules-missing node-1 proven"]
    );
    let found = diagnose(&cluster.matrix);
    let commands: Vec<&String> = (found[0].remedy.iter())
        .flat_map(|step| &step.commands)
        .collect();
    assert!(
        commands
            .iter()
            .all(|command| !command.contains("kube-proxy")),
        "{commands:?}"
    );
}

#[test]
fn an_error_of_a_router_behind_the_translation_does_not_show_missing_rules() {
    let prohibited = Story::Icmp {
        by: gateway(2, Family::Ipv4),
        reason: Unreachable::Port,
        hop_limit: 63,
        inner: 63,
        after_ms: 0,
    };
    let cluster = Cluster::new(2)
        .with_story(through_service, prohibited)
        .translated_in_connect(everywhere);
    let names = named(&cluster.matrix);
    let rules = names.iter().any(|name| name.contains("rules-missing"));
    assert!(!rules, "{names:?}");
}

#[test]
fn a_backend_that_no_pod_has_shows_in_the_syn_of_connect() {
    let mut cluster = Cluster::new(2)
        .with_story(slot_of(2), Story::Nothing)
        .translated_in_connect(everywhere);
    let dead = "100.96.2.99".parse().unwrap();
    for evidence in cluster.matrix.paths.values_mut() {
        if slot_of(2)(&evidence.path) {
            for probe in &mut evidence.probes {
                if probe.client.engine == EngineKind::Kernel {
                    for seen in &mut probe.client.observations {
                        if let prober_core::packet::Body::Tcp(ip, _) = &mut seen.packet.body {
                            ip.dst = dead;
                        }
                    }
                }
            }
        }
    }
    assert_eq!(named(&cluster.matrix), ["stale-endpoint - proven"]);
    let text = sentences(&cluster.matrix);
    assert!(text.contains("the SYN went on to 100.96.2.99"), "{text}");
}

/// A host that connects to the Service and is refused at once.
fn with_host(matrix: Matrix, errno: Errno) -> Matrix {
    let refused = Cluster::new(2).with_story(through_service, Story::RefusedLocally(errno));
    with_host_of(matrix, refused)
}

/// A host that connects to the Service, and sees what a client of node-1 sees in this cluster.
fn with_host_of(mut matrix: Matrix, cluster: Cluster) -> Matrix {
    let mut evidence = cluster
        .matrix
        .paths
        .into_values()
        .find(|evidence| through_service(&evidence.path))
        .unwrap();
    evidence.path.access_path = AccessPath::HostNetwork;
    evidence.path.client = AgentId::new("node-1", "node-1-host");
    assert_eq!(evidence.path.scope(), Scope::CrossNode);
    let next = matrix.paths.keys().next_back().map_or(0, |id| id.0 + 1);
    matrix.paths.insert(PathId(next), evidence);
    matrix
}

/// A cluster in which node-1 has no default route.
fn without_default_route() -> Cluster {
    Cluster::new(2).facts(1, |facts| {
        let routes = facts.routes.as_mut().unwrap();
        routes.retain(|route| route.destination.prefix_len() > 0);
    })
}

#[test]
fn a_host_without_a_route_to_the_services_received_no_icmp() {
    let matrix = with_host(without_default_route().matrix, Errno::Enetunreach);
    assert_eq!(named(&matrix), ["service-route-missing node-1 proven"]);
    let text = sentences(&matrix);
    assert!(!text.contains("ICMP"), "{text}");
    for sentence in [
        "connect() on node-1 failed at once with ENETUNREACH: the kernel sent no packet",
        "node-1 has no route that covers 100.67.30.133",
    ] {
        assert!(text.contains(sentence), "{text}");
    }
}

#[test]
fn without_the_routes_of_its_node_a_refused_host_proves_nothing() {
    let cluster = Cluster::new(2).facts(1, |facts| facts.routes = None);
    let matrix = with_host(cluster.matrix, Errno::Enetunreach);
    assert_eq!(named(&matrix), ["service-route-missing node-1 consistent"]);
    let found = diagnose(&matrix);
    let wanted = "`ip route get 100.67.30.133` on node-1";
    assert!(
        found[0].would_decide.contains(&wanted.to_owned()),
        "{found:?}"
    );
}

#[test]
fn a_route_in_any_table_excludes_that_no_route_covers_the_services() {
    let cluster = Cluster::new(2).facts(1, |facts| {
        let routes = facts.routes.as_mut().unwrap();
        routes.retain(|route| route.destination.prefix_len() > 0);
        routes.push(Route {
            table: Route::DEFAULT,
            ..Route::main("100.64.0.0/10".parse().unwrap())
        });
    });
    let matrix = with_host(cluster.matrix, Errno::Enetunreach);
    assert_eq!(named(&matrix), ["unknown node-1 consistent"]);
}

#[test]
fn a_host_that_another_errno_refused_has_its_routes() {
    let matrix = with_host(without_default_route().matrix, Errno::Eperm);
    assert_eq!(named(&matrix), ["unknown node-1 consistent"]);
}

#[test]
fn a_host_that_reaches_the_same_service_excludes_that_no_route_covers_it() {
    let refused = with_host(without_default_route().matrix, Errno::Enetunreach);
    let matrix = with_host_of(refused, Cluster::new(2));
    assert_eq!(named(&matrix), ["unknown node-1 consistent"]);
}

#[test]
fn the_remedy_of_a_missing_route_names_the_router_of_other_nodes_and_the_service() {
    let found = diagnose(&with_host(
        without_default_route().matrix,
        Errno::Enetunreach,
    ));
    let commands: Vec<&String> = (found[0].remedy.iter())
        .flat_map(|step| &step.commands)
        .collect();
    assert!(
        commands
            .iter()
            .any(|command| *command == "ip route get 100.67.30.133"),
        "{commands:?}"
    );
}

#[test]
fn without_packets_an_errno_is_not_reported_as_an_icmp() {
    let mut matrix = with_host(Cluster::new(2).matrix, Errno::Ehostunreach);
    let (_, evidence) = matrix.paths.iter_mut().next_back().unwrap();
    for probe in &mut evidence.probes {
        probe.client.syns = 1;
        probe.client.outcome = Outcome::Unreachable {
            by: None,
            reason: Unreachable::Host,
        };
    }
    let text = sentences(&matrix);
    assert!(
        text.contains("failed with EHOSTUNREACH after a SYN"),
        "{text}"
    );
    assert!(!text.contains("answered by ICMP"), "{text}");
}

#[test]
fn an_answer_of_the_backend_is_not_unexpected() {
    let refuses = Story::Reset {
        hop_limit: 63,
        mac: None,
        sent: true,
    };
    let cluster = Cluster::new(2)
        .with_story(through_service, refuses)
        .translated_in_connect(everywhere);
    let mut paths = cluster.matrix.paths.values();
    let evidence = paths
        .find(|evidence| through_service(&evidence.path))
        .unwrap();
    let probe = &evidence.probes[0];
    assert_eq!(probe.client.peer().ip(), pod_ip(&server(2), Family::Ipv4));
    let unexpected = prober_core::diagnosis::unexpected_packets(probe);
    assert!(
        unexpected
            .iter()
            .all(|(.., why)| !why.contains("not undone")),
        "{unexpected:?}"
    );
}
