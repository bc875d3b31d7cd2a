//! The readiness gate: a port that is open while nothing in the log of this agent needs to be read.
//!
//! A kubelet connects to it as a readiness probe, and whatever watches the pod learns by its condition that the log needs
//! to be read. The port of an agent that has ended is closed, too.

use std::time::Duration;

use prober_core::packet::family::Family;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::responder::listeners::{ListenError, bind};

/// The kernel completes two connections before they are accepted.
const BACKLOG: i32 = 1;

/// The listeners of the readiness port.
#[derive(Debug)]
pub(crate) struct ReadinessGate {
    /// `None`: no readiness probe was configured.
    port: Option<u16>,
    is_closed: bool,
    acceptors: JoinSet<()>,
}

impl ReadinessGate {
    /// A closed gate.
    pub(crate) fn new(port: Option<u16>) -> Self {
        Self {
            port,
            is_closed: true,
            acceptors: JoinSet::new(),
        }
    }

    /// Closes the gate; returns whether it was open.
    pub(crate) fn close(&mut self) -> bool {
        self.acceptors.abort_all();
        !std::mem::replace(&mut self.is_closed, true)
    }

    /// Opens the gate. Where its port cannot be bound it stays closed, and the errors are returned.
    ///
    /// Must be called within a `LocalSet`.
    pub(crate) async fn open(&mut self) -> Vec<ListenError> {
        if !std::mem::replace(&mut self.is_closed, false) {
            return Vec::new();
        }
        let Some(port) = self.port else {
            return Vec::new();
        };
        // The same port can be bound again only when the old listeners are gone.
        self.acceptors.shutdown().await;
        let listen = |family| {
            let listener = bind(family, port, BACKLOG).and_then(|listener| {
                listener
                    .map(|listener| TcpListener::from_std(listener.into()))
                    .transpose()
            });
            listener.map_err(|source| ListenError {
                family,
                port,
                source,
            })
        };
        let mut refused = Vec::new();
        for opened in [Family::Ipv4, Family::Ipv6].map(listen) {
            match opened {
                Ok(Some(listener)) => {
                    self.acceptors.spawn_local(accept_all(listener));
                }
                Ok(None) => {}
                Err(error) => refused.push(error),
            }
        }
        refused
    }
}

/// Accepts connections and closes them at once.
async fn accept_all(listener: TcpListener) {
    loop {
        if listener.accept().await.is_err() {
            // Out of descriptors or memory: other tasks run before the next attempt.
            sleep(Duration::from_millis(10)).await;
        }
    }
}
