//! prober on Kubernetes: a cluster as the platform of a run, and the canary that probes it continuously.
//!
//! [`kubernetes`] reaches the API server and reads its objects. [`manifest`] builds every object of a run from plain
//! data. A [`platform`] executes the commands of a run on a cluster: it places agents, delivers their plans and reads
//! their logs. A [`one_shot`] run is checked before it starts (nodes, permissions, admission) and cleaned up after it.
//! The [`canary`] keeps agents on the nodes that a ConnectivityCheck selects, probes them in rotation, and writes what
//! it finds to the check's status, to Events and to node conditions. [`telemetry`] exports the same as metrics and
//! traces.

/// The Kubernetes API: how it is reached, what its answers mean, and what its objects say.
pub mod kubernetes;

/// Every object of a run, built from plain data.
pub mod manifest;

/// A cluster as the platform of a run: commands in, events out.
pub mod platform;

/// Before and after a run: permissions, admission, node selection, and the removal of leftovers.
pub mod one_shot;

/// The canary: checks, schedules, health and status, and the controller that applies them.
pub mod canary;

/// Metrics and traces: OTLP and Prometheus.
pub mod telemetry;

/// The wall clock and the monotonic clock.
pub mod clock;

/// Pauses between retries: exponential, with jitter.
mod backoff;
