//! BPF programs that forward packets of pods past netfilter.

use crate::node_facts::NodeFacts;

/// The device that Cilium gives each node; its programs at TCX (Linux 6.6) are not listed without privileges.
const CILIUM_HOST: &str = "cilium_host";

/// How a node's facts show such programs, as a clause: a device of Cilium, or filters of kind `bpf` at links that are no
/// uplinks of hardware.
pub(super) fn of(facts: &NodeFacts) -> Option<String> {
    if facts.link(CILIUM_HOST).found().is_some() {
        return Some(format!("{CILIUM_HOST} is a device of Cilium"));
    }
    let is_veth = |dev: &str| {
        let link = facts.link(dev).found();
        link.is_some_and(|link| link.kind.as_deref() == Some("veth") && link.master.is_none())
    };
    let mut filters = facts.tc_filters.iter().flatten();
    let filter = filters.find(|filter| filter.kind == "bpf" && is_veth(&filter.dev))?;
    let program = filter.program.as_deref().unwrap_or("without a name");
    Some(format!("{} has the BPF filter {program}", filter.dev))
}
