//! The paths and nodes of a follow-up.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::evidence::PathEvidence;
use crate::node_facts::ConntrackRequest;
use crate::probe::outcome::OutcomeKind;
use crate::topology::{AgentId, NodeName, PathId};

/// The paths that have failed or have not answered yet, with their worst outcomes.
pub(super) fn failing_paths(
    paths: &BTreeMap<PathId, PathEvidence>,
) -> BTreeMap<PathId, Option<OutcomeKind>> {
    paths
        .iter()
        .filter(|(_, path)| !path.is_clean())
        .map(|(&id, path)| (id, path.worst()))
        .collect()
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
