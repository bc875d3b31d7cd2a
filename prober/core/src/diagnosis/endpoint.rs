//! Rules for the backend: what the Service leads to, and who answers there.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::diagnosis::case::Case;
use crate::diagnosis::hypothesis::Opinion;
use crate::diagnosis::symptom::Unit;
use crate::packet::family::Family;
use crate::topology::{AccessPath, AgentId, NodeName};

/// Two pods with one address.
mod duplicate;
/// The process that should answer.
mod listener;
/// Who sent a RST.
pub(crate) mod resetter;
/// What the API says of the Service.
mod slice;

/// What this family has to say.
pub(crate) fn opinions(case: &Case<'_>) -> Vec<Opinion> {
    let mut opinions = Vec::new();
    for family in case.families() {
        for server in servers(case, family) {
            opinions.extend(slice::no_endpoints(case, &server, family));
            opinions.extend(slice::stale_endpoint(case, &server, family));
            opinions.extend(listener::not_listening(case, &server, family));
            opinions.extend(listener::accept_queue(case, &server, family));
            opinions.extend(listener::frozen(case, &server, family));
            opinions.extend(duplicate::duplicate_server(case, &server, family));
        }
        for node in case.nodes() {
            opinions.extend(slice::no_local_endpoint(case, node, family));
        }
        opinions.extend(listener::refused_here(case, family));
        opinions.extend(duplicate::duplicate_client(case, family));
    }
    opinions
}

/// Every server that something failing should have met.
pub(crate) fn servers(case: &Case<'_>, family: Family) -> BTreeSet<AgentId> {
    case.failing(|unit| unit.family == family)
        .filter_map(|(_, unit)| unit.server.clone())
        .collect()
}

/// The Service port that leads to this server alone.
pub(crate) fn is_slot(unit: &Unit, server: &AgentId, family: Family) -> bool {
    unit.family == family
        && matches!(
            unit.access_path,
            AccessPath::ClusterIp | AccessPath::Hairpin
        )
        && unit.server.as_ref() == Some(server)
}

pub(crate) fn to(unit: &Unit, server: &AgentId, family: Family) -> bool {
    unit.family == family && unit.server.as_ref() == Some(server)
}

/// Whether the same client reaches the same server by its own address.
pub(crate) fn direct_is_well(case: &Case<'_>, unit: &Unit) -> bool {
    unit.access_path == AccessPath::Hairpin
        || case.passes(|path| {
            path.access_path == AccessPath::PodIp
                && path.family == unit.family
                && path.client == unit.client
                && path.server == unit.server
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

/// Who sent the ICMP error: the `ClusterIP` means that the SYN had been translated.
pub(crate) fn untranslated_error(case: &Case<'_>, unit: &Unit) -> Option<IpAddr> {
    case.probes(unit).find_map(|probe| {
        let by = match probe.client.outcome {
            crate::probe::outcome::Outcome::Unreachable { by, .. } => by?,
            crate::probe::outcome::Outcome::Established { .. }
            | crate::probe::outcome::Outcome::Reset { .. }
            | crate::probe::outcome::Outcome::RefusedLocally { .. }
            | crate::probe::outcome::Outcome::Mismatched { .. }
            | crate::probe::outcome::Outcome::Timeout => return None,
        };
        // What connect() translated has a backend's address from the start, and no error tells of a rule.
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
