//! What tells that an agent wants to be read, to whoever does not read it: a port that is open while nothing has happened.
//!
//! A kubelet's readiness probe asks it, and Kubernetes tells everybody who watches the pod. An agent that is stopped soon lets
//! nobody in any more, which rings as well.

use std::time::Duration;

use prober_core::packet::family::Family;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::responder::listeners::{ListenError, bind};

/// Who asks and is not let in waits in a queue of two.
const BACKLOG: i32 = 1;

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct ReadinessGate {
    /// `None`: nobody would hear it.
    port: Option<u16>,
    is_closed: bool,
    acceptors: JoinSet<()>,
}

impl ReadinessGate {
    /// A readiness_gate that rings until it is told to be still.
    pub(crate) fn new(port: Option<u16>) -> Self {
        Self {
            port,
            is_closed: true,
            acceptors: JoinSet::new(),
        }
    }

    /// Rings until it is told to be still; whether it was still before.
    pub(crate) fn close(&mut self) -> bool {
        self.acceptors.abort_all();
        !std::mem::replace(&mut self.is_closed, true)
    }

    /// Is still. Where its port cannot be had it rings on; those are returned.
    ///
    /// To be called within a `LocalSet`.
    pub(crate) async fn open(&mut self) -> Vec<ListenError> {
        if !std::mem::replace(&mut self.is_closed, false) {
            return Vec::new();
        }
        let Some(port) = self.port else {
            return Vec::new();
        };
        // Those that were aborted must be gone before the same port can be bound again.
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

/// Nobody wants more than to be let in.
async fn accept_all(listener: TcpListener) {
    loop {
        if listener.accept().await.is_err() {
            // Out of descriptors or memory: others run before the next try.
            sleep(Duration::from_millis(10)).await;
        }
    }
}
