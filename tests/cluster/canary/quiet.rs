//! The requests of a canary to the API server while no failure is found: few, and none about a single agent.

use std::thread::sleep;
use std::time::Duration;

use libtest_mimic::{Failed, Trial};

use super::{Canary, trial};

pub(super) fn trials() -> Vec<Trial> {
    vec![trial(
        "a healthy canary sends few requests, and none about an agent",
        requests_little,
    )]
}

/// The most requests of a minute.
const BUDGET: usize = 100;

fn requests_little(canary: &Canary) -> Result<(), Failed> {
    canary.scale(0)?;
    canary.check("default", "{interval: 5s}")?;
    let mut controller = canary.plain("quiet")?;
    (canary.measures("default", "3/3")).map_err(|failed| controller.explained(&failed))?;
    let begin = canary.now()?;
    sleep(Duration::from_mins(1));
    let requests = controller.requests()?;
    let requests: Vec<_> = (requests.into_iter())
        .filter(|request| request.at > begin)
        .collect();
    let of_agents: Vec<_> = (requests.iter())
        .filter(|request| request.is_of_an_agent())
        .collect();
    println!("{} requests in a minute", requests.len());
    if !of_agents.is_empty() {
        return Err(format!("requests about agents: {of_agents:#?}").into());
    }
    if requests.len() > BUDGET {
        return Err(format!("{} requests in a minute: {requests:#?}", requests.len()).into());
    }
    controller.end()?;
    Ok(())
}
