//! Cilium: with its tunnel, with routes, beside kube-proxy, and with translation at connect() for the nodes alone.

use super::{Plane, Row, When, causes, row};
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

pub(super) fn planes() -> Vec<Plane> {
    let plane = |shapes: &'static [Shape; 1], rows: &[Vec<Row>]| {
        let [shape] = shapes;
        Plane {
            name: shape.data_plane,
            shapes,
            rows: [policies_and_pods(), rows.concat()].concat(),
        }
    };
    vec![
        plane(&[TUNNEL], &[tunnel(), services()]),
        plane(
            &[NATIVE],
            &[
                causes::node_routes(),
                causes::next_hops(),
                causes::wire(),
                services(),
            ],
        ),
        plane(&[BESIDE_KUBE_PROXY], &[tunnel(), kube_proxy()]),
        plane(&[FOR_HOSTS_ALONE], &[tunnel(), services()]),
    ]
}

fn policies_and_pods() -> Vec<Row> {
    let policy = |fault| {
        // Without the policies that the API has, a silent host is not known to be blocked by them.
        row(fault, "node-1")
            .when(When::BeforeTheRun("default"))
            .is("network-policy", "node-1|namespace")
            .is("network-policy", "node-2|namespace")
            .fits("unknown", "unknown")
    };
    let pod = |fault, cause| {
        row(fault, "node-2")
            .when(When::WithThePod("node-2-server"))
            .is(cause, "node-2")
    };
    vec![
        row("cilium-forward-drop-harmless", "node-1"),
        policy("cilium-policy-default-deny"),
        policy("cilium-policy-ingress"),
        policy("cilium-policy-egress"),
        policy("cilium-clusterwide-policy"),
        pod("endpoint-frozen", "endpoint-frozen"),
        pod("pod-veth-down", "stale-endpoint"),
    ]
}

fn tunnel() -> Vec<Row> {
    vec![
        row("cilium-tunnel-blocked", "node-1").is("overlay-blocked", "node-2|node-1->node-2"),
        row("cilium-tunnel-blocked-in", "node-1").is("overlay-blocked", "node-1|node-2->node-1"),
        row("cilium-tunnel-mtu", "node-1").is("mtu-black-hole", "node-1->node-2|node-2->node-1"),
    ]
}

/// Its own maps of the Services.
fn services() -> Vec<Row> {
    vec![row("cilium-services-lost", "node-1").is("service-rules-missing", "node-1")]
}

/// Services of kube-proxy: those that nodes connect to, and node ports.
fn kube_proxy() -> Vec<Row> {
    vec![
        row("stale-rules", "node-1")
            .is("service-rules-missing", "node-1")
            .fits("unknown", "unknown"),
    ]
}
