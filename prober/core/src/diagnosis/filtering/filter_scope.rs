//! One pod or port, or the node's FORWARD: who is hit, and who passes beside it.

use std::collections::{BTreeMap, BTreeSet};

use crate::diagnosis::case::Case;
use crate::diagnosis::catalogue::Cause;
use crate::diagnosis::drop_point::Way;
use crate::diagnosis::filtering::forward_sysctl;
use crate::diagnosis::hypothesis::{Opinion, Place, Proof};
use crate::diagnosis::symptom::{ServerEnd, Unit};
use crate::packet::family::Family;
use crate::probe::outcome::OutcomeKind;
use crate::topology::{AccessPath, AgentId, NodeName, Path, Scope};

/// One pod or port, or the node's FORWARD: who is hit, and who passes beside it.
pub(crate) fn blame(
    case: &Case<'_>,
    node: &NodeName,
    family: Family,
    ways: &BTreeMap<usize, Way>,
    units: BTreeSet<usize>,
) -> Opinion {
    let forward_only = ways.values().all(|way| *way == Way::There);
    let port = case
        .at(&units)
        .filter(|unit| unit.access_path == AccessPath::PodIp)
        .find(|unit| {
            case.path(unit.path).and_then(|path| path.other_port) == Some(OutcomeKind::Established)
        })
        .and_then(|unit| unit.server.clone());
    let one_pod = forward_only
        .then(|| common_pod(case, node, family, &units))
        .flatten();
    let unheard = case.best_server_end(&units) == ServerEnd::Unheard;
    let known = case.facts(node).is_some();
    let make = |cause, place, units: BTreeSet<usize>| {
        if known && !unheard {
            Opinion::proves(cause, place, units, Proof::Packets)
        } else {
            Opinion::fits(cause, place, units)
                .decided_by(format!("the counters of {node}'s rules before and after a failing probe: `iptables-save -c`"))
                .decided_by(format!("`sysctl {}`, nf_conntrack_count against nf_conntrack_max, and `ip route` on {node}", forward_sysctl(family).0))
        }
    };
    if let Some(pod) = port {
        return make(Cause::NetworkPolicy, Place::pod(&pod, family), units)
            .because(format!("another port of {pod} answers the same client"))
            .not(Cause::ForwardDrop, "packets to the same pod pass");
    }
    if let Some((pod, passing)) = one_pod {
        return make(Cause::NetworkPolicy, Place::pod(&pod, family), units)
            .because(format!(
                "only new connections of or to {pod} fail on {node}; {passing} passes"
            ))
            .not(
                Cause::ForwardDrop,
                format!("{node} forwards for other pods"),
            );
    }
    let opinion = make(Cause::ForwardDrop, Place::node(node, family), units);
    if forward_only {
        opinion.not(
            Cause::NetworkPolicy,
            "no pod beside the failing ones passes",
        )
    } else {
        opinion
            .because(format!(
                "{node} drops answers of connections that it let begin"
            ))
            .not(
                Cause::NetworkPolicy,
                "a policy judges new connections, not their answers",
            )
    }
}

/// The one pod of the node that all these units have as client or server, if a neighbour's
/// traffic through the same chain passes.
fn common_pod(
    case: &Case<'_>,
    node: &NodeName,
    family: Family,
    units: &BTreeSet<usize>,
) -> Option<(AgentId, String)> {
    let ends = |unit: &Unit| -> BTreeSet<AgentId> {
        std::iter::once(&unit.client)
            .chain(unit.server.as_ref())
            .filter(|agent| agent.node == *node)
            .cloned()
            .collect()
    };
    let mut all = case.at(units).map(ends);
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
        let as_client = case.at(units).any(|unit| unit.client == pod);
        let as_server = case
            .at(units)
            .any(|unit| unit.server.as_ref() == Some(&pod));
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
