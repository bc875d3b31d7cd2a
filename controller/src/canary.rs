//! A canary: probing that never ends, and what is made of it. Pure: time and chance are arguments, and nothing here
//! knows a client; what Kubernetes is asked and told is decided here and done elsewhere.
//!
//! ```text
//! nodes -> schedule -> pairs of the next round -> (agents) -> report -> look -> judgement -> transitions -> events
//!                                                                                  \-> status
//! ```

/// The controller: leader election, and a worker for each check.
pub mod controller;
/// The custom resource ConnectivityCheck.
pub mod crd;
/// Which nodes a check means.
pub mod eligible_nodes;
/// What is said aloud.
pub mod events;
/// What is placed, for how long, to do what.
pub mod generation;
/// What is failing, over time.
pub mod health;
/// Which replica holds the Lease.
pub mod lease;
/// What a node is told about itself.
pub mod node_condition;
/// What an earlier controller knew.
pub mod restored_outages;
/// One round as judgement sees it.
pub mod round_result;
/// When which pairs are probed.
pub mod schedule;
/// What is told back.
pub mod status;
