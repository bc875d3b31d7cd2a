//! The founding fault as everybody sees it: status, Events, Prometheus, the Collector, and the trace store.

use std::time::{Duration, Instant};

use libtest_mimic::{Failed, Trial};
use serde_json::Value;

use super::backends::{Backends, COLLECTOR};
use super::{Canary, file, trial};
use crate::harness::wait_until;
use crate::prober;

pub(super) fn trials() -> Vec<Trial> {
    vec![
        trial(
            "a canary tells the founding fault and its end to all that listen",
            is_told_everywhere,
        ),
        trial(
            "a canary tells two faults apart at the same time",
            two_at_once,
        ),
        trial(
            "a node has the condition that was asked for, for as long as it is asked for",
            marks_nodes,
        ),
    ]
}

fn is_told_everywhere(canary: &Canary) -> Result<(), Failed> {
    let backends = Backends::start(canary)?;
    canary.tell_the_collector()?;
    backends.scrape_pods()?;
    let told = tells_and_ends(canary, &backends);
    let told = told.map_err(|failed| {
        let said = failed.message().unwrap_or_default();
        Failed::from(format!("{said}\n{}", backends.story()))
    });
    canary.forget(&["default"])?;
    told
}

/// How every figure is asked for in both ways: as scraped, and as it came through the Collector.
const WAYS: [&str; 2] = [r#"job="scraped""#, r#"job="prober-controller""#];

/// What is asked until it is so.
type Question<'a> = &'a dyn Fn() -> Result<bool, Failed>;

fn tells_and_ends(canary: &Canary, backends: &Backends<'_>) -> Result<(), Failed> {
    let example = file("examples/connectivitycheck.yaml");
    canary.cluster.kubectl(&["apply", "-f", &example])?;
    canary.is_well("default")?;
    let node = |way: &str| format!(r#"prober_node_healthy{{{way},k8s_node_name="node-1"}}"#);
    for way in WAYS {
        wait_until(&format!("node-1 is healthy by {way}"), || {
            Ok(backends.query(&node(way))? == ["1"])
        })?;
    }

    let cause = r#"prober_cause="bridge-netfilter-off",k8s_node_name="node-1""#;
    let start = Instant::now();
    let fault = (canary.cluster).inject("bridge-netfilter-off", "node-1", "")?;
    let injected = start.elapsed();
    let mut seen = Vec::new();
    let questions: [(&str, Question<'_>); 4] = [
        ("the cause by a scrape", &|| {
            let count = format!("prober_handshakes_total{{{},{cause}}} > 0", WAYS[0]);
            Ok(!backends.query(&count)?.is_empty())
        }),
        ("the cause by the Collector", &|| {
            let count = format!("prober_handshakes_total{{{},{cause}}} > 0", WAYS[1]);
            Ok(!backends.query(&count)?.is_empty())
        }),
        ("the trace in Jaeger", &|| {
            Ok(!backends
                .traces("prober-controller", "bridge-netfilter-off", "node-1")?
                .is_empty())
        }),
        ("the status", &|| {
            Ok(canary.ask("{.status.headline}")? == "node-1: bridge-netfilter-off (proven)")
        }),
    ];
    wait_until("all have been told", || {
        for (what, is_so) in questions {
            if !seen.iter().any(|(known, _)| *known == what) && is_so()? {
                seen.push((what, start.elapsed()));
            }
        }
        Ok(seen.len() == questions.len())
    })?;
    let within = Duration::from_secs(10 + 3);
    for (what, after) in &seen {
        let word = if *after <= within { "within" } else { "BEYOND" };
        println!(
            "fault to {what}: {after:.1?} ({word} interval + 3 s; injecting took {injected:.1?})"
        );
    }

    let failing = canary.ask("{.status.failing[*].node}")?;
    if failing != "node-1" {
        return Err(format!("it says that {failing} fails").into());
    }
    for way in WAYS {
        wait_until(&format!("node-1 alone is unhealthy by {way}"), || {
            Ok(backends.query(&node(way))? == ["0"]
                && backends.query(&format!("count(prober_node_healthy{{{way}}} == 1)"))? == ["2"])
        })?;
    }
    let traces = backends.traces("prober-controller", "bridge-netfilter-off", "node-1")?;
    shows_both_ends(&traces)?;
    wait_until("node and check have an Event each", || {
        Ok(
            canary.told("Node node-1 ConnectivityLost node-1: bridge-netfilter-off")? == 1
                && canary.told("ConnectivityCheck default ConnectivityLost")? == 1,
        )
    })?;

    run_tells_the_same(canary, backends)?;

    let start = Instant::now();
    fault.heal()?;
    canary.is_well("default")?;
    println!("mended to healthy in the status: {:.1?}", start.elapsed());
    the_end_is_told(canary, backends)
}

fn the_end_is_told(canary: &Canary, backends: &Backends<'_>) -> Result<(), Failed> {
    let end = canary.ask("{.status.outages[0].end}")?;
    let outages = canary.ask("{.status.outages[*].cause}")?;
    if end.is_empty() || outages != "bridge-netfilter-off" {
        return Err(format!("outages {outages}, the first ended {end}").into());
    }
    for way in WAYS {
        wait_until(&format!("every node is healthy again by {way}"), || {
            Ok(
                backends.query(&format!("count(prober_node_healthy{{{way}}} == 1)"))? == ["3"]
                    && backends
                        .query(&format!("prober_path_healthy{{{way}}} == 0"))?
                        .is_empty(),
            )
        })?;
    }
    wait_until("the end has an Event for the node", || {
        Ok(canary.told("Node node-1 ConnectivityRestored")? == 1)
    })?;
    // Whatever was told of it is in the store by now, and nothing twice.
    let lost =
        canary.told("Node node-1 ConnectivityLost")? + canary.told("Node node-1 CauseChanged")?;
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

/// Who runs the program against the same cluster has the same trace, in the same store.
fn run_tells_the_same(canary: &Canary, backends: &Backends<'_>) -> Result<(), Failed> {
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

/// One trace: a root and two handshakes, told by two agents of node-1, all of them errors.
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
        let said = tag(&span["tags"], "otel.status_description");
        if !is_error || said != "\"bridge-netfilter-off (proven)\"" {
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
    canary.is_well("default")?;
    let first = (canary.cluster).inject("bridge-netfilter-off", "node-1", "")?;
    let causes = "{range .status.failing[*]}{.node} {.cause}{\"\\n\"}{end}";
    wait_until("the first is told", || {
        Ok(canary.ask(causes)?.contains("node-1 bridge-netfilter-off"))
    })?;
    let since = canary.ask("{.status.failing[0].since}")?;
    let second = (canary.cluster).inject("route-missing-unreachable", "node-2", "")?;
    wait_until("both are told", || {
        let failing = canary.ask(causes)?;
        Ok(failing.contains("node-1 bridge-netfilter-off")
            && failing.contains("node-2 route-missing"))
    })?;
    if canary.ask("{.status.failing[0].since}")? != since {
        return Err("the first outage began anew with the second".into());
    }
    first.heal()?;
    wait_until("the second alone is left", || {
        Ok(canary.ask(causes)?.trim() == "node-2 route-missing")
    })?;
    second.heal()?;
    canary.is_well("default")
}

fn marks_nodes(canary: &Canary) -> Result<(), Failed> {
    let path =
        r#"jsonpath={.status.conditions[?(@.type=="prober.dev/ServiceConnectivity")].status}"#;
    let stand = |of_both: [&str; 2]| {
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
    stand(["True", "True"])?;
    let fault = (canary.cluster).inject("bridge-netfilter-off", "node-1", "")?;
    stand(["False", "True"])?;
    fault.heal()?;
    stand(["True", "True"])?;
    canary.check("default", "{interval: 3s}")?;
    stand(["", ""])?;
    canary.is_well("default")
}
