//! Faults of the tunnel between the nodes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use prober_core::packet::family::Family;
use prober_core::packet::mac::Mac;

use super::filter::for_both_families;
use super::{FaultContext, Step};
use crate::data_plane::Transport;
use crate::topology::UPLINK;
use crate::topology::scripts::{FAULT_TABLE, OTHER_TUNNEL, tunnel};

const VXLAN: &str = "-p udp --dport 8472";

/// The node drops incoming VXLAN packets.
pub(super) fn blocked_in(context: FaultContext<'_>) -> Vec<Step> {
    vec![Step::on(
        context.node,
        for_both_families(|_| format!("-I INPUT 1 {VXLAN} -j DROP")),
    )]
}

/// Every other node drops the node's VXLAN packets.
pub(super) fn blocked_out(context: FaultContext<'_>) -> Vec<Step> {
    let script = for_both_families(|family| {
        format!(
            "-I INPUT 1 {VXLAN} -s {} -j DROP",
            context.spec.node_address(context.node, family)
        )
    });
    context
        .spec
        .peers(context.node)
        .map(|peer| Step::on(peer, script.clone()))
        .collect()
}

/// The node drops its outgoing VXLAN packets.
pub(super) fn blocked_output(context: FaultContext<'_>) -> Vec<Step> {
    vec![Step::on(
        context.node,
        for_both_families(|_| format!("-I OUTPUT 1 {VXLAN} -j DROP")),
    )]
}

/// Packets reach the next node with a wrong destination MAC address.
pub(super) fn wrong_mac(context: FaultContext<'_>) -> Vec<Step> {
    let peer = context.tunnel_peer();
    let wrong = Mac([0x0e, 0, 0, 0, 0xff, peer.number()]);
    let script = [Family::Ipv4, Family::Ipv6]
        .map(|family| {
            let device = tunnel(family);
            format!(
                "ip neigh replace {} lladdr {wrong} dev {device} nud permanent\nbridge fdb replace {wrong} dev {device} dst {}\n",
                peer.pod_network(family),
                context.spec.node_address(peer, family)
            )
        })
        .concat();
    vec![Step::on(context.node, script)]
}

/// Packets for the next node are sent to an underlay address that no node has.
pub(super) fn wrong_underlay_address(context: FaultContext<'_>) -> Vec<Step> {
    let peer = context.tunnel_peer();
    let script = [Family::Ipv4, Family::Ipv6]
        .map(|family| {
            let unused: IpAddr = match family {
                Family::Ipv4 => Ipv4Addr::new(172, 20, 0, 250).into(),
                Family::Ipv6 => Ipv6Addr::new(0xfd00, 0x172, 0, 0, 0, 0, 0, 250).into(),
            };
            format!(
                "bridge fdb replace {} dev {} dst {unused}\n",
                peer.tunnel_mac(family),
                tunnel(family)
            )
        })
        .concat();
    vec![Step::on(context.node, script)]
}

/// The node's tunnel has a port and a VNI of its own; that of the other nodes is down there.
pub(super) fn other_encapsulation(context: FaultContext<'_>) -> Vec<Step> {
    let (node, family) = (context.node, Family::Ipv4);
    let mut script = format!(
        "ip link set {} down
ip link add {OTHER_TUNNEL} address {} mtu 1450 type vxlan id 4096 dev {UPLINK} dstport 4789 local {} nolearning
ip addr add {}/32 dev {OTHER_TUNNEL}
ip link set {OTHER_TUNNEL} up
",
        tunnel(family),
        node.tunnel_mac(family),
        context.spec.node_address(node, family),
        node.pod_network(family)
    );
    for peer in context.spec.peers_by(Transport::Vxlan, node) {
        let (mac, next_hop) = (peer.tunnel_mac(family), peer.pod_network(family));
        script.extend([format!(
            "bridge fdb replace {mac} dev {OTHER_TUNNEL} dst {}
ip neigh replace {next_hop} lladdr {mac} dev {OTHER_TUNNEL} nud permanent
ip route replace {} via {next_hop} dev {OTHER_TUNNEL} onlink
",
            context.spec.node_address(peer, family),
            peer.pod_cidr(family)
        )]);
    }
    vec![Step::on(node, script)]
}

/// TCP checksums are wrong in the node's tunnels. Checksums that the kernel leaves to a device are completed first: the links
/// of a lab carry them incomplete, and their receivers do not verify them.
pub(super) fn wrong_checksums(context: FaultContext<'_>) -> Vec<Step> {
    let completed = for_both_families(|family| {
        format!(
            "-t mangle -A POSTROUTING -o {} -p tcp -j CHECKSUM --checksum-fill",
            tunnel(family)
        )
    });
    // After the NAT of the packets, whose changes keep a wrong checksum wrong.
    let broken = [Family::Ipv4, Family::Ipv6]
        .map(|family| {
            format!(
                "nft 'add rule inet {FAULT_TABLE} out oifname \"{}\" meta l4proto tcp tcp checksum set tcp checksum ^ 0x5a5a'\n",
                tunnel(family)
            )
        })
        .concat();
    let chain = format!(
        "nft 'add table inet {FAULT_TABLE}; add chain inet {FAULT_TABLE} out {{ type filter hook postrouting priority 300; }}'\n"
    );
    vec![Step::on(context.node, completed + &chain + &broken)]
}
