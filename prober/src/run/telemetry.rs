//! The traces of a run, sent to the endpoint that OpenTelemetry's environment variables name, if they name one.
//!
//! They are sent after the report is written, and an error is a warning: neither the report nor the exit status depends
//! on them.

use std::env;
use std::hash::{BuildHasher as _, RandomState};
use std::time::Duration;

use anyhow::Context as _;
use controller::kubernetes::runtime::Runtime;
use controller::telemetry::otlp_endpoint::{OtlpEndpoint, Signal};
use controller::telemetry::sample::Sample;
use controller::telemetry::trace::Trace;
use controller::telemetry::{Exporter, Limits, OtlpEndpoints};
use prober_core::report::Report;

#[cfg(target_os = "linux")]
use super::report_file;
use crate::show;

/// How long the program waits for the collector to accept the traces.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(3);

/// Sends the traces of a report. An error is a warning on standard error: it is not a fault of the network under test.
pub(super) fn send(report: &Report) {
    if let Err(error) = try_send(report) {
        show::warning(&format!(
            "the traces were not sent: {}",
            show::sentence(&error)
        ));
    }
}

/// Sends the traces of a report to the collector; inside the lab, hands the report to the outer process instead.
///
/// Fails if the endpoint is invalid, or if the collector does not accept every span within [`FLUSH_TIMEOUT`].
fn try_send(report: &Report) -> anyhow::Result<()> {
    #[cfg(target_os = "linux")]
    if let Some(written) = report_file::hand_out(report) {
        // The network of the lab has no route to the collector: the outer process sends the traces.
        return written;
    }
    let Some(endpoint) = endpoint()? else {
        return Ok(());
    };
    let traces = Trace::of_report(report, RandomState::new().hash_one(&report.started));
    if traces.is_empty() {
        return Ok(());
    }
    let runtime = Runtime::start().context("cannot start the exporter")?;
    let url = endpoint.endpoint.clone();
    let endpoints = OtlpEndpoints {
        traces: Some(endpoint),
        metrics: None,
    };
    let exporter = Exporter::start("prober", &endpoints, Limits::default(), &runtime.handle())?;
    for trace in traces {
        exporter.record(Sample::Trace(Box::new(trace)));
    }
    runtime.block_on(exporter.flush(FLUSH_TIMEOUT));
    runtime.shutdown_background();
    let dropped = exporter.metrics().dropped();
    anyhow::ensure!(
        dropped == 0,
        "{url} accepted all but {dropped} spans within {} s; see OTEL_EXPORTER_OTLP_ENDPOINT and OTEL_EXPORTER_OTLP_PROTOCOL",
        FLUSH_TIMEOUT.as_secs()
    );
    Ok(())
}

/// Reads the endpoint for traces from the environment; `None` if no variable names one.
pub(super) fn endpoint() -> anyhow::Result<Option<OtlpEndpoint>> {
    Ok(OtlpEndpoint::read(Signal::Traces, |name| {
        env::var(name).ok()
    })?)
}
