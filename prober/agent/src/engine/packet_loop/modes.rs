//! Modes of the packet loop: whether it goes on, how soon it reads packets, and whether loopback counts.

use std::net::SocketAddr;

use prober_core::packet::family::Family;
use prober_core::plan::Method;
use prober_net::rst_suppression::SuppressedPort;

/// Whether the loop goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LoopState {
    /// It goes on.
    Running,
    /// It ends as soon as it has reported all results.
    Stopping,
}

/// How soon packets are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReadMode {
    /// As they arrive.
    Prompt,
    /// Together: each has a timestamp of the kernel, and no probe needs them to go on.
    Batched,
}

/// Whether packets to loopback addresses are handled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LoopbackMode {
    /// They are ignored: in a pod they say nothing about the network.
    Ignore,
    /// They are handled: a target of this host may be probed.
    Capture,
}

/// Whether a RST of the kernel would break the probe.
pub(crate) const fn needs_rst_suppression(method: &Method) -> bool {
    match method {
        Method::Exchange { .. } | Method::TtlProbe { .. } => true,
        Method::Connect { .. } | Method::Syn => false,
    }
}

/// Suppresses RST on a source port; the error is a text for the reader of the log.
pub(super) fn suppress_rst(src: SocketAddr) -> Result<SuppressedPort, String> {
    match SuppressedPort::reserve(Family::of(src.ip()), src.port()) {
        Ok(Some(port)) => Ok(port),
        Ok(None) => Err(format!(
            "a crafted probe shares its port {} with another socket, so the kernel may send a RST: see ss -tan",
            src.port()
        )),
        Err(error) => Err(error.to_string()),
    }
}
