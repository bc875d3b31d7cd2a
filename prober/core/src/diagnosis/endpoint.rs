//! Where the port of a Service leads.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::data_plane::Translation;
use crate::diagnosis::case::Case;
use crate::diagnosis::origin::{self, routers_passed};
use crate::diagnosis::symptom::{FailureGroup, Symptom};
use crate::packet::Unreachable;
use crate::packet::family::Family;
use crate::topology::{AccessPath, AgentId, NodeName};

/// Addresses without a host.
pub(crate) mod dead_address;
/// Whether a pod's address is resolved.
pub(crate) mod resolution;

/// Whether the group's Service port leads to its server alone.
pub(crate) fn is_slot(group: &FailureGroup) -> bool {
    group.server.is_some()
        && matches!(
            group.access_path,
            AccessPath::ClusterIp | AccessPath::Hairpin
        )
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

/// Whether SYNs of the same client to the server's own address arrive in it, whatever becomes of them there, or are answered by
/// RST on their way.
pub(crate) fn is_answered_directly(case: &Case<'_>, group: &FailureGroup) -> bool {
    case.fails(|other| {
        other.access_path == AccessPath::PodIp
            && other.family == group.family
            && other.client == group.client
            && other.server == group.server
            && (!other.is_unseen() || other.symptom == Symptom::Reset)
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

/// The sender of an ICMP error to a SYN that was not translated. Netfilter gives the Service's address to every error that
/// quotes a translated SYN.
pub(crate) fn untranslated_error(case: &Case<'_>, group: &FailureGroup) -> Option<IpAddr> {
    if let Some(by) = refused_by_balancer(case, group) {
        return Some(by);
    }
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

/// The Service's own address, where the balancer of the client's node has it and refuses the port: it has no destination
/// (`ip_vs_leave`, net/netfilter/ipvs/ip_vs_core.c; `tail_no_service_ipv4`, bpf/lib/lb.h of Cilium).
fn refused_by_balancer(case: &Case<'_>, group: &FailureGroup) -> Option<IpAddr> {
    let path = case.path(group.path)?;
    let (ip, _) = origin::unreachable(case, group)?;
    let is_balancer = match case.plane.translation(&group.client.node) {
        Translation::Ipvs | Translation::Bpf => true,
        Translation::Iptables
        | Translation::Nftables
        | Translation::Netfilter
        | Translation::Connect
        | Translation::Unknown => false,
    };
    let is_refusal = group.symptom == Symptom::Unreachable(Unreachable::Port)
        && group.access_path.is_translated()
        && ip.src == path.target.ip()
        && routers_passed(ip) == 0;
    (is_balancer && is_refusal).then_some(ip.src)
}

/// Names, in one line.
pub(crate) fn list<T: ToString>(items: &BTreeSet<T>) -> String {
    items
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(", ")
}
