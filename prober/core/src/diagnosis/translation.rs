//! Rules for translation: a Service's address is translated in both directions, or not.

use crate::diagnosis::case::Case;
use crate::diagnosis::hypothesis::Hypothesis;
use crate::node_facts::{NodeFacts, SysctlState};
use crate::packet::family::Family;
use crate::topology::NodeName;

/// A bridge that bypasses netfilter.
mod bridge;
/// A pod that reaches itself.
mod hairpin;
/// Answers without the reverse translation.
mod reply;
/// A node's rules for the Service.
mod rules;

/// Hypotheses about translation.
pub(crate) fn hypotheses(case: &Case<'_>) -> Vec<Hypothesis> {
    let mut hypotheses = hairpin::hypotheses(case);
    for family in case.families() {
        for node in case.nodes() {
            hypotheses.extend(bridge::bridge_netfilter(case, node, family));
            hypotheses.extend(reply::reply_bypasses(case, node, family));
            hypotheses.extend(rules::stale_rules(case, node, family));
            hypotheses.extend(rules::rules_missing(case, node, family));
        }
    }
    hypotheses
}

/// The name of the sysctl that passes bridged packets of a family to netfilter.
pub(crate) const fn bridge_sysctl(family: Family) -> &'static str {
    match family {
        Family::Ipv4 => "net.bridge.bridge-nf-call-iptables",
        Family::Ipv6 => "net.bridge.bridge-nf-call-ip6tables",
    }
}

/// Whether bridged packets of a node passed netfilter while it was probed; `None` where the setting was not read.
pub(crate) fn bridged_filtered(case: &Case<'_>, node: &NodeName, family: Family) -> Option<bool> {
    if unfiltered(case, node, family).is_some() {
        return Some(false);
    }
    is_filtered(case.facts(node)?, family)
}

/// The reading of a node with bridge-netfilter off: one is enough, since the setting may change during the run.
pub(crate) fn unfiltered<'a>(
    case: &Case<'a>,
    node: &NodeName,
    family: Family,
) -> Option<&'a NodeFacts> {
    let known = case.matrix.nodes.get(node)?;
    let mut readings = (known.readings()).filter(|facts| is_filtered(facts, family) == Some(false));
    readings.next()
}

fn is_filtered(facts: &NodeFacts, family: Family) -> Option<bool> {
    let own_switch = facts.links.iter().flatten().any(|link| {
        link.bridge.is_some_and(|bridge| match family {
            Family::Ipv4 => bridge.nf_call_iptables == Some(true),
            Family::Ipv6 => bridge.nf_call_ip6tables == Some(true),
        })
    });
    match facts.bridge_nf(family)? {
        SysctlState::Absent => Some(own_switch),
        SysctlState::Unreadable => None,
        SysctlState::Value(value) => Some(value != 0 || own_switch),
    }
}
