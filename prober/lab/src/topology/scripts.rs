//! Shell scripts that create the topology once, and configure it as often as needed.
//!
//! Creation and configuration are separate, so that healing is configuring again: the `configure_*` scripts specify the
//! whole desired state (routes, tunnel neighbours, bridge ports, sysctls, firewall) and work from any state.
//! One script runs in each network namespace, by `sh -ec`.

use prober_core::packet::family::Family;
use prober_core::packet::mac::Mac;

use super::{BRIDGE, LabSpec, Node, POD_MTU, Pod, TUNNEL_V4, TUNNEL_V6, UPLINK};
use crate::kube_proxy::initial_rules;

/// The network namespace that connects the nodes.
pub const UNDERLAY: &str = "underlay";

/// MAC address of the underlay's bridge, which drops packets to the default gateway as a router without a route does.
const GATEWAY_MAC: Mac = Mac([0x52, 0x54, 0, 0, 0, 0xfe]);

/// Returns the input of `ip -batch` that creates every network namespace and the veth pairs between them.
pub fn links(spec: &LabSpec) -> String {
    let mut text = format!("netns add {UNDERLAY}\n");
    for node in spec.nodes() {
        text.extend([format!("netns add {node}\n")]);
    }
    for pod in spec.pods() {
        text.extend([format!("netns add {pod}\n")]);
    }
    // The kernel handles an interface whose index equals its peer's as not urgent, and may detect its carrier a second
    // late (linkwatch_urgent_event in net/core/link_watch.c): hence distinct indices for this end.
    for node in spec.nodes() {
        text.extend([format!(
            "link add {node} index {} netns {UNDERLAY} type veth peer name {UPLINK} netns {node}\n",
            1000 + u16::from(node.number())
        )]);
    }
    for pod in spec.pods() {
        let index = 100 + u16::from(pod.role.host_number());
        text.extend([format!(
            "link add {} index {index} netns {} type veth peer name eth0 netns {pod}\n",
            pod.role.bridge_port(),
            pod.node
        )]);
    }
    text
}

/// Returns the script that creates the underlay: one bridge, on which no packet passes netfilter.
pub fn create_underlay(spec: &LabSpec) -> String {
    let mut text = format!(
        "sysctl -qw net.bridge.bridge-nf-call-iptables=0 net.bridge.bridge-nf-call-ip6tables=0
ip -batch - <<'END'
link set lo up
link add switch address {GATEWAY_MAC} type bridge
link set switch up
"
    );
    for node in spec.nodes() {
        text.extend([format!("link set {node} master switch mtu 1500 up\n")]);
    }
    text + "END\n"
}

/// Returns the script that configures the underlay.
pub fn configure_underlay(spec: &LabSpec) -> String {
    let mut text = String::from("ip -batch - <<'END'\n");
    for node in spec.nodes() {
        text.extend([format!("link set {node} mtu 1500 up\n")]);
    }
    text + "END\n"
}

/// Returns the script that creates a node's interfaces.
pub fn create_node(spec: &LabSpec, node: Node) -> String {
    let (v4, v6) = (Family::Ipv4, Family::Ipv6);
    let mut text = format!(
        "sysctl -qw net.ipv6.conf.default.accept_dad=0 net.ipv6.conf.eth0.accept_dad=0 net.ipv6.conf.all.keep_addr_on_down=1
ip -batch - <<'END'
link set lo up
link set {UPLINK} address {uplink_mac}
link set {UPLINK} up
addr add {underlay_v4}/24 dev {UPLINK}
addr add {underlay_v6}/64 dev {UPLINK} nodad
link add {BRIDGE} address {bridge_mac} mtu {POD_MTU} type bridge
link set {BRIDGE} up
addr add {gateway_v4}/24 dev {BRIDGE}
addr add {gateway_v6}/64 dev {BRIDGE} nodad
link add {TUNNEL_V4} address {tunnel_v4} mtu 1450 type vxlan id 1 dev {UPLINK} dstport 8472 local {underlay_v4} nolearning
addr add {network_v4}/32 dev {TUNNEL_V4}
link set {TUNNEL_V4} up
link add {TUNNEL_V6} address {tunnel_v6} mtu 1430 type vxlan id 1 dev {UPLINK} dstport 8472 local {underlay_v6} nolearning udp6zerocsumtx udp6zerocsumrx
addr add {network_v6}/128 dev {TUNNEL_V6} nodad
link set {TUNNEL_V6} up
",
        uplink_mac = node.uplink_mac(),
        bridge_mac = node.bridge_mac(),
        underlay_v4 = node.underlay(v4),
        underlay_v6 = node.underlay(v6),
        gateway_v4 = node.gateway(v4),
        gateway_v6 = node.gateway(v6),
        network_v4 = node.pod_network(v4),
        network_v6 = node.pod_network(v6),
        tunnel_v4 = node.tunnel_mac(v4),
        tunnel_v6 = node.tunnel_mac(v6),
    );
    for role in spec.roles() {
        text.extend([format!(
            "link set {} master {BRIDGE} mtu {POD_MTU} up\n",
            role.bridge_port()
        )]);
    }
    // With offloads, segments larger than the underlay's MTU would cross a veth unsplit and hide every MTU fault.
    text + &format!(
        "END
ethtool -K {UPLINK} tso off gso off gro off tx-udp_tnl-segmentation off tx-udp_tnl-csum-segmentation off >/dev/null 2>&1 || true
"
    )
}

/// Returns the script that configures a node's sysctls, bridge ports, routes, tunnel neighbours and initial firewall.
pub fn configure_node(spec: &LabSpec, node: Node) -> String {
    let mut text = format!(
        "sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=0 \\
  net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.default.rp_filter=0 net.ipv4.conf.{UPLINK}.rp_filter=0 \\
  net.ipv4.conf.{BRIDGE}.rp_filter=0 net.ipv4.conf.{tunnel}.rp_filter=0 \\
  net.bridge.bridge-nf-call-iptables=1 net.bridge.bridge-nf-call-ip6tables=1
bridge -batch - <<'END'
",
        tunnel = TUNNEL_V4.replace('.', "/"),
    );
    for role in spec.roles() {
        text.extend([format!("link set dev {} hairpin on\n", role.bridge_port())]);
    }
    for peer in spec.peers(node) {
        for family in [Family::Ipv4, Family::Ipv6] {
            text.extend([format!(
                "fdb replace {} dev {} dst {}\n",
                peer.tunnel_mac(family),
                tunnel(family),
                peer.underlay(family)
            )]);
        }
    }
    text.extend([format!(
        "END
ip -batch - <<'END'
link set {UPLINK} mtu 1500 up
link set {BRIDGE} mtu {POD_MTU} up
link set {TUNNEL_V4} mtu 1450 up
link set {TUNNEL_V6} mtu 1430 up
"
    )]);
    for role in spec.roles() {
        text.extend([format!(
            "link set {} mtu {POD_MTU} up\n",
            role.bridge_port()
        )]);
    }
    text.extend([format!(
        "END
ip -4 route flush proto boot
ip -6 route flush proto boot
ip -4 route flush cache
ip -6 route flush cache
ip -batch - <<'END'
neigh flush dev {BRIDGE} nud all
neigh replace 172.20.0.1 lladdr {GATEWAY_MAC} dev {UPLINK} nud permanent
neigh replace fd00:172::1 lladdr {GATEWAY_MAC} dev {UPLINK} nud permanent
route replace default via 172.20.0.1 dev {UPLINK}
route replace default via fd00:172::1 dev {UPLINK}
"
    )]);
    for peer in spec.peers(node) {
        for family in [Family::Ipv4, Family::Ipv6] {
            let (next_hop, device) = (peer.pod_network(family), tunnel(family));
            text.extend([format!(
                "neigh replace {next_hop} lladdr {mac} dev {device} nud permanent
route replace {cidr} via {next_hop} dev {device} onlink
",
                mac = peer.tunnel_mac(family),
                cidr = peer.pod_cidr(family),
            )]);
        }
    }
    // The tunnel device's address is also the anycast address of all routers on the bridge's network (RFC 4291 2.6.1). The
    // kernel uses the one that is configured first; as anycast, the address would receive no packet-too-big. On a real node
    // flanneld starts before the first pod's bridge exists; here the kernel adds the addresses asynchronously.
    text.extend([format!(
        "END
for i in $(seq 500); do
  ip -6 route show table local dev {TUNNEL_V6} | grep -q '^local {network} ' && break
  sleep 0.01
done
sysctl -qw net.ipv6.conf.all.forwarding=1
",
        network = node.pod_network(Family::Ipv6),
    )]);
    for family in [Family::Ipv4, Family::Ipv6] {
        text.extend([format!(
            "{} <<'END'\n{}END\n",
            restore(family),
            initial_rules::tables(family, node)
        )]);
    }
    text
}

/// Returns the script that creates a pod's interface.
pub fn create_pod(pod: Pod) -> String {
    format!(
        "sysctl -qw net.ipv6.conf.default.accept_dad=0 net.ipv6.conf.eth0.accept_dad=0
ip -batch - <<'END'
link set lo up
link set eth0 address {mac} mtu {POD_MTU}
link set eth0 up
addr add {v4}/24 dev eth0
addr add {v6}/64 dev eth0 nodad
END
",
        mac = pod.mac(),
        v4 = pod.address(Family::Ipv4),
        v6 = pod.address(Family::Ipv6),
    )
}

/// Returns the script that configures a pod's routes and MTU, and clears its learned path MTUs.
pub fn configure_pod(pod: Pod) -> String {
    format!(
        "ip -batch - <<'END'
link set eth0 mtu {POD_MTU} up
route replace default via {} dev eth0
route replace default via {} dev eth0
neigh flush dev eth0 nud all
END
ip -4 route flush cache
ip -6 route flush cache
",
        pod.node.gateway(Family::Ipv4),
        pod.node.gateway(Family::Ipv6),
    )
}

/// Returns the tunnel device for pods of a family.
pub fn tunnel(family: Family) -> &'static str {
    match family {
        Family::Ipv4 => TUNNEL_V4,
        Family::Ipv6 => TUNNEL_V6,
    }
}

/// Returns the iptables command of a family.
pub fn iptables(family: Family) -> &'static str {
    match family {
        Family::Ipv4 => "iptables -w",
        Family::Ipv6 => "ip6tables -w",
    }
}

/// Returns the iptables-restore command of a family.
pub fn restore(family: Family) -> &'static str {
    match family {
        Family::Ipv4 => "iptables-restore -w",
        Family::Ipv6 => "ip6tables-restore -w",
    }
}

/// Returns every network namespace of the lab with the script that creates and configures its content.
pub fn creation_scripts(spec: &LabSpec) -> Vec<(String, String)> {
    let mut all = vec![(UNDERLAY.to_owned(), create_underlay(spec))];
    for at in spec.nodes() {
        all.push((at.name(), create_node(spec, at) + &configure_node(spec, at)));
        for each in spec.pods().filter(|pod| pod.node == at) {
            all.push((each.name(), create_pod(each) + &configure_pod(each)));
        }
    }
    all
}

/// Returns every network namespace of the lab with the script that configures it.
pub fn configuration_scripts(spec: &LabSpec) -> Vec<(String, String)> {
    let mut all = vec![(UNDERLAY.to_owned(), configure_underlay(spec))];
    for at in spec.nodes() {
        // Connections that were tracked during a fault would outlive it.
        let flush_conntrack = "conntrack -F >/dev/null 2>&1 || true\n";
        all.push((at.name(), configure_node(spec, at) + flush_conntrack));
        for each in spec.pods().filter(|pod| pod.node == at) {
            all.push((each.name(), configure_pod(each)));
        }
    }
    all
}

/// Returns a script that waits until every interface of a network namespace has a carrier.
///
/// The kernel enables a bridge port and a transmit queue only some time after both ends of a veth pair are up
/// (net/core/link_watch.c); packets that are sent earlier are lost silently.
pub fn wait_for_carrier() -> &'static str {
    "tries=0
while ip -o link show up | grep -q -e NO-CARRIER -e 'state DOWN' -e 'state LOWERLAYERDOWN' || bridge link | grep -q 'state disabled'; do
  tries=$((tries + 1))
  [ $tries -lt 300 ] || { echo 'its interfaces did not come up in three seconds' >&2; ip -o link show >&2; exit 1; }
  sleep 0.01
done
"
}
