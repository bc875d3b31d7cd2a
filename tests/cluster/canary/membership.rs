//! Nodes that leave, return, or return broken; checks that pause or select the same nodes; and agents that are replaced.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use libtest_mimic::{Failed, Trial};

use super::controllers::Controller;
use super::{Canary, NAMESPACE, trial};
use crate::harness::wait_until;

pub(super) fn trials() -> Vec<Trial> {
    vec![
        trial(
            "a node that leaves is no outage, and one that joins is measured soon",
            leave_and_join,
        ),
        trial(
            "of all nodes that reboot only the one without its sysctl is reported, and soon",
            rolling_reboot,
        ),
        trial("a paused check probes nothing, and goes on", paused),
        trial(
            "a node that two checks select belongs to the first of them",
            two_checks,
        ),
        trial(
            "agents are replaced at the end of their time, and nothing fails",
            replaced,
        ),
    ]
}

const SPEC: &str = "{interval: 2s}";

/// Runs a test with one controller beside the cluster, and a check.
fn with_controller(
    canary: &Canary,
    test: impl FnOnce(&Controller<'_>) -> Result<(), Failed>,
) -> Result<(), Failed> {
    canary.scale(0)?;
    canary.check("default", SPEC)?;
    let mut controller = canary.plain("single")?;
    (canary.measures("default", "3/3"))
        .and_then(|()| test(&controller))
        .map_err(|failed| controller.explained(&failed))?;
    controller.end()?;
    Ok(())
}

fn no_event_was_reported(canary: &Canary) -> Result<(), Failed> {
    let events = canary.events()?;
    if events.is_empty() {
        return Ok(());
    }
    Err(format!("unexpected events: {events}").into())
}

/// Waits until a node has become Ready after `since`: an older condition may be outdated.
fn is_ready(canary: &Canary, node: &str, since: &str) -> Result<(), Failed> {
    wait_until(&format!("{node} is Ready"), || {
        let message = canary.cluster.readiness(node)?;
        Ok(message
            .split_once(' ')
            .is_some_and(|(is_ready, at)| is_ready == "True" && at > since))
    })
}

/// How long a verdict may take after a node is Ready.
const PROMPT: Duration = Duration::from_secs(15);

fn prompt(what: &str, ready: Instant) {
    let after = ready.elapsed();
    let word = if after <= PROMPT { "within" } else { "BEYOND" };
    println!("node Ready to {what}: {after:.1?} ({word} 15 s)");
}

fn leave_and_join(canary: &Canary) -> Result<(), Failed> {
    with_controller(canary, |controller| {
        let cluster = &canary.cluster;
        cluster.kubectl(&["cordon", "node-3"])?;
        cluster.kubectl(&["delete", "node", "node-3"])?;
        cluster.node(&["stop", "node-3"])?;
        canary.measures("default", "2/2")?;
        no_event_was_reported(canary)?;
        let boot = canary.now()?;
        cluster.node(&["boot", "node-3"])?;
        is_ready(canary, "node-3", &boot)?;
        let ready = Instant::now();
        let healthy = "prober_node_healthy{k8s_node_name=\"node-3\"} 1";
        wait_until("its verdict is exported", || {
            Ok(controller.metrics()?.contains(healthy))
        })?;
        prompt("verdict on /metrics", ready);
        canary.measures("default", "3/3")?;
        no_event_was_reported(canary)
    })
}

fn rolling_reboot(canary: &Canary) -> Result<(), Failed> {
    with_controller(canary, |controller| {
        let cluster = &canary.cluster;
        for node in ["node-1", "node-2", "node-3"] {
            let is_broken = node == "node-2";
            cluster.node(&["stop", node])?;
            let boot = canary.now()?;
            let option: &[&str] = if is_broken {
                &["--without-bridge-netfilter"]
            } else {
                &[]
            };
            cluster.node(&[&["boot", node], option].concat())?;
            is_ready(canary, node, &boot)?;
            if !is_broken {
                wait_until("every other node works", || {
                    let works = format!("prober_node_healthy{{k8s_node_name=\"{node}\"}} 1");
                    Ok(controller.metrics()?.contains(&works))
                })?;
                continue;
            }
            let ready = Instant::now();
            let cause = "prober_cause=\"bridge-netfilter-off\"}";
            wait_until("its cause is exported", || {
                let metrics = controller.metrics()?;
                let mut lines = metrics.lines();
                Ok(lines.any(|line| line.contains(node) && line.contains(cause)))
            })?;
            prompt("cause on /metrics", ready);
            is_reported_alone(canary)?;
            prompt("status", ready);
        }
        is_reported_alone(canary)?;
        let events = canary.events()?;
        let foreign = events
            .lines()
            .filter(|line| line.starts_with("Node ") && !line.starts_with("Node node-2 "));
        if let Some(event) = foreign.clone().next() {
            return Err(format!("an event about another node: {event}").into());
        }
        cluster.on_node(
            "node-2",
            &[
                "sysctl",
                "-qw",
                "net.bridge.bridge-nf-call-iptables=1",
                "net.bridge.bridge-nf-call-ip6tables=1",
            ],
        )?;
        canary.is_healthy("default")
    })
}

fn is_reported_alone(canary: &Canary) -> Result<(), Failed> {
    wait_until("its verdict is reported, and no other", || {
        let failing = canary.field("{range .status.failing[*]}{.node} {.cause}{\"\\n\"}{end}")?;
        Ok(failing.trim() == "node-2 bridge-netfilter-off")
    })
}

fn paused(canary: &Canary) -> Result<(), Failed> {
    with_controller(canary, |_| {
        canary.check("default", "{interval: 2s, paused: true}")?;
        canary.wait_for(
            "default",
            "it says that it is paused",
            &[("Ready", "False"), ("Healthy", "Unknown")],
        )?;
        let reason = canary.field("{.status.conditions[?(@.type==\"Ready\")].reason}")?;
        if reason != "Paused" {
            return Err(format!("it is not ready since {reason}").into());
        }
        wait_until("agents may not probe", || {
            Ok(canary.standing_plan()?.contains("\"paused\":true"))
        })?;
        canary.check("default", SPEC)?;
        canary.measures("default", "3/3")?;
        no_event_was_reported(canary)
    })
}

fn two_checks(canary: &Canary) -> Result<(), Failed> {
    with_controller(canary, |_| {
        canary.check(
            "other",
            "{interval: 2s, nodeSelector: {kubernetes.io/hostname: node-1}, accessPaths: [cluster-ip]}",
        )?;
        wait_until("the second says which check the node belongs to", || {
            let reason = canary.field_of("other", "{.status.skippedNodes[0].reason}")?;
            Ok(reason.contains("the ConnectivityCheck default selects it as well"))
        })?;
        let fault = (canary.cluster).inject("bridge-netfilter-off", "node-1", "")?;
        canary.wait_for("default", "the first reports it", &[("Healthy", "False")])?;
        canary.wait_for(
            "other",
            "the second measures nothing",
            &[("Healthy", "Unknown")],
        )?;
        fault.heal()?;
        canary.is_healthy("default")?;
        canary.delete_checks(&["other"])?;
        canary.is_healthy("default")
    })
}

fn replaced(canary: &Canary) -> Result<(), Failed> {
    with_controller(canary, |_| {
        canary.check("default", "{interval: 2s, agentLifetime: 1m}")?;
        let before = canary.clients()?;
        wait_until("every client is another", || {
            Ok(canary.clients()?.is_disjoint(&before))
        })?;
        canary.measures("default", "3/3")?;
        no_event_was_reported(canary)
    })
}

impl Canary {
    /// The names of the clients' pods.
    fn clients(&self) -> Result<BTreeSet<String>, Failed> {
        let pods = self.cluster.kubectl(&[
            "get",
            "pods",
            "-n",
            NAMESPACE,
            "-l",
            "app.kubernetes.io/component=client",
            "-o",
            "name",
        ])?;
        Ok(pods.lines().map(str::to_owned).collect())
    }

    /// The standing plan as it is written.
    pub(super) fn standing_plan(&self) -> Result<String, Failed> {
        let path = r"jsonpath={.data.plan\.json}";
        let map = "configmap/prober-standing-plan";
        (self.cluster).kubectl(&["get", map, "-n", NAMESPACE, "-o", path])
    }
}
