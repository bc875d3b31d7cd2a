//! The requests of a canary to the API server while no failure is found: few; and yet it reports a fault at once.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use libtest_mimic::{Failed, Trial};

use super::controllers::{Controller, Request};
use super::{Canary, trial};
use crate::harness::wait_until;

pub(super) fn trials() -> Vec<Trial> {
    vec![trial(
        "a canary reads an agent once a minute, and at once after an alert",
        requests_little,
    )]
}

/// Seconds without a request about an agent.
const PAUSE: f64 = 55.0;

/// The interval of a check that is read in every second round.
const INTERVAL: Duration = Duration::from_secs(30);

fn requests_little(canary: &Canary) -> Result<(), Failed> {
    canary.scale(0)?;
    canary.check("default", &format!("{{interval: {}s}}", INTERVAL.as_secs()))?;
    let mut controller = canary.plain("quiet")?;
    canary.is_healthy("default")?;
    wait_until("every agent has been without requests for a minute", || {
        let agents = requested(&controller)?;
        Ok(!agents.is_empty() && agents.values().all(|requested| had_a_pause(requested)))
    })
    .map_err(|failed| {
        let agents = requested(&controller).unwrap_or_default();
        let message = controller.explained(&failed);
        Failed::from(format!(
            "{}\n{agents:#?}",
            message.message().unwrap_or_default()
        ))
    })?;

    let start = Instant::now();
    let fault = (canary.cluster).inject("bridge-netfilter-off", "node-1", "")?;
    wait_until("the founding fault is reported", || {
        Ok(canary.field("{.status.headline}")? == "node-1: bridge-netfilter-off (proven)")
    })
    .map_err(|failed| controller.explained(&failed))?;
    let (after, within) = (start.elapsed(), INTERVAL + Duration::from_secs(3));
    let word = if after <= within { "within" } else { "BEYOND" };
    println!("fault to the status while no agent was read: {after:.1?} ({word} interval + 3 s)");
    fault.heal()?;
    canary.is_healthy("default")?;
    controller.end()?;
    Ok(())
}

/// The requests about each agent that has probed, in order.
fn requested(controller: &Controller<'_>) -> Result<BTreeMap<String, Vec<Request>>, Failed> {
    let mut requested: BTreeMap<String, Vec<Request>> = BTreeMap::new();
    let mut requests = controller.requests()?;
    requests.sort_by(|one, other| one.at.cmp(&other.at));
    // A long request is logged when it begins and when it ends.
    requests.dedup();
    for request in requests {
        if request.is_of_an_agent() && !request.name.ends_with("-host") {
            requested
                .entry(request.name.clone())
                .or_default()
                .push(request);
        }
    }
    // A pod of a dry run has no log.
    requested.retain(|_, requested| {
        requested
            .iter()
            .any(|request| request.resource == "pods/log")
    });
    Ok(requested)
}

/// Whether that time passed between a plan and the next request, for the log.
fn had_a_pause(requested: &[Request]) -> bool {
    requested.windows(2).any(|pair| {
        let is_so = pair[0].is_write() && pair[1].resource == "pods/log";
        let apart = pair[1].seconds().zip(pair[0].seconds());
        is_so && apart.is_some_and(|(reading, plan)| reading - plan >= PAUSE)
    })
}
