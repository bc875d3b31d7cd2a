//! Faults that are rules of the node's firewall.

use prober_core::packet::family::Family;

use super::{Site, Step};
use crate::topology::script::{iptables, tunnel};
use crate::topology::{BRIDGE, client, server};
use prober_core::plan::RESPONDER_PORT;

const FAMILIES: [Family; 2] = [Family::Ipv4, Family::Ipv6];

/// A script that says the same in both families.
pub(super) fn both(line: impl Fn(Family) -> String) -> String {
    FAMILIES
        .map(|family| format!("{} {}\n", iptables(family), line(family)))
        .concat()
}

/// A rule at the head of FORWARD.
pub(super) fn forward(
    site: Site<'_>,
    matching: impl Fn(Family) -> String,
    verdict: &str,
) -> Vec<Step> {
    let script = both(|family| format!("-I FORWARD 1 {} -j {verdict}", matching(family)));
    vec![Step::on(site.node, script)]
}

/// What leaves the node through the tunnel.
pub(super) fn out_of_node(family: Family) -> String {
    format!("-i {BRIDGE} -o {}", tunnel(family))
}

/// What comes to the node's pods through the tunnel.
pub(super) fn into_node(family: Family) -> String {
    format!("-i {} -o {BRIDGE}", tunnel(family))
}

/// Every packet to the client pod.
pub(super) fn to_client(site: Site<'_>) -> impl Fn(Family) -> String {
    move |family| format!("-d {}", client(site.node).address(family))
}

/// New TCP connections to the server pod.
pub(super) fn to_server(site: Site<'_>) -> impl Fn(Family) -> String {
    move |family| {
        format!(
            "-d {} -p tcp -m conntrack --ctstate NEW",
            server(site.node).address(family)
        )
    }
}

/// New TCP connections to the server pod's first port.
pub(super) fn to_server_port(site: Site<'_>) -> impl Fn(Family) -> String {
    move |family| {
        format!(
            "-d {} -p tcp --dport {RESPONDER_PORT} -m conntrack --ctstate NEW",
            server(site.node).address(family)
        )
    }
}

/// New TCP connections of the client pod.
pub(super) fn from_client(site: Site<'_>) -> impl Fn(Family) -> String {
    move |family| {
        format!(
            "-s {} -p tcp -m conntrack --ctstate NEW",
            client(site.node).address(family)
        )
    }
}

/// New connections to the server pod are answered as prohibited.
pub(super) fn prohibit_server(site: Site<'_>) -> Vec<Step> {
    let script = both(|family| {
        let code = match family {
            Family::Ipv4 => "icmp-admin-prohibited",
            Family::Ipv6 => "icmp6-adm-prohibited",
        };
        format!(
            "-I FORWARD 1 {} -j REJECT --reject-with {code}",
            to_server(site)(family)
        )
    });
    vec![Step::on(site.node, script)]
}

/// Replies from the Services' target port bypass connection tracking.
pub(super) fn untracked_replies(site: Site<'_>) -> Vec<Step> {
    let script =
        both(|_| format!("-t raw -I PREROUTING 1 -p tcp --sport {RESPONDER_PORT} -j CT --notrack"));
    vec![Step::on(site.node, script)]
}

/// The policy of FORWARD, which nothing reaches while flannel's rules accept.
pub(super) fn policy_drop(site: Site<'_>) -> Vec<Step> {
    vec![Step::on(site.node, both(|_| "-P FORWARD DROP".to_owned()))]
}
