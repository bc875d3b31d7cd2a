//! A canary of very many nodes stays within its budget, and reports no failure for agents that have no results. The
//! nodes and their agents are fake.

use std::collections::{BTreeMap, BTreeSet};
use std::process::id;
use std::sync::Arc;
use std::time::Instant;

use libtest_mimic::{Failed, Trial};

use super::Canary;
use crate::harness::{Cluster, NFTABLES, Shape, wait_until};

/// The number of nodes, unless this variable is set.
const NODES: u16 = 1_000;
const VARIABLE: &str = "PROBER_FAKE_NODES";

/// The most nodes with agents at a time; twice as many while agents are replaced.
const MAX_NODES: usize = 64;

/// The most memory of a controller, MiB, at five thousand nodes.
const MEMORY: u64 = 150;

pub(super) fn trials() -> Vec<Trial> {
    vec![Trial::test(
        "canary: a canary of a thousand nodes stays within its budget",
        very_many,
    )]
}

fn very_many() -> Result<(), Failed> {
    let fake_nodes = match std::env::var(VARIABLE) {
        Ok(number) => number.parse()?,
        Err(_) => NODES,
    };
    let shape = Shape {
        fake_nodes,
        ..NFTABLES
    };
    let cluster = Arc::new(Cluster::start(format!("test-scale-{}", id()), shape)?);
    let canary = Canary::install(&cluster)?;
    canary.scale(0)?;
    canary.check(
        "default",
        "{interval: 10s, nodeFacts: Never, nodeSelector: {prober.dev/test: fake}, tolerations: [{operator: Exists}]}",
    )?;
    let mut controller = canary.plain("scale")?;
    let start = Instant::now();
    // By run, the nodes that agents were placed on.
    let mut agent_sets: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    wait_until("agents are on other nodes than at first", || {
        let agents = canary.agents_by_node()?;
        let now: BTreeSet<&String> = agents.iter().map(|(node, _)| node).collect();
        if now.len() > 2 * MAX_NODES {
            return Err(format!("agents are on {} nodes", now.len()).into());
        }
        for (node, run) in agents {
            agent_sets.entry(run).or_default().insert(node);
        }
        let mut pairs = (agent_sets.values())
            .flat_map(|one| agent_sets.values().map(move |other| (one, other)));
        Ok(pairs.any(|(one, other)| one.is_disjoint(other)))
    })
    .map_err(|failed| controller.explained(&failed))?;
    let minutes = start.elapsed().as_secs_f64() / 60.0;
    let requests = controller.requests()?.len();
    let memory = controller.memory()?;
    println!(
        "{fake_nodes} nodes: {:.0} requests a minute, {memory} MiB",
        f64::from(u32::try_from(requests)?) / minutes
    );
    if memory > MEMORY {
        return Err(format!("it occupies {memory} MiB of {MEMORY}").into());
    }
    let total = canary.field("{.status.coverage.total}")?;
    println!("pairs of nodes in all: {total}");
    let failing = canary.field("{.status.failing[*].cause}")?;
    let events = canary.events()?;
    if !failing.is_empty() || !events.is_empty() {
        return Err(format!("silence is reported as {failing} {events}").into());
    }
    controller.end()?;
    wait_until("no agent is left", || {
        Ok(canary.agents_by_node()?.is_empty())
    })
}

impl Canary {
    /// The nodes with agents, each with the run of its agent.
    fn agents_by_node(&self) -> Result<Vec<(String, String)>, Failed> {
        let pods = self.cluster.kubectl(&[
            "get",
            "pods",
            "-A",
            "-l",
            "app.kubernetes.io/name=prober-agent",
            "-o",
            "jsonpath={range .items[*]}{.spec.nodeName} {.metadata.labels.prober\\.dev/run}{\"\\n\"}{end}",
        ])?;
        let pods = pods.lines().filter_map(|line| line.split_once(' '));
        let placed = pods.filter(|(node, _)| !node.is_empty());
        Ok(placed
            .map(|(node, run)| (node.to_owned(), run.to_owned()))
            .collect())
    }
}
