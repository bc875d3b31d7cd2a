//! Access paths that involve the nodes: they follow from a cause, bound it, or stay unknown.

use prober_core::evidence::{Matrix, PathEvidence};
use prober_core::topology::{AccessPath, AgentId, Path, PathId};

use super::builder::{Cluster, SILENT, Story, client, exceeded, node, server};
use super::named;

const REFUSES: Story = Story::Reset {
    hop_limit: 64,
    mac: None,
    sent: true,
};

/// Adds a path like the one by `cluster-ip` from `from` to `to`, by another access path.
fn with_node_routes(mut matrix: Matrix, from: u8, to: u8, access_path: AccessPath) -> Matrix {
    let mut like = matrix
        .paths
        .values()
        .find(|evidence| {
            let path = &evidence.path;
            path.client == client(from)
                && path.server == Some(server(to))
                && path.access_path == AccessPath::ClusterIp
        })
        .unwrap()
        .clone();
    like.path.access_path = access_path;
    if access_path == AccessPath::HostNetwork {
        like.path.client = AgentId::new(node(from).as_str(), format!("{}-host", node(from)));
    }
    add(&mut matrix, like);
    matrix
}

/// Adds a path.
fn add(matrix: &mut Matrix, evidence: PathEvidence) {
    let next = matrix.paths.keys().next_back().map_or(0, |id| id.0 + 1);
    matrix.paths.insert(PathId(next), evidence);
}

/// Adds the path that `with_node_routes` adds to a healthy cluster.
fn with_healthy_node_route(
    mut matrix: Matrix,
    from: u8,
    to: u8,
    access_path: AccessPath,
) -> Matrix {
    let healthy = with_node_routes(Cluster::new(3).matrix, from, to, access_path);
    let (_, added) = healthy.paths.last_key_value().unwrap();
    add(&mut matrix, added.clone());
    matrix
}

/// A cluster in which node-1's server refuses every connection.
fn refusing() -> Matrix {
    let to_server = |path: &Path| path.server == Some(server(1));
    let cluster = Cluster::new(2);
    cluster
        .with_story(to_server, REFUSES)
        .with_balanced_story(|_| true, &server(1), REFUSES)
        .matrix
}

#[test]
fn a_failing_node_port_and_a_failing_host_follow_from_the_cause_at_their_end() {
    let alone = named(&refusing());
    let matrix = with_node_routes(refusing(), 2, 1, AccessPath::NodePort);
    let matrix = with_node_routes(matrix, 1, 1, AccessPath::HostNetwork);
    assert_eq!(alone, ["not-listening node-1 proven"]);
    assert_eq!(named(&matrix), alone);
}

#[test]
fn where_nothing_but_a_node_port_fails_the_cause_is_unknown() {
    let refused = refusing().paths.into_values().find(|evidence| {
        evidence.path.access_path == AccessPath::ClusterIp && evidence.path.client == client(2)
    });
    let mut refused = refused.unwrap();
    refused.path.access_path = AccessPath::NodePort;
    let mut matrix = Cluster::new(2).matrix;
    add(&mut matrix, refused);
    assert_eq!(named(&matrix), ["unknown node-2 consistent"]);
}

#[test]
fn a_node_port_that_works_is_in_the_evidence() {
    let both = with_healthy_node_route(refusing(), 2, 1, AccessPath::NodePort);
    let diagnoses = prober_core::diagnosis::diagnose(&both);
    let is_listed = diagnoses
        .iter()
        .flat_map(|diagnosis| &diagnosis.evidence)
        .any(|line| line.starts_with("works: ") && line.contains("node-port"));
    assert!(is_listed, "{diagnoses:#?}");
}

#[test]
fn a_node_whose_own_packets_pass_the_tunnel_drops_those_of_its_pods() {
    let nothing_leaves =
        |to| move |path: &Path| path.client == client(1) && path.server == Some(server(to));
    let nothing_answers =
        |from| move |path: &Path| path.client == client(from) && path.server == Some(server(1));
    let mut cluster = Cluster::new(3);
    for other in [2, 3] {
        cluster = cluster
            .with_story(nothing_leaves(other), Story::Nothing)
            .with_story(nothing_answers(other), Story::ReplyLost)
            .with_balanced_story(
                |path| path.client == client(1),
                &server(other),
                Story::Nothing,
            )
            .with_balanced_story(
                |path| path.client == client(other),
                &server(1),
                Story::ReplyLost,
            );
    }
    // The TTL probe from node-3 got no answer, as where ICMP is rate-limited; the tunnel sent packets for node-2.
    let cluster = cluster
        .ttl_probe(
            nothing_answers(2),
            [exceeded(64), exceeded(63), SILENT, SILENT],
        )
        .ttl_probe(nothing_leaves(2), [exceeded(64), SILENT, SILENT, SILENT])
        .ttl_probe(nothing_answers(3), [exceeded(64), SILENT, SILENT, SILENT])
        .ttl_probe(nothing_leaves(3), [exceeded(64), SILENT, SILENT, SILENT])
        .traffic(1, "flannel.1", 2, 9, 0)
        .traffic(3, "flannel.1", 9, 0, 0);
    let matrix = with_healthy_node_route(cluster.matrix, 1, 3, AccessPath::HostNetwork);
    assert_eq!(named(&matrix), ["forward-drop node-1 proven"]);
}
