//! flannel's VXLAN between the nodes, and a bridge on each.

use super::{Plane, causes, row};
use crate::harness::{NFTABLES, Shape, USUAL};

/// The usual cluster of two nodes.
const CLUSTER: Shape = Shape { nodes: 2, ..USUAL };

/// The mode nftables, and pods in ranges that are not private.
const OTHER_RANGES: Shape = Shape {
    options: &["--pods", "198.18.0.0/15,2001:db8:244::/56"],
    ..NFTABLES
};

pub(super) fn plane() -> Plane {
    let tunnel = vec![
        row("bridge-netfilter-off", "node-1").is("bridge-netfilter-off", "node-1"),
        row("bridge-netfilter-off-v6", "node-1").is("bridge-netfilter-off", "node-1"),
        row("overlay-blocked-in", "node-1").is("overlay-blocked", "node-1|node-2->node-1"),
        row("overlay-blocked-output", "node-1").is("overlay-blocked", "node-1"),
        row("overlay-device-down", "node-1").is("route-missing", "node-1"),
        row("stale-overlay-neighbour", "node-1").is("stale-overlay-neighbour", "node-1"),
        row("stale-overlay-neighbour-fdb", "node-1").is("stale-overlay-neighbour", "node-1"),
        row("rp-filter", "node-1").is("rp-filter", "node-1"),
        row("mtu-black-hole", "node-1").is("mtu-black-hole", causes::BETWEEN),
        row("asymmetric-route-harmless", "node-1"),
    ];
    Plane {
        name: "flannel-vxlan",
        shapes: &[CLUSTER, OTHER_RANGES],
        rows: [causes::netfilter(), causes::node_routes(), tunnel].concat(),
    }
}
