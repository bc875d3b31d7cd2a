//! The Kubernetes API: the client, its errors, and what nodes, pods and policies report.

/// Sends requests to one API server.
pub mod api_client;
/// The errors of requests to an API server.
pub mod api_error;
/// Timestamps in the formats of the API.
pub mod api_time;
/// The right of the elected leader to send requests.
pub mod fencing_token;
/// Connects to the cluster that kubectl would use.
pub mod kubeconfig;
/// The labels of every object of a run.
pub mod labels;
/// Labels and annotations that keep a pod out of service meshes.
pub mod mesh;
/// The nodes that a user chooses to probe.
pub mod node_choice;
/// Addresses, pod address ranges and taints of a node.
pub mod node_info;
/// Readiness, cordon, taints and operating system of a node.
pub mod node_summary;
/// Lists the nodes of a cluster.
pub mod nodes;
/// The state of an agent's pod.
pub mod pod_status;
/// Policies that may deny packets of the agents' pods.
pub mod policies;
/// Lists the policies of a cluster.
pub mod policy_list;
/// The proxy on the way to the API server.
pub mod proxy;
/// Counts the requests to the API server.
pub mod request_count;
/// Runs asynchronous code for synchronous callers.
pub mod runtime;
