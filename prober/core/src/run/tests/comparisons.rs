//! Second clients and servers: where a follow-up adds them, and where it does not.

use super::*;
use crate::evidence::Comparison;

/// The comparisons of a run on three nodes, in which these probes end so: the kind, the client and the server of each.
fn comparisons(
    is_hit: fn(&AgentId, SocketAddr) -> bool,
    outcome: OutcomeKind,
    change: impl FnOnce(&mut RunSpec),
) -> (Vec<(Comparison, String, String)>, ModelPlatform, Matrix) {
    let platform = ModelPlatform {
        fault: Some((is_hit, outcome)),
        ..ModelPlatform::default()
    };
    let mut spec = spec(3);
    change(&mut spec);
    let (platform, matrix, completion) = play(platform, Run::new(spec), usize::MAX);
    assert_eq!(completion, Completion::Complete);
    let found = matrix.compared_paths().map(|(_, kind, evidence)| {
        let server = evidence.path.server.clone().unwrap();
        (kind, evidence.path.client.pod.clone(), server.pod)
    });
    (found.collect(), platform, matrix)
}

/// Whether a target is a pod of another node than node-1, by its own address or by its slot.
fn is_elsewhere(target: SocketAddr) -> bool {
    let IpAddr::V4(ip) = target.ip() else {
        return false;
    };
    let is_other_pod = matches!(ip.octets(), [100, 96, node, _] if node != 1);
    is_other_pod || matches!(target.port(), 9_001 | 9_002)
}

/// Whether a target is node-1's server.
fn is_server_1(target: SocketAddr) -> bool {
    target == SocketAddr::from(([100, 96, 1, 20], 8080)) || target.port() == 9_000
}

fn from_client_1(agent: &AgentId, target: SocketAddr) -> bool {
    agent.pod == "node-1-client" && is_elsewhere(target)
}

fn to_server_1(agent: &AgentId, target: SocketAddr) -> bool {
    agent.node.as_str() != "node-1" && is_server_1(target)
}

#[test]
fn a_client_without_answers_from_other_nodes_has_a_second_one_on_its_node() {
    let (found, platform, matrix) = comparisons(from_client_1, OutcomeKind::Timeout, |_| {});
    let [(Comparison::SecondClient, client, server)] = &found[..] else {
        panic!("{found:?}");
    };
    assert_eq!(client, "node-1-server");
    // The server answers another node's client.
    assert_eq!(server, "node-2-server");
    let (id, _, evidence) = matrix.compared_paths().next().unwrap();
    assert_eq!(evidence.path.access_path, AccessPath::PodIp);
    assert_eq!(evidence.target, "100.96.2.20:8080".parse().unwrap());
    // Both engines, each probe with its outcome.
    assert_eq!(evidence.requested, 4 + 6);
    assert_eq!(evidence.total().outcomes.established, 10);
    // Its entries are read as well, or their absence would show nothing.
    let (_, request) = (platform.tracked.iter())
        .find(|(host, _)| host.pod == "node-1-host")
        .unwrap();
    let own = address(&AgentId::new("node-1", "node-1-server"));
    assert!(request.clients.contains(&own), "{request:?}");
    assert_eq!(
        matrix.planned_paths().count() + 1,
        matrix.paths.len(),
        "{id:?} is no planned path"
    );
}

#[test]
fn a_server_that_no_other_node_reaches_has_a_second_one_on_its_node() {
    let (found, _, matrix) = comparisons(to_server_1, OutcomeKind::Timeout, |_| {});
    let [(Comparison::SecondServer, client, server)] = &found[..] else {
        panic!("{found:?}");
    };
    assert_eq!(
        (client.as_str(), server.as_str()),
        ("node-2-client", "node-1-client")
    );
    let (_, _, evidence) = matrix.compared_paths().next().unwrap();
    assert_eq!(evidence.target, "100.96.1.10:8080".parse().unwrap());
    let backends: Vec<_> = (evidence.backends.iter())
        .map(|backend| backend.agent.as_ref().map(|agent| agent.pod.as_str()))
        .collect();
    assert_eq!(backends, [Some("node-1-client")]);
    // Where each node has several servers, the others are probed anyway.
    let several = |spec: &mut RunSpec| spec.servers_per_node = NonZeroU8::new(2).unwrap();
    let (found, ..) = comparisons(to_server_1, OutcomeKind::Timeout, several);
    assert_eq!(found, []);
}

#[test]
fn failures_that_show_their_place_need_no_comparison() {
    for outcome in [
        OutcomeKind::Reset,
        OutcomeKind::Unreachable,
        OutcomeKind::RefusedLocally,
        OutcomeKind::Mismatched,
    ] {
        let (found, _, matrix) = comparisons(from_client_1, outcome, |_| {});
        assert_eq!(found, [], "{outcome:?}");
        assert!(matrix.paths.values().any(|path| !path.is_clean()));
    }
    // One of its paths to other nodes has answers.
    let is_one = |agent: &AgentId, target: SocketAddr| {
        from_client_1(agent, target) && target.port() != 9_001
    };
    let (found, ..) = comparisons(is_one, OutcomeKind::Timeout, |_| {});
    assert_eq!(found, []);
}

#[test]
fn a_healthy_run_has_no_comparison() {
    let (found, platform, _) = comparisons(|_, _| false, OutcomeKind::Timeout, |_| {});
    assert_eq!(found, []);
    assert_eq!(platform.tracked, []);
}

#[test]
fn a_cluster_without_any_answer_has_few_comparisons() {
    let (found, ..) = comparisons(
        |_, _| true,
        OutcomeKind::Timeout,
        |spec| {
            spec.nodes = (1..=30)
                .map(|node| NodeName::new(format!("node-{node}")))
                .collect();
            spec.selected.clone_from(&spec.nodes);
        },
    );
    assert_eq!(found.len(), 32);
}

#[test]
fn a_comparison_without_an_outcome_is_no_evidence() {
    // The server of node-1 probes itself, and gets no other plan.
    let platform = ModelPlatform {
        fault: Some((from_client_1, OutcomeKind::Timeout)),
        cut_off: [AgentId::new("node-1", "node-1-server")].into(),
        ..ModelPlatform::default()
    };
    let (_, matrix, completion) = play(platform, Run::new(spec(3)), usize::MAX);
    assert_eq!(completion, Completion::Complete);
    assert_eq!(matrix.comparisons, BTreeMap::new());
    assert_eq!(matrix.planned_paths().count(), matrix.paths.len());
}
