//! Nodes that leave, return, or return broken; checks that pause, run at the same time, and replace their agents.

use std::time::{Duration, Instant};

use libtest_mimic::{Failed, Trial};

use super::controllers::Controller;
use super::{Canary, trial};
use crate::harness::wait_until;

pub(super) fn trials() -> Vec<Trial> {
    vec![
        trial(
            "a node that leaves is no outage, and one that joins is probed at once",
            leave_and_join,
        ),
        trial(
            "a node that boots without its sysctl is reported at once",
            boots_broken,
        ),
        trial(
            "a paused check probes nothing, and goes on where it was",
            paused,
        ),
        trial("two checks at once leave each other alone", two_checks),
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
    canary
        .is_healthy("default")
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

/// The number of established handshakes of clients on a node so far.
fn established_from(controller: &Controller<'_>, node: &str) -> Result<u64, Failed> {
    let metrics = controller.metrics()?;
    let node = format!("k8s_node_name=\"{node}\"");
    let counts = metrics.lines().filter(|line| {
        line.starts_with("prober_handshakes_total{")
            && line.contains(&node)
            && line.contains("prober_outcome=\"established\"")
    });
    Ok(counts
        .filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
        .sum())
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
        wait_until("all pairs are covered", || {
            Ok(canary.field("{.status.coverage.share}")? == "9/9")
        })?;
        cluster.kubectl(&["cordon", "node-3"])?;
        wait_until("it is skipped", || {
            let skipped = canary.field("{.status.skippedNodes[*].node}")?;
            Ok(skipped == "node-3" && canary.field("{.status.coverage.share}")? == "4/4")
        })?;
        println!(
            "skipped: {}",
            canary.field("{.status.skippedNodes[*].reason}")?
        );
        cluster.kubectl(&["delete", "node", "node-3"])?;
        cluster.node(&["stop", "node-3"])?;
        wait_until("nothing is left of it", || {
            Ok(canary
                .field("{.status.skippedNodes}")?
                .trim_matches(['[', ']'])
                .is_empty())
        })?;
        no_event_was_reported(canary)?;

        let before = established_from(controller, "node-3")?;
        let boot = canary.now()?;
        cluster.node(&["boot", "node-3"])?;
        is_ready(canary, "node-3", &boot)?;
        let ready = Instant::now();
        wait_until("its verdict is exported", || {
            Ok(established_from(controller, "node-3")? > before)
        })?;
        prompt("verdict on /metrics", ready);
        wait_until("all pairs are covered", || {
            Ok(canary.field("{.status.coverage.share}")? == "9/9")
        })?;
        canary.is_healthy("default")?;
        no_event_was_reported(canary)
    })
}

fn boots_broken(canary: &Canary) -> Result<(), Failed> {
    with_controller(canary, |controller| {
        let cluster = &canary.cluster;
        cluster.node(&["stop", "node-2"])?;
        let boot = canary.now()?;
        cluster.node(&["boot", "node-2", "--without-bridge-netfilter"])?;
        is_ready(canary, "node-2", &boot)?;
        let ready = Instant::now();
        let cause = "prober_handshakes_total{k8s_node_name=\"node-2\",prober_outcome=\"mismatched\",prober_cause=\"bridge-netfilter-off\"}";
        wait_until("its cause is exported", || {
            Ok(controller.metrics()?.contains(cause))
        })?;
        prompt("cause on /metrics", ready);
        wait_until("its verdict is reported", || {
            let failing =
                canary.field("{range .status.failing[*]}{.node} {.cause}{\"\\n\"}{end}")?;
            Ok(failing.trim() == "node-2 bridge-netfilter-off")
        })?;
        prompt("status", ready);
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

fn paused(canary: &Canary) -> Result<(), Failed> {
    with_controller(canary, |_| {
        let covered = canary.field("{.status.coverage.share}")?;
        canary.check("default", "{interval: 2s, paused: true}")?;
        canary.wait_for(
            "default",
            "it says that it is paused",
            &[("Ready", "False"), ("Healthy", "Unknown")],
        )?;
        let reason = canary.field("{.status.conditions[?(@.type==\"Ready\")].reason}")?;
        if reason != "Paused" {
            return Err(format!("it is not ready since {reason}; covered were {covered}").into());
        }
        canary.has_no_agents_of("default")?;
        canary.check("default", SPEC)?;
        canary.is_healthy("default")?;
        no_event_was_reported(canary)
    })
}

fn two_checks(canary: &Canary) -> Result<(), Failed> {
    with_controller(canary, |_| {
        canary.check(
            "other",
            "{interval: 2s, nodeSelector: {kubernetes.io/hostname: node-1}, accessPaths: [cluster-ip]}",
        )?;
        canary.is_healthy("other")?;
        let share = canary.field_of("other", "{.status.coverage.share}")?;
        if share != "1/1" {
            return Err(format!("it covers {share}").into());
        }
        let before = canary.runs("default")?;
        let fault = (canary.cluster).inject("bridge-netfilter-off", "node-1", "")?;
        for check in ["default", "other"] {
            canary.wait_for(check, "each reports the fault", &[("Healthy", "False")])?;
        }
        fault.heal()?;
        for check in ["default", "other"] {
            canary.is_healthy(check)?;
        }
        canary.delete_checks(&["other"])?;
        if canary.runs("default")? != before {
            return Err("the agents of the first were touched".into());
        }
        canary.is_healthy("default")
    })
}

fn replaced(canary: &Canary) -> Result<(), Failed> {
    with_controller(canary, |_| {
        canary.check("default", "{interval: 2s, agentLifetime: 1m}")?;
        let mut known = canary.runs("default")?;
        for _ in 0..2 {
            wait_until("they are replaced", || {
                let now = canary.runs("default")?;
                if now.is_empty() {
                    return Err("no agent probes".into());
                }
                let is_new = now.len() == 1 && now != known;
                if is_new {
                    known = now;
                }
                Ok(is_new)
            })?;
        }
        canary.is_healthy("default")?;
        no_event_was_reported(canary)
    })
}
