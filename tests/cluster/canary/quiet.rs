//! What a canary asks of the API server while all is well: next to nothing, and yet it hears at once when something happens.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use libtest_mimic::{Failed, Trial};

use super::controllers::{Controller, Request};
use super::{Canary, trial};
use crate::harness::wait_until;

pub(super) fn trials() -> Vec<Trial> {
    vec![trial(
        "a canary asks an agent for what it has found once a minute, and at once when it rings",
        asks_little,
    )]
}

/// Seconds that an agent is left alone.
const ALONE: f64 = 55.0;

/// Rounds of a check that is read once in two of them.
const INTERVAL: Duration = Duration::from_secs(30);

fn asks_little(canary: &Canary) -> Result<(), Failed> {
    canary.scale(0)?;
    canary.check("default", &format!("{{interval: {}s}}", INTERVAL.as_secs()))?;
    let mut controller = canary.plain("quiet")?;
    canary.is_well("default")?;
    wait_until("every agent has been left alone for a minute", || {
        let agents = asked(&controller)?;
        Ok(!agents.is_empty() && agents.values().all(|asked| was_left_alone(asked)))
    })
    .map_err(|failed| {
        let agents = asked(&controller).unwrap_or_default();
        let said = controller.explained(&failed);
        Failed::from(format!(
            "{}\n{agents:#?}",
            said.message().unwrap_or_default()
        ))
    })?;

    let start = Instant::now();
    let fault = (canary.cluster).inject("bridge-netfilter-off", "node-1", "")?;
    wait_until("the founding fault is told", || {
        Ok(canary.ask("{.status.headline}")? == "node-1: bridge-netfilter-off (proven)")
    })
    .map_err(|failed| controller.explained(&failed))?;
    let (after, within) = (start.elapsed(), INTERVAL + Duration::from_secs(3));
    let word = if after <= within { "within" } else { "BEYOND" };
    println!("fault to the status while nobody was read: {after:.1?} ({word} interval + 3 s)");
    fault.heal()?;
    canary.is_well("default")?;
    controller.end()?;
    Ok(())
}

/// What was asked of each agent that has probed, in its order.
fn asked(controller: &Controller<'_>) -> Result<BTreeMap<String, Vec<Request>>, Failed> {
    let mut asked: BTreeMap<String, Vec<Request>> = BTreeMap::new();
    let mut requests = controller.requests()?;
    requests.sort_by(|one, other| one.at.cmp(&other.at));
    // One that lasts is written down when it begins and when it ends.
    requests.dedup();
    for request in requests {
        if request.is_of_an_agent() && !request.name.ends_with("-host") {
            asked.entry(request.name.clone()).or_default().push(request);
        }
    }
    // A pod that was only tried has never spoken.
    asked.retain(|_, asked| asked.iter().any(|request| request.resource == "pods/log"));
    Ok(asked)
}

/// Whether so much time went by between a plan and the next thing that was asked, the reading of what came of it.
fn was_left_alone(asked: &[Request]) -> bool {
    asked.windows(2).any(|pair| {
        let is_so = pair[0].is_write() && pair[1].resource == "pods/log";
        let apart = pair[1].seconds().zip(pair[0].seconds());
        is_so && apart.is_some_and(|(reading, plan)| reading - plan >= ALONE)
    })
}
