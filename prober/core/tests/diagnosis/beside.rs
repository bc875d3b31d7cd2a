//! Routes that do not stay among pods: they follow from a cause, bound it, or stay unknown.

use prober_core::evidence::Matrix;
use prober_core::topology::{AgentId, PathId, Route};

use super::builder::{Cluster, Story, client, node, server};
use super::named;

const REFUSES: Story = Story::Reset {
    hop_limit: 64,
    mac: None,
    sent: true,
};

/// Adds a path like the one by `cluster-ip` from `from` to `to`, by another route.
fn with_beside(mut matrix: Matrix, from: u8, to: u8, route: Route) -> Matrix {
    let mut like = matrix
        .paths
        .values()
        .find(|evidence| {
            let path = &evidence.path;
            path.client == client(from)
                && path.server == Some(server(to))
                && path.route == Route::ClusterIp
        })
        .unwrap()
        .clone();
    like.path.route = route;
    if route == Route::HostNetwork {
        like.path.client = AgentId::new(node(from).as_str(), format!("{}-host", node(from)));
    }
    let next = matrix.paths.keys().next_back().map_or(0, |id| id.0 + 1);
    matrix.paths.insert(PathId(next), like);
    matrix
}

/// A cluster in which node-1's server refuses everybody.
fn refusing() -> Matrix {
    let to_server = |path: &prober_core::topology::Path| path.server == Some(server(1));
    let cluster = Cluster::new(2);
    cluster
        .tell(to_server, REFUSES)
        .tell_any(|_| true, &server(1), REFUSES)
        .matrix
}

#[test]
fn a_failing_node_port_and_a_failing_host_follow_from_the_cause_at_their_end() {
    let alone = named(&refusing());
    let matrix = with_beside(refusing(), 2, 1, Route::NodePort);
    let matrix = with_beside(matrix, 1, 1, Route::HostNetwork);
    assert_eq!(alone, ["not-listening node-1 proven"]);
    assert_eq!(named(&matrix), alone);
}

#[test]
fn where_nothing_but_a_node_port_fails_the_cause_is_unknown() {
    let refused = refusing().paths.into_values().find(|evidence| {
        evidence.path.route == Route::ClusterIp && evidence.path.client == client(2)
    });
    let mut refused = refused.unwrap();
    refused.path.route = Route::NodePort;
    let mut matrix = Cluster::new(2).matrix;
    let next = matrix.paths.len();
    matrix
        .paths
        .insert(PathId(u32::try_from(next).unwrap()), refused);
    assert_eq!(named(&matrix), ["unknown node-2 consistent"]);
}

#[test]
fn a_node_port_that_works_stands_in_the_evidence() {
    let matrix = refusing();
    let healthy = with_beside(Cluster::new(2).matrix, 2, 1, Route::NodePort);
    let (_, well) = healthy.paths.last_key_value().unwrap();
    let mut both = matrix;
    let next = both.paths.keys().next_back().map_or(0, |id| id.0 + 1);
    both.paths.insert(PathId(next), well.clone());
    let diagnoses = prober_core::diagnosis::diagnose(&both);
    let said = diagnoses
        .iter()
        .flat_map(|diagnosis| &diagnosis.evidence)
        .any(|line| line.starts_with("well: ") && line.contains("node-port"));
    assert!(said, "{diagnoses:#?}");
}
