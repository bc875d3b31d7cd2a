//! The network between the nodes: a switch for each subnet, and a router where they are joined by one.

use prober_core::packet::family::Family;
use prober_core::packet::mac::Mac;

use super::{FAMILIES, fabric, second_interface};
use crate::data_plane::{Part, Subnet, Underlay};
use crate::topology::{LabSpec, Node, UPLINK};

/// The network namespace that connects the nodes.
pub const UNDERLAY: &str = "underlay";

/// The network namespace that joins two subnets.
const ROUTER: &str = "router";

/// The MAC address of each subnet's router.
///
/// With one subnet it is that of the switch, which drops packets to the router as a router without a route does.
pub(super) const ROUTER_MAC: Mac = Mac([0x52, 0x54, 0, 0, 0, 0xfe]);

/// Returns the `ip -batch` lines that create the network namespaces.
pub(super) fn namespaces(spec: &LabSpec) -> String {
    let mut text = format!("netns add {UNDERLAY}\n");
    if has_router(spec) {
        text.extend([format!("netns add {ROUTER}\n")]);
    }
    text + &fabric::namespaces(spec)
}

/// Returns the `ip -batch` lines that create the veth pairs between the switches, the nodes and the router.
///
/// The kernel handles an interface whose index equals its peer's as not urgent, and may detect its carrier a second late
/// (`linkwatch_urgent_event` in net/core/link_watch.c): hence distinct indices for this end.
pub(super) fn links(spec: &LabSpec) -> String {
    let mut text = String::new();
    for node in spec.nodes() {
        text.extend([format!(
            "link add {node} index {} netns {UNDERLAY} type veth peer name {UPLINK} netns {node}\n",
            1000 + u16::from(node.number())
        )]);
    }
    if spec.data_plane().parts().contains(&Part::SecondInterface) {
        text += &second_interface::links(spec);
    }
    if has_router(spec) {
        for (number, _) in legs(spec) {
            text.extend([format!(
                "link add {ROUTER}-{number} index {} netns {UNDERLAY} type veth peer name {} netns {ROUTER}\n",
                3000 + number,
                leg(number)
            )]);
        }
    }
    text + &fabric::links(spec)
}

/// Returns the names of a node's ports in the underlay.
pub fn ports(spec: &LabSpec, node: Node) -> Vec<String> {
    let mut ports = vec![node.name()];
    if spec.data_plane().parts().contains(&Part::SecondInterface) {
        ports.push(second_interface::port(node));
    }
    ports
}

/// Returns the script that creates the underlay: a bridge for each subnet, on which no packet passes netfilter.
pub(super) fn create(spec: &LabSpec) -> String {
    let mut text = String::from(
        "sysctl -qw net.bridge.bridge-nf-call-iptables=0 net.bridge.bridge-nf-call-ip6tables=0
ip -batch - <<'END'
link set lo up
",
    );
    for (number, _) in legs(spec) {
        let switch = switch(number);
        let router = router_port(spec, number);
        // A router has the address where there is one.
        let address = match router {
            Some(_) => String::new(),
            None => format!(" address {ROUTER_MAC}"),
        };
        text.extend([format!(
            "link add name {switch}{address} type bridge\nlink set {switch} up\n"
        )]);
        if let Some(port) = router {
            text.extend([format!("link set {port} master {switch} mtu 1500 up\n")]);
        }
    }
    for node in spec.nodes() {
        let subnet = spec.data_plane().subnet(node);
        let at = legs(spec).find(|(_, other)| *other == subnet);
        let switch = switch(at.map_or(0, |(number, _)| number));
        for port in ports(spec, node) {
            text.extend([format!("link set {port} master {switch} mtu 1500 up\n")]);
        }
    }
    text + "END\n" + &configure_switch(spec)
}

/// Returns the script that configures the underlay.
pub(super) fn configure(spec: &LabSpec) -> String {
    let mut text = String::from("ip -batch - <<'END'\n");
    for node in spec.nodes() {
        for port in ports(spec, node) {
            text.extend([format!("link set {port} mtu 1500 up\n")]);
        }
    }
    text + "END\n" + &configure_switch(spec)
}

/// Returns the shell lines that leave the switches with the rules of a healthy network alone.
fn configure_switch(spec: &LabSpec) -> String {
    let mut text = String::new();
    if spec.has_plain_paths() {
        text += "ebtables -t filter -F\n";
    }
    if spec.data_plane().parts().contains(&Part::SecondInterface) {
        text += &second_interface::mapping(spec);
    }
    text
}

/// Returns the router's network namespace and the script that creates its content, where there are two subnets.
///
/// The router knows the subnets of the nodes, but no pods: it discards what it has no route for.
pub(super) fn create_router(spec: &LabSpec) -> Option<(String, String)> {
    if !has_router(spec) {
        return None;
    }
    let mut text = String::from(
        "sysctl -qw net.ipv6.conf.default.accept_dad=0 net.ipv4.ip_forward=1 net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.default.rp_filter=0",
    );
    for (number, _) in legs(spec) {
        let leg = leg(number);
        text.extend([format!(
            " net.ipv6.conf.{leg}.accept_dad=0 net.ipv4.conf.{leg}.rp_filter=0"
        )]);
    }
    text += "\nip -batch - <<'END'\nlink set lo up\n";
    for (number, subnet) in legs(spec) {
        let leg = leg(number);
        text.extend([format!(
            "link set {leg} address {ROUTER_MAC} mtu 1500\nlink set {leg} up\n"
        )]);
        for family in FAMILIES {
            text.extend([format!(
                "addr add {}/{} dev {leg}{}\n",
                subnet.router(family),
                subnet.length(family),
                match family {
                    Family::Ipv4 => "",
                    Family::Ipv6 => " nodad",
                }
            )]);
        }
    }
    text += "route add blackhole default
route add blackhole ::/0
END
sysctl -qw net.ipv6.conf.all.forwarding=1
";
    Some((ROUTER.to_owned(), text))
}

fn has_router(spec: &LabSpec) -> bool {
    match spec.data_plane().underlay() {
        Underlay::Router => true,
        Underlay::Switch | Underlay::Fabric => false,
    }
}

/// Returns the name of the port of a subnet's router on its switch; `None` where the subnet has none.
fn router_port(spec: &LabSpec, number: u16) -> Option<String> {
    match spec.data_plane().underlay() {
        Underlay::Switch => None,
        Underlay::Router => Some(format!("{ROUTER}-{number}")),
        Underlay::Fabric => {
            let mut nodes = spec.nodes();
            nodes.nth(number.into()).map(fabric::top_of_rack)
        }
    }
}

/// Iterates over the subnets with their numbers, from 0.
fn legs(spec: &LabSpec) -> impl Iterator<Item = (u16, Subnet)> + use<> {
    (0..).zip(spec.subnets())
}

/// Returns the name of a subnet's switch.
fn switch(number: u16) -> String {
    match number {
        0 => "switch".to_owned(),
        number => format!("switch-{number}"),
    }
}

/// Returns the name of the router's interface in a subnet.
fn leg(number: u16) -> String {
    format!("eth{number}")
}
