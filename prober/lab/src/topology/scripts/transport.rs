//! The ways to other nodes' pods: VXLAN as flannel configures it (RFC 7348), and routes by the nodes' addresses.

use prober_core::packet::family::Family;

use super::{FAMILIES, NodePart, OTHER_TUNNEL, tunnel};
use crate::data_plane::{Transport, Underlay};
use crate::topology::{LabSpec, Node, TUNNEL_V4, TUNNEL_V6, UPLINK};

/// The VXLAN links, with a neighbour, a forwarding entry and a route for each node that is reached through them.
pub(super) fn vxlan(spec: &LabSpec, node: Node) -> NodePart {
    let (v4, v6) = (Family::Ipv4, Family::Ipv6);
    let network_v6 = node.pod_network(v6);
    let mut part = NodePart {
        create: format!(
            "link add {TUNNEL_V4} address {tunnel_v4} mtu 1450 type vxlan id 1 dev {UPLINK} dstport 8472 local {node_v4} nolearning
addr add {network_v4}/32 dev {TUNNEL_V4}
link set {TUNNEL_V4} up
link add {TUNNEL_V6} address {tunnel_v6} mtu 1430 type vxlan id 1 dev {UPLINK} dstport 8472 local {node_v6} nolearning udp6zerocsumtx udp6zerocsumrx
addr add {network_v6}/128 dev {TUNNEL_V6} nodad
link set {TUNNEL_V6} up
",
            tunnel_v4 = node.tunnel_mac(v4),
            tunnel_v6 = node.tunnel_mac(v6),
            node_v4 = spec.node_address(node, v4),
            node_v6 = spec.node_address(node, v6),
            network_v4 = node.pod_network(v4),
        ),
        sysctls: vec![format!(
            "net.ipv4.conf.{}.rp_filter=0",
            TUNNEL_V4.replace('.', "/")
        )],
        links: format!("link set {TUNNEL_V4} mtu 1450 up\nlink set {TUNNEL_V6} mtu 1430 up\n"),
        policy: format!("ip link del {OTHER_TUNNEL} 2>/dev/null || true\n"),
        // The tunnel device's address is also the anycast address of all routers on the bridge's network (RFC 4291 2.6.1).
        // The kernel uses the one that is configured first; as anycast, the address would receive no packet-too-big. On a
        // real node flanneld starts before the first pod's bridge exists; here the kernel adds the addresses asynchronously.
        wait: format!(
            "for i in $(seq 500); do
  ip -6 route show table local dev {TUNNEL_V6} | grep -q '^local {network_v6} ' && break
  sleep 0.01
done
"
        ),
        ..NodePart::default()
    };
    for peer in spec.peers_by(Transport::Vxlan, node) {
        for family in FAMILIES {
            let (mac, device) = (peer.tunnel_mac(family), tunnel(family));
            let (next_hop, cidr) = (peer.pod_network(family), peer.pod_cidr(family));
            part.bridge.extend([format!(
                "fdb replace {mac} dev {device} dst {}\n",
                spec.node_address(peer, family)
            )]);
            part.routes.extend([format!(
                "neigh replace {next_hop} lladdr {mac} dev {device} nud permanent
route replace {cidr} via {next_hop} dev {device} onlink
"
            )]);
        }
    }
    part
}

/// A route to the pods of each node that is reached without a tunnel, by its address or the router that leads there; behind a
/// fabric one to the node itself as well.
pub(super) fn node_routes(spec: &LabSpec, node: Node) -> NodePart {
    let protocol = protocol(spec);
    let mut part = NodePart {
        policy: flush(spec),
        ..NodePart::default()
    };
    for peer in spec.peers_by(Transport::NodeRoute, node) {
        for family in FAMILIES {
            let next_hop = spec.next_hop(node, peer, family);
            let nodes = match spec.data_plane().underlay() {
                Underlay::Fabric => Some(spec.data_plane().subnet(peer).cidr(family)),
                Underlay::Switch | Underlay::Router => None,
            };
            for destination in nodes.into_iter().chain([peer.pod_cidr(family)]) {
                part.routes.extend([format!(
                    "route replace {destination} via {next_hop} dev {UPLINK}{protocol}\n"
                )]);
            }
        }
    }
    part
}

/// The route that discards packets to addresses of the node's block that no pod has.
pub(super) fn own_block(spec: &LabSpec, node: Node) -> NodePart {
    let protocol = protocol(spec);
    NodePart {
        routes: FAMILIES
            .map(|family| {
                format!(
                    "route replace blackhole {}{protocol}\n",
                    node.pod_cidr(family)
                )
            })
            .concat(),
        ..NodePart::default()
    }
}

/// Returns the words that give a route the data plane's protocol.
fn protocol(spec: &LabSpec) -> String {
    let protocol = spec.data_plane().route_protocol();
    protocol.map_or_else(String::new, |name| format!(" proto {name}"))
}

/// Returns the shell lines that remove every route of the data plane's protocol.
fn flush(spec: &LabSpec) -> String {
    let protocol = spec.data_plane().route_protocol();
    protocol.map_or_else(String::new, |name| {
        format!("ip -4 route flush proto {name}\nip -6 route flush proto {name}\n")
    })
}
