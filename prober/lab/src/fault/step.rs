//! One step of breaking the lab.

use prober_core::plan::AcceptMode;

use crate::topology::{Node, Pod};

/// One step of breaking the lab.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Run a shell script in a namespace.
    Run {
        /// The namespace's name.
        place: String,
        /// The script.
        script: String,
    },
    /// Run a shell script from where every namespace is reached by its name.
    RunOutside(String),
    /// Change what the EndpointSlices say.
    Slices(SliceChange),
    /// Give a node the rules of endpoints that have moved since, and stop its kube-proxy.
    StaleRules(Node),
    /// Tell a server whether to accept connections.
    Accept(Pod, AcceptMode),
    /// Stop the process of a server (SIGSTOP) once it listens.
    Freeze(Pod),
}

/// One change to what the `EndpointSlices` say, whatever was published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SliceChange {
    /// The slot of this node's server is empty.
    Empty(Node),
    /// The slot of this node's server names an address of the node that no pod has.
    Dead(Node),
    /// This node's server is not ready: `prober-local` does not lead to it.
    NotReady(Node),
}

impl Step {
    /// A script in a node.
    pub(super) fn on(node: Node, script: impl Into<String>) -> Self {
        Self::Run {
            place: node.name(),
            script: script.into(),
        }
    }
}
