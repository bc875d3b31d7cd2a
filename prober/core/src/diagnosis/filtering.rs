//! Rules for filters: chains, policies, REJECTs, and the kernel's own checks.

use crate::diagnosis::case::Case;
use crate::diagnosis::hypothesis::Hypothesis;
use crate::diagnosis::symptom::{FailureGroup, Symptom};
use crate::packet::family::Family;
use crate::topology::NodeName;

/// One pod or port, or the whole chain.
mod filter_scope;
/// The kernel's own checks.
mod kernel;
/// NetworkPolicies in the API.
mod policy;
/// Rules that drop or reject.
mod rule;

pub(crate) use policy::blocked_by_policies;

/// Hypotheses about filters.
pub(crate) fn hypotheses(case: &Case<'_>) -> Vec<Hypothesis> {
    let mut hypotheses = Vec::new();
    for family in case.families() {
        for node in case.nodes() {
            hypotheses.extend(kernel::conntrack_full(case, node, family));
            hypotheses.extend(kernel::ip_forward_off(case, node, family));
            hypotheses.extend(kernel::rp_filter(case, node, family));
            hypotheses.extend(rule::reject_reset(case, node, family));
            hypotheses.extend(rule::rejected(case, node, family));
            hypotheses.extend(rule::dropped(case, node, family));
        }
    }
    hypotheses
}

fn through(group: &FailureGroup, node: &NodeName, family: Family) -> bool {
    group.family == family
        && (group.client.node == *node
            || group
                .server
                .as_ref()
                .is_some_and(|server| server.node == *node))
}

fn is_silent_or_lossy(group: &FailureGroup) -> bool {
    matches!(group.symptom, Symptom::Silent | Symptom::Lossy)
}

/// The name of the sysctl that lets a node forward a family.
const fn forward_sysctl(family: Family) -> (&'static str, &'static str) {
    match family {
        Family::Ipv4 => ("net.ipv4.ip_forward", "IpInAddrErrors"),
        Family::Ipv6 => ("net.ipv6.conf.all.forwarding", "Ip6InAddrErrors"),
    }
}
