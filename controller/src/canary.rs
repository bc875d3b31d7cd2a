//! The canary: continuous probing of the nodes that a ConnectivityCheck selects.
//!
//! Everything outside of `controller` is pure: time and random numbers are arguments, and nothing there sends a request.
//! The controller sends what is decided here.
//!
//! ```text
//! nodes -> schedule -> pairs of a round -> agents -> report -> round result -> health -> transitions -> Events
//!                                                                                 \-> status, node conditions
//! ```

/// What an agent set consists of, built from a check's spec.
pub mod agent_set_template;
/// The controller: leader election, and a worker for each check.
pub mod controller;
/// The custom resource ConnectivityCheck.
pub mod crd;
/// The nodes that a check selects, and which of them are skipped.
pub mod eligible_nodes;
/// The Kubernetes Events of a transition.
pub mod events;
/// Which failures are confirmed: K of N results per path, grouped into outages.
pub mod health;
/// The rules by which replicas acquire, renew and release the Lease.
pub mod lease;
/// The condition `prober.dev/ServiceConnectivity` of a node.
pub mod node_condition;
/// The outages that a check's status holds, for a controller that starts.
pub mod restored_outages;
/// The results of one round, per path and per agent.
pub mod round_result;
/// Which pairs of nodes the next round probes, and when it begins.
pub mod schedule;
/// Which server has which slot of the Service `prober`.
pub mod slots;
/// The status of a check.
pub mod status;
