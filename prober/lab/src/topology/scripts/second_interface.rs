//! A second interface of each node with the pods' addresses, as the AWS VPC CNI uses it, and a switch that knows them all.
//!
//! Packets from pods take a table of their own, whose default route leads through the second interface; packets to pods take
//! the table `main`. Neither interface resolves addresses: like the router of a VPC, the switch accepts every packet that is
//! addressed to the router's MAC address and delivers it to the interface that has the packet's destination address.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use prober_core::packet::family::Family;

use super::NodePart;
use super::underlay::{ROUTER_MAC, UNDERLAY};
use crate::topology::{LabSpec, Node, SECOND_UPLINK, UPLINK};

/// The routing table of packets from pods.
pub const TABLE: u8 = 2;

/// Returns the name of the second interface's port in the underlay.
pub(super) fn port(node: Node) -> String {
    format!("{node}-{SECOND_UPLINK}")
}

/// Returns the second interface's own address, with which the node masquerades what leaves by it.
fn address(node: Node, family: Family) -> IpAddr {
    let host = 10 + node.number();
    match family {
        Family::Ipv4 => Ipv4Addr::new(100, 96, 255, host).into(),
        Family::Ipv6 => Ipv6Addr::new(0xfd00, 0x96, 0xff, 0, 0, 0, 0, host.into()).into(),
    }
}

/// Returns the `ip -batch` lines that create the second interface of every node.
pub(super) fn links(spec: &LabSpec) -> String {
    let mut text = String::new();
    for node in spec.nodes() {
        text.extend([format!(
            "link add {} index {} netns {UNDERLAY} type veth peer name {SECOND_UPLINK} netns {node}\n",
            port(node),
            2000 + u16::from(node.number())
        )]);
    }
    text
}

/// Returns the second interface, the policy rules of every pod, and the routes of their table.
pub(super) fn node(spec: &LabSpec, node: Node) -> NodePart {
    let subnet = spec.data_plane().subnet(node);
    let mut part = NodePart {
        create_sysctls: vec![format!("net.ipv6.conf.{SECOND_UPLINK}.accept_dad=0")],
        create: format!(
            "link set {SECOND_UPLINK} address {}
link set {SECOND_UPLINK} up
addr add {}/{} dev {SECOND_UPLINK} noprefixroute
addr add {}/{} dev {SECOND_UPLINK} nodad noprefixroute
",
            node.second_uplink_mac(),
            address(node, Family::Ipv4),
            subnet.length(Family::Ipv4),
            address(node, Family::Ipv6),
            subnet.length(Family::Ipv6),
        ),
        sysctls: vec![format!("net.ipv4.conf.{SECOND_UPLINK}.rp_filter=0")],
        links: format!("link set {SECOND_UPLINK} mtu 1500 up\n"),
        ..NodePart::default()
    };
    // The kernel's own rules: only IPv4 has a table `default`.
    let default = "rule add pref 32767 lookup default\n";
    for (family, option, last) in [(Family::Ipv4, "-4", default), (Family::Ipv6, "-6", "")] {
        let router = subnet.router(family);
        // The table exists once it has a route.
        part.policy.extend([format!(
            "ip {option} route flush table {TABLE} 2>/dev/null || true
ip {option} -batch - <<'END'
rule flush
{last}rule add pref 32766 lookup main
rule add pref 1024 fwmark 0x80/0x80 lookup main
"
        )]);
        for pod in spec.pods().filter(|pod| pod.node == node) {
            let address = pod.address(family);
            part.policy.extend([format!(
                "rule add pref 512 to {address} lookup main\nrule add pref 1536 from {address} lookup {TABLE}\n"
            )]);
        }
        part.policy += "END\n";
        part.routes.extend([format!(
            "neigh replace {router} lladdr {ROUTER_MAC} dev {SECOND_UPLINK} nud permanent
route replace {router} dev {SECOND_UPLINK} table {TABLE}
route replace default via {router} dev {SECOND_UPLINK} table {TABLE}
"
        )]);
        for peer in spec.peers(node) {
            let pods = spec.pods().filter(|pod| pod.node == peer);
            let pods = pods.map(|pod| pod.address(family));
            for address in pods.chain([spec.node_address(peer, family)]) {
                part.routes.extend([format!(
                    "neigh replace {address} lladdr {ROUTER_MAC} dev {UPLINK} nud permanent\n"
                )]);
            }
        }
    }
    part
}

/// Returns the shell lines that make the switch deliver packets by their destination address.
pub(super) fn mapping(spec: &LabSpec) -> String {
    let mut text = String::from("ebtables-restore <<'END'\n*nat\n:PREROUTING ACCEPT\n");
    for node in spec.nodes() {
        for (family, protocol, option) in [
            (Family::Ipv4, "IPv4", "--ip-destination"),
            (Family::Ipv6, "IPv6", "--ip6-destination"),
        ] {
            for (destination, mac) in [
                (node.pod_cidr(family), node.second_uplink_mac()),
                (address(node, family).to_string(), node.second_uplink_mac()),
                (
                    spec.node_address(node, family).to_string(),
                    node.uplink_mac(),
                ),
            ] {
                text.extend([format!(
                    "-A PREROUTING -p {protocol} -d {ROUTER_MAC} {option} {destination} -j dnat --to-destination {mac}\n"
                )]);
            }
        }
    }
    text + "COMMIT\nEND\n"
}
