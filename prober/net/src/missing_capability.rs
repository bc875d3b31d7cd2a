//! The error of a system call that lacks a capability.
use std::io;

use caps::Capability;

/// A system call was refused because a capability is missing.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot {attempted}: {source}; {capability} is missing in the user namespace that owns this network namespace. \
     Run as root, or give it to the program (sudo setcap {setcap}+ep PROGRAM), or in Kubernetes leave it in \
     securityContext.capabilities and start as uid 0"
)]
pub struct MissingCapability {
    /// What was tried, after "cannot".
    pub attempted: &'static str,
    /// The missing capability.
    pub capability: Capability,
    setcap: String,
    /// The error of the system call.
    pub source: io::Error,
}

impl MissingCapability {
    /// `CAP_NET_RAW` is missing.
    pub fn net_raw(attempted: &'static str, source: io::Error) -> Self {
        Self::new(attempted, Capability::CAP_NET_RAW, source)
    }

    fn new(attempted: &'static str, capability: Capability, source: io::Error) -> Self {
        Self {
            attempted,
            capability,
            setcap: capability.to_string().to_lowercase(),
            source,
        }
    }
}
