//! Faults of routes, switches, bridge ports and packet sizes.

use prober_core::packet::family::Family;

use super::{Site, Step};
use crate::topology::script::UNDERLAY;
use crate::topology::{BRIDGE, Role, TUNNEL_V4, UPLINK, client, server};

/// One kernel switch of the node.
pub(super) fn switch(site: Site<'_>, setting: &str) -> Vec<Step> {
    vec![Step::on(site.node, format!("sysctl -qw {setting}\n"))]
}

/// The route to the next node's pods is gone.
pub(super) fn route_lost(site: Site<'_>) -> Vec<Step> {
    let cidr = site.node.next_of(site.spec).pod_cidr(Family::Ipv4);
    vec![Step::on(site.node, format!("ip route del {cidr}\n"))]
}

/// The tunnel device is down.
pub(super) fn tunnel_down(site: Site<'_>) -> Vec<Step> {
    vec![Step::on(
        site.node,
        format!("ip link set {TUNNEL_V4} down\n"),
    )]
}

/// The route to the next node's pods leads nowhere.
pub(super) fn route_says(site: Site<'_>, kind: &str) -> Vec<Step> {
    let cidr = site.node.next_of(site.spec).pod_cidr(Family::Ipv4);
    vec![Step::on(
        site.node,
        format!("ip route replace {kind} {cidr}\n"),
    )]
}

/// The other nodes send to this one's pods past the tunnel.
pub(super) fn asymmetric(site: Site<'_>) -> Vec<Step> {
    let script = format!(
        "ip route replace {} via {} dev {UPLINK}\n",
        site.node.pod_cidr(Family::Ipv4),
        site.node.underlay(Family::Ipv4)
    );
    site.spec
        .peers(site.node)
        .map(|peer| Step::on(peer, script.clone()))
        .collect()
}

/// The same, and the node drops what came the wrong way.
pub(super) fn asymmetric_and_filtered(site: Site<'_>) -> Vec<Step> {
    let mut steps = asymmetric(site);
    steps.extend(switch(site, "net.ipv4.conf.all.rp_filter=1"));
    steps
}

/// The server pod's port does not reflect.
pub(super) fn hairpin_off(site: Site<'_>) -> Vec<Step> {
    let port = Role::Server.port();
    vec![Step::on(
        site.node,
        format!("bridge link set dev {port} hairpin off\n"),
    )]
}

/// The underlay's port to the node is too narrow for a full tunnel packet.
pub(super) fn narrow_underlay(site: Site<'_>) -> Vec<Step> {
    vec![Step::Run {
        place: UNDERLAY.to_owned(),
        script: format!("ip link set {} mtu 1400\n", site.node),
    }]
}

/// Every pod believes in 1500 bytes, and no node may tell it otherwise.
pub(super) fn wide_pods(site: Site<'_>) -> Vec<Step> {
    let mut steps = Vec::new();
    for node in site.spec.nodes() {
        let mut script = String::new();
        for device in [Role::Client.port(), Role::Server.port(), BRIDGE.to_owned()] {
            script.extend([format!("ip link set {device} mtu 1500\n")]);
        }
        script += "iptables -w -I OUTPUT 1 -p icmp --icmp-type fragmentation-needed -j DROP
ip6tables -w -I OUTPUT 1 -p ipv6-icmp --icmpv6-type packet-too-big -j DROP
";
        steps.push(Step::on(node, script));
        for pod in [client(node), server(node)] {
            // A new route has forgotten the packet sizes that the old one learned.
            let script = format!(
                "ip link set eth0 mtu 1500\nip -4 route flush cache\nip -6 route replace default via {} dev eth0\n",
                node.gateway(Family::Ipv6)
            );
            steps.push(Step::Run {
                place: pod.name(),
                script,
            });
        }
    }
    steps
}
