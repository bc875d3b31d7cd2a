//! What a controller tells the observability that is there: metrics and traces, without ever waiting for them.

mod connection;
mod exporter;
mod instruments;
/// The figures.
pub mod metrics;
mod observing;
mod occasions;
mod refusal;
mod resources;
/// What is told.
pub mod sample;
mod sending;
/// What is asked over HTTP.
pub mod serve;
/// Where telemetry goes.
pub mod target;
/// A probe as a trace.
pub mod trace;

pub use connection::ConnectionError;
pub use exporter::{Exporter, Targets};
pub use sending::Limits;
