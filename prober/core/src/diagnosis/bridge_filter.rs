//! Whether bridged packets of a node pass netfilter: the sysctl of its network namespace, or the option of a bridge.

use crate::data_plane::Attachment;
use crate::diagnosis::case::Case;
use crate::node_facts::{NodeFacts, SysctlState};
use crate::packet::family::Family;
use crate::topology::NodeName;

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

/// Whether every reading of a node has bridge-netfilter off.
pub(crate) fn is_unfiltered_throughout(case: &Case<'_>, node: &NodeName, family: Family) -> bool {
    let Some(known) = case.matrix.nodes.get(node) else {
        return false;
    };
    let mut readings = known.readings().peekable();
    readings.peek().is_some() && readings.all(|facts| is_filtered(facts, family) == Some(false))
}

/// Whether pods of a node are ports of a bridge; `None` where their attachment is not known.
pub(crate) fn is_bridged(case: &Case<'_>, node: &NodeName, family: Family) -> Option<bool> {
    let mut bridged = None;
    for attachment in case.plane.attachments_on(node, family) {
        match attachment {
            Attachment::Bridge { .. } => return Some(true),
            Attachment::Routed { .. } | Attachment::OwnDevice { .. } => bridged = Some(false),
            Attachment::Unknown => {}
        }
    }
    bridged
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
