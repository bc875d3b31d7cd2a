//! flannel's plain routes between the nodes, and a bridge on each.

use super::{Plane, causes, row};
use crate::harness::{Shape, USUAL};

/// The usual cluster.
const CLUSTER: Shape = Shape {
    data_plane: "flannel-host-gw",
    nodes: 2,
    ..USUAL
};

pub(super) fn plane() -> Plane {
    let bridge = vec![row("bridge-netfilter-off", "node-1").is("bridge-netfilter-off", "node-1")];
    Plane {
        name: "flannel-host-gw",
        shapes: &[CLUSTER],
        rows: [
            bridge,
            causes::netfilter(),
            causes::node_routes(),
            causes::next_hops(),
            causes::wire(),
        ]
        .concat(),
    }
}
