//! Cilium: with its tunnel, with routes, beside kube-proxy, and with translation at connect() for the nodes alone.

use super::{Plane, When, row};
use crate::harness::{Proxy, Shape, USUAL};

/// It replaces kube-proxy, and translates at connect().
const TUNNEL: Shape = Shape {
    data_plane: "cilium",
    nodes: 2,
    proxy: Proxy::None,
    ..USUAL
};

const NATIVE: Shape = Shape {
    data_plane: "cilium-native",
    ..TUNNEL
};

const BESIDE_KUBE_PROXY: Shape = Shape {
    data_plane: "cilium-kube-proxy",
    proxy: Proxy::Iptables,
    ..TUNNEL
};

const FOR_HOSTS_ALONE: Shape = Shape {
    data_plane: "cilium-hostns",
    ..TUNNEL
};

pub(super) fn plane() -> Plane {
    let policy = |fault| {
        // Without the policies that the API has, a silent host is not known to be blocked by them.
        row(fault, "node-1")
            .when(When::BeforeTheRun("default"))
            .is("network-policy", "node-1|namespace")
            .is("network-policy", "node-2|namespace")
            .fits("unknown", "unknown")
            .on_each()
    };
    Plane {
        name: "cilium",
        shapes: &[TUNNEL, NATIVE, BESIDE_KUBE_PROXY, FOR_HOSTS_ALONE],
        rows: vec![
            row("cilium-forward-drop-harmless", "node-1").on_each(),
            row("cilium-tunnel-blocked", "node-1").is("overlay-blocked", "node-2|node-1->node-2"),
            row("cilium-tunnel-blocked-in", "node-1")
                .is("overlay-blocked", "node-1|node-2->node-1"),
            row("cilium-tunnel-mtu", "node-1")
                .is("mtu-black-hole", "node-1->node-2|node-2->node-1"),
            policy("cilium-policy-default-deny"),
            policy("cilium-policy-ingress"),
            policy("cilium-policy-egress"),
            policy("cilium-clusterwide-policy"),
        ],
    }
}
