//! The AWS VPC CNI, whose pods have addresses of two network interfaces of each node; IPv4 alone.

use super::{Plane, When, causes, row};
use crate::harness::{Proxy, Shape, USUAL};

const IPTABLES: Shape = Shape {
    data_plane: "aws-vpc",
    nodes: 2,
    families: "4",
    ..USUAL
};

const NFTABLES: Shape = Shape {
    proxy: Proxy::Nftables,
    ..IPTABLES
};

pub(super) fn plane() -> Plane {
    let own = vec![
        row("eni-down", "node-1")
            .on_each()
            .is("route-missing", "node-1"),
        row("wrong-table", "node-1").is("route-missing", "node-1"),
        // Without a second client that gets through, a second server alone does not show that it is one pod.
        row("from-pod-rule-missing", "node-1")
            .is("network-blocked", "node-1|node-1->node-2")
            .fits("unknown", "node-2"),
        row("snat-of-everything", "node-1").is("network-blocked", "node-1"),
        row("source-destination-check", "node-1").is("network-blocked", "node-1"),
        row("security-group", "node-1")
            .on_each()
            .is("network-blocked", "node-2->node-1"),
        row("pod-route-missing", "node-2")
            .when(When::WithThePod("node-2-server"))
            .is("pod-route-missing", "node-2"),
    ];
    Plane {
        name: "aws-vpc",
        shapes: &[IPTABLES, NFTABLES],
        rows: [own, causes::netfilter(), causes::wire()].concat(),
    }
}
