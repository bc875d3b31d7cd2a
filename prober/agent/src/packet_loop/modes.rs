//! How a desk works: whether it goes on, how soon it looks at packets, and which of them count.

use std::net::SocketAddr;

use prober_core::packet::family::Family;
use prober_core::plan::Method;
use prober_net::rst_suppression::MutedPort;

/// Whether the desk goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Duty {
    /// It does.
    On,
    /// It was told to stop.
    Off,
}

/// How soon packets are to be looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Attention {
    /// As they come.
    Prompt,
    /// Together: each has its kernel's stamp, and none of them is waited for.
    Later,
}

/// Whether packets to a loopback address count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Loopback {
    /// In a pod they say nothing about the network.
    Ignored,
    /// On a host they may be what was asked for.
    Seen,
}

/// Whether the kernel's RST would spoil the probe.
pub(crate) const fn needs_silence(method: &Method) -> bool {
    match method {
        Method::Exchange { .. } | Method::TtlProbe { .. } => true,
        Method::Connect { .. } | Method::Syn => false,
    }
}

/// Keeps the kernel silent on a port, or says why it may not be.
pub(super) fn silence(src: SocketAddr) -> Result<MutedPort, String> {
    match MutedPort::reserve(Family::of(src.ip()), src.port()) {
        Ok(Some(port)) => Ok(port),
        Ok(None) => Err(format!(
            "a crafted probe shares its port {} with another socket, whose kernel may reset it: see ss -tan",
            src.port()
        )),
        Err(error) => Err(error.to_string()),
    }
}
