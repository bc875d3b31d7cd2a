//! The steps that inject a fault.

use prober_core::plan::AcceptMode;

use crate::topology::{Node, Pod};

/// One step of the injection of a fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Runs a shell script in a network namespace.
    Run {
        /// The namespace's name.
        namespace: String,
        /// The script.
        script: String,
    },
    /// Runs a shell script in the lab's initial namespace, from which all others can be reached by name.
    RunInLab(String),
    /// Changes the content of the EndpointSlices.
    ChangeSlices(SliceChange),
    /// Gives a node the rules of former endpoints, and stops its kube-proxy.
    StaleRules(Node),
    /// Stops a node's kube-proxy, and leaves the node as it was before it had run.
    ProxyNeverRan(Node),
    /// Sets the accept mode of a server.
    SetAcceptMode(Pod, AcceptMode),
    /// Stops the process of a server (SIGSTOP) once it listens.
    Freeze(Pod),
}

/// A change to the EndpointSlices that is applied to each publication.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SliceChange {
    /// The EndpointSlice of the slot of this node's server is empty.
    Empty(Node),
    /// The EndpointSlice of the slot of this node's server names an address of the node that no pod has.
    Stale(Node),
    /// This node's server is not ready in the EndpointSlice of `prober-local`.
    NotReady(Node),
}

impl Step {
    /// Returns a step that runs a script in a node.
    pub(super) fn on(node: Node, script: impl Into<String>) -> Self {
        Self::Run {
            namespace: node.name(),
            script: script.into(),
        }
    }
}
