//! Where Kubernetes is spoken: a cluster as the fleet of a run, and what can be known before and instead of one.

/// What an admission controller said to a pod that was tried.
pub mod admission;
/// What an API server's refusal or silence means.
pub mod answer;
/// A canary: probing that never ends, and what is made of it.
pub mod canary;
/// Leftovers, found and removed.
pub mod clean;
/// What time it is.
pub mod clock;
/// How the cluster is reached.
pub mod connection;
/// The custom resource that asks for a canary.
pub mod crd;
/// Which of several controllers acts.
pub mod election;
/// What is told to the observability that is there.
pub mod export;
/// A cluster as the fleet of a run.
pub mod fleet;
/// Rights in the words of Kubernetes, for whoever grants them.
pub mod grant;
/// The marks of everything that a run places.
pub mod labels;
/// What runs have left behind.
pub mod leftovers;
/// Every object of a run.
pub mod manifest;
/// Meshes, and how a pod stays out of them.
pub mod mesh;
/// What a run needs to be allowed.
pub mod needs;
/// The nodes of a cluster.
pub mod nodes;
/// The controller that keeps probing.
pub mod operator;
/// Whether requests may be made.
pub mod permit;
/// NetworkPolicies that hold the agents in.
pub mod policy;
/// What evidence a namespace admits.
pub mod posture;
/// What can be known before anything is placed.
pub mod preflight;
/// How often the API server is asked.
pub mod requests;
/// Waiting for answers, for those who have no runtime.
pub mod runtime;
/// Which nodes a run probes.
pub mod selection;
/// A node as a place for agents.
pub mod site;
/// How a pod stands.
pub mod standing;
