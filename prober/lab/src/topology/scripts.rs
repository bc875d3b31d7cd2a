//! Shell scripts that create the topology once, and configure it as often as needed.
//!
//! Creation and configuration are separate, so that healing is configuring again: the `configure_*` scripts specify the
//! whole desired state (routes, tunnel neighbours, bridge ports, sysctls, firewall) and work from any state.
//! One script runs in each network namespace, by `sh -ec`. A node's scripts consist of the lines of its data plane's parts
//! (`NodePart`), a pod's of those of its attachment (`PodPart`).

use prober_core::packet::family::Family;

use super::{LabSpec, Node, Pod, TUNNEL_V4, TUNNEL_V6, UPLINK};
use crate::data_plane::{Attachment, Part};
use crate::kube_proxy;

/// Pods on a bridge.
mod bridge;
/// Docker's bridge.
mod docker;
/// The routers between nodes that have a subnet each.
mod fabric;
/// Pods on the uplink.
mod macvlan;
/// Pods on routed veths.
mod routed_veth;
/// The second interface of a node, and its policy routes.
mod second_interface;
/// The ways to other nodes' pods: tunnels and plain routes.
mod transport;
/// The network between the nodes.
mod underlay;

pub use fabric::SPINE;
pub use second_interface::TABLE as POD_TABLE;
pub use underlay::{UNDERLAY, ports};

/// The tunnel device of a node whose tunnel differs from those of the others; none on a healthy node.
pub const OTHER_TUNNEL: &str = "vxlan.other";

const FAMILIES: [Family; 2] = [Family::Ipv4, Family::Ipv6];

/// The table of nftables of a node for rules of faults that iptables cannot have; none on a healthy node.
pub const FAULT_TABLE: &str = "fault";

/// The lines that a part of a data plane adds to the scripts of a node.
#[derive(Debug, Default)]
struct NodePart {
    /// Settings for `sysctl -w` before any interface is up.
    create_sysctls: Vec<String>,
    /// Lines for `ip -batch` that create interfaces and addresses.
    create: String,
    /// Settings for `sysctl -w`.
    sysctls: Vec<String>,
    /// Lines for `bridge -batch`: bridge ports and forwarding databases.
    bridge: String,
    /// Lines for `ip -batch`: the MTU and the state of interfaces.
    links: String,
    /// Shell lines that remove routes of other tables and protocols, and set the policy rules.
    policy: String,
    /// Lines for `ip -batch`: neighbours and routes.
    routes: String,
    /// Shell lines that run before IPv6 is forwarded.
    wait: String,
}

/// The lines of a pod's attachment.
#[derive(Debug, Default)]
struct PodPart {
    /// Lines for `ip -batch` that give the pod addresses.
    create: String,
    /// Lines for `ip -batch`: interfaces, neighbours and routes.
    configure: String,
}

fn node_part(part: Part, spec: &LabSpec, node: Node) -> NodePart {
    match part {
        Part::Bridge => bridge::node(spec, node),
        Part::RoutedVeths(gateway) => routed_veth::node(spec, node, gateway),
        Part::Macvlan => macvlan::node(spec, node),
        Part::Vxlan => transport::vxlan(spec, node),
        Part::NodeRoutes => transport::node_routes(spec, node),
        Part::OwnBlock => transport::own_block(spec, node),
        Part::SecondInterface => second_interface::node(spec, node),
        Part::Docker => docker::node(),
    }
}

/// Returns the sum of a node's parts, each field in their order.
fn node_parts(spec: &LabSpec, node: Node) -> NodePart {
    let mut sum = NodePart::default();
    for part in spec.data_plane().parts() {
        let lines = node_part(*part, spec, node);
        sum.create_sysctls.extend(lines.create_sysctls);
        sum.create += &lines.create;
        sum.sysctls.extend(lines.sysctls);
        sum.bridge += &lines.bridge;
        sum.links += &lines.links;
        sum.policy += &lines.policy;
        sum.routes += &lines.routes;
        sum.wait += &lines.wait;
    }
    sum
}

fn pod_part(spec: &LabSpec, pod: Pod) -> PodPart {
    match spec.data_plane().attachment() {
        Attachment::Bridge => bridge::pod(pod),
        Attachment::RoutedVeth(gateway) => routed_veth::pod(pod, gateway),
        Attachment::Macvlan => macvlan::pod(spec, pod),
    }
}

/// Returns the script that creates every network namespace and the links between them.
pub fn links(spec: &LabSpec) -> String {
    let mut text = String::from("ip -batch - <<'END'\n");
    text += &underlay::namespaces(spec);
    for node in spec.nodes() {
        text.extend([format!("netns add {node}\n")]);
    }
    for pod in spec.pods() {
        text.extend([format!("netns add {pod}\n")]);
    }
    text += &underlay::links(spec);
    for pod in spec.pods() {
        text.extend([match spec.data_plane().attachment() {
            Attachment::Bridge | Attachment::RoutedVeth(_) => pod_veth(spec, pod, "eth0"),
            Attachment::Macvlan => macvlan::links(spec, pod),
        }]);
    }
    if spec.data_plane().parts().contains(&Part::Docker) {
        for node in spec.nodes() {
            text += &docker::links(node);
        }
    }
    text += "END\n";
    match spec.data_plane().attachment() {
        Attachment::Bridge | Attachment::RoutedVeth(_) => {}
        Attachment::Macvlan => text.extend(spec.pods().map(macvlan::device)),
    }
    text
}

/// Returns the `ip -batch` line that creates the veth pair between a node and the interface `inside` of a pod.
fn pod_veth(spec: &LabSpec, pod: Pod, inside: &str) -> String {
    format!(
        "link add {} index {} netns {} type veth peer name {inside} netns {pod}\n",
        spec.pod_interface(pod.role),
        100 + u16::from(pod.role.host_number()),
        pod.node
    )
}

/// Returns the script that creates a node's interfaces.
pub fn create_node(spec: &LabSpec, node: Node) -> String {
    let parts = node_parts(spec, node);
    let subnet = spec.data_plane().subnet(node);
    let mut text = String::from(
        "sysctl -qw net.ipv6.conf.default.accept_dad=0 net.ipv6.conf.eth0.accept_dad=0 net.ipv6.conf.all.keep_addr_on_down=1",
    );
    for setting in &parts.create_sysctls {
        text.extend([" ", setting]);
    }
    text.extend([format!(
        "
ip -batch - <<'END'
link set lo up
link set {UPLINK} address {mac}
link set {UPLINK} up
addr add {v4}/{v4_length} dev {UPLINK}
addr add {v6}/{v6_length} dev {UPLINK} nodad
",
        mac = node.uplink_mac(),
        v4 = spec.node_address(node, Family::Ipv4),
        v4_length = subnet.length(Family::Ipv4),
        v6 = spec.node_address(node, Family::Ipv6),
        v6_length = subnet.length(Family::Ipv6),
    )]);
    text += &parts.create;
    text += "END\n";
    // With offloads, segments larger than the underlay's MTU would cross a veth unsplit and hide every MTU fault.
    for uplink in spec.data_plane().uplinks() {
        text.extend([format!(
            "ethtool -K {uplink} tso off gso off gro off tx-udp_tnl-segmentation off tx-udp_tnl-csum-segmentation off >/dev/null 2>&1 || true\n"
        )]);
    }
    text
}

/// Returns the script that configures a node's sysctls, bridge ports, routes, tunnel neighbours and initial firewall.
pub fn configure_node(spec: &LabSpec, node: Node) -> String {
    let parts = node_parts(spec, node);
    let mut text = format!(
        "sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=0 \\
  net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.default.rp_filter=0 net.ipv4.conf.{UPLINK}.rp_filter=0"
    );
    for setting in &parts.sysctls {
        text.extend([" ", setting]);
    }
    text.extend([format!(
        "
bridge -batch - <<'END'
{}END
ip -batch - <<'END'
link set {UPLINK} mtu 1500 up
{}END
ip -4 route flush proto boot
ip -6 route flush proto boot
{}ip -4 route flush cache
ip -6 route flush cache
ip -batch - <<'END'
{}{}END
{}sysctl -qw net.ipv6.conf.all.forwarding=1
",
        parts.bridge,
        parts.links,
        parts.policy,
        default_routes(spec, node),
        parts.routes,
        parts.wait,
    )]);
    text.extend([format!(
        "nft 'add table inet {FAULT_TABLE}; delete table inet {FAULT_TABLE}'\n"
    )]);
    text + &kube_proxy::initial_script(spec, node)
}

/// Returns the `ip -batch` lines of a node's routes to everything outside of its subnet.
fn default_routes(spec: &LabSpec, node: Node) -> String {
    let subnet = spec.data_plane().subnet(node);
    let mut text = String::new();
    for family in FAMILIES {
        text.extend([format!(
            "neigh replace {} lladdr {} dev {UPLINK} nud permanent\n",
            subnet.router(family),
            underlay::ROUTER_MAC
        )]);
    }
    for family in FAMILIES {
        text.extend([format!(
            "route replace default via {} dev {UPLINK}\n",
            subnet.router(family)
        )]);
    }
    text
}

/// Returns the script that creates a pod's interface.
pub fn create_pod(spec: &LabSpec, pod: Pod) -> String {
    format!(
        "sysctl -qw net.ipv6.conf.default.accept_dad=0 net.ipv6.conf.eth0.accept_dad=0
ip -batch - <<'END'
link set lo up
link set eth0 address {mac} mtu {mtu}
link set eth0 up
{addresses}END
",
        mac = pod.mac(),
        mtu = spec.data_plane().pod_mtu(),
        addresses = pod_part(spec, pod).create,
    )
}

/// Returns the script that configures a pod's routes and MTU, and clears its learned path MTUs.
pub fn configure_pod(spec: &LabSpec, pod: Pod) -> String {
    format!(
        "ip -batch - <<'END'
link set eth0 mtu {mtu} up
neigh flush dev eth0 nud all
{routes}END
ip -4 route flush cache
ip -6 route flush cache
",
        mtu = spec.data_plane().pod_mtu(),
        routes = pod_part(spec, pod).configure,
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
    let mut all = vec![(UNDERLAY.to_owned(), underlay::create(spec))];
    all.extend(underlay::create_router(spec));
    all.extend(fabric::create(spec));
    for at in spec.nodes() {
        all.push((at.name(), create_node(spec, at) + &configure_node(spec, at)));
        for each in spec.pods().filter(|pod| pod.node == at) {
            all.push((
                each.name(),
                create_pod(spec, each) + &configure_pod(spec, each),
            ));
        }
        if spec.data_plane().parts().contains(&Part::Docker) {
            all.push((docker::container(at), docker::create_container().to_owned()));
        }
    }
    all
}

/// Returns every network namespace of the lab with the script that configures it.
pub fn configuration_scripts(spec: &LabSpec) -> Vec<(String, String)> {
    let mut all = vec![(UNDERLAY.to_owned(), underlay::configure(spec))];
    all.extend(fabric::configure(spec));
    for at in spec.nodes() {
        // Connections that were tracked during a fault would outlive it.
        let flush_conntrack = "conntrack -F >/dev/null 2>&1 || true\n";
        all.push((at.name(), configure_node(spec, at) + flush_conntrack));
        for each in spec.pods().filter(|pod| pod.node == at) {
            all.push((each.name(), configure_pod(spec, each)));
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
