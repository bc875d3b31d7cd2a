//! Routed veths without a bridge, and plain routes between the nodes: the shape of kind.

use super::{Plane, When, causes, row};
use crate::harness::{PTP, Proxy, Shape};

/// Both modes of kube-proxy in one cluster, IPv6 first, and pods in ranges that are not private.
const MIXED: Shape = Shape {
    proxy: Proxy::Mixed,
    families: "64",
    options: &["--pods", "100.64.0.0/16,2001:db8:244::/56"],
    ..PTP
};

/// The mode nftables, and a second bridge on each node with a container on it.
const NFTABLES: Shape = Shape {
    proxy: Proxy::Nftables,
    options: &["--docker0"],
    ..PTP
};

pub(super) fn plane() -> Plane {
    let routed = vec![
        row("pod-route-missing", "node-2")
            .when(When::WithThePod("node-2-server"))
            .is("pod-route-missing", "node-2"),
    ];
    Plane {
        name: "ptp-host-gw",
        shapes: &[PTP, NFTABLES, MIXED],
        rows: [
            routed,
            causes::netfilter(),
            causes::node_routes(),
            causes::next_hops(),
            causes::wire(),
        ]
        .concat(),
    }
}
