//! The faults that several data planes can have, and what reports say of them.

use super::{Row, When, row};

/// Both directions, each of which shows what is broken in both.
pub(super) const BETWEEN: &str = "node-1->node-2|node-2->node-1";

/// Where losses may be found.
const ANYWHERE: &str = "node-1|node-1->node-2|node-2->node-1";

/// Filters and translation, where pods' packets pass netfilter and kube-proxy runs.
pub(super) fn netfilter() -> Vec<Row> {
    vec![
        row("forward-drop", "node-1")
            .on_each()
            .is("forward-drop", "node-1"),
        // Of two nodes, what fails from the one to the other may be dropped at either, or between them.
        row("forward-drop-egress", "node-1").is("forward-drop", "node-1|node-1->node-2"),
        row("forward-drop-ingress", "node-1").is("forward-drop", "node-1|node-2->node-1"),
        row("policy-reject-reset", "node-1")
            .on_each()
            .is("reject-reset", "node-1"),
        // One endpoint of two rejects: of the balanced port, a retransmission may get to the other one.
        row("policy-reject-icmp", "node-1")
            .is("network-policy", "node-1")
            .fits("unknown", "node-1"),
        row("reply-bypasses-nat", "node-1")
            .on_each()
            .is("reply-bypasses-nat", "node-1"),
        row("missing-masquerade", "node-1")
            .on_each()
            .is("missing-masquerade", "node-1"),
        // Where probes without an answer were not reported to the end, refused node ports remain, which have no place.
        row("service-rules-missing", "node-1")
            .on_each()
            .is("service-rules-missing", "node-1")
            .fits("unknown", "unknown"),
        row("stale-rules", "node-1")
            .on_each()
            .is("service-rules-missing", "node-1")
            .fits("unknown", "unknown"),
        row("packet-loss", "node-1").is("packet-loss", ANYWHERE),
        row("ip-forward-off", "node-1").is("ip-forward-off", "node-1"),
        row("network-policy", "node-2")
            .when(When::WithThePod("node-2-server"))
            .is("network-policy", "node-2"),
    ]
}

/// The network between the nodes, where pods' packets have their own addresses there.
pub(super) fn wire() -> Vec<Row> {
    vec![
        row("wire-drop-from-pods", "node-1")
            .on_each()
            .is("network-blocked", "node-1->node-2|node-1"),
        row("wire-drop-to-pods", "node-1").is("network-blocked", "node-2->node-1|node-2"),
        row("mtu-black-hole", "node-1").is("mtu-black-hole", BETWEEN),
    ]
}

/// Routes to the pods of other nodes.
pub(super) fn node_routes() -> Vec<Row> {
    vec![
        row("route-missing", "node-1").is("route-missing", "node-1"),
        row("route-missing-v6", "node-1").is("route-missing", "node-1"),
        row("route-missing-return", "node-1").is("route-missing", "node-2"),
        row("route-missing-blackhole", "node-1").is("route-missing", "node-1"),
        row("route-missing-unreachable", "node-1").is("route-missing", "node-1"),
    ]
}

/// Routes whose gateway is the other node.
pub(super) fn next_hops() -> Vec<Row> {
    vec![
        row("next-hop-wrong", "node-1")
            .is("wrong-next-hop|network-blocked", "node-1|node-1->node-2"),
        row("next-hop-unresolved", "node-1")
            .is("wrong-next-hop|network-blocked", "node-1|node-1->node-2"),
    ]
}
