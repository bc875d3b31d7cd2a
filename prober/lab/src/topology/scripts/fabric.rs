//! A routed fabric: a top-of-rack router in front of each node, and a spine between them.
//!
//! Every router is a network namespace that forwards, and answers packets whose hop limit ends there. The routers know the
//! nodes and their pods, as by BGP; the spine discards what it has no route for.

use prober_core::packet::family::Family;

use super::FAMILIES;
use super::underlay::{ROUTER_MAC, UNDERLAY};
use crate::data_plane::Underlay;
use crate::topology::{LabSpec, Node, UPLINK};

/// The network namespace of the spine.
pub const SPINE: &str = "spine";

/// The top-of-rack router's interface towards the spine.
const TO_SPINE: &str = "eth1";

/// Returns the name of a node's top-of-rack router, of its network namespace, and of the ports that lead to it.
pub(super) fn top_of_rack(node: Node) -> String {
    format!("tor-{}", node.number())
}

/// Iterates over the nodes that have a top-of-rack router.
fn racks(spec: &LabSpec) -> impl Iterator<Item = Node> + use<> {
    let has_racks = match spec.data_plane().underlay() {
        Underlay::Fabric => true,
        Underlay::Switch | Underlay::Router => false,
    };
    spec.nodes().filter(move |_| has_racks)
}

/// Returns the address on the link between a top-of-rack router and the spine: 1 is the spine, 2 the top-of-rack router.
fn link_address(node: Node, family: Family, host: u8) -> String {
    let number = node.number();
    match family {
        Family::Ipv4 => format!("172.21.{number}.{host}"),
        Family::Ipv6 => format!("fd00:173:0:{number:x}::{host}"),
    }
}

/// Returns the length of the prefix of such a link, in bits.
fn link_length(family: Family) -> u8 {
    match family {
        Family::Ipv4 => 24,
        Family::Ipv6 => 64,
    }
}

/// Returns the `ip -batch` lines that create the routers' network namespaces.
pub(super) fn namespaces(spec: &LabSpec) -> String {
    let mut text = String::new();
    for node in racks(spec) {
        text.extend([format!("netns add {}\n", top_of_rack(node))]);
    }
    if !text.is_empty() {
        text.extend([format!("netns add {SPINE}\n")]);
    }
    text
}

/// Returns the `ip -batch` lines that create the veth pairs of the routers.
pub(super) fn links(spec: &LabSpec) -> String {
    let mut text = String::new();
    for node in racks(spec) {
        let (router, number) = (top_of_rack(node), u16::from(node.number()));
        text.extend([format!(
            "link add {router} index {} netns {UNDERLAY} type veth peer name {UPLINK} netns {router}
link add {router} index {} netns {SPINE} type veth peer name {TO_SPINE} netns {router}
",
            3000 + number,
            4000 + number
        )]);
    }
    text
}

/// Returns the routers' network namespaces, each with the script that creates its content.
pub(super) fn create(spec: &LabSpec) -> Vec<(String, String)> {
    let mut all: Vec<_> = racks(spec)
        .map(|node| (top_of_rack(node), create_top_of_rack(spec, node)))
        .collect();
    if !all.is_empty() {
        all.push((SPINE.to_owned(), create_spine(spec)));
    }
    all
}

/// Returns the network namespaces and scripts that leave the routers with the rules of a healthy network alone.
pub(super) fn configure(spec: &LabSpec) -> Option<(String, String)> {
    let script = "iptables -w -F FORWARD\nip6tables -w -F FORWARD\n";
    let has_spine = racks(spec).next().is_some();
    has_spine.then(|| (SPINE.to_owned(), script.to_owned()))
}

/// Returns the line that lets a router forward, before its interfaces are up.
fn forwarding(interfaces: impl Iterator<Item = String>) -> String {
    let mut text = String::from(
        "sysctl -qw net.ipv6.conf.default.accept_dad=0 net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1 net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.default.rp_filter=0",
    );
    for interface in interfaces {
        text.extend([format!(
            " net.ipv6.conf.{interface}.accept_dad=0 net.ipv4.conf.{interface}.rp_filter=0"
        )]);
    }
    text + "\nip -batch - <<'END'\nlink set lo up\n"
}

/// Returns the `ip -batch` line that adds an address.
fn address(address: &str, length: u8, interface: &str, family: Family) -> String {
    let option = match family {
        Family::Ipv4 => "",
        Family::Ipv6 => " nodad",
    };
    format!("addr add {address}/{length} dev {interface}{option}\n")
}

/// Returns the script of a top-of-rack router: its node and the node's pods on one side, all else behind the spine.
fn create_top_of_rack(spec: &LabSpec, node: Node) -> String {
    let subnet = spec.data_plane().subnet(node);
    let mut text = forwarding([UPLINK, TO_SPINE].map(str::to_owned).into_iter());
    text.extend([format!(
        "link set {UPLINK} address {ROUTER_MAC} mtu 1500\nlink set {UPLINK} up\nlink set {TO_SPINE} mtu 1500 up\n"
    )]);
    for family in FAMILIES {
        let router = subnet.router(family).to_string();
        text += &address(&router, subnet.length(family), UPLINK, family);
        let own = link_address(node, family, 2);
        text += &address(&own, link_length(family), TO_SPINE, family);
        text.extend([format!(
            "route add {} via {} dev {UPLINK}\nroute add default via {} dev {TO_SPINE}\n",
            node.pod_cidr(family),
            spec.node_address(node, family),
            link_address(node, family, 1)
        )]);
    }
    text + "END\n"
}

/// Returns the script of the spine: each node and its pods behind their top-of-rack router.
fn create_spine(spec: &LabSpec) -> String {
    let mut text = forwarding(racks(spec).map(top_of_rack));
    for node in racks(spec) {
        let router = top_of_rack(node);
        text.extend([format!("link set {router} mtu 1500 up\n")]);
        for family in FAMILIES {
            let own = link_address(node, family, 1);
            text += &address(&own, link_length(family), &router, family);
            for destination in [
                spec.data_plane().subnet(node).cidr(family),
                node.pod_cidr(family),
            ] {
                text.extend([format!(
                    "route add {destination} via {} dev {router}\n",
                    link_address(node, family, 2)
                )]);
            }
        }
    }
    text + "route add blackhole default\nroute add blackhole ::/0\nEND\n"
}
