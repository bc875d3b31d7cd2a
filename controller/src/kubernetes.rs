//! The Kubernetes API: how it is reached, what its answers mean, and what its objects say.

/// What an API server's refusal or silence means.
pub mod api_error;
/// How the cluster is reached.
pub mod connection;
/// Permission to send requests, which a former leader no longer has.
pub mod fencing_token;
/// Labels and annotations of every object of a run.
pub mod labels;
/// Service meshes, and the annotations that keep a pod out of them.
pub mod mesh;
/// NetworkPolicies that select the agents.
pub mod network_policy;
/// A node as the API describes it.
pub mod node_info;
/// The nodes of a cluster.
pub mod nodes;
/// A pod as its status describes it.
pub mod pod_status;
/// Counts requests to the API server.
pub mod request_count;
/// Blocks on asynchronous work, for synchronous callers.
pub mod runtime;
