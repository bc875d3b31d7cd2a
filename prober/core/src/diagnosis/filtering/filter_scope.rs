//! Whether a filter hits one pod or port, or everything that the node forwards.

use std::collections::{BTreeMap, BTreeSet};

use crate::diagnosis::case::Case;
use crate::diagnosis::catalogue::Cause;
use crate::diagnosis::drop_point::FlowDirection;
use crate::diagnosis::filtering::forward_sysctl;
use crate::diagnosis::hypothesis::{Hypothesis, Place, Proof};
use crate::diagnosis::symptom::{FailureGroup, ServerEnd};
use crate::packet::family::Family;
use crate::probe::outcome::OutcomeKind;
use crate::topology::{AccessPath, AgentId, NodeName, Path, Scope};

/// `network-policy` where the same chain accepts a neighbour's traffic, `forward-drop` where it accepts none.
pub(crate) fn filter_scope(
    case: &Case<'_>,
    node: &NodeName,
    family: Family,
    directions: &BTreeMap<usize, FlowDirection>,
    groups: BTreeSet<usize>,
) -> Hypothesis {
    let forward_only = directions
        .values()
        .all(|direction| *direction == FlowDirection::ToServer);
    let port = case
        .at(&groups)
        .filter(|group| group.access_path == AccessPath::PodIp)
        .find(|group| {
            case.path(group.path).and_then(|path| path.other_port) == Some(OutcomeKind::Established)
        })
        .and_then(|group| group.server.clone());
    let one_pod = forward_only
        .then(|| common_pod(case, node, family, &groups))
        .flatten();
    let is_unobserved = case.best_server_end(&groups) == ServerEnd::Unknown;
    let known = case.facts(node).is_some();
    let make = |cause, place, groups: BTreeSet<usize>| {
        if known && !is_unobserved {
            Hypothesis::proves(cause, place, groups, Proof::Packets)
        } else {
            Hypothesis::fits(cause, place, groups)
                .decided_by(format!("the counters of {node}'s rules before and after a failing probe: `iptables-save -c`"))
                .decided_by(format!("`sysctl {}`, nf_conntrack_count against nf_conntrack_max, and `ip route` on {node}", forward_sysctl(family).0))
        }
    };
    if let Some(pod) = port {
        return make(Cause::NetworkPolicy, Place::pod(&pod, family), groups)
            .because(format!("another port of {pod} answers the same client"))
            .not(Cause::ForwardDrop, "packets to the same pod pass");
    }
    if let Some((pod, passing)) = one_pod {
        return make(Cause::NetworkPolicy, Place::pod(&pod, family), groups)
            .because(format!(
                "only new connections of or to {pod} fail on {node}; {passing} passes"
            ))
            .not(
                Cause::ForwardDrop,
                format!("{node} forwards for other pods"),
            );
    }
    let hypothesis = make(Cause::ForwardDrop, Place::node(node, family), groups);
    if forward_only {
        hypothesis.not(
            Cause::NetworkPolicy,
            "no pod beside the failing ones passes",
        )
    } else {
        hypothesis
            .because(format!(
                "{node} drops answers of connections whose SYNs it forwarded"
            ))
            .not(
                Cause::NetworkPolicy,
                "a policy applies to new connections, not to their answers",
            )
    }
}

/// The only pod of the node that is client or server of all these groups, if a neighbour's traffic passes the same
/// chain.
fn common_pod(
    case: &Case<'_>,
    node: &NodeName,
    family: Family,
    groups: &BTreeSet<usize>,
) -> Option<(AgentId, String)> {
    let ends = |group: &FailureGroup| -> BTreeSet<AgentId> {
        std::iter::once(&group.client)
            .chain(group.server.as_ref())
            .filter(|agent| agent.node == *node)
            .cloned()
            .collect()
    };
    let mut all = case.at(groups).map(ends);
    let first = all.next()?;
    let common = all.fold(first, |common, next| {
        common.intersection(&next).cloned().collect()
    });
    let routed = |path: &Path| {
        let here = path.client.node == *node
            || path
                .server
                .as_ref()
                .is_some_and(|server| server.node == *node);
        path.family == family
            && here
            && !(path.access_path == AccessPath::PodIp && path.scope() == Scope::SameNode)
    };
    common.into_iter().find_map(|pod| {
        let as_client = case.at(groups).any(|group| group.client == pod);
        let as_server = case
            .at(groups)
            .any(|group| group.server.as_ref() == Some(&pod));
        let passing = case.healthy().find(|evidence| {
            let path = &evidence.path;
            let involved = (as_client && path.client == pod)
                || (as_server && path.server.as_ref() == Some(&pod));
            routed(path) && !involved && path.scope() != Scope::Any
        })?;
        let path = &passing.path;
        let server = path
            .server
            .as_ref()
            .map_or("any", |server| server.pod.as_str());
        Some((
            pod,
            format!("{} {} -> {server}", path.access_path, path.client.pod),
        ))
    })
}
