//! A canary of very many nodes stays within its budget, and reports none of those that leave. The nodes and their agents
//! are fake, except for a few.

use std::process::id;
use std::sync::Arc;
use std::thread::sleep;
use std::time::Duration;

use libtest_mimic::{Failed, Trial};

use super::Canary;
use super::controllers::Controller;
use crate::harness::{Cluster, NFTABLES, Shape};

/// The number of nodes, unless this variable is set.
const NODES: u16 = 1_000;
const VARIABLE: &str = "PROBER_FAKE_NODES";

/// The most memory of a controller, MiB, at five thousand nodes.
const MEMORY: u64 = 150;

/// The most requests of a minute while nothing fails.
const BUDGET: usize = 100;

pub(super) fn trials() -> Vec<Trial> {
    vec![Trial::test(
        "canary: a canary of a thousand nodes stays within its budget, also while they leave",
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
    canary.check("default", "{interval: 10s, agentLifetime: 168h}")?;
    let mut controller = canary.plain("scale")?;
    let all = usize::from(fake_nodes) + usize::from(shape.nodes);
    patiently(|| canary.measures("default", &format!("{all}/{all}")))
        .map_err(|failed| controller.explained(&failed))?;
    let begin = canary.now()?;
    sleep(Duration::from_mins(1));
    let requests = requests_since(&controller, &begin)?;
    let memory = controller.memory()?;
    println!("{all} nodes: {requests} requests in a minute, {memory} MiB");
    if requests > BUDGET {
        return Err(format!("{requests} requests in a minute of {BUDGET}").into());
    }
    if memory > MEMORY {
        return Err(format!("it occupies {memory} MiB of {MEMORY}").into());
    }
    let begin = canary.now()?;
    let fakes = [
        "delete",
        "nodes",
        "-l",
        "prober.dev/test=fake",
        "--wait=false",
    ];
    cluster.kubectl(&fakes)?;
    let left = usize::from(shape.nodes);
    patiently(|| canary.measures("default", &format!("{left}/{left}")))
        .map_err(|failed| controller.explained(&failed))?;
    println!(
        "{fake_nodes} nodes left: {} requests meanwhile, {} MiB",
        requests_since(&controller, &begin)?,
        controller.memory()?
    );
    let metrics = controller.metrics()?;
    for line in metrics
        .lines()
        .filter(|line| line.starts_with("prober_evaluation_duration"))
    {
        println!("{line}");
    }
    let failing = canary.field("{.status.failing[*].cause}")?;
    let events = canary.events()?;
    if !failing.is_empty() || !events.is_empty() {
        return Err(format!("nodes that leave are reported as {failing} {events}").into());
    }
    controller.end()?;
    Ok(())
}

/// Tries three times: thousands of fake pods take longer than one patience.
fn patiently(mut condition: impl FnMut() -> Result<(), Failed>) -> Result<(), Failed> {
    condition()
        .or_else(|_| condition())
        .or_else(|_| condition())
}

/// The number of requests of a controller since then.
fn requests_since(controller: &Controller<'_>, begin: &str) -> Result<usize, Failed> {
    let requests = controller.requests()?.into_iter();
    Ok(requests
        .filter(|request| request.at.as_str() > begin)
        .count())
}
