//! Faults on a real Kubernetes: the report names each cause on its node, and no other.

use std::sync::Arc;

use libtest_mimic::{Failed, Trial};

use crate::harness::{Cluster, NFTABLES, USUAL, on};
use crate::prober::{self, nothing_left};

/// A fault of the test cluster, and the diagnosis that the report must have.
struct Row {
    fault: &'static str,
    node: &'static str,
    cause: &'static str,
    /// The node of the diagnosis; empty for a cause between nodes.
    diagnosed_node: &'static str,
}

const fn row(
    fault: &'static str,
    node: &'static str,
    cause: &'static str,
    diagnosed_node: &'static str,
) -> Row {
    Row {
        fault,
        node,
        cause,
        diagnosed_node,
    }
}

/// Faults that stay in effect while a run creates its pods and Services.
const ROWS: &[Row] = &[
    row(
        "bridge-netfilter-off",
        "node-1",
        "bridge-netfilter-off",
        "node-1",
    ),
    row(
        "bridge-netfilter-off-v6",
        "node-2",
        "bridge-netfilter-off",
        "node-2",
    ),
    row("forward-drop", "node-1", "forward-drop", "node-1"),
    row("forward-drop-egress", "node-1", "forward-drop", "node-1"),
    row("forward-drop-ingress", "node-2", "forward-drop", "node-2"),
    row("forward-drop-replies", "node-1", "forward-drop", "node-1"),
    row(
        "reply-bypasses-nat",
        "node-1",
        "reply-bypasses-nat",
        "node-1",
    ),
    row("packet-loss", "node-1", "packet-loss", ""),
    row("overlay-blocked-in", "node-1", "overlay-blocked", ""),
    row(
        "overlay-blocked-output",
        "node-1",
        "overlay-blocked",
        "node-1",
    ),
    row("overlay-device-down", "node-1", "route-missing", "node-1"),
    row(
        "stale-overlay-neighbour",
        "node-1",
        "stale-overlay-neighbour",
        "node-1",
    ),
    row(
        "stale-overlay-neighbour-fdb",
        "node-1",
        "stale-overlay-neighbour",
        "node-1",
    ),
    row("route-missing", "node-1", "route-missing", "node-1"),
    row(
        "route-missing-unreachable",
        "node-1",
        "route-missing",
        "node-1",
    ),
    row(
        "route-missing-blackhole",
        "node-1",
        "route-missing",
        "node-1",
    ),
    row("rp-filter", "node-1", "rp-filter", "node-1"),
    row("mtu-black-hole", "node-1", "mtu-black-hole", ""),
    row(
        "service-rules-missing",
        "node-1",
        "service-rules-missing",
        "node-1",
    ),
];

/// Changes that resemble a fault and break nothing.
const HARMLESS: &[(&str, &str)] = &[
    ("forward-policy-drop-harmless", "node-1"),
    ("asymmetric-route-harmless", "node-1"),
];

pub(crate) fn trials() -> Vec<Trial> {
    let mut trials: Vec<Trial> = ROWS
        .iter()
        .map(|row| {
            let name = format!("{} on {} is named", row.fault, row.node);
            on(USUAL, name, |cluster| named(cluster, row))
        })
        .collect();
    trials.extend(HARMLESS.iter().map(|(fault, node)| {
        on(
            USUAL,
            format!("{fault} on {node} has no diagnosis"),
            |cluster| {
                let broken = cluster.inject(fault, node, "")?;
                let report = prober::report(cluster, &["--all"])?;
                broken.heal()?;
                report.names(&[])
            },
        )
    }));
    trials.push(on(
        USUAL,
        "two simultaneous faults are both named",
        two_at_once,
    ));
    trials.push(on(
        NFTABLES,
        "missing rules of Services are named",
        |cluster| {
            named(
                cluster,
                &row(
                    "service-rules-missing",
                    "node-1",
                    "service-rules-missing",
                    "node-1",
                ),
            )
        },
    ));
    trials
}

fn named(cluster: &Arc<Cluster>, row: &Row) -> Result<(), Failed> {
    let broken = cluster.inject(row.fault, row.node, "")?;
    let report = prober::report(cluster, &["--all"])?;
    broken.heal()?;
    report.names(&[(row.cause, row.diagnosed_node)])?;
    nothing_left(cluster)
}

fn two_at_once(cluster: &Arc<Cluster>) -> Result<(), Failed> {
    let bridge = cluster.inject("bridge-netfilter-off", "node-1", "")?;
    let route = cluster.inject("route-missing-unreachable", "node-2", "")?;
    let report = prober::report(cluster, &["--all"])?;
    route.heal()?;
    bridge.heal()?;
    report.names(&[
        ("bridge-netfilter-off", "node-1"),
        ("route-missing", "node-2"),
    ])
}
