//! What a controller tells the observability that is there: metrics and traces, without ever waiting for them.

mod channel;
mod exporter;
/// What is asked over HTTP.
pub mod http_server;
/// The figures.
pub mod metrics;
/// Where telemetry goes.
pub mod otlp_endpoint;
mod otlp_metrics;
mod periodic_samples;
mod resources;
mod retryable;
mod round_samples;
/// What is told.
pub mod sample;
/// A probe as a trace.
pub mod trace;
mod trace_queue;

pub use channel::ConnectionError;
pub use exporter::{Exporter, Targets};
pub use trace_queue::Limits;
