//! Faults of routes, sysctls, bridge ports and MTUs.

use prober_core::packet::family::Family;
use prober_core::packet::mac::Mac;

use super::{FaultContext, Step};
use crate::topology::scripts::{UNDERLAY, ports};
use crate::topology::{BRIDGE, PodRole, TUNNEL_V4, UPLINK, client, server};

/// The last byte of an address of the nodes' subnet that no host has.
const UNUSED_HOST: u8 = 250;

/// The last byte of the address of a host that takes no packets of pods.
const SWALLOWING_HOST: u8 = 251;

/// The MAC address of that host.
const SWALLOWING_MAC: Mac = Mac([0x52, 0x54, 0, 0, 0xff, SWALLOWING_HOST]);

/// One sysctl of the node has another value.
pub(super) fn sysctl(context: FaultContext<'_>, setting: &str) -> Vec<Step> {
    vec![Step::on(context.node, format!("sysctl -qw {setting}\n"))]
}

/// The node has no route to the next node's pods.
pub(super) fn route_deleted(context: FaultContext<'_>) -> Vec<Step> {
    let cidr = context.node.next_in(context.spec).pod_cidr(Family::Ipv4);
    vec![Step::on(context.node, format!("ip route del {cidr}\n"))]
}

/// The route to a node's pods leads to an address that no host has.
pub(super) fn next_hop_unused(context: FaultContext<'_>) -> Vec<Step> {
    vec![Step::on(context.node, route_via(context, UNUSED_HOST))]
}

/// The route to a node's pods leads to a host that takes no packets: every port of the underlay gets them, and no node has the
/// MAC address.
pub(super) fn next_hop_swallows(context: FaultContext<'_>) -> Vec<Step> {
    let subnet = context.spec.data_plane().subnet(context.node);
    let neighbour = format!(
        "ip neigh replace {} lladdr {SWALLOWING_MAC} dev {UPLINK} nud permanent\n",
        subnet.host(Family::Ipv4, SWALLOWING_HOST)
    );
    let route = route_via(context, SWALLOWING_HOST);
    vec![Step::on(context.node, neighbour + &route)]
}

/// The line that leads the route to a node's pods to this host of the node's own subnet.
fn route_via(context: FaultContext<'_>, host: u8) -> String {
    let subnet = context.spec.data_plane().subnet(context.node);
    format!(
        "ip route replace {} via {} dev {UPLINK}\n",
        context.route_peer().pod_cidr(Family::Ipv4),
        subnet.host(Family::Ipv4, host)
    )
}

/// The node has no default route, and reaches every other node by a route of its own.
pub(super) fn default_route_deleted(context: FaultContext<'_>) -> Vec<Step> {
    let own = context.spec.data_plane().subnet(context.node);
    let (router, mut script) = (own.router(Family::Ipv4), String::new());
    for subnet in context.spec.subnets() {
        if subnet != own {
            let others = subnet.cidr(Family::Ipv4);
            script.extend([format!(
                "ip route replace {others} via {router} dev {UPLINK}\n"
            )]);
        }
    }
    vec![Step::on(context.node, script + "ip route del default\n")]
}

/// The tunnel device is down.
pub(super) fn tunnel_down(context: FaultContext<'_>) -> Vec<Step> {
    vec![Step::on(
        context.node,
        format!("ip link set {TUNNEL_V4} down\n"),
    )]
}

/// The route to the next node's pods is of this type: `unreachable` or `blackhole`.
pub(super) fn route_of_type(context: FaultContext<'_>, route_type: &str) -> Vec<Step> {
    let cidr = context.node.next_in(context.spec).pod_cidr(Family::Ipv4);
    vec![Step::on(
        context.node,
        format!("ip route replace {route_type} {cidr}\n"),
    )]
}

/// The other nodes send to this node's pods over the underlay instead of the tunnel.
pub(super) fn asymmetric(context: FaultContext<'_>) -> Vec<Step> {
    let script = format!(
        "ip route replace {} via {} dev {UPLINK}\n",
        context.node.pod_cidr(Family::Ipv4),
        context.spec.node_address(context.node, Family::Ipv4)
    );
    context
        .spec
        .peers(context.node)
        .map(|peer| Step::on(peer, script.clone()))
        .collect()
}

/// As [`asymmetric`], and the node's strict reverse-path filter drops those packets.
pub(super) fn asymmetric_and_filtered(context: FaultContext<'_>) -> Vec<Step> {
    let mut steps = asymmetric(context);
    steps.extend(sysctl(context, "net.ipv4.conf.all.rp_filter=1"));
    steps
}

/// Hairpin mode is off at the server pod's bridge port.
pub(super) fn hairpin_off(context: FaultContext<'_>) -> Vec<Step> {
    let port = context.spec.pod_interface(PodRole::Server);
    vec![Step::on(
        context.node,
        format!("bridge link set dev {port} hairpin off\n"),
    )]
}

/// The MTU of the underlay's ports to the node is too small for a full-sized packet.
pub(super) fn small_underlay_mtu(context: FaultContext<'_>) -> Vec<Step> {
    let mut script = String::new();
    for port in ports(context.spec, context.node) {
        script.extend([format!("ip link set {port} mtu 1400\n")]);
    }
    vec![Step::Run {
        namespace: UNDERLAY.to_owned(),
        script,
    }]
}

/// Every pod has an MTU of 1500 bytes, and no node sends ICMP fragmentation-needed or packet-too-big.
pub(super) fn large_pod_mtu(context: FaultContext<'_>) -> Vec<Step> {
    let mut steps = Vec::new();
    for node in context.spec.nodes() {
        let mut script = String::new();
        for device in [
            context.spec.pod_interface(PodRole::Client),
            context.spec.pod_interface(PodRole::Server),
            BRIDGE.to_owned(),
        ] {
            script.extend([format!("ip link set {device} mtu 1500\n")]);
        }
        script += "iptables -w -I OUTPUT 1 -p icmp --icmp-type fragmentation-needed -j DROP
ip6tables -w -I OUTPUT 1 -p ipv6-icmp --icmpv6-type packet-too-big -j DROP
";
        steps.push(Step::on(node, script));
        for pod in [client(node), server(node)] {
            // A new route has no path MTU, which the old one has learned.
            let script = format!(
                "ip link set eth0 mtu 1500\nip -4 route flush cache\nip -6 route replace default via {} dev eth0\n",
                node.gateway(Family::Ipv6)
            );
            steps.push(Step::Run {
                namespace: pod.name(),
                script,
            });
        }
    }
    steps
}
