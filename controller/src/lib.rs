//! prober on Kubernetes: a cluster as the platform of a run, and the canary that probes it continuously.
//!
//! | module | what it holds |
//! | --- | --- |
//! | [`kubernetes`] | the API server: the client, its errors, and what nodes, pods and policies report |
//! | [`manifest`] | every object of a run, built from plain data; the names of the installed objects of a canary |
//! | [`platform`] | a cluster executes the commands of a run: on pods that it places, or on standing agents |
//! | [`one_shot`] | before and after `prober run`: permissions, admission, the choice of nodes, removal |
//! | [`canary::crd`] | the custom resource ConnectivityCheck |
//! | [`canary::inventory`] | the nodes of the cluster and the pods of its agents, from watch events |
//! | [`canary::node_state`] | whether a node is measured, and works |
//! | [`canary::examinations`] | which nodes are examined, and when |
//! | [`canary::round_result`] | what an examination says of each path and each node |
//! | [`canary::health`] | which failures are confirmed, and the outages that follow from them |
//! | [`canary::check_state`] | the state of one check: all of the above, together |
//! | [`canary::status`], [`canary::events`], [`canary::node_condition`] | what is reported of it |
//! | [`canary::standing_plan`], [`canary::slots`] | what every agent probes by itself, and which servers have a port of the Service |
//! | [`canary::fresh_pods`] | which agents are replaced, to prove that the network plugin adds pods |
//! | [`canary::lease`] | which of several controllers leads |
//! | [`canary::controller`] | the tasks that execute what the modules above decide |
//! | [`page`] | what the canary knows, as a page and as JSON |
//! | [`telemetry`] | metrics and traces: Prometheus and OTLP |
//!
//! Only `kubernetes`, `platform`, `one_shot`, `canary::controller`, `page::server`, `page::forward` and `telemetry` do I/O or
//! read clocks; all other modules are pure.

/// The Kubernetes API: how it is reached, what its answers mean, and what its objects say.
pub mod kubernetes;

/// Every object of a run, built from plain data.
pub mod manifest;

/// A cluster as the platform of a run: commands in, events out.
pub mod platform;

/// Before and after a run: permissions, admission, node selection, and the removal of leftovers.
pub mod one_shot;

/// The canary: checks, their states and what is reported of them, and the controller that applies them.
pub mod canary;

/// What the canary knows, as a page and as JSON.
pub mod page;

/// Metrics and traces: OTLP and Prometheus.
pub mod telemetry;

/// The wall clock and the monotonic clock.
pub mod clock;

/// Pauses between retries: exponential, with jitter.
mod backoff;
