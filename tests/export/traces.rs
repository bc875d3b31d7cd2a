//! The trace of the founding incident, sent to a real Collector.

use std::path::{Path, PathBuf};
use std::time::Duration;

use controller::telemetry::otlp_endpoint::{OtlpEndpoint, Protocol, Signal};
use controller::telemetry::sample::Sample;
use controller::telemetry::{Exporter, Limits, OtlpEndpoints};
use libtest_mimic::{Failed, Trial};
use tokio::runtime::Runtime;

use crate::collector::{Collector, Got, attribute, until};
use crate::keys::Keys;
use crate::samples::trace;

pub(crate) fn trials(program: &Path) -> Vec<Trial> {
    let trial = |name: &str, test: fn(&Path) -> Result<(), Failed>| {
        let program: PathBuf = program.to_owned();
        Trial::test(name, move || test(&program))
    };
    vec![
        trial("a trace arrives whole by gRPC", |program| {
            arrives(program, Protocol::Grpc)
        }),
        trial("a trace arrives whole by HTTP", |program| {
            arrives(program, Protocol::Http)
        }),
        trial(
            "a collector that comes back gets what fits, and the rest is counted",
            outage,
        ),
        trial(
            "a collector with authentication takes nothing without the token",
            unauthorized,
        ),
        trial(
            "what a collector that stays away does not get is counted at the end",
            away,
        ),
    ]
}

/// The endpoint of `signal`.
pub(crate) fn target(collector: &Collector, signal: Signal, protocol: Protocol) -> OtlpEndpoint {
    let path = match signal {
        Signal::Traces => "/v1/traces",
        Signal::Metrics => "/v1/metrics",
    };
    OtlpEndpoint {
        signal,
        protocol,
        endpoint: match protocol {
            Protocol::Grpc => format!("http://{}", collector.grpc),
            Protocol::Http => format!("http://{}{path}", collector.http),
        },
        authority: None,
        identity: None,
    }
}

fn traces_to(collector: &Collector, protocol: Protocol) -> OtlpEndpoints {
    OtlpEndpoints {
        traces: Some(target(collector, Signal::Traces, protocol)),
        metrics: None,
    }
}

pub(crate) const LIMITS: Limits = Limits {
    queue: 8,
    first_pause: Duration::from_millis(20),
    longest_pause: Duration::from_millis(200),
    retry_timeout: Duration::from_mins(1),
};

fn arrives(program: &Path, protocol: Protocol) -> Result<(), Failed> {
    let mut collector = Collector::new(program)?;
    collector.start()?;
    let runtime = Runtime::new()?;
    let targets = traces_to(&collector, protocol);
    let exporter = Exporter::start("prober-controller", &targets, LIMITS, runtime.handle())?;
    let sent = trace(1)?;
    let id = sent.id();
    exporter.record(Sample::Trace(Box::new(sent)));
    runtime.block_on(exporter.flush(Duration::from_secs(30)));
    let got = until("three spans arrive", || {
        let got = collector.spans();
        (got.len() >= 3).then_some(got)
    })?;
    is_expected(&got, "prober-controller", &id)?;
    same(&exporter.metrics().dropped(), &0)
}

/// The root and both ends, each with its own resource, joined by their ids and by the ISN.
pub(crate) fn is_expected(got: &[Got], service: &str, id: &str) -> Result<(), Failed> {
    let find = |service: &str, kind: u64| {
        got.iter()
            .find(|got| {
                attribute(&got.resource, "service.name").is_some_and(|name| name == service)
                    && got.span["kind"] == kind
            })
            .ok_or_else(|| format!("no span of kind {kind} by {service} in {got:#?}"))
    };
    let root = find(service, 1)?;
    let server = find("prober-agent", 2)?;
    let client = find("prober-agent", 3)?;
    same(&got.len(), &3)?;
    for got in [root, client, server] {
        same(&got.span["traceId"].as_str(), &Some(id))?;
        same(&got.span["status"]["code"], &2.into())?;
    }
    for end in [client, server] {
        same(&end.span["parentSpanId"], &root.span["spanId"])?;
        same(
            &attribute(&end.resource, "k8s.node.name"),
            &Some(&"node-1".into()),
        )?;
        let packets = end.span["events"].as_array().map_or(0, Vec::len);
        if packets < 2 {
            return Err(format!("only {packets} packets in {end:#?}").into());
        }
    }
    let isn = |got: &Got| attribute(&got.span["attributes"], "prober.isn").cloned();
    same(&isn(client), &isn(server))?;
    let of_root = |key| attribute(&root.span["attributes"], key);
    same(
        &of_root("prober.cause"),
        &Some(&"bridge-netfilter-off".into()),
    )?;
    same(&of_root("prober.confidence"), &Some(&"proven".into()))?;
    let remedy = of_root("prober.remedy")
        .map(ToString::to_string)
        .unwrap_or_default();
    if !remedy.contains("bridge-nf-call-iptables") {
        return Err(format!("the remedy is {remedy}").into());
    }
    Ok(())
}

/// At most eight traces wait beside the batch that is being sent; more are dropped and counted.
fn outage(program: &Path) -> Result<(), Failed> {
    let mut collector = Collector::new(program)?;
    let runtime = Runtime::new()?;
    let targets = traces_to(&collector, Protocol::Grpc);
    let exporter = Exporter::start("prober-controller", &targets, LIMITS, runtime.handle())?;
    let nodes_in = 500;
    let mut spans = 0;
    for seed in 0..nodes_in {
        let trace = trace(seed)?;
        spans += trace.spans().len();
        exporter.record(Sample::Trace(Box::new(trace)));
    }
    let while_down = exporter.metrics().dropped();
    if while_down == 0 {
        return Err("nothing was dropped although 500 traces do not fit".into());
    }
    collector.start()?;
    runtime.block_on(exporter.flush(Duration::from_secs(30)));
    let dropped = usize::try_from(exporter.metrics().dropped())?;
    let arrived = until("every span arrived or was counted", || {
        let arrived = collector.spans().len();
        (arrived + dropped >= spans).then_some(arrived)
    })?;
    same(&(arrived + dropped), &spans)?;
    if arrived == 0 {
        return Err("nothing arrived after the collector had come back".into());
    }
    Ok(())
}

fn away(program: &Path) -> Result<(), Failed> {
    let collector = Collector::new(program)?;
    let runtime = Runtime::new()?;
    for protocol in [Protocol::Grpc, Protocol::Http] {
        let targets = traces_to(&collector, protocol);
        let exporter = Exporter::start("prober-controller", &targets, LIMITS, runtime.handle())?;
        let mut spans = 0;
        for seed in 0..20 {
            let trace = trace(seed)?;
            spans += trace.spans().len();
            exporter.record(Sample::Trace(Box::new(trace)));
        }
        runtime.block_on(exporter.flush(Duration::from_millis(300)));
        same(&usize::try_from(exporter.metrics().dropped())?, &spans)?;
    }
    Ok(())
}

/// TLS and the certificates are right; the token is missing.
fn unauthorized(program: &Path) -> Result<(), Failed> {
    let keys = Keys::new()?;
    let mut collector = Collector::guarded(program, &keys)?;
    collector.start()?;
    let runtime = Runtime::new()?;
    for protocol in [Protocol::Grpc, Protocol::Http] {
        let mut target = target(&collector, Signal::Traces, protocol);
        target.endpoint = target.endpoint.replace("http://", "https://");
        target.authority = Some(keys.authority.clone());
        target.identity = Some(keys.client.clone());
        let targets = OtlpEndpoints {
            traces: Some(target),
            metrics: None,
        };
        let exporter = Exporter::start("prober-controller", &targets, LIMITS, runtime.handle())?;
        exporter.record(Sample::Trace(Box::new(trace(1)?)));
        runtime.block_on(exporter.flush(Duration::from_secs(1)));
        same(&exporter.metrics().dropped(), &3)?;
    }
    collector.end()?;
    same(&collector.spans().len(), &0)
}

pub(crate) fn same<T: PartialEq + std::fmt::Debug>(got: &T, wanted: &T) -> Result<(), Failed> {
    if got == wanted {
        return Ok(());
    }
    Err(format!("got {got:?}, wanted {wanted:?}").into())
}
