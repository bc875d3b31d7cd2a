//! flannel's VXLAN between the nodes, and a bridge on each.

use super::{Plane, causes, row};
use crate::harness::{NFTABLES, Shape, USUAL};

pub(super) fn plane() -> Plane {
    let tunnel = vec![
        row("bridge-netfilter-off", "node-1").is("bridge-netfilter-off", "node-1"),
        row("bridge-netfilter-off-v6", "node-1").is("bridge-netfilter-off", "node-1"),
        row("overlay-blocked-in", "node-1").is("overlay-blocked", "node-2->node-1"),
        row("overlay-blocked-output", "node-1").is("overlay-blocked", "node-1"),
        row("overlay-device-down", "node-1").is("route-missing", "node-1"),
        row("stale-overlay-neighbour", "node-1").is("stale-overlay-neighbour", "node-1"),
        row("stale-overlay-neighbour-fdb", "node-1").is("stale-overlay-neighbour", "node-1"),
        row("rp-filter", "node-1").is("rp-filter", "node-1"),
        row("mtu-black-hole", "node-1").is("mtu-black-hole", "node-1"),
        row("asymmetric-route-harmless", "node-1"),
    ];
    Plane {
        name: "flannel-vxlan",
        shapes: &[Shape { nodes: 2, ..USUAL }, NFTABLES],
        rows: [causes::netfilter(), causes::node_routes(), tunnel].concat(),
    }
}
