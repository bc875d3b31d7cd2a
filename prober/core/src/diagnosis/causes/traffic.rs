//! Which paths pass the chains of a node, by its data plane.

use std::collections::BTreeSet;

use crate::diagnosis::Remedy;
use crate::diagnosis::bridge_filter::bridged_filtered;
use crate::diagnosis::case::Case;
use crate::diagnosis::location::{FlowDirection, Stage, passes_chains};
use crate::diagnosis::model::Prediction;
use crate::diagnosis::origin;
use crate::diagnosis::remedy::{step, tables};
use crate::diagnosis::symptom::{FailureGroup, ServerEnd};
use crate::packet::Unreachable;
use crate::packet::family::Family;
use crate::topology::{AccessPath, AgentId, NodeName, Path, Scope};

/// Whether new connections of a path pass the chains from FORWARD to POSTROUTING of a node; `None` where the data plane or
/// the endpoint is not known.
pub(crate) fn passes(case: &Case<'_>, node: &NodeName, path: &Path) -> Option<bool> {
    if !path.involves(node) {
        // The Service may pick a pod of that node.
        return if path.server.is_none() {
            None
        } else {
            Some(false)
        };
    }
    if case.plane.is_past(node, path) {
        return Some(false);
    }
    match path.scope() {
        Scope::CrossNode => Some(true),
        Scope::Any => None,
        Scope::SameNode => {
            // A pod that reaches itself may do so inside its own network.
            if path.access_path == AccessPath::Hairpin {
                return None;
            }
            let attachment = case.plane.attachment(&path.client, path.family);
            let is_filtered = bridged_filtered(case, node, path.family);
            let passes = passes_chains(attachment, is_filtered);
            // Unfiltered bridges route what is for a Service.
            if path.access_path.is_translated() && passes == Some(false) {
                None
            } else {
                passes
            }
        }
    }
}

/// The prediction of a cause that may break connections to a pod, and those to a Service that may lead to it.
pub(crate) fn may_fail_to(pod: &AgentId, path: &Path) -> Prediction {
    if path.server.as_ref().is_none_or(|server| server == pod) {
        Prediction::MayFail
    } else {
        Prediction::Passes
    }
}

/// The nodes at both ends of failing groups.
pub(crate) fn nodes_of(case: &Case<'_>, family: Family) -> BTreeSet<NodeName> {
    case.failing(|group| group.family == family)
        .flat_map(|(_, group)| std::iter::once(&group.client).chain(&group.server))
        .map(|agent| agent.node.clone())
        .collect()
}

/// The nodes of silent or refused groups, at which their packets may be dropped or refused while they are forwarded.
pub(crate) fn forwarding_nodes(case: &Case<'_>, family: Family) -> BTreeSet<NodeName> {
    let of_group = |group: &FailureGroup| -> Vec<NodeName> {
        if let Some(node) = refuses(case, group) {
            return vec![node];
        }
        let ends = std::iter::once(&group.client).chain(&group.server);
        let nodes = ends.map(|agent: &AgentId| agent.node.clone());
        nodes
            .filter(|node| is_dropped_at(case, group, node, FORWARDING))
            .collect()
    };
    case.failing(|group| group.family == family)
        .flat_map(|(_, group)| of_group(group))
        .collect()
}

/// The stage at which a chain drops.
pub(crate) const FORWARDING: &[Stage] = &[Stage::Forwarding];

/// Whether a silent group's packets may be dropped on a node at one of these stages.
pub(crate) fn is_dropped_at(
    case: &Case<'_>,
    group: &FailureGroup,
    node: &NodeName,
    stages: &[Stage],
) -> bool {
    case.location(group)
        .is_some_and(|location| location.is_on(node, stages))
}

/// The direction in which a silent group's packets are dropped, where the server's end observed.
pub(crate) fn direction(case: &Case<'_>, group: &FailureGroup) -> Option<FlowDirection> {
    let location = case.location(group)?;
    (group.server_end != ServerEnd::Unknown).then_some(location.direction)
}

/// The node that refuses new connections of a group by an ICMP error that only a filter sends: prohibited, or a port
/// unreachable for packets that have passed the Service's rules.
pub(crate) fn refuses(case: &Case<'_>, group: &FailureGroup) -> Option<NodeName> {
    let is_by_filter = match group.symptom.unreachable()? {
        Unreachable::Prohibited => true,
        Unreachable::Port => !group.access_path.is_translated() || is_translated_error(case, group),
        Unreachable::Network | Unreachable::Host | Unreachable::Other => false,
    };
    if !is_by_filter || !group.is_unseen() {
        return None;
    }
    origin::refuser(case, group)
}

/// The groups of these that a filter refuses.
pub(crate) fn refused_by_filter(case: &Case<'_>, groups: &BTreeSet<usize>) -> BTreeSet<usize> {
    case.at(groups)
        .filter(|group| refuses(case, group).is_some())
        .map(|group| group.index)
        .collect()
}

/// Whether an ICMP error comes from the Service's own address: netfilter had translated the packet that it quotes. A balancer
/// without destinations refuses in the Service's name as well.
fn is_translated_error(case: &Case<'_>, group: &FailureGroup) -> bool {
    let target = case.path(group.path).map(|evidence| evidence.target.ip());
    let source = origin::unreachable(case, group).map(|(ip, _)| ip.src);
    let is_by_netfilter = case.plane.translation(&group.client.node).is_by_netfilter();
    is_by_netfilter && source.is_some() && source == target
}

/// The step that finds a rule that drops or refuses.
pub(crate) fn find_rule(family: Family) -> Remedy {
    let tables = tables(family);
    step(
        "Find the rule: the one whose counter grows while a probe fails; its place in the chain decides.",
        [
            format!("watch -d -n1 \"{tables} -L FORWARD -nv --line-numbers\""),
            format!("{tables}-save -c | grep -i -e drop -e reject"),
            "nft list ruleset | grep -n -i -e drop -e reject".to_owned(),
        ],
    )
}
