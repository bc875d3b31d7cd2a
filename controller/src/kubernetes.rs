//! The Kubernetes API: how it is reached, what its answers mean, and what its objects say.

/// Sends requests to one API server.
pub mod api_client;
/// What an API server's refusal or silence means.
pub mod api_error;
/// Timestamps in the formats of the API.
pub mod api_time;
/// Permission to send requests, which a former leader no longer has.
pub mod fencing_token;
/// The connection settings of kubectl: kubeconfig files, context, namespace, service account.
pub mod kubeconfig;
/// Labels and annotations of every object of a run.
pub mod labels;
/// Service meshes, and the annotations that keep a pod out of them.
pub mod mesh;
/// Suggests an existing name for one that does not exist.
pub mod nearest_name;
/// NetworkPolicies that select the agents.
pub mod network_policy;
/// The nodes that a user chooses to probe.
pub mod node_choice;
/// A node as the API describes it.
pub mod node_info;
/// The state of a node that decides whether pods run there.
pub mod node_summary;
/// The nodes of a cluster.
pub mod nodes;
/// A pod as its status describes it.
pub mod pod_status;
/// Counts requests to the API server.
pub mod request_count;
/// Blocks on asynchronous work, for synchronous callers.
pub mod runtime;
