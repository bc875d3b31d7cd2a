//! Metrics and traces of a controller or of a run, sent without ever blocking it.

mod channel;
mod exporter;
/// The HTTP endpoints `/metrics`, `/healthz` and `/readyz`.
pub mod http_server;
/// The metrics.
pub mod metrics;
/// Where telemetry is sent.
pub mod otlp_endpoint;
mod otlp_metrics;
mod resources;
mod retryable;
mod round_samples;
/// The input of the exporter.
pub mod sample;
mod state_samples;
/// The trace of a probe.
pub mod trace;
mod trace_queue;

pub use channel::OtlpChannelError;
pub use exporter::{Exporter, OtlpEndpoints};
pub use trace_queue::Limits;
