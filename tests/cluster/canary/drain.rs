//! A node is drained as every node with DaemonSets is, and its agents stay and measure.

use libtest_mimic::{Failed, Trial};

use super::{Canary, NAMESPACE, trial};

pub(super) fn trials() -> Vec<Trial> {
    vec![trial(
        "a node is drained without --force, and its agents go on",
        drains,
    )]
}

fn drains(canary: &Canary) -> Result<(), Failed> {
    let cluster = &canary.cluster;
    canary.check("default", "{interval: 2s}")?;
    canary.measures("default", "3/3")?;
    let agents = || {
        let of_node = "--field-selector=spec.nodeName=node-2";
        let names = [
            "get",
            "pods",
            "-n",
            NAMESPACE,
            of_node,
            "-l",
            "app.kubernetes.io/name=prober-agent",
            "-o",
            "name",
        ];
        cluster.kubectl(&names)
    };
    let before = agents()?;
    // The test pods of other tests declare no controller, as those of earlier versions.
    let theirs = "--pod-selector=app.kubernetes.io/part-of=prober";
    let drained = cluster.kubectl(&[
        "drain",
        "node-2",
        "--ignore-daemonsets",
        theirs,
        "--timeout=60s",
    ]);
    let measured = drained.and_then(|_| {
        canary.scale(2)?;
        canary.measures("default", "3/3")
    });
    cluster.kubectl(&["uncordon", "node-2"])?;
    measured?;
    let after = agents()?;
    if before.lines().count() != 3 || after != before {
        return Err(format!("agents before:\n{before}after:\n{after}").into());
    }
    let events = canary.events()?;
    canary.delete_checks(&["default"])?;
    if events.is_empty() {
        return Ok(());
    }
    Err(format!("events without a failure: {events}").into())
}
