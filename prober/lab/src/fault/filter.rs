//! Faults that are rules of a node's firewall.

use prober_core::packet::family::Family;

use super::{FaultContext, Step};
use crate::topology::scripts::{iptables, tunnel};
use crate::topology::{LabSpec, client, server};
use prober_core::plan::RESPONDER_PORT;

const FAMILIES: [Family; 2] = [Family::Ipv4, Family::Ipv6];

/// Returns a script with one iptables line for each family.
pub(super) fn for_both_families(line: impl Fn(Family) -> String) -> String {
    FAMILIES
        .map(|family| format!("{} {}\n", iptables(family), line(family)))
        .concat()
}

/// A rule at the head of FORWARD with this match and target.
pub(super) fn forward_rule(
    context: FaultContext<'_>,
    matching: impl Fn(Family) -> String,
    target: &str,
) -> Vec<Step> {
    let script =
        for_both_families(|family| format!("-I FORWARD 1 {} -j {target}", matching(family)));
    vec![Step::on(context.node, script)]
}

/// The node refuses every packet that it forwards, in the manner of firewalld.
pub(super) fn forward_refused(context: FaultContext<'_>) -> Vec<Step> {
    let script = for_both_families(|family| {
        let code = match family {
            Family::Ipv4 => "icmp-host-prohibited",
            Family::Ipv6 => "icmp6-adm-prohibited",
        };
        format!("-I FORWARD 1 -j REJECT --reject-with {code}")
    });
    vec![Step::on(context.node, script)]
}

/// Matches packets of the node's pods that leave the node.
pub(super) fn out_of_node(context: FaultContext<'_>) -> impl Fn(Family) -> String {
    let pods = context.spec.pod_interfaces();
    move |family| format!("-i {pods} {}", wire(context.spec, family, "-o"))
}

/// Matches new TCP connections of the node's pods that leave the node.
pub(super) fn new_out_of_node(context: FaultContext<'_>) -> impl Fn(Family) -> String {
    move |family| {
        let out = out_of_node(context)(family);
        format!("{out} -p tcp -m conntrack --ctstate NEW")
    }
}

/// Matches new TCP connections of the client pod that leave the node.
pub(super) fn from_client_across(context: FaultContext<'_>) -> impl Fn(Family) -> String {
    move |family| {
        let source = client(context.node).address(family);
        format!("-s {source} {}", new_out_of_node(context)(family))
    }
}

/// Matches packets to the node's pods that arrive from other nodes.
pub(super) fn into_node(context: FaultContext<'_>) -> impl Fn(Family) -> String {
    let pods = context.spec.pod_interfaces();
    move |family| format!("{} -o {pods}", wire(context.spec, family, "-i"))
}

/// Matches the interfaces through which pods' packets leave a node; `option` is `-i` or `-o`.
fn wire(spec: &LabSpec, family: Family, option: &str) -> String {
    match (spec.has_tunnels(), spec.has_plain_paths()) {
        (true, false) => format!("{option} {}", tunnel(family)),
        (true, true) => format!("! {option} {}", spec.pod_interfaces()),
        (false, _) => format!("{option} {}", spec.data_plane().pod_uplink()),
    }
}

/// Matches every packet to the client pod.
pub(super) fn to_client(context: FaultContext<'_>) -> impl Fn(Family) -> String {
    move |family| format!("-d {}", client(context.node).address(family))
}

/// Matches new TCP connections to the server pod.
pub(super) fn to_server(context: FaultContext<'_>) -> impl Fn(Family) -> String {
    move |family| {
        format!(
            "-d {} -p tcp -m conntrack --ctstate NEW",
            server(context.node).address(family)
        )
    }
}

/// Matches new TCP connections to the server pod's first port.
pub(super) fn to_server_port(context: FaultContext<'_>) -> impl Fn(Family) -> String {
    move |family| {
        format!(
            "-d {} -p tcp --dport {RESPONDER_PORT} -m conntrack --ctstate NEW",
            server(context.node).address(family)
        )
    }
}

/// Matches new TCP connections of the client pod.
pub(super) fn from_client(context: FaultContext<'_>) -> impl Fn(Family) -> String {
    move |family| {
        format!(
            "-s {} -p tcp -m conntrack --ctstate NEW",
            client(context.node).address(family)
        )
    }
}

/// New connections to the server pod are answered with ICMP administratively prohibited.
pub(super) fn reject_server_with_icmp(context: FaultContext<'_>) -> Vec<Step> {
    let script = for_both_families(|family| {
        let code = match family {
            Family::Ipv4 => "icmp-admin-prohibited",
            Family::Ipv6 => "icmp6-adm-prohibited",
        };
        format!(
            "-I FORWARD 1 {} -j REJECT --reject-with {code}",
            to_server(context)(family)
        )
    });
    vec![Step::on(context.node, script)]
}

/// Replies from the Services' target port bypass connection tracking.
pub(super) fn untracked_replies(context: FaultContext<'_>) -> Vec<Step> {
    let script = for_both_families(|_| {
        format!("-t raw -I PREROUTING 1 -p tcp --sport {RESPONDER_PORT} -j CT --notrack")
    });
    vec![Step::on(context.node, script)]
}

/// The policy of FORWARD is DROP; no packet reaches it, because flannel's rules accept first.
pub(super) fn policy_drop(context: FaultContext<'_>) -> Vec<Step> {
    vec![Step::on(
        context.node,
        for_both_families(|_| "-P FORWARD DROP".to_owned()),
    )]
}
