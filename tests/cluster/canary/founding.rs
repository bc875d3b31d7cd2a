//! The founding fault in status, Events, Prometheus, the Collector, and the trace store.

use std::time::{Duration, Instant};

use libtest_mimic::{Failed, Trial};
use serde_json::Value;

use super::backends::{Backends, COLLECTOR};
use super::{Canary, file, trial};
use crate::harness::wait_until;
use crate::prober;

pub(super) fn essential() -> Vec<Trial> {
    vec![trial(
        "a canary reports the founding fault and its end everywhere",
        is_reported_everywhere,
    )]
}

pub(super) fn trials() -> Vec<Trial> {
    vec![
        trial(
            "a canary distinguishes two faults at the same time",
            two_at_once,
        ),
        trial(
            "a node has its condition while the check enables it",
            sets_conditions,
        ),
    ]
}

fn is_reported_everywhere(canary: &Canary) -> Result<(), Failed> {
    let backends = Backends::start(canary)?;
    canary.export_to_collector()?;
    backends.scrape_pods()?;
    let reported = reports_and_ends(canary, &backends);
    let reported = reported.map_err(|failed| {
        let message = failed.message().unwrap_or_default();
        Failed::from(format!("{message}\n{}", backends.logs()))
    });
    canary.delete_checks(&["default"])?;
    reported
}

/// The job labels of every metric: as scraped, and through the Collector.
const JOBS: [&str; 2] = [r#"job="scraped""#, r#"job="prober-controller""#];

/// A condition that is polled.
type Condition<'a> = &'a dyn Fn() -> Result<bool, Failed>;

fn reports_and_ends(canary: &Canary, backends: &Backends<'_>) -> Result<(), Failed> {
    let example = file("examples/connectivitycheck.yaml");
    canary.cluster.kubectl(&["apply", "-f", &example])?;
    canary.measures("default", "3/3")?;
    let node = |job: &str| format!(r#"prober_node_healthy{{{job},k8s_node_name="node-1"}}"#);
    for job in JOBS {
        wait_until(&format!("node-1 is healthy by {job}"), || {
            Ok(backends.query(&node(job))? == ["1"])
        })?;
    }

    let cause = r#"prober_cause="bridge-netfilter-off",k8s_node_name="node-1""#;
    let start = Instant::now();
    let fault = (canary.cluster).inject("bridge-netfilter-off", "node-1", "")?;
    let injected = start.elapsed();
    let mut seen = Vec::new();
    let conditions: [(&str, Condition<'_>); 4] = [
        ("the cause by a scrape", &|| {
            let count = format!("prober_handshakes_total{{{},{cause}}} > 0", JOBS[0]);
            Ok(!backends.query(&count)?.is_empty())
        }),
        ("the cause by the Collector", &|| {
            let count = format!("prober_handshakes_total{{{},{cause}}} > 0", JOBS[1]);
            Ok(!backends.query(&count)?.is_empty())
        }),
        ("the trace in Jaeger", &|| {
            Ok(!backends
                .traces("prober-controller", "bridge-netfilter-off", "node-1")?
                .is_empty())
        }),
        ("the status", &|| {
            Ok(canary.field("{.status.headline}")? == "node-1: bridge-netfilter-off (proven)")
        }),
    ];
    wait_until("all have it", || {
        for (what, is_so) in conditions {
            if !seen.iter().any(|(known, _)| *known == what) && is_so()? {
                seen.push((what, start.elapsed()));
            }
        }
        Ok(seen.len() == conditions.len())
    })?;
    let within = Duration::from_secs(10 + 3);
    for (what, after) in &seen {
        let word = if *after <= within { "within" } else { "BEYOND" };
        println!(
            "fault to {what}: {after:.1?} ({word} interval + 3 s; injecting took {injected:.1?})"
        );
    }

    let failing = canary.field("{.status.failing[*].node}")?;
    if failing != "node-1" {
        return Err(format!("it says that {failing} fails").into());
    }
    for job in JOBS {
        wait_until(&format!("node-1 alone is unhealthy by {job}"), || {
            Ok(backends.query(&node(job))? == ["0"]
                && backends.query(&format!("count(prober_node_healthy{{{job}}} == 1)"))? == ["2"])
        })?;
    }
    let traces = backends.traces("prober-controller", "bridge-netfilter-off", "node-1")?;
    shows_both_ends(&traces)?;
    wait_until("node and check have an Event each", || {
        Ok(
            canary.count_events("Node node-1 ConnectivityLost node-1: bridge-netfilter-off")? == 1
                && canary.count_events("ConnectivityCheck default ConnectivityLost")? == 1,
        )
    })?;

    run_sends_the_same(canary, backends)?;

    let start = Instant::now();
    fault.heal()?;
    canary.is_healthy("default")?;
    println!("heal to healthy in the status: {:.1?}", start.elapsed());
    the_end_is_reported(canary, backends)
}

fn the_end_is_reported(canary: &Canary, backends: &Backends<'_>) -> Result<(), Failed> {
    let end = canary.field("{.status.outages[0].end}")?;
    let outages = canary.field("{.status.outages[*].cause}")?;
    if end.is_empty() || outages != "bridge-netfilter-off" {
        return Err(format!("outages {outages}, the first ended {end}").into());
    }
    for job in JOBS {
        wait_until(&format!("every node is healthy again by {job}"), || {
            Ok(
                backends.query(&format!("count(prober_node_healthy{{{job}}} == 1)"))? == ["3"]
                    && backends
                        .query(&format!("prober_path_healthy{{{job}}} == 0"))?
                        .is_empty(),
            )
        })?;
    }
    wait_until("the end has an Event for the node", || {
        Ok(canary.count_events("Node node-1 ConnectivityRestored")? == 1)
    })?;
    // All traces are stored by now, and none twice.
    let lost = canary.count_events("Node node-1 ConnectivityLost")?
        + canary.count_events("Node node-1 CauseChanged")?;
    let traces = backends.traces("prober-controller", "bridge-netfilter-off", "node-1")?;
    if traces.is_empty() || traces.len() > lost {
        return Err(format!("{} traces of {lost} transitions", traces.len()).into());
    }
    if backends
        .query("prober_export_dropped_total > 0")?
        .is_empty()
    {
        return Ok(());
    }
    Err("spans were dropped".into())
}

/// A run of `prober` against the same cluster sends the same trace to the same store.
fn run_sends_the_same(canary: &Canary, backends: &Backends<'_>) -> Result<(), Failed> {
    let output = prober::command_in(&canary.cluster)?
        .args(["run", "--node", "node-1", "-o", "json"])
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", COLLECTOR)
        .env("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")
        .output()?;
    prober::read(&output)?.names(&[("bridge-netfilter-off", "node-1")])?;
    let traces = || backends.traces("prober", "bridge-netfilter-off", "node-1");
    wait_until("the run's trace is in Jaeger", || Ok(!traces()?.is_empty()))?;
    shows_both_ends(&traces()?)
}

/// One trace: a root and two handshakes from two agents of node-1, all of them errors.
fn shows_both_ends(traces: &[Value]) -> Result<(), Failed> {
    let [trace] = traces else {
        return Err(format!("{} traces of one failure", traces.len()).into());
    };
    let spans = trace["spans"].as_array().ok_or("no spans")?;
    let tag = |tags: &Value, key: &str| {
        let found = tags
            .as_array()
            .into_iter()
            .flatten()
            .find(|tag| tag["key"] == key);
        found
            .map(|tag| tag["value"].to_string())
            .unwrap_or_default()
    };
    let mut pods = Vec::new();
    for span in spans {
        let process = span["processID"].as_str().unwrap_or_default();
        let process = &trace["processes"][process];
        let is_error = tag(&span["tags"], "otel.status_code") == "\"ERROR\"";
        let message = tag(&span["tags"], "otel.status_description");
        if !is_error || message != "\"bridge-netfilter-off (proven)\"" {
            return Err(format!("a span is no error: {span}").into());
        }
        if span["operationName"] != "handshake" {
            continue;
        }
        if tag(&process["tags"], "k8s.node.name") != "\"node-1\"" {
            return Err(format!("a handshake is of another node: {process}").into());
        }
        if span["logs"].as_array().is_none_or(Vec::is_empty) {
            return Err(format!("a handshake has no packets: {span}").into());
        }
        pods.push(tag(&process["tags"], "k8s.pod.name"));
    }
    pods.sort_unstable();
    pods.dedup();
    if spans.len() == 3 && pods.len() == 2 {
        return Ok(());
    }
    Err(format!("{} spans, handshakes of {pods:?}", spans.len()).into())
}

fn two_at_once(canary: &Canary) -> Result<(), Failed> {
    canary.check("default", "{interval: 3s}")?;
    canary.measures("default", "3/3")?;
    let first = (canary.cluster).inject("bridge-netfilter-off", "node-1", "")?;
    let causes = "{range .status.failing[*]}{.node} {.cause}{\"\\n\"}{end}";
    wait_until("the first is reported", || {
        Ok(canary
            .field(causes)?
            .contains("node-1 bridge-netfilter-off"))
    })?;
    let since = canary.field("{.status.failing[0].since}")?;
    let second = (canary.cluster).inject("route-missing-unreachable", "node-2", "")?;
    wait_until("both are reported", || {
        let failing = canary.field(causes)?;
        Ok(failing.contains("node-1 bridge-netfilter-off")
            && failing.contains("node-2 route-missing"))
    })?;
    if canary.field("{.status.failing[0].since}")? != since {
        return Err("the first outage began anew with the second".into());
    }
    first.heal()?;
    wait_until("the second alone is left", || {
        Ok(canary.field(causes)?.trim() == "node-2 route-missing")
    })?;
    second.heal()?;
    canary.is_healthy("default")
}

fn sets_conditions(canary: &Canary) -> Result<(), Failed> {
    let path =
        r#"jsonpath={.status.conditions[?(@.type=="prober.dev/ServiceConnectivity")].status}"#;
    let conditions_are = |of_both: [&str; 2]| {
        wait_until(
            &format!("the conditions of two nodes are {of_both:?}"),
            || {
                let mut found = Vec::new();
                for node in ["node-1", "node-2"] {
                    found.push(canary.cluster.kubectl(&["get", "node", node, "-o", path])?);
                }
                Ok(found == of_both)
            },
        )
    };
    canary.check("default", "{interval: 3s, nodeCondition: {enabled: true}}")?;
    conditions_are(["True", "True"])?;
    let fault = (canary.cluster).inject("bridge-netfilter-off", "node-1", "")?;
    conditions_are(["False", "True"])?;
    fault.heal()?;
    conditions_are(["True", "True"])?;
    canary.check("default", "{interval: 3s}")?;
    conditions_are(["", ""])?;
    canary.is_healthy("default")
}
