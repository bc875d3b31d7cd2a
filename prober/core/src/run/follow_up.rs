//! The paths and nodes of a follow-up.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::evidence::PathEvidence;
use crate::node_facts::ConntrackRequest;
use crate::probe::outcome::OutcomeKind;
use crate::topology::{AgentId, NodeName, PathId, Scope};

/// The paths that have failed or have not answered yet, with their worst outcomes. A closed one with several servers, on which
/// probes still wait for answers, has none: the answers of some servers say nothing of the others.
pub(super) fn failing_paths(
    paths: &BTreeMap<PathId, PathEvidence>,
) -> BTreeMap<PathId, Option<OutcomeKind>> {
    let is_waiting = |path: &PathEvidence| path.unfinished() > 0 && is_closed(path, paths);
    let failing = paths.iter().filter_map(|(&id, path)| {
        if !path.is_clean() {
            Some((id, path.worst()))
        } else if is_waiting(path) {
            Some((id, None))
        } else {
            None
        }
    });
    failing.collect()
}

/// Whether no probe of a path was answered. One to any of several servers is closed as well if a path of its client to one
/// server is: the others answer in the place of that one.
pub(super) fn is_closed(path: &PathEvidence, paths: &BTreeMap<PathId, PathEvidence>) -> bool {
    let is_unanswered = |path: &PathEvidence| path.total().outcomes.established == 0;
    let is_of_client = |other: &&PathEvidence| {
        other.path.client == path.path.client && other.path.family == path.path.family
    };
    is_unanswered(path)
        || (path.path.scope() == Scope::Any
            && paths.values().filter(is_of_client).any(is_unanswered))
}

/// The nodes at the ends of these paths, with the connections of each node's paths. A balanced path counts only for its client's node, unless nothing else fails: paths
/// with a fixed server show which server fails.
pub(super) fn implicated<'a>(
    paths: impl Iterator<Item = &'a PathEvidence> + Clone,
    addresses: impl Fn(&AgentId) -> Vec<IpAddr>,
) -> BTreeMap<NodeName, ConntrackRequest> {
    let only_balanced = paths.clone().all(|path| path.path.server.is_none());
    let mut nodes: BTreeMap<NodeName, ConntrackRequest> = BTreeMap::new();
    for path in paths {
        let servers = path.backends.iter().filter_map(|end| end.agent.as_ref());
        let servers = servers.filter(|_| only_balanced || path.path.server.is_some());
        for agent in std::iter::once(&path.path.client).chain(servers) {
            let request = nodes.entry(agent.node.clone()).or_default();
            request.clients.extend(addresses(&path.path.client));
            request.targets.insert(path.target);
            let backends = path.backends.iter().map(|backend| backend.address);
            request.targets.extend(backends);
        }
    }
    nodes
}
