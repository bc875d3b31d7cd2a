//! Rules for the backend: where the Service leads, and which process answers there.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::diagnosis::case::Case;
use crate::diagnosis::hypothesis::Hypothesis;
use crate::diagnosis::symptom::FailureGroup;
use crate::packet::family::Family;
use crate::topology::{AccessPath, AgentId, NodeName};

/// Two pods with one address.
mod duplicate;
/// The process that is expected to answer.
mod listener;
/// The sender of a RST.
pub(crate) mod reset_sender;
/// The objects of the Service in the API.
mod slice;

/// Hypotheses about backends.
pub(crate) fn hypotheses(case: &Case<'_>) -> Vec<Hypothesis> {
    let mut hypotheses = Vec::new();
    for family in case.families() {
        for server in servers(case, family) {
            hypotheses.extend(slice::no_endpoints(case, &server, family));
            hypotheses.extend(slice::stale_endpoint(case, &server, family));
            hypotheses.extend(listener::not_listening(case, &server, family));
            hypotheses.extend(listener::accept_queue(case, &server, family));
            hypotheses.extend(listener::frozen(case, &server, family));
            hypotheses.extend(duplicate::duplicate_server(case, &server, family));
        }
        for node in case.nodes() {
            hypotheses.extend(slice::no_local_endpoint(case, node, family));
        }
        hypotheses.extend(listener::refused_here(case, family));
        hypotheses.extend(duplicate::duplicate_client(case, family));
    }
    hypotheses
}

/// Every server that a failing path was expected to reach.
pub(crate) fn servers(case: &Case<'_>, family: Family) -> BTreeSet<AgentId> {
    case.failing(|group| group.family == family)
        .filter_map(|(_, group)| group.server.clone())
        .collect()
}

/// The Service port that leads to this server alone.
pub(crate) fn is_slot(group: &FailureGroup, server: &AgentId, family: Family) -> bool {
    group.family == family
        && matches!(
            group.access_path,
            AccessPath::ClusterIp | AccessPath::Hairpin
        )
        && group.server.as_ref() == Some(server)
}

pub(crate) fn to(group: &FailureGroup, server: &AgentId, family: Family) -> bool {
    group.family == family && group.server.as_ref() == Some(server)
}

/// Whether the same client reaches the same server by its own address.
pub(crate) fn is_reached_directly(case: &Case<'_>, group: &FailureGroup) -> bool {
    group.access_path == AccessPath::Hairpin
        || case.passes(|path| {
            path.access_path == AccessPath::PodIp
                && path.family == group.family
                && path.client == group.client
                && path.server == group.server
        })
}

/// Nodes whose clients reach the server's Service port.
pub(crate) fn served_nodes(
    case: &Case<'_>,
    server: &AgentId,
    family: Family,
) -> BTreeSet<NodeName> {
    case.healthy()
        .filter(|evidence| {
            let path = &evidence.path;
            path.access_path == AccessPath::ClusterIp
                && path.family == family
                && path.server.as_ref() == Some(server)
        })
        .map(|evidence| evidence.path.client.node.clone())
        .collect()
}

/// The sender of the ICMP error: the `ClusterIP` shows that the SYN had been translated.
pub(crate) fn untranslated_error(case: &Case<'_>, group: &FailureGroup) -> Option<IpAddr> {
    case.probes(group).find_map(|probe| {
        let by = match probe.client.outcome {
            crate::probe::outcome::Outcome::Unreachable { by, .. } => by?,
            crate::probe::outcome::Outcome::Established { .. }
            | crate::probe::outcome::Outcome::Reset { .. }
            | crate::probe::outcome::Outcome::RefusedLocally { .. }
            | crate::probe::outcome::Outcome::Mismatched { .. }
            | crate::probe::outcome::Outcome::Timeout => return None,
        };
        // A connection that connect() translated has a backend's address from the start: no error shows a rule.
        let is_own = probe.client.translated_in_connect().is_none();
        (is_own && by != probe.client.dst.ip()).then_some(by)
    })
}

/// Names, in one line.
pub(crate) fn list<T: ToString>(items: &BTreeSet<T>) -> String {
    items
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(", ")
}
