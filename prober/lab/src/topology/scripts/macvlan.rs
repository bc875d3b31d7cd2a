//! Pods with a macvlan device on the node's uplink, and a veth to the node for Services alone.
//!
//! A node does not exchange packets with its own macvlan devices, and packets between pods pass no rule of any node. So, as
//! Spiderpool does, each pod has a veth with routes to the Services and to its node, and the node a route to the pod.

use prober_core::packet::family::Family;

use super::{FAMILIES, NodePart, PodPart, pod_veth, underlay::ROUTER_MAC};
use crate::kube_proxy;
use crate::topology::{LabSpec, Node, Pod, UPLINK};

/// The pod's end of the veth.
const INSIDE: &str = "veth0";

/// Returns the `ip -batch` line that creates the pod's veth.
pub(super) fn links(spec: &LabSpec, pod: Pod) -> String {
    pod_veth(spec, pod, INSIDE)
}

/// Returns the shell lines that create the pod's macvlan device; its name is that of the uplink, which lies in the way.
pub(super) fn device(pod: Pod) -> String {
    let (node, temporary) = (pod.node, format!("mv{}", pod.role.host_number()));
    format!(
        "ip -n {node} link add link {UPLINK} name {temporary} netns {pod} type macvlan mode bridge
ip -n {pod} link set {temporary} name eth0
"
    )
}

/// Returns the node's ends of the veths, and the routes to the pods.
pub(super) fn node(spec: &LabSpec, node: Node) -> NodePart {
    let mut part = NodePart {
        // A second pod with the address of a pod of another node leaves its MAC address.
        routes: format!("neigh flush dev {UPLINK}\n"),
        ..NodePart::default()
    };
    for role in spec.roles() {
        let (pod, veth) = (Pod { node, role }, spec.pod_interface(role));
        part.create.extend([format!(
            "link set {veth} address {} up\n",
            pod.node_end_mac()
        )]);
        part.sysctls
            .push(format!("net.ipv4.conf.{veth}.rp_filter=0"));
        part.links.extend([format!("link set {veth} up\n")]);
        for family in FAMILIES {
            // The pod's address is not on its end of the veth, which does not answer NDP for it.
            part.routes.extend([format!(
                "neigh replace {address} lladdr {mac} dev {veth} nud permanent\nroute replace {address} dev {veth}\n",
                address = pod.address(family),
                mac = pod.service_mac(),
            )]);
        }
    }
    part
}

/// Returns the pod's addresses, of the nodes' subnet, and its routes to the Services and to its node.
pub(super) fn pod(spec: &LabSpec, pod: Pod) -> PodPart {
    let subnet = spec.data_plane().subnet(pod.node);
    let mut part = PodPart {
        create: format!("link set {INSIDE} address {} up\n", pod.service_mac()),
        configure: format!("link set {INSIDE} up\n"),
    };
    for family in FAMILIES {
        let (address, length) = (pod.address(family), subnet.length(family));
        let (node, router) = (spec.node_address(pod.node, family), subnet.router(family));
        part.create.extend([format!(
            "addr add {address}/{length} dev eth0{}\n",
            match family {
                Family::Ipv4 => "",
                Family::Ipv6 => " nodad",
            }
        )]);
        part.configure.extend([format!(
            "neigh replace {node} lladdr {node_mac} dev {INSIDE} nud permanent
route replace {node} dev {INSIDE} src {address}
route replace {services} via {node} dev {INSIDE} src {address}
neigh replace {router} lladdr {ROUTER_MAC} dev eth0 nud permanent
route replace default via {router} dev eth0
",
            node_mac = pod.node_end_mac(),
            services = kube_proxy::service_cidr(family),
        )]);
    }
    part
}
