//! Faults of data planes on which pods have routes of their own, or packets cross the network with pods' addresses.

use prober_core::packet::family::Family;

use super::filter::for_both_families;
use super::{FaultContext, Step};
use crate::data_plane::Underlay;
use crate::topology::scripts::{POD_TABLE, SPINE, UNDERLAY, ports};
use crate::topology::{SECOND_UPLINK, server};

/// The network drops packets from the node's pods: a cloud's source check.
pub(super) fn dropped_from_pods(context: FaultContext<'_>) -> Vec<Step> {
    dropped(context, "-i", "-s", "source")
}

/// The network drops packets to the node's pods: a cloud's destination check, or a firewall between the nodes.
pub(super) fn dropped_to_pods(context: FaultContext<'_>) -> Vec<Step> {
    dropped(context, "-o", "-d", "destination")
}

/// The spine of a fabric, or the switch at the node's ports, drops packets of a direction that have an address of its pods at
/// this end.
fn dropped(context: FaultContext<'_>, direction: &str, option: &str, end: &str) -> Vec<Step> {
    match context.spec.data_plane().underlay() {
        Underlay::Fabric => vec![Step::Run {
            namespace: SPINE.to_owned(),
            script: for_both_families(|family| {
                let pods = context.node.pod_cidr(family);
                format!("-A FORWARD {option} {pods} -j DROP")
            }),
        }],
        Underlay::Switch | Underlay::Router => dropped_at_ports(context, direction, end),
    }
}

/// The switch drops them at the node's ports.
fn dropped_at_ports(context: FaultContext<'_>, direction: &str, end: &str) -> Vec<Step> {
    let mut script = String::new();
    for port in ports(context.spec, context.node) {
        for (family, protocol, option) in [
            (Family::Ipv4, "IPv4", "--ip"),
            (Family::Ipv6, "IPv6", "--ip6"),
        ] {
            script.extend([format!(
                "ebtables -A FORWARD {direction} {port} -p {protocol} {option}-{end} {} -j DROP\n",
                context.node.pod_cidr(family)
            )]);
        }
    }
    vec![Step::Run {
        namespace: UNDERLAY.to_owned(),
        script,
    }]
}

/// The node has no route to its server pod.
pub(super) fn pod_route_deleted(context: FaultContext<'_>) -> Vec<Step> {
    let address = server(context.node).address(Family::Ipv4);
    vec![Step::on(
        context.node,
        format!("ip route del {address}/32\n"),
    )]
}

/// The table of packets from pods discards what it has no other route for.
pub(super) fn blackhole_in_table(context: FaultContext<'_>) -> Vec<Step> {
    vec![Step::on(
        context.node,
        format!("ip route replace blackhole default table {POD_TABLE}\n"),
    )]
}

/// The second interface is down.
pub(super) fn second_interface_down(context: FaultContext<'_>) -> Vec<Step> {
    vec![Step::on(
        context.node,
        format!("ip link set {SECOND_UPLINK} down\n"),
    )]
}
