//! kube-router's routes, which nodes announce to each other by BGP, and a bridge on each; with its firewall or without.

use super::{Plane, When, causes, row};
use crate::harness::{Policies, Shape, USUAL};

/// Its routing alone, beside a bridge of Docker.
const ROUTING: Shape = Shape {
    data_plane: "kube-router",
    nodes: 2,
    options: &["--docker0"],
    ..USUAL
};

/// Its routing and its firewall.
const FIREWALL: Shape = Shape {
    policies: Policies::Enforced,
    options: &[],
    ..ROUTING
};

pub(super) fn plane() -> Plane {
    let own = vec![
        row("bridge-netfilter-off", "node-1").is("bridge-netfilter-off", "node-1"),
        row("bgp-session-down", "node-1").is("route-missing", "node-2"),
    ];
    let policies = vec![
        row("policy-denies-namespace", "node-1")
            .when(When::BeforeTheRun("default"))
            .is("network-policy", "namespace")
            .needs_policies(),
    ];
    Plane {
        name: "kube-router",
        shapes: &[ROUTING, FIREWALL],
        rows: [
            own,
            causes::netfilter(),
            causes::node_routes(),
            causes::next_hops(),
            causes::wire(),
            policies,
        ]
        .concat(),
    }
}
