//! Faults of the tunnel between the nodes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use prober_core::packet::family::Family;
use prober_core::packet::mac::Mac;

use super::filter::both;
use super::{Site, Step};
use crate::topology::script::tunnel;

const VXLAN: &str = "-p udp --dport 8472";

/// The node takes no VXLAN packets.
pub(super) fn blocked_in(site: Site<'_>) -> Vec<Step> {
    vec![Step::on(
        site.node,
        both(|_| format!("-I INPUT 1 {VXLAN} -j DROP")),
    )]
}

/// The others take none of the node's.
pub(super) fn blocked_out(site: Site<'_>) -> Vec<Step> {
    let script = both(|family| {
        format!(
            "-I INPUT 1 {VXLAN} -s {} -j DROP",
            site.node.underlay(family)
        )
    });
    site.spec
        .peers(site.node)
        .map(|peer| Step::on(peer, script.clone()))
        .collect()
}

/// The node sends none.
pub(super) fn blocked_output(site: Site<'_>) -> Vec<Step> {
    vec![Step::on(
        site.node,
        both(|_| format!("-I OUTPUT 1 {VXLAN} -j DROP")),
    )]
}

/// Packets reach the next node with a hardware address that is not its.
pub(super) fn wrong_mac(site: Site<'_>) -> Vec<Step> {
    let peer = site.node.next_of(site.spec);
    let wrong = Mac([0x0e, 0, 0, 0, 0xff, peer.number()]);
    let script = [Family::Ipv4, Family::Ipv6]
        .map(|family| {
            let device = tunnel(family);
            format!(
                "ip neigh replace {} lladdr {wrong} dev {device} nud permanent\nbridge fdb replace {wrong} dev {device} dst {}\n",
                peer.pod_network(family),
                peer.underlay(family)
            )
        })
        .concat();
    vec![Step::on(site.node, script)]
}

/// Packets for the next node go to an underlay address that is nobody's.
pub(super) fn wrong_host(site: Site<'_>) -> Vec<Step> {
    let peer = site.node.next_of(site.spec);
    let script = [Family::Ipv4, Family::Ipv6]
        .map(|family| {
            let nobody: IpAddr = match family {
                Family::Ipv4 => Ipv4Addr::new(172, 20, 0, 250).into(),
                Family::Ipv6 => Ipv6Addr::new(0xfd00, 0x172, 0, 0, 0, 0, 0, 250).into(),
            };
            format!(
                "bridge fdb replace {} dev {} dst {nobody}\n",
                peer.tunnel_mac(family),
                tunnel(family)
            )
        })
        .concat();
    vec![Step::on(site.node, script)]
}
