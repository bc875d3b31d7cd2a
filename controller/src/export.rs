//! What a controller tells the observability that is there: metrics and traces, without ever waiting for them.

/// The one that is told.
mod exporter;
/// What is told.
pub mod sample;
/// A probe as a trace.
pub mod trace;

pub use exporter::Exporter;
