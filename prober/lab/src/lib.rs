//! A lab: two or more Kubernetes-like nodes made of network namespaces, and the faults that can be injected into them.
//!
//! The kernel parts are real: veths, a bridge with `br_netfilter`, VXLAN as flannel configures it or another data plane, the
//! rules that kube-proxy writes. There is no Kubernetes API. Everything ends with the process that created it.
//!
//! | module | content |
//! | --- | --- |
//! | [`isolation`] | restarts the process in new namespaces, before anything else |
//! | [`data_plane`] | how pods are attached to nodes, and nodes to each other: data |
//! | [`topology`] | nodes, pods, addresses: data, and the scripts that create them |
//! | [`kube_proxy`] | the rules of kube-proxy and flanneld: text |
//! | [`namespace`] | commands and threads in a network namespace |
//! | [`network`] | [`Lab`]: a network that is up, with a simulated kube-proxy on each node |
//! | [`fault`] | every fault, as data |
//! | [`agents`] | the agent processes in the pods |
//! | [`cluster`] | [`LabCluster`]: the network with its agents, test Services and injected faults |
//! | [`platform`] | [`LabPlatform`]: a lab cluster that carries out the commands of a run |
//! | [`control`] | the control socket of a lab that stays up |
//!
//! A lab for one run: [`isolation::enter`], then [`Lab::up`], then [`LabPlatform::start`]. A lab that stays up:
//! [`isolation::enter`], [`Lab::up`], [`LabCluster::new`], [`control::serve`]; other processes then use
//! [`control::request`] and [`control::shell`].
#![forbid(unsafe_code)]

/// The agent processes in the pods.
pub mod agents;
/// The network with its agents, test Services and injected faults.
pub mod cluster;
/// The control socket of a lab that stays up.
pub mod control;
/// The data planes that a lab can have.
pub mod data_plane;
/// Every fault that can be injected.
pub mod fault;
/// Restarts the process in new namespaces.
pub mod isolation;
/// The rules of kube-proxy and flanneld.
pub mod kube_proxy;
/// Commands and threads in the lab's network namespaces.
pub mod namespace;
/// The network of a lab that is up.
pub mod network;
/// A lab cluster that carries out the commands of a run.
pub mod platform;
/// Nodes, pods and addresses.
pub mod topology;

pub use cluster::LabCluster;
pub use data_plane::DataPlane;
pub use fault::{Fault, FaultAt, FaultError};
pub use network::{Lab, LabError};
pub use platform::LabPlatform;
pub use topology::LabSpec;
