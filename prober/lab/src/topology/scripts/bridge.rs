//! Pods on a bridge of their node, as the bridge plugin attaches them, with netfilter in the bridge's path.

use prober_core::packet::family::Family;

use super::{NodePart, PodPart};
use crate::topology::{BRIDGE, LabSpec, Node, Pod};

/// The node's bridge and its ports.
pub(super) fn node(spec: &LabSpec, node: Node) -> NodePart {
    let mtu = spec.data_plane().pod_mtu();
    let mut part = NodePart {
        create: format!(
            "link add {BRIDGE} address {mac} mtu {mtu} type bridge
link set {BRIDGE} up
addr add {v4}/24 dev {BRIDGE}
addr add {v6}/64 dev {BRIDGE} nodad
",
            mac = node.bridge_mac(),
            v4 = node.gateway(Family::Ipv4),
            v6 = node.gateway(Family::Ipv6),
        ),
        sysctls: vec![
            format!("net.ipv4.conf.{BRIDGE}.rp_filter=0"),
            "net.bridge.bridge-nf-call-iptables=1".to_owned(),
            "net.bridge.bridge-nf-call-ip6tables=1".to_owned(),
        ],
        links: format!("link set {BRIDGE} mtu {mtu} up\n"),
        routes: format!("neigh flush dev {BRIDGE} nud all\n"),
        ..NodePart::default()
    };
    for role in spec.roles() {
        let port = spec.pod_interface(role);
        part.create
            .extend([format!("link set {port} master {BRIDGE} mtu {mtu} up\n")]);
        part.bridge
            .extend([format!("link set dev {port} hairpin on\n")]);
        part.links
            .extend([format!("link set {port} mtu {mtu} up\n")]);
    }
    part
}

/// The pod's addresses, of the bridge's network, and its routes.
pub(super) fn pod(pod: Pod) -> PodPart {
    let (v4, v6) = (Family::Ipv4, Family::Ipv6);
    PodPart {
        create: format!(
            "addr add {}/24 dev eth0\naddr add {}/64 dev eth0 nodad\n",
            pod.address(v4),
            pod.address(v6)
        ),
        configure: format!(
            "route replace default via {} dev eth0\nroute replace default via {} dev eth0\n",
            pod.node.gateway(v4),
            pod.node.gateway(v6)
        ),
    }
}
