//! The kernel's own checks: the connection table, forwarding, reverse paths.

use crate::diagnosis::case::Case;
use crate::diagnosis::catalogue::Cause;
use crate::diagnosis::filtering::{forward_sysctl, is_quiet, through};
use crate::diagnosis::hypothesis::{Opinion, Place, Proof};
use crate::diagnosis::symptom::{ServerEnd, Symptom, Unit};
use crate::node_facts::SysctlState;
use crate::packet::Unreachable;
use crate::packet::family::Family;
use crate::topology::{AccessPath, NodeName, Scope};

pub(crate) fn conntrack_full(case: &Case<'_>, node: &NodeName, family: Family) -> Option<Opinion> {
    let units = case.places(|unit| through(unit, node, family) && is_quiet(unit));
    if units.is_empty() {
        return None;
    }
    let known = case.matrix.nodes.get(node)?;
    let (count, most) = known
        .readings()
        .filter_map(|facts| facts.conntrack_count.zip(facts.conntrack_max))
        .max_by_key(|(count, _)| *count)?;
    let dropped = case.grown(node, "ConntrackDrop");
    let place = Place::node(node, family);
    // Entries end all the time: the table need not be full at the moment of the reading.
    let full = count.saturating_mul(100) >= most.saturating_mul(99);
    if full && dropped != Some(0) {
        let counted = dropped.map(|grown| {
            format!("ConntrackDrop +{grown} on {node} while failing paths were probed")
        });
        return Some(
            Opinion::proves(Cause::ConntrackFull, place, units, Proof::Facts)
                .because(format!(
                    "{node} tracks {count} connections of at most {most}"
                ))
                .because_all(counted),
        );
    }
    Some(Opinion::excludes(
        Cause::ConntrackFull,
        place,
        units,
        format!("{node} tracks {count} connections of at most {most}"),
    ))
}

pub(crate) fn ip_forward_off(case: &Case<'_>, node: &NodeName, family: Family) -> Option<Opinion> {
    let routed = |unit: &Unit| match family {
        Family::Ipv4 => !(unit.access_path == AccessPath::PodIp && unit.is_same_node()),
        // A Service of a pod on the same node is translated on the bridge, which needs no routing.
        Family::Ipv6 => !unit.is_same_node(),
    };
    let units = case.places(|unit| {
        through(unit, node, family)
            && routed(unit)
            && matches!(
                unit.symptom,
                Symptom::Silent | Symptom::Unreachable(Unreachable::Host)
            )
            && matches!(unit.server_end, ServerEnd::Nothing | ServerEnd::Unheard)
    });
    if units.is_empty() {
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
                Opinion::proves(Cause::IpForwardOff, place, units, Proof::Facts)
                    .because(format!("{sysctl} is 0 on {node}"))
                    .because_all(counted),
            )
        }
        Some(SysctlState::Value(value)) => Some(Opinion::excludes(
            Cause::IpForwardOff,
            place,
            units,
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
                Opinion::fits(Cause::IpForwardOff, place, units)
                    .because(format!("only pods of {node} reach each other by their own addresses; whatever {node} must forward is silent"))
                    .decided_by(format!("`sysctl {sysctl}` on {node}"))
            })
        }
    }
}

pub(crate) fn rp_filter(case: &Case<'_>, node: &NodeName, family: Family) -> Option<Opinion> {
    if family == Family::Ipv6 {
        return None;
    }
    let units = case.places(|unit| {
        let arrives = unit
            .server
            .as_ref()
            .is_some_and(|server| server.node == *node)
            && matches!(unit.server_end, ServerEnd::Nothing | ServerEnd::Unheard);
        let returns = unit.client.node == *node
            && matches!(unit.server_end, ServerEnd::SynAck | ServerEnd::Unheard);
        unit.family == family && unit.is_cross_node() && is_quiet(unit) && (arrives || returns)
    });
    if units.is_empty() {
        return None;
    }
    let counter = "TcpExtIPReversePathFilter";
    let grown = case.grown(node, counter)?;
    let place = Place::node(node, family);
    if grown == 0 {
        return Some(Opinion::excludes(
            Cause::RpFilter,
            place,
            units,
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
        Opinion::proves(Cause::RpFilter, place, units, Proof::Facts)
            .because(format!(
                "{counter} +{grown} on {node} while failing paths were probed"
            ))
            .because_all(strict),
    )
}
