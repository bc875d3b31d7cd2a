//! The traces of a run, sent to the endpoint that OpenTelemetry's environment variables name, if they name one.
//!
//! They are sent after the report is written, and an error is a warning: neither the report nor the exit status depends
//! on them.

use std::env;
use std::fs::{self, OpenOptions};
use std::hash::{BuildHasher as _, RandomState};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process;
use std::time::Duration;

use anyhow::Context as _;
use controller::kubernetes::runtime::Runtime;
use controller::telemetry::otlp_endpoint::{OtlpEndpoint, Signal};
use controller::telemetry::sample::Sample;
use controller::telemetry::trace::Trace;
use controller::telemetry::{Exporter, Limits, OtlpEndpoints};
use prober_core::report::Report;
use prober_lab::isolation;

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
    if isolation::is_inside() {
        // The network of the lab has no route to the collector: the outer process sends the traces.
        return isolation::result_file().map_or(Ok(()), |path| write_report(report, &path));
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
fn endpoint() -> anyhow::Result<Option<OtlpEndpoint>> {
    Ok(OtlpEndpoint::read(Signal::Traces, |name| {
        env::var(name).ok()
    })?)
}

/// Writes the report as JSON to the file for the outer process, which exists already.
fn write_report(report: &Report, path: &Path) -> anyhow::Result<()> {
    let json = serde_json::to_vec(report).context("cannot serialize the report")?;
    let mut file = OpenOptions::new()
        .write(true)
        .open(path)
        .with_context(|| format!("cannot open {} for the report", path.display()))?;
    file.write_all(&json)
        .with_context(|| format!("cannot write the report to {}", path.display()))
}

/// The temporary file in which a lab hands its report to the outer process; `Drop` removes it.
#[derive(Debug)]
pub(super) struct ReportFile(Option<PathBuf>);

impl ReportFile {
    /// Creates the file, readable by its owner alone, if this is the outer process and an endpoint is named.
    ///
    /// An error is a warning, and nothing is sent.
    pub(super) fn prepare() -> Self {
        if isolation::is_inside() {
            return Self(None);
        }
        match endpoint() {
            Ok(Some(_)) => {}
            Ok(None) => return Self(None),
            Err(error) => {
                show::warning(&format!("the traces will not be sent: {error}"));
                return Self(None);
            }
        }
        let nonce = RandomState::new().hash_one(process::id());
        let path = env::temp_dir().join(format!("prober-{nonce:016x}.json"));
        let made = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path);
        match made {
            Ok(_empty) => Self(Some(path)),
            Err(error) => {
                show::warning(&format!(
                    "the traces will not be sent: cannot make {}: {error}",
                    path.display()
                ));
                Self(None)
            }
        }
    }

    /// Returns the path of the file, if there is one.
    pub(super) fn path(&self) -> Option<&Path> {
        self.0.as_deref()
    }

    /// Sends the traces of the report in the file, which is empty if the lab ended early.
    pub(super) fn send(&self) {
        let Some(path) = &self.0 else { return };
        match fs::read(path) {
            Ok(json) if json.is_empty() => {}
            Ok(json) => match Report::parse(&json) {
                Ok(report) => send(&report),
                Err(error) => show::warning(&format!("the traces were not sent: {error}")),
            },
            Err(error) => show::warning(&format!(
                "the traces were not sent: cannot read {}: {error}",
                path.display()
            )),
        }
    }
}

impl Drop for ReportFile {
    fn drop(&mut self) {
        if let Some(path) = &self.0 {
            // On failure the file stays until the temporary folder is cleaned.
            drop(fs::remove_file(path));
        }
    }
}
