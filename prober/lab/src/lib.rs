//! Two or more Kubernetes-like nodes out of network namespaces, and faults to break them.
//!
//! The kernel parts are the real ones: veths, a bridge with `br_netfilter`, vxlan as flannel makes it, the rules that
//! kube-proxy writes. What is missing is Kubernetes. Everything dies with the process that made it.
//!
//! | room | what it holds |
//! | --- | --- |
//! | [`isolate`] | moves the process into namespaces of its own, before anything else |
//! | [`topology`] | nodes, pods, addresses: data, and the scripts that make them |
//! | [`proxy`] | the rules of kube-proxy and flanneld: text |
//! | [`namespace`] | runs scripts and threads inside a namespace |
//! | [`network`] | [`Lab`]: a network that is up, with its kube-proxies |
//! | [`fault`] | every way to break it, as data |
//! | [`agents`] | the processes in the pods |
//! | [`fleet`] | the lab as a fleet: what a run asks for, and what breaks it |
//! | [`control`] | a lab that stays up, and how others reach it |
//!
//! A private lab for one run: [`isolation::enter`], then [`Lab::up`], then [`LabPlatform::start`]. A lab that stays up:
//! [`isolation::enter`], [`Lab::up`], [`Fleet::new`], [`control::serve`]; then [`control::request`] and [`control::shell`] from outside.
#![forbid(unsafe_code)]

/// The processes in the pods.
pub mod agents;
/// A lab that stays up.
pub mod control;
/// Every way to break the lab.
pub mod fault;
/// Moves the process into namespaces of its own.
pub mod isolation;
/// The rules of kube-proxy and flanneld.
pub mod kube_proxy;
/// Runs scripts and threads inside the lab's namespaces.
pub mod namespace;
/// A network that is up.
pub mod network;
/// The lab as a fleet.
pub mod platform;
/// Nodes, pods and addresses.
pub mod topology;

pub use fault::{Fault, FaultAt};
pub use network::{Lab, LabError};
pub use platform::{Fleet, LabPlatform};
pub use topology::LabSpec;
