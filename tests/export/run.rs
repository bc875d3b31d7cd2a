//! `prober run --lab` with the founding fault sends its trace where OpenTelemetry's variables say.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use controller::telemetry::otlp_endpoint::Protocol;
use libtest_mimic::{Failed, Trial};
use prober_core::report::Report;

use crate::collector::{Collector, TOKEN, free, until};
use crate::keys::Keys;
use crate::program::PROBER;
use crate::traces::{is_expected, same};

pub(crate) fn trials(program: &Path) -> Vec<Trial> {
    let trial = |name: &str, test: fn(&Path) -> Result<(), Failed>| {
        let program: PathBuf = program.to_owned();
        Trial::test(name, move || test(&program))
    };
    vec![
        trial(
            "a run sends the trace of what it found by gRPC",
            |program| sends(program, Protocol::Grpc),
        ),
        trial(
            "a run sends the trace of what it found by HTTP",
            |program| sends(program, Protocol::Http),
        ),
        trial(
            "a run sends by gRPC over TLS with its own certificate, a header, and gzip",
            |program| sends_guarded(program, Protocol::Grpc),
        ),
        trial(
            "a run sends by HTTP over TLS with its own certificate, a header, and gzip",
            |program| sends_guarded(program, Protocol::Http),
        ),
        trial(
            "a run whose collector is not there says so once, and finds the same",
            unreachable,
        ),
        trial(
            "a run with an unsupported protocol says so once, and continues",
            misled,
        ),
        trial("a run that finds nothing sends nothing", healthy),
    ]
}

/// The protocol in the variables, and the Collector's address.
fn words(collector: &Collector, protocol: Protocol) -> (&'static str, String) {
    match protocol {
        Protocol::Grpc => ("grpc", collector.grpc.to_string()),
        Protocol::Http => ("http/protobuf", collector.http.to_string()),
    }
}

fn run(faults: &[&str], variables: &[(&str, &str)]) -> Result<Output, Failed> {
    let output = Command::new(&*PROBER)
        .args(["run", "--lab", "--quiet", "-o", "json"])
        .args(faults)
        .envs(variables.iter().copied())
        .output()?;
    Ok(output)
}

const FOUNDING: [&str; 2] = ["--fault", "bridge-netfilter-off@node-1"];

/// The expectations for every run with the founding fault, regardless of its trace.
fn finds(output: &Output) -> Result<(), Failed> {
    let report = Report::parse(&output.stdout)?;
    let causes: Vec<&str> = (report.diagnoses.iter())
        .map(|diagnosis| diagnosis.cause.as_str())
        .collect();
    same(&causes, &vec!["bridge-netfilter-off"])?;
    same(&output.status.code(), &Some(1))
}

fn message(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn arrives(collector: &Collector, output: &Output) -> Result<(), Failed> {
    finds(output)?;
    same(&message(output), &String::new())?;
    let got = until("three spans arrive", || {
        let got = collector.spans();
        (got.len() >= 3).then_some(got)
    })?;
    let id = got[0].span["traceId"].as_str().unwrap_or_default();
    is_expected(&got, "prober", id)
}

fn sends(program: &Path, protocol: Protocol) -> Result<(), Failed> {
    let mut collector = Collector::new(program)?;
    collector.start()?;
    let (protocol, address) = words(&collector, protocol);
    let output = run(
        &FOUNDING,
        &[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", &format!("http://{address}")),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", protocol),
        ],
    )?;
    arrives(&collector, &output)
}

fn sends_guarded(program: &Path, protocol: Protocol) -> Result<(), Failed> {
    let keys = Keys::new()?;
    let mut collector = Collector::guarded(program, &keys)?;
    collector.start()?;
    let (protocol, address) = words(&collector, protocol);
    let path = |path: &Path| path.display().to_string();
    let output = run(
        &FOUNDING,
        &[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", &format!("https://{address}")),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", protocol),
            ("OTEL_EXPORTER_OTLP_CERTIFICATE", &path(&keys.authority)),
            (
                "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE",
                &path(&keys.client.certificate),
            ),
            ("OTEL_EXPORTER_OTLP_CLIENT_KEY", &path(&keys.client.key)),
            (
                "OTEL_EXPORTER_OTLP_HEADERS",
                &format!("authorization=Bearer {TOKEN}"),
            ),
            ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip"),
        ],
    )?;
    arrives(&collector, &output)
}

fn unreachable(_: &Path) -> Result<(), Failed> {
    let closed_endpoint = format!("http://{}", free()?);
    let output = run(
        &FOUNDING,
        &[("OTEL_EXPORTER_OTLP_ENDPOINT", &closed_endpoint)],
    )?;
    finds(&output)?;
    let message = message(&output);
    let is_note = message.starts_with("warning: the traces were not sent: ")
        && message.contains(&closed_endpoint);
    if message.lines().count() != 1 || !is_note {
        return Err(format!("standard error is {message:?}").into());
    }
    Ok(())
}

fn misled(_: &Path) -> Result<(), Failed> {
    let closed_endpoint = format!("http://{}", free()?);
    let output = run(
        &[],
        &[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", &closed_endpoint),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json"),
        ],
    )?;
    same(&output.status.code(), &Some(0))?;
    let wanted = "warning: the traces will not be sent: OTEL_EXPORTER_OTLP_PROTOCOL says 'http/json': prober speaks grpc \
                  and http/protobuf\n";
    same(&message(&output).as_str(), &wanted)
}

fn healthy(program: &Path) -> Result<(), Failed> {
    let mut collector = Collector::new(program)?;
    collector.start()?;
    let endpoint = format!("http://{}", collector.http);
    let output = run(&[], &[("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint)])?;
    same(&output.status.code(), &Some(0))?;
    same(&message(&output), &String::new())?;
    collector.end()?;
    same(&collector.spans().len(), &0)
}
