//! The page of the controller that leads, as `prober ui` shows it.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Stdio};

use libtest_mimic::{Failed, Trial};
use serde_json::Value;

use super::{Canary, NAMESPACE, trial};
use crate::harness::wait_until;
use crate::prober;

pub(super) fn trials() -> Vec<Trial> {
    vec![trial(
        "the page shows an outage, its report, and goes on when another controller leads",
        goes_on,
    )]
}

/// `prober ui`, which ends with this.
struct Ui<'a> {
    canary: &'a Canary,
    process: Child,
    url: String,
}

impl<'a> Ui<'a> {
    fn start(canary: &'a Canary) -> Result<Self, Failed> {
        let mut command = prober::command_in(&canary.cluster)?;
        let mut process = command.arg("ui").stdout(Stdio::piped()).spawn()?;
        let output = process.stdout.take().ok_or("its output is a pipe")?;
        let mut url = String::new();
        BufReader::new(output).read_line(&mut url)?;
        let ui = Self {
            canary,
            process,
            url: url.trim().trim_end_matches('/').to_owned(),
        };
        if ui.url.is_empty() {
            return Err("prober ui has printed no address".into());
        }
        Ok(ui)
    }

    fn get(&self, path: &str) -> Result<Value, Failed> {
        let server = format!("--server={}", self.url);
        let answer = (self.canary.cluster).kubectl(&[&server, "get", "--raw", path])?;
        Ok(serde_json::from_str(&answer)?)
    }

    /// Waits until the page has a current outage of this cause, and returns it.
    fn outage(&self, cause: &str) -> Result<Value, Failed> {
        let mut found = Value::Null;
        wait_until(&format!("the page shows {cause}"), || {
            // Between two leaders it has no answer.
            let Ok(outages) = self.get("/api/v1/outages.json") else {
                return Ok(false);
            };
            found = outages["open"][0].clone();
            Ok(outages["isCurrent"] == true && found["cause"] == cause)
        })?;
        Ok(found)
    }
}

impl Drop for Ui<'_> {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

fn goes_on(canary: &Canary) -> Result<(), Failed> {
    canary.check("default", "{interval: 2s}")?;
    canary.measures("default", "3/3")?;
    let ui = Ui::start(canary)?;
    let summary = ui.get("/api/v1/summary.json")?;
    if summary["sentence"] != "All 3 nodes work" {
        return Err(format!("while all is healthy it says {summary}").into());
    }
    let fault = (canary.cluster).inject("bridge-netfilter-off", "node-1", "")?;
    let outage = ui.outage("bridge-netfilter-off")?;
    let id = outage["id"].as_str().unwrap_or_default().to_owned();
    let report = ui.get(&format!("/api/v1/report.json?outage={id}"))?;
    let cause = &report["diagnoses"][0]["cause"];
    if outage["node"] != "node-1" || cause != "bridge-netfilter-off" {
        return Err(format!("it shows {outage}, found by a report of {cause}").into());
    }
    let holder = canary.holder()?;
    let leader = holder.rsplit_once('_').map_or("", |(pod, _)| pod);
    let delete = ["delete", "pod", leader, "-n", NAMESPACE, "--wait=false"];
    canary.cluster.kubectl(&delete)?;
    wait_until("another controller leads", || {
        let now = canary.holder()?;
        Ok(!now.is_empty() && now != holder)
    })?;
    // The same address shows the same outage of the next one.
    let restored = ui.outage("bridge-netfilter-off")?;
    if restored["id"] != id.as_str() || restored["since"].is_null() {
        return Err(format!("another controller shows {restored}, not {outage}").into());
    }
    fault.heal()?;
    wait_until("the outage is over on the page", || {
        let outages = ui.get("/api/v1/outages.json")?;
        let ended = &outages["ended"][0];
        Ok(outages["open"] == Value::Array(Vec::new()) && ended["id"] == id.as_str())
    })?;
    canary.delete_checks(&["default"])
}
