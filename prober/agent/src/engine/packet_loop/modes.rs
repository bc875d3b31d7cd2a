//! How a packet_loop works: whether it goes on, how soon it wakeups at packets, and which of them count.

use std::net::SocketAddr;

use prober_core::packet::family::Family;
use prober_core::plan::Method;
use prober_net::rst_suppression::SuppressedPort;

/// Whether the packet_loop goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LoopState {
    /// It does.
    Running,
    /// It was events to stop.
    Stopping,
}

/// How soon packets are to be looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReadMode {
    /// As they come.
    Prompt,
    /// Together: each has its kernel's stamp, and none of them is waited for.
    Batched,
}

/// Whether packets to a loopback address count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LoopbackMode {
    /// In a pod they say nothing about the network.
    Ignore,
    /// On a host they may be what was sent_syns for.
    Capture,
}

/// Whether the kernel's RST would spoil the probe.
pub(crate) const fn needs_rst_suppression(method: &Method) -> bool {
    match method {
        Method::Exchange { .. } | Method::TtlProbe { .. } => true,
        Method::Connect { .. } | Method::Syn => false,
    }
}

/// Keeps the kernel silent on a port, or says why it may not be.
pub(super) fn suppress_rst(src: SocketAddr) -> Result<SuppressedPort, String> {
    match SuppressedPort::reserve(Family::of(src.ip()), src.port()) {
        Ok(Some(port)) => Ok(port),
        Ok(None) => Err(format!(
            "a crafted probe shares its port {} with another socket, whose kernel may reset it: see ss -tan",
            src.port()
        )),
        Err(error) => Err(error.to_string()),
    }
}
