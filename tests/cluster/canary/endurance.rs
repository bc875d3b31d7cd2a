//! A canary survives kills of the controller, a suspended leader, an API server that restarts, and a Collector that is
//! away.

use std::thread::sleep;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use libtest_mimic::{Failed, Trial};
use prober_core::random::Random;

use super::backends::{Backends, COLLECTOR};
use super::controllers::Controller;
use super::{Canary, trial};
use crate::harness::wait_until;

pub(super) fn essential() -> Vec<Trial> {
    vec![trial(
        "a leader that is deleted with its pod has a successor",
        deleted,
    )]
}

pub(super) fn trials() -> Vec<Trial> {
    vec![
        trial(
            "a canary that is killed twenty times loses no outage, and reports none twice",
            killed,
        ),
        trial(
            "a suspended leader does nothing after it resumes",
            suspended,
        ),
        trial("a canary outlives its API server", api_server),
        trial(
            "a fault that begins while the API server is away is reported with its true beginning",
            begins_unseen,
        ),
        trial(
            "a canary outlives its Collector, in bounded memory",
            collector_away,
        ),
    ]
}

/// The number of kills.
const KILLS: u64 = 20;

fn killed(canary: &Canary) -> Result<(), Failed> {
    canary.scale(0)?;
    canary.check("default", "{interval: 2s}")?;
    let mut controller = canary.plain("killed-0")?;
    canary.is_healthy("default")?;
    let fault = (canary.cluster).inject("bridge-netfilter-off", "node-1", "")?;
    fails_by_it(canary)?;
    let since = canary.field("{.status.failing[0].since}")?;

    let seed = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    println!("moments by seed {seed}");
    let mut random = Random::new(seed);
    for round in 1..=KILLS {
        // At a random moment: while it reads, examines, reports or waits.
        sleep(Duration::from_millis(random.bits() % 7_000));
        controller.kill()?;
        canary.free_the_lease()?;
        controller = canary.plain(&format!("killed-{round}"))?;
        controller.leads()?;
        let now = canary.field("{.status.failing[0].since}")?;
        if now != since {
            let lost = format!("after {round} kills the outage is since '{now}', not '{since}'");
            return Err(controller.explained(&lost.into()));
        }
    }
    same_outage(canary, &since)?;
    fault.heal()?;
    canary.is_healthy("default")?;
    let outages = canary.field("{range .status.outages[*]}{.start} {.cause}{\"\\n\"}{end}")?;
    if outages.trim() != format!("{since} bridge-netfilter-off") {
        return Err(format!("outages are {outages}").into());
    }
    wait_until("the end is reported once", || {
        Ok(canary.count_events("Node node-1 ConnectivityRestored")? == 1)
    })?;
    controller.end()?;
    Ok(())
}

/// The outage since then was reported once.
fn same_outage(canary: &Canary, since: &str) -> Result<(), Failed> {
    let now = canary.field("{.status.failing[*].since}")?;
    let events = canary.events()?;
    let lost = canary.count_events("Node node-1 ConnectivityLost")?;
    let restored = canary.count_events("Node node-1 ConnectivityRestored")?;
    if now == since && (lost, restored) == (1, 0) {
        return Ok(());
    }
    Err(format!("the outage is since '{now}', not '{since}', with the events {events}").into())
}

fn fails_by_it(canary: &Canary) -> Result<(), Failed> {
    wait_until("the founding fault is reported", || {
        let headline = canary.field("{.status.headline}")?;
        Ok(headline == "node-1: bridge-netfilter-off (proven)"
            && canary.count_events("Node node-1 ConnectivityLost")? == 1)
    })
}

/// A leader is suspended for longer than its Lease, and another takes over; after the first one resumes, none of its
/// requests changes anything.
fn suspended(canary: &Canary) -> Result<(), Failed> {
    canary.scale(0)?;
    canary.check("default", "{interval: 1s, probeDeadline: 500ms}")?;
    let mut leader = canary.plain("leader-0")?;
    canary.is_healthy("default")?;
    let fault = (canary.cluster).inject("bridge-netfilter-off", "node-1", "")?;
    fails_by_it(canary)?;
    let since = canary.field("{.status.failing[0].since}")?;
    for round in 1..=3 {
        let successor = canary.plain(&format!("leader-{round}"))?;
        leader.signal("-STOP")?;
        successor.leads()?;
        wait_until("the successor has examined the node", || {
            Ok(successor
                .metrics()?
                .contains("prober_cause=\"bridge-netfilter-off\""))
        })?;
        let resumed = canary.now()?;
        leader.signal("-CONT")?;
        leader.ends().map_err(|failed| leader.explained(&failed))?;
        let log = leader.log();
        if !log.contains("so another controller may lead: this one ends") {
            return Err(leader.explained(&"it does not say why it ended".into()));
        }
        // A pending renewal is refused: the Lease has another version by now.
        let after = leader.requests()?.into_iter();
        let acts: Vec<_> = after
            .filter(|request| request.at > resumed && request.is_write() && request.code != 409)
            .collect();
        if !acts.is_empty() {
            return Err(leader.explained(&format!("it acted after {resumed}: {acts:?}").into()));
        }
        leader = successor;
    }
    same_outage(canary, &since)?;
    fault.heal()?;
    canary.is_healthy("default")?;
    leader.end()?;
    Ok(())
}

fn deleted(canary: &Canary) -> Result<(), Failed> {
    canary.check("default", "{interval: 2s}")?;
    canary.is_healthy("default")?;
    let fault = (canary.cluster).inject("bridge-netfilter-off", "node-1", "")?;
    fails_by_it(canary)?;
    let since = canary.field("{.status.failing[0].since}")?;
    let holder = canary.holder()?;
    let pod = holder.split('_').next().unwrap_or_default();
    canary.cluster.kubectl(&[
        "delete",
        "pod",
        "-n",
        super::NAMESPACE,
        pod,
        "--force",
        "--grace-period=0",
    ])?;
    wait_until("another one leads", || {
        let now = canary.holder()?;
        Ok(!now.is_empty() && now != holder)
    })?;
    same_outage(canary, &since)?;
    fault.heal()?;
    canary.is_healthy("default")
}

fn api_server(canary: &Canary) -> Result<(), Failed> {
    canary.check("default", "{interval: 2s}")?;
    canary.is_healthy("default")?;
    let fault = (canary.cluster).inject("bridge-netfilter-off", "node-1", "")?;
    fails_by_it(canary)?;
    let since = canary.field("{.status.failing[0].since}")?;

    // It restarts at once.
    canary.cluster.control_plane(&["kill", "apiserver"])?;
    let answers = || Ok(canary.cluster.kubectl(&["get", "--raw", "/readyz"]).is_ok());
    wait_until("the API server is back", answers)?;
    wait_until("a controller leads", || Ok(!canary.holder()?.is_empty()))?;
    same_outage(canary, &since)?;

    // It hangs for longer than a leader may act without it.
    canary.cluster.control_plane(&["pause", "apiserver"])?;
    sleep(Duration::from_secs(20));
    canary.cluster.control_plane(&["resume", "apiserver"])?;
    wait_until("the API server is back", answers)?;
    same_outage(canary, &since)?;
    // The leader, whichever it is, still probes and reports.
    fault.heal()?;
    canary.is_healthy("default")?;
    wait_until("the end is reported once", || {
        Ok(canary.count_events("Node node-1 ConnectivityRestored")? == 1)
    })?;
    canary.delete_checks(&["default"])
}

/// How long the API server is away.
const AWAY: Duration = Duration::from_mins(5);

fn begins_unseen(canary: &Canary) -> Result<(), Failed> {
    canary.check("default", "{interval: 2s}")?;
    canary.measures("default", "3/3")?;
    (canary.cluster).control_plane(&["pause", "apiserver"])?;
    sleep(AWAY / 2);
    let fault = (canary.cluster).inject("bridge-netfilter-off", "node-1", "")?;
    let began = canary.now()?;
    sleep(AWAY / 2);
    (canary.cluster).control_plane(&["resume", "apiserver"])?;
    fails_by_it(canary)?;
    let since = canary.field("{.status.failing[0].since}")?;
    println!("the fault began at {began}, and the outage since {since}");
    fault.heal()?;
    canary.is_healthy("default")?;
    let events = canary.events()?;
    let foreign = |line: &&str| line.starts_with("Node ") && !line.starts_with("Node node-1 ");
    match events.lines().find(foreign) {
        Some(event) => Err(format!("an event about another node: {event}").into()),
        None => Ok(()),
    }
}

/// Traces wait for a Collector that is away; none is dropped while there is room, and probing continues.
fn collector_away(canary: &Canary) -> Result<(), Failed> {
    canary.scale(0)?;
    let mut backends = Backends::start(canary)?;
    canary.check("default", "{interval: 2s}")?;
    let variables = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", COLLECTOR),
        ("OTEL_METRIC_EXPORT_INTERVAL", "1000"),
    ];
    let mut controller = canary.controller("exporting", &variables)?;
    canary.is_healthy("default")?;
    let before = controller.memory()?;
    backends.stop_collector()?;
    let fault = (canary.cluster).inject("bridge-netfilter-off", "node-1", "")?;
    fails_by_it(canary)?;
    let before_that = established(&controller)?;
    wait_until("examinations go on", || {
        Ok(established(&controller)? > before_that + 200)
    })?;
    let meanwhile = controller.memory()?;
    println!("memory: {before} MiB with a Collector, {meanwhile} MiB after a while without");
    if meanwhile > before + 30 {
        return Err(format!("it has grown from {before} MiB to {meanwhile} MiB").into());
    }
    backends.start_collector()?;
    wait_until("the trace arrives after all", || {
        Ok(!backends
            .traces("prober-controller", "bridge-netfilter-off", "node-1")?
            .is_empty())
    })
    .map_err(|failed| controller.explained(&failed))?;
    if !controller
        .metrics()?
        .contains("prober_export_dropped_total 0")
    {
        return Err("spans were dropped although there was room".into());
    }
    fault.heal()?;
    canary.is_healthy("default")?;
    controller.end()?;
    Ok(())
}

/// The number of established handshakes so far.
fn established(controller: &Controller<'_>) -> Result<u64, Failed> {
    let metrics = controller.metrics()?;
    let counts = metrics.lines().filter(|line| {
        line.starts_with("prober_handshakes_total{")
            && line.contains("prober_outcome=\"established\"")
    });
    Ok(counts
        .filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
        .sum())
}
