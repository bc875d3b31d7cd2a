//! Pods on veths of their own, to each of which a host route leads; no bridge connects them.

use prober_core::packet::family::Family;
use prober_core::packet::mac::Mac;

use super::{NodePart, PodPart};
use crate::data_plane::PodGateway;
use crate::topology::{LabSpec, Node, Pod};

/// The MAC address that Calico gives the node's end of every veth.
const CALICO_MAC: Mac = Mac([0xee; 6]);

/// The address of the gateway of pods that have no gateway of their own network.
const LINK_LOCAL_GATEWAY: &str = "169.254.1.1";

/// Returns the node's ends of the veths, and the routes to the pods.
pub(super) fn node(spec: &LabSpec, node: Node, gateway: PodGateway) -> NodePart {
    let mtu = spec.data_plane().pod_mtu();
    let mut part = NodePart::default();
    for role in spec.roles() {
        let (pod, veth) = (Pod { node, role }, spec.pod_interface(role));
        part.create_sysctls
            .push(format!("net.ipv6.conf.{veth}.accept_dad=0"));
        part.create.extend([match gateway {
            PodGateway::NodeAddress => format!(
                "link set {veth} mtu {mtu} up\naddr add {}/32 dev {veth}\naddr add {}/128 dev {veth} nodad\n",
                node.gateway(Family::Ipv4),
                node.gateway(Family::Ipv6)
            ),
            PodGateway::ProxyArp => format!("link set {veth} address {CALICO_MAC} mtu {mtu} up\n"),
            PodGateway::StaticNeighbour => {
                let mac = pod.node_end_mac();
                format!("link set {veth} address {mac} mtu {mtu} up\n")
            }
        }]);
        part.sysctls
            .push(format!("net.ipv4.conf.{veth}.rp_filter=0"));
        match gateway {
            PodGateway::ProxyArp => {
                part.sysctls.extend([
                    format!("net.ipv4.conf.{veth}.proxy_arp=1"),
                    format!("net.ipv6.conf.{veth}.proxy_ndp=1"),
                ]);
                // Otherwise the kernel waits up to 0.8 seconds before it answers for another host. Older kernels have no
                // sysctl for it in a user namespace.
                part.links.extend([format!(
                    "ntable change name arp_cache dev {veth} proxy_delay 0\n"
                )]);
            }
            PodGateway::NodeAddress | PodGateway::StaticNeighbour => {}
        }
        // The scopes are those of the ptp plugin and of Calico's Felix.
        let scope = match gateway {
            PodGateway::NodeAddress => "host",
            PodGateway::ProxyArp | PodGateway::StaticNeighbour => "link",
        };
        part.links
            .extend([format!("link set {veth} mtu {mtu} up\n")]);
        part.routes.extend([format!(
            "neigh flush dev {veth} nud all
route replace {}/32 dev {veth} scope {scope}
route replace {}/128 dev {veth}
",
            pod.address(Family::Ipv4),
            pod.address(Family::Ipv6)
        )]);
    }
    part
}

/// Returns the pod's addresses, and its routes by its gateway alone.
pub(super) fn pod(pod: Pod, gateway: PodGateway) -> PodPart {
    let (v4, v6) = (pod.address(Family::Ipv4), pod.address(Family::Ipv6));
    let node = pod.node;
    match gateway {
        PodGateway::NodeAddress => {
            let (gateway_v4, gateway_v6) = (node.gateway(Family::Ipv4), node.gateway(Family::Ipv6));
            PodPart {
                create: format!(
                    "addr add {v4}/24 dev eth0 noprefixroute\naddr add {v6}/64 dev eth0 nodad noprefixroute\n"
                ),
                configure: format!(
                    "route replace {gateway_v4} dev eth0 scope link src {v4}
route replace {} via {gateway_v4} dev eth0 src {v4}
route replace default via {gateway_v4} dev eth0
route replace {gateway_v6} dev eth0
route replace {} via {gateway_v6} dev eth0
route replace default via {gateway_v6} dev eth0
",
                    node.pod_cidr(Family::Ipv4),
                    node.pod_cidr(Family::Ipv6)
                ),
            }
        }
        PodGateway::ProxyArp => PodPart {
            create: host_addresses(pod),
            configure: default_routes(&calico_gateway().to_string()),
        },
        PodGateway::StaticNeighbour => {
            let mac = pod.node_end_mac();
            PodPart {
                create: host_addresses(pod),
                configure: format!(
                    "neigh replace {LINK_LOCAL_GATEWAY} lladdr {mac} dev eth0 nud permanent
neigh replace fe80::1 lladdr {mac} dev eth0 nud permanent
{}",
                    default_routes("fe80::1")
                ),
            }
        }
    }
}

/// Returns the `ip -batch` lines that give a pod addresses without a network.
fn host_addresses(pod: Pod) -> String {
    format!(
        "addr add {}/32 dev eth0\naddr add {}/128 dev eth0 nodad\n",
        pod.address(Family::Ipv4),
        pod.address(Family::Ipv6)
    )
}

/// Returns the `ip -batch` lines of a pod's routes by link-local gateways.
fn default_routes(gateway_v6: &str) -> String {
    format!(
        "route replace {LINK_LOCAL_GATEWAY} dev eth0 scope link
route replace default via {LINK_LOCAL_GATEWAY} dev eth0
route replace default via {gateway_v6} dev eth0
"
    )
}

/// Returns the link-local address that the kernel derives from [`CALICO_MAC`] (RFC 4291, appendix A).
fn calico_gateway() -> std::net::Ipv6Addr {
    std::net::Ipv6Addr::new(0xfe80, 0, 0, 0, 0xecee, 0xeeff, 0xfeee, 0xeeee)
}
