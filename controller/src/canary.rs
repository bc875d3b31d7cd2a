//! The canary: continuous probing of the nodes that a ConnectivityCheck selects.
//!
//! Agents of DaemonSets probe by themselves, as the standing plan says, and report failures by the readiness of their pods.
//! The canary watches nodes and pods, examines the nodes that alert, and reports what it finds. Everything outside of
//! `controller` is pure: time and random numbers are arguments, and nothing there sends a request.
//!
//! ```text
//! nodes, pods -> inventory -> node states -> check state <-> examinations
//!                                             |      ^
//!      Events, status, node conditions <------'      '---- round result <- report of an examination
//!
//! checks, Services, slots -> standing plan -> agents
//! ```

/// The state of one check: nodes, examinations, health.
pub mod check_state;
/// The controller: leader election, and the tasks that execute what is decided here.
pub mod controller;
/// The custom resource ConnectivityCheck.
pub mod crd;
/// The Kubernetes Events of a transition.
pub mod events;
/// Which nodes are examined, and when.
pub mod examinations;
/// Which clients are replaced by fresh pods.
pub mod fresh_pods;
/// Which failures are confirmed: K of N results per path, grouped into outages.
pub mod health;
/// The nodes of the cluster and the pods of its agents.
pub mod inventory;
/// The rules by which replicas acquire, renew and release the Lease.
pub mod lease;
/// The condition `prober.dev/ServiceConnectivity` of a node.
pub mod node_condition;
/// Whether a node is measured, and works.
pub mod node_state;
/// The outages that a check's status holds, for a controller that starts.
pub mod restored_outages;
/// The results of one examination, per path and per node.
pub mod round_result;
/// Which server has which slot of the test Service.
pub mod slots;
/// What every agent probes by itself.
pub mod standing_plan;
/// The status of a check.
pub mod status;

#[cfg(test)]
pub(crate) mod test_cluster;
