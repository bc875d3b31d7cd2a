//! Load balancing in connect(2), on routed veths with plain routes, and without kube-proxy.

use super::{Plane, When, causes, row};
use crate::harness::{PTP, Proxy, Shape};

const SHAPE: Shape = Shape {
    data_plane: "socket-lb",
    proxy: Proxy::None,
    ..PTP
};

pub(super) fn plane() -> Plane {
    let own = vec![
        row("socket-lb-stopped", "node-1").is("service-rules-missing", "node-1"),
        row("socket-lb-detached", "node-1").is("service-rules-missing", "node-1"),
        row("forward-drop", "node-1").is("forward-drop", "node-1"),
        row("forward-drop-egress", "node-1").is("forward-drop", "node-1|node-1->node-2"),
        row("policy-reject-reset", "node-1").is("reject-reset", "node-1"),
        row("packet-loss", "node-1")
            .is("packet-loss", "node-1")
            .fits("mtu-black-hole", "node-1|node-1->node-1"),
        row("pod-route-missing", "node-2")
            .when(When::WithThePod("node-2-server"))
            .is("pod-route-missing", "node-2"),
    ];
    Plane {
        name: "socket-lb",
        shapes: &[SHAPE],
        rows: [own, causes::wire(), causes::node_routes()].concat(),
    }
}
