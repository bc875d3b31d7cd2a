//! The kernel's own checks: the connection table, forwarding, reverse paths.

use crate::diagnosis::case::Case;
use crate::diagnosis::catalogue::Cause;
use crate::diagnosis::filtering::{forward_sysctl, is_silent_or_lossy, through};
use crate::diagnosis::hypothesis::{Hypothesis, Place, Proof};
use crate::diagnosis::symptom::{FailureGroup, ServerEnd, Symptom};
use crate::node_facts::SysctlState;
use crate::packet::Unreachable;
use crate::packet::family::Family;
use crate::topology::{AccessPath, NodeName, Scope};

pub(crate) fn conntrack_full(
    case: &Case<'_>,
    node: &NodeName,
    family: Family,
) -> Option<Hypothesis> {
    let groups = case.places(|group| through(group, node, family) && is_silent_or_lossy(group));
    if groups.is_empty() {
        return None;
    }
    let known = case.matrix.nodes.get(node)?;
    let (count, most) = known
        .readings()
        .filter_map(|facts| facts.conntrack_count.zip(facts.conntrack_max))
        .max_by_key(|(count, _)| *count)?;
    let dropped = case.grown(node, "ConntrackDrop");
    let place = Place::node(node, family);
    // Entries expire all the time: the table need not be full at the time of the reading.
    let full = count.saturating_mul(100) >= most.saturating_mul(99);
    if full && dropped != Some(0) {
        let counted = dropped.map(|grown| {
            format!("ConntrackDrop +{grown} on {node} while failing paths were probed")
        });
        return Some(
            Hypothesis::proves(Cause::ConntrackFull, place, groups, Proof::Facts)
                .because(format!(
                    "{node} tracks {count} connections of at most {most}"
                ))
                .because_all(counted),
        );
    }
    Some(Hypothesis::excludes(
        Cause::ConntrackFull,
        place,
        groups,
        format!("{node} tracks {count} connections of at most {most}"),
    ))
}

pub(crate) fn ip_forward_off(
    case: &Case<'_>,
    node: &NodeName,
    family: Family,
) -> Option<Hypothesis> {
    let routed = |group: &FailureGroup| match family {
        Family::Ipv4 => !(group.access_path == AccessPath::PodIp && group.is_same_node()),
        // A Service of a pod on the same node is translated on the bridge, which needs no routing.
        Family::Ipv6 => !group.is_same_node(),
    };
    let groups = case.places(|group| {
        through(group, node, family)
            && routed(group)
            && matches!(
                group.symptom,
                Symptom::Silent | Symptom::Unreachable(Unreachable::Host)
            )
            && matches!(group.server_end, ServerEnd::Nothing | ServerEnd::Unknown)
    });
    if groups.is_empty() {
        return None;
    }
    let (sysctl, counter) = forward_sysctl(family);
    let place = Place::node(node, family);
    let direct = case.passes(|path| {
        path.access_path == AccessPath::PodIp
            && path.family == family
            && path.client.node == *node
            && path.scope() == Scope::SameNode
    });
    match case.facts(node).and_then(|facts| facts.forwarding(family)) {
        Some(SysctlState::Value(0)) => {
            let counted = case
                .grown(node, counter)
                .filter(|&grown| grown > 0)
                .map(|grown| {
                    format!("{counter} +{grown} on {node}: packets to be forwarded were refused")
                });
            Some(
                Hypothesis::proves(Cause::IpForwardOff, place, groups, Proof::Facts)
                    .because(format!("{sysctl} is 0 on {node}"))
                    .because_all(counted),
            )
        }
        Some(SysctlState::Value(value)) => Some(Hypothesis::excludes(
            Cause::IpForwardOff,
            place,
            groups,
            format!("{sysctl} is {value} on {node}"),
        )),
        Some(SysctlState::Absent | SysctlState::Unreadable) | None => {
            let everything = !case.passes(|path| {
                path.family == family
                    && (path.client.node == *node
                        || path
                            .server
                            .as_ref()
                            .is_some_and(|server| server.node == *node))
                    && !(path.access_path == AccessPath::PodIp && path.scope() == Scope::SameNode)
            });
            (direct && everything && family == Family::Ipv4).then(|| {
                Hypothesis::fits(Cause::IpForwardOff, place, groups)
                    .because(format!("only pods of {node} reach each other by their own addresses; probes that {node} must forward have no answer"))
                    .decided_by(format!("`sysctl {sysctl}` on {node}"))
            })
        }
    }
}

pub(crate) fn rp_filter(case: &Case<'_>, node: &NodeName, family: Family) -> Option<Hypothesis> {
    if family == Family::Ipv6 {
        return None;
    }
    let groups = case.places(|group| {
        let arrives = group
            .server
            .as_ref()
            .is_some_and(|server| server.node == *node)
            && matches!(group.server_end, ServerEnd::Nothing | ServerEnd::Unknown);
        let returns = group.client.node == *node
            && matches!(group.server_end, ServerEnd::SynAck | ServerEnd::Unknown);
        group.family == family
            && group.is_cross_node()
            && is_silent_or_lossy(group)
            && (arrives || returns)
    });
    if groups.is_empty() {
        return None;
    }
    let counter = "TcpExtIPReversePathFilter";
    let grown = case.grown(node, counter)?;
    let place = Place::node(node, family);
    if grown == 0 {
        return Some(Hypothesis::excludes(
            Cause::RpFilter,
            place,
            groups,
            format!("{counter} +0 on {node} while failing paths were probed"),
        ));
    }
    let strict: Vec<String> = case
        .facts(node)
        .and_then(|facts| {
            let names = facts.rp_filter.as_ref()?.keys();
            Some(
                names
                    .filter(|name| facts.rp_filter_in_force(name) == Some(1))
                    .filter(|name| !matches!(name.as_str(), "all" | "default" | "lo"))
                    .cloned()
                    .collect(),
            )
        })
        .unwrap_or_default();
    let shown = strict
        .iter()
        .take(3)
        .cloned()
        .collect::<Vec<_>>()
        .join(", ");
    let strict =
        (!strict.is_empty()).then(|| format!("rp_filter is strict (1) on {node} at {shown}"));
    Some(
        Hypothesis::proves(Cause::RpFilter, place, groups, Proof::Facts)
            .because(format!(
                "{counter} +{grown} on {node} while failing paths were probed"
            ))
            .because_all(strict),
    )
}
